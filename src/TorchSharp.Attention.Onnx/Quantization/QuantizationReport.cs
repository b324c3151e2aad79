using System.Globalization;
using System.Text;

namespace TorchSharp.Attention.Onnx;

/// <summary>The result of a quantization: what was written, and what ONNX Runtime makes of it on this machine.</summary>
public sealed record QuantizationReport
{
    /// <summary>Path of the quantized model.</summary>
    public required string Path { get; init; }

    /// <summary>Bytes of the float model.</summary>
    public long FloatBytes { get; init; }

    /// <summary>Bytes of the quantized model.</summary>
    public long Bytes { get; init; }

    /// <summary>Number of batch norms that were folded into the layer before them.</summary>
    public int FoldedBatchNorms { get; init; }

    /// <summary>Number of convolutions in the file, including means over channels that were written as a convolution.</summary>
    public int Convolutions { get; init; }

    /// <summary>Number of convolutions that run as integers in ONNX Runtime's optimized graph.</summary>
    public int IntegerConvolutions { get; init; }

    /// <summary>Number of linear layers and matrix products in the file.</summary>
    public int Products { get; init; }

    /// <summary>Number of linear layers and matrix products that run as integers in ONNX Runtime's optimized graph.</summary>
    public int IntegerProducts { get; init; }

    /// <summary>Number of nodes of each operator in the float model.</summary>
    public required IReadOnlyDictionary<string, int> FloatOperators { get; init; }

    /// <summary>Number of nodes of each operator in the quantized file.</summary>
    public required IReadOnlyDictionary<string, int> Operators { get; init; }

    /// <summary>Number of nodes of each operator in the graph that ONNX Runtime runs after its optimizations.</summary>
    public required IReadOnlyDictionary<string, int> RuntimeOperators { get; init; }

    /// <summary>
    /// The eight-bit format of the weights, and the processors on which the file is right: "uint8 weights, right on every
    /// processor", or "int8 weights of reduced range, right on every processor" with
    /// <see cref="QuantizationOptions.ReduceRange"/>. The metadata of the file has the same text.
    /// </summary>
    public string Weights { get; init; } = "";

    /// <summary>
    /// The difference between the outputs of the file and of the float model, measured on this machine on the first calibration
    /// batches (64 MiB of inputs, at least one batch). Other batches can have a larger error, because the ranges were chosen for
    /// these. Null for dynamic quantization, which has no calibration. Null also if outputs of the float model are not finite.
    /// </summary>
    public QuantizationEffect? OnCalibration { get; init; }

    /// <summary>The nodes that stay in float, and why.</summary>
    public required IReadOnlyList<FloatNode> FloatNodes { get; init; }

    /// <summary>
    /// Names of the parts that stayed in float, because the model would exceed the budget otherwise. Empty without a budget.
    /// </summary>
    public IReadOnlyList<string> FallbackParts { get; init; } = [];

    /// <summary>
    /// Warnings, with names and numbers, about values that combine numbers of very different size, so that one scale leaves only
    /// a few steps for the small ones. Empty if there are none.
    /// </summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>How many times smaller the quantized file is than the float model.</summary>
    public double Compression => (double)FloatBytes / Bytes;

    /// <summary>Formats the report as a few lines of text.</summary>
    public override string ToString()
    {
        StringBuilder text = new();
        Line($"{Path}: {Bytes / 1024.0:N0} KiB instead of {FloatBytes / 1024.0:N0} ({Compression:0.00} times smaller)");
        Line(
            $"  integer in ONNX Runtime: {IntegerConvolutions} of {Convolutions} convolutions, {IntegerProducts} of {Products} ",
            $"linear layers and products");
        if (Weights.Length > 0) Line($"  {Weights}");
        if (OnCalibration is { } effect)
        {
            Line($"  error on the calibration data: {effect.Sqnr:0.0} dB, {effect.RelativeError * 100:0.000} %");
        }

        if (FoldedBatchNorms > 0) Line($"  batch norms folded: {FoldedBatchNorms}");
        Line($"  runs as: {Counts(RuntimeOperators)}");
        foreach (IGrouping<string, FloatNode> group in FloatNodes.GroupBy(node => node.Reason))
        {
            Line(
                $"  in float, {group.Key}: ",
                $"{string.Join(", ", group.GroupBy(node => node.Operator).Select(own => $"{own.Count()} {own.Key}"))}");
        }

        foreach (string warning in Warnings) Line($"  {warning}");
        if (FallbackParts.Count > 0) Line($"  in float for the budget: {string.Join(", ", FallbackParts)}");
        return text.ToString();

        void Line(params FormattableString[] parts)
            => text.AppendJoin("", parts.Select(part => part.ToString(CultureInfo.InvariantCulture))).AppendLine();
    }

    /// <summary>
    /// Formats the number of nodes of each operator as a Markdown table: in the float model, in the file, and as ONNX Runtime
    /// runs it.
    /// </summary>
    public string ToMarkdown()
    {
        StringBuilder text = new("| operator | float | file | runtime |\n|---|---|---|---|\n");
        foreach (string name in FloatOperators.Keys.Concat(Operators.Keys).Concat(RuntimeOperators.Keys).Distinct().Order(
            StringComparer.Ordinal))
        {
            text.Append(
                CultureInfo.InvariantCulture,
                $"| {name} | {FloatOperators.GetValueOrDefault(name)} | {Operators.GetValueOrDefault(name)} | " +
                $"{RuntimeOperators.GetValueOrDefault(name)} |\n");
        }

        return text.ToString();
    }

    private static string Counts(IReadOnlyDictionary<string, int> operators)
        => string.Join(
            ", ", operators.OrderByDescending(entry => entry.Value).ThenBy(entry => entry.Key, StringComparer.Ordinal).Select(
                entry => $"{entry.Value} {entry.Key.Split('.')[^1]}"));
}
