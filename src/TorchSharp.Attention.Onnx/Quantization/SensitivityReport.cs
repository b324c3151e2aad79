using System.Globalization;
using System.Text;

namespace TorchSharp.Attention.Onnx;

/// <summary>The error that the quantization of each part of a model causes.</summary>
public sealed record SensitivityReport
{
    private static readonly string[] _columns = [
        "part", "kind", "only it: SQNR, dB", "accuracy", "all but it: SQNR, dB", "accuracy", "sigmoid fixed", "calibrated",
        "float"];

    /// <summary>Accuracy of the float model; null without labels.</summary>
    public double? FloatAccuracy { get; init; }

    /// <summary>Error of the model with everything quantized.</summary>
    public required QuantizationEffect All { get; init; }

    /// <summary>
    /// Error of the model with everything quantized, for each treatment of sigmoids. Null if the model has no sigmoid.
    /// </summary>
    public SigmoidEffects? AllBySigmoid { get; init; }

    /// <summary>The parts of the model, in the order in which they run.</summary>
    public required IReadOnlyList<SensitivityRow> Rows { get; init; }

    /// <summary>A table for a console.</summary>
    public override string ToString()
    {
        string[][] cells = [.. Cells()];
        int[] widths = [.. _columns.Select((_, column) => cells.Max(row => row[column].Length))];
        StringBuilder text = new();
        foreach (string[] row in cells)
        {
            text.AppendJoin(
                "  ", row.Select((cell, column) => column < 2 ? cell.PadRight(widths[column]) : cell.PadLeft(widths[column])))
                .AppendLine();
        }

        return text.ToString();
    }

    /// <summary>The table in Markdown.</summary>
    public string ToMarkdown()
    {
        StringBuilder text = new();
        foreach (string[] row in Cells())
        {
            text.Append("| ").AppendJoin(" | ", row).Append(" |\n");
            if (ReferenceEquals(row, _columns))
            {
                text.Append("|---|---|").Insert(text.Length, "---|", _columns.Length - 2).Append('\n');
            }
        }

        return text.ToString();
    }

    /// <summary>Formats the table as comma-separated values with all digits.</summary>
    public string ToCsv()
    {
        StringBuilder text = new(
            "part,kind,only_relative_error,only_sqnr,only_agreement,only_accuracy,allbut_relative_error,allbut_sqnr," +
            "allbut_agreement,allbut_accuracy\n");
        Row("(all)", "model", All, new QuantizationEffect(0, 1, FloatAccuracy));
        foreach (SensitivityRow row in Rows) Row(row.Name, row.Kind, row.Only, row.AllBut);
        return text.ToString();

        void Row(string name, string kind, QuantizationEffect only, QuantizationEffect allBut)
        {
            string quoted = name.AsSpan().IndexOfAny(",\"\n") < 0
                ? name
                : $"\"{name.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
            text.Append(
                CultureInfo.InvariantCulture,
                $"{quoted},{kind},{only.RelativeError:R},{only.Sqnr:R},{only.Agreement:R},{only.Accuracy:R}," +
                $"{allBut.RelativeError:R},{allBut.Sqnr:R},{allBut.Agreement:R},{allBut.Accuracy:R}\n");
        }
    }

    private IEnumerable<string[]> Cells()
    {
        yield return _columns;
        yield return ["(all)", "model", Decibel(All), Percent(All.Accuracy), "", Percent(FloatAccuracy), .. Gates(AllBySigmoid)];
        foreach (SensitivityRow row in Rows)
        {
            yield return [
                row.Name, row.Kind, Decibel(row.Only), Percent(row.Only.Accuracy), Decibel(row.AllBut),
                Percent(row.AllBut.Accuracy), .. Gates(row.Sigmoids)];
        }
    }

    private static string[] Gates(SigmoidEffects? effects)
        => effects is null
            ? ["", "", ""]
            : [Decibel(effects.FixedRange), Decibel(effects.Calibrated), Decibel(effects.Unquantized)];

    private static string Decibel(QuantizationEffect effect) => effect.Sqnr.ToString("0.0", CultureInfo.InvariantCulture);

    private static string Percent(double? share)
        => share is { } value ? (value * 100).ToString("0.00", CultureInfo.InvariantCulture) : "";
}
