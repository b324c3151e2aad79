using System.Globalization;
using System.Text;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>
/// What the exports of a run measured. With the environment variable TORCHSHARP_ATTENTION_EXPORT_TABLE set, a run of all cases writes the tables of
/// docs/export.md.
/// </summary>
public sealed class ExportTable : IDisposable
{
    private const string Begin = "<!-- table: begin -->", End = "<!-- table: end -->";

    private readonly Dictionary<ExportCase, (string Open, double Error)> _exports = [];

    /// <summary>The page in the repository.</summary>
    internal static string Page { get; } = Repository.PathOf("docs", "export.md");

    internal void Add(ExportCase one, OnnxExportReport open, double error) => _exports[one] = (Line(open.Inputs), error);

    internal static string Line(IEnumerable<string> inputs) => string.Join("; ", inputs);

    public void Dispose()
    {
        if (Environment.GetEnvironmentVariable("TORCHSHARP_ATTENTION_EXPORT_TABLE") is not { Length: > 0 } || !ExportCase.All.All(_exports.ContainsKey)) return;
        string page = File.ReadAllText(Page);
        int begin = page.IndexOf(Begin, StringComparison.Ordinal) + Begin.Length, end = page.IndexOf(End, StringComparison.Ordinal);
        File.WriteAllText(Page, $"{page[..begin]}\n{Table()}{page[end..]}");
    }

    private string Table()
    {
        StringBuilder text = new();
        text.Append("| module or network | cases | axes that can be dynamic | greatest relative error |\n|---|---:|---|---:|\n");
        foreach (IGrouping<string, ExportCase> group in ExportCase.All.GroupBy(one => one.Group).OrderBy(group => group.Key, StringComparer.Ordinal))
        {
            double error = group.Max(one => _exports[one].Error);
            text.Append(CultureInfo.InvariantCulture, $"{Row(group.Key, [.. group.Select(one => _exports[one].Open)])}{error:0.0e+0} |\n");
        }

        return text.ToString();
    }

    /// <summary>A row but for its error, by the inputs' descriptions.</summary>
    internal static string Row(string group, string[] inputs) => $"| `{group}` | {inputs.Length} | {Axes(inputs)} | ";

    /// <summary>Axes by the inputs' descriptions: those that every case left open, then those that some did.</summary>
    private static string Axes(string[] inputs)
    {
        string[] all = ["batch", "height", "width", "length"];
        string[] always = [.. all.Where(axis => inputs.All(input => Has(input, axis)))], sometimes = [.. all.Where(axis => !always.Contains(axis) && inputs.Any(input => Has(input, axis)))];
        string text = string.Join(", ", always);
        return sometimes.Length == 0 ? text : $"{text}; {string.Join(", ", sometimes)} in {inputs.Count(input => sometimes.All(axis => Has(input, axis)))} of {inputs.Length}";
    }

    private static bool Has(string input, string axis) => input.Contains($" {axis},", StringComparison.Ordinal) || input.Contains($"({axis},", StringComparison.Ordinal)
        || input.Contains($" {axis})", StringComparison.Ordinal);
}
