using System.Globalization;
using System.Text;

namespace TorchSharp.Attention.Onnx;

/// <summary>The result of an export: what was written, and how exactly the file computes what the network computes.</summary>
public sealed record OnnxExportReport
{
    /// <summary>Path of the ONNX file.</summary>
    public required string Path { get; init; }

    /// <summary>Path of the separate file with the weights. Null if the weights are in the model file.</summary>
    public string? DataPath { get; init; }

    /// <summary>Version of the operator set.</summary>
    public long Opset { get; init; }

    /// <summary>Version of the file format.</summary>
    public long IrVersion { get; init; }

    /// <summary>Name and shape of each input, dynamic axes by name: <c>input (batch, 3, 224, 224)</c>.</summary>
    public required IReadOnlyList<string> Inputs { get; init; }

    /// <summary>Name and shape of each output. An axis whose length is computed from dynamic axes is shown as <c>?</c>.</summary>
    public required IReadOnlyList<string> Outputs { get; init; }

    /// <summary>Number of nodes.</summary>
    public int Nodes { get; init; }

    /// <summary>Bytes of all files together.</summary>
    public long Bytes { get; init; }

    /// <summary>The comparisons of the file with the network. Empty if the options turned verification off.</summary>
    public required IReadOnlyList<OnnxCheck> Checks { get; init; }

    /// <summary>
    /// Input shapes that were not compared, because the network does not accept them. For each dynamic axis at least one other
    /// size was compared. Empty if the options turned verification off.
    /// </summary>
    public required IReadOnlyList<OnnxSkippedCheck> Skipped { get; init; }

    /// <summary>Differences between the file and the requested options, such as an axis that could not stay dynamic.</summary>
    public required IReadOnlyList<string> Notes { get; init; }

    /// <summary>Greatest relative error of all comparisons. Null if nothing was compared.</summary>
    public double? MaxRelativeError => Checks.Count == 0 ? null : Checks.Max(check => check.RelativeError);

    /// <summary>Formats the report as a few lines of text.</summary>
    public override string ToString()
    {
        StringBuilder text = new();
        text.AppendLine(
            CultureInfo.InvariantCulture, $"{Path}: {Nodes} nodes, {Bytes / 1024.0:N0} KiB, opset {Opset}, IR {IrVersion}");
        text.AppendLine(CultureInfo.InvariantCulture, $"  inputs:  {string.Join("; ", Inputs)}");
        text.AppendLine(CultureInfo.InvariantCulture, $"  outputs: {string.Join("; ", Outputs)}");
        if (MaxRelativeError is { } error)
        {
            int shapes = Checks.Select(check => check.InputShapes).Distinct().Count();
            text.AppendLine(
                CultureInfo.InvariantCulture,
                $"  verified in ONNX Runtime at {shapes} shapes: relative error at most {error:0.0e+0}");
        }
        else
        {
            text.AppendLine("  not verified");
        }

        foreach (OnnxSkippedCheck skipped in Skipped)
        {
            text.AppendLine(CultureInfo.InvariantCulture, $"  not compared, since the network refuses it: {skipped}");
        }

        foreach (string note in Notes) text.AppendLine(CultureInfo.InvariantCulture, $"  note: {note}");
        return text.ToString();
    }
}
