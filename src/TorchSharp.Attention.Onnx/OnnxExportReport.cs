using System.Globalization;
using System.Text;

namespace TorchSharp.Attention.Onnx;

/// <summary>What an export wrote, and how exactly the file computes what the network does.</summary>
public sealed record OnnxExportReport
{
    /// <summary>The file.</summary>
    public required string Path { get; init; }

    /// <summary>The file with the weights; null where they are in the model file.</summary>
    public string? DataPath { get; init; }

    /// <summary>Version of the operator set.</summary>
    public long Opset { get; init; }

    /// <summary>Version of the file format.</summary>
    public long IrVersion { get; init; }

    /// <summary>Name and shape of each input, dynamic axes by name: <c>input (batch, 3, 224, 224)</c>.</summary>
    public required IReadOnlyList<string> Inputs { get; init; }

    /// <summary>Name and shape of each output. A dynamic axis that follows from several shows as <c>?</c>.</summary>
    public required IReadOnlyList<string> Outputs { get; init; }

    /// <summary>Number of nodes.</summary>
    public int Nodes { get; init; }

    /// <summary>Bytes of all files together.</summary>
    public long Bytes { get; init; }

    /// <summary>What was compared; empty where the options turned verification off.</summary>
    public required IReadOnlyList<OnnxCheck> Checks { get; init; }

    /// <summary>
    /// Shapes that the network refused, so that nothing could be compared. Along each dynamic axis something was. Empty where
    /// the options turned verification off.
    /// </summary>
    public required IReadOnlyList<OnnxSkippedCheck> Skipped { get; init; }

    /// <summary>What differs from what was asked for, such as an axis that could not stay dynamic.</summary>
    public required IReadOnlyList<string> Notes { get; init; }

    /// <summary>Greatest relative error of all checks; null where nothing was compared.</summary>
    public double? MaxRelativeError => Checks.Count == 0 ? null : Checks.Max(check => check.RelativeError);

    /// <summary>A few lines for a console.</summary>
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
