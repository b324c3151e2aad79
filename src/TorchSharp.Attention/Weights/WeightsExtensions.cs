using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Loads weights from files into modules, and saves them.</summary>
public static class WeightsExtensions
{
    private static readonly Dictionary<string, string> PyTorchLayout = new() { ["format"] = "pt" };

    /// <summary>
    /// Loads weights from a safetensors file or a PyTorch archive. All names, shapes and types are checked and all values are
    /// read before the first tensor is copied, so a failure leaves the model unchanged. Shapes are never broadcast. Values are
    /// converted to the types and devices of the model.
    /// </summary>
    /// <param name="model">The model: a network or a single module.</param>
    /// <param name="path">The file.</param>
    /// <param name="keys">
    /// The file's names as the model's; null for the same names. <see cref="KeyMaps"/> has those of published weights.
    /// </param>
    /// <param name="options">What else is allowed; null for nothing.</param>
    /// <returns>What was loaded and what was not.</returns>
    /// <exception cref="WeightsMismatchException">Something does not fit, and loading is strict.</exception>
    /// <exception cref="WeightsFormatException">The file is damaged or of a kind that is not read.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">The file may not be read, or is a folder.</exception>
    /// <exception cref="ArgumentException">
    /// The key map sends two tensors to one name, or an option names no part of the model.
    /// </exception>
    public static WeightsReport LoadWeights(
        this nn.Module model, string path, KeyMap? keys = null, WeightsLoadOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        using WeightsFile file = WeightsFile.Open(path, options?.Section, options?.MemoryMap ?? false);
        return file.LoadInto(model, keys, options);
    }

    /// <summary>
    /// Saves the parameters and persistent buffers of a model as a safetensors file, which Python can read too. It is written
    /// completely or not at all.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="path">The file; an older one is replaced.</param>
    /// <param name="metadata">Texts about the whole file; null for <c>format: pt</c>, which Python's readers look for.</param>
    /// <exception cref="ArgumentException">A tensor's type is unknown to the format.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void SaveWeights(this nn.Module model, string path, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        using DisposeScope scope = NewDisposeScope();
        SafetensorsFile.Write(path, model.state_dict(), metadata ?? PyTorchLayout);
    }
}
