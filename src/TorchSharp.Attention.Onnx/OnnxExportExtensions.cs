using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>Writes networks as ONNX files.</summary>
public static class OnnxExportExtensions
{
    /// <summary>Writes a network as an ONNX file with the default settings. See the overload with options for details.</summary>
    /// <param name="model">The network, or a module alone.</param>
    /// <param name="path">The file. It appears only when it is whole and verified; an old one is replaced.</param>
    /// <param name="exampleInput">An input: its shape is what the file takes, except for the batch.</param>
    /// <returns>What was written, and its error.</returns>
    /// <inheritdoc cref="ExportOnnx(nn.Module, string, Tensor, OnnxExportOptions)" path="/exception"/>
    public static OnnxExportReport ExportOnnx(this nn.Module model, string path, Tensor exampleInput)
        => model.ExportOnnx(path, [exampleInput], null);

    /// <summary>
    /// Writes a network as an ONNX file (operator set 17, IR version 8). Then runs the file in ONNX Runtime on random inputs of
    /// several shapes and compares the outputs with the network's. The file computes what the network computes in evaluation
    /// mode. The network itself is not changed, and its mode is restored. Attentions that were inserted with
    /// <see cref="InsertionExtensions.InsertAttention"/> are exported; other hooks are not.
    /// </summary>
    /// <param name="model">The network, or a module alone.</param>
    /// <param name="path">The file. It appears only when it is whole and verified; an old one is replaced.</param>
    /// <param name="exampleInput">An input: its shape is what the file takes, except for dynamic axes.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <returns>What was written, and its error.</returns>
    /// <exception cref="ArgumentException">The example or an option does not fit.</exception>
    /// <exception cref="NotSupportedException">
    /// A module has no emitter, or a setting that cannot be written; the message names it and its path, and says what to do.
    /// </exception>
    /// <exception cref="OnnxVerificationException">
    /// The file computes something else, or could not be compared. It is not kept.
    /// </exception>
    /// <exception cref="DirectoryNotFoundException">The folder of <paramref name="path"/> does not exist.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static OnnxExportReport ExportOnnx(this nn.Module model, string path, Tensor exampleInput, OnnxExportOptions? options)
        => model.ExportOnnx(path, [exampleInput], options);

    /// <summary>
    /// Writes a network with several inputs as an ONNX file, and compares its outputs in ONNX Runtime with the network's.
    /// </summary>
    /// <param name="model">The network, or a module alone.</param>
    /// <param name="path">The file. It appears only when it is whole and verified; an old one is replaced.</param>
    /// <param name="exampleInputs">The inputs, in the order of <c>forward</c>.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <returns>What was written, and its error.</returns>
    /// <exception cref="ArgumentException">An example or an option does not fit.</exception>
    /// <exception cref="NotSupportedException">
    /// A module has no emitter, or a setting that cannot be written; the message names it and its path, and says what to do.
    /// </exception>
    /// <exception cref="OnnxVerificationException">
    /// The file computes something else, or could not be compared. It is not kept.
    /// </exception>
    /// <exception cref="DirectoryNotFoundException">The folder of <paramref name="path"/> does not exist.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static OnnxExportReport ExportOnnx(
        this nn.Module model, string path, IReadOnlyList<Tensor> exampleInputs, OnnxExportOptions? options)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(exampleInputs);
        if (exampleInputs.Count == 0)
        {
            throw new ArgumentException("exampleInputs is empty; give a tensor for each input.", nameof(exampleInputs));
        }

        foreach (Tensor example in exampleInputs)
        {
            ArgumentNullException.ThrowIfNull(example, nameof(exampleInputs));
            if (example.dim() == 0 || example.numel() == 0 || !example.is_floating_point())
            {
                throw new ArgumentException(
                    $"An example input is {example.dtype} {Check.Shape(example)}; it must be floating point, with a batch axis " +
                    "and not empty.", nameof(exampleInputs));
            }
        }

        options ??= new OnnxExportOptions();
        options.Validate();
        return new OnnxExporter(model, exampleInputs, options).Run(path);
    }
}
