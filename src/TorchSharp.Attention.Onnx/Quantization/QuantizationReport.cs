using System.Globalization;
using System.Text;

namespace TorchSharp.Attention.Onnx;

/// <summary>What a quantization wrote, and what ONNX Runtime makes of it on this machine.</summary>
public sealed record QuantizationReport
{
    /// <summary>The file.</summary>
    public required string Path { get; init; }

    /// <summary>Bytes of the float model.</summary>
    public long FloatBytes { get; init; }

    /// <summary>Bytes of the quantized model.</summary>
    public long Bytes { get; init; }

    /// <summary>Batch norms that went into the layer before them.</summary>
    public int FoldedBatchNorms { get; init; }

    /// <summary>Convolutions of the file, means over channels that became one included.</summary>
    public int Convolutions { get; init; }

    /// <summary>Those that run as integers in ONNX Runtime's optimised graph.</summary>
    public int IntegerConvolutions { get; init; }

    /// <summary>Linear layers and matrix products of the file.</summary>
    public int Products { get; init; }

    /// <summary>Those that run as integers in ONNX Runtime's optimised graph.</summary>
    public int IntegerProducts { get; init; }

    /// <summary>Operators of the float model, with their number.</summary>
    public required IReadOnlyDictionary<string, int> FloatOperators { get; init; }

    /// <summary>Operators of the file.</summary>
    public required IReadOnlyDictionary<string, int> Operators { get; init; }

    /// <summary>Operators of the graph that ONNX Runtime runs after fusing.</summary>
    public required IReadOnlyDictionary<string, int> RuntimeOperators { get; init; }

    /// <summary>
    /// Which eight bits the weights have, and on which processors the file is right: "uint8 weights, right on every processor",
    /// or "int8 weights of reduced range, right on every processor" with <see cref="QuantizationOptions.ReduceRange"/>. The
    /// file's metadata holds the same words.
    /// </summary>
    public string Weights { get; init; } = "";

    /// <summary>
    /// How far the file's outputs are from the float model's on the first batches of calibration (64 MiB of inputs, one batch at
    /// least), measured on this machine. The ranges were made for these batches, so that others may have a larger error. Null for
    /// dynamic quantization, which has no calibration, and where the float model's outputs are not finite.
    /// </summary>
    public QuantizationEffect? OnCalibration { get; init; }

    /// <summary>The nodes that stay in float, and why.</summary>
    public required IReadOnlyList<FloatNode> FloatNodes { get; init; }

    /// <summary>What the fallback kept in float to stay within the budget; empty without a budget.</summary>
    public IReadOnlyList<string> FallbackParts { get; init; } = [];

    /// <summary>
    /// Where quantities of very different size meet in one value, so that one scale would leave little of the small ones: names
    /// and numbers. Empty where nothing is to be said.
    /// </summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>How much smaller the file is than the float one.</summary>
    public double Compression => (double)FloatBytes / Bytes;

    /// <summary>A few lines for a console.</summary>
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

    /// <summary>The operators before, in the file, and as they run: a table in Markdown.</summary>
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
