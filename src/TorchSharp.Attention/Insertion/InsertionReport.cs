using System.Globalization;
using System.Text;

namespace TorchSharp.Attention;

/// <summary>What an insertion inserts where, and what it costs. <c>ToString</c> formats it as a table.</summary>
/// <param name="Network">The network's name.</param>
/// <param name="NetworkParameters">Number of the network's parameters before the insertion.</param>
/// <param name="Entries">The attentions, in order of the rules and, within a rule, of the network's submodules.</param>
public sealed record InsertionReport(string Network, long NetworkParameters, ValueList<InsertionEntry> Entries)
{
    /// <summary>Number of parameters of all attentions.</summary>
    public long Parameters => Entries.Sum(entry => entry.Parameters);

    /// <summary>Multiply-accumulates of all attentions for the example; null without an example.</summary>
    public long? MultiplyAccumulates
        => Entries.Sum(entry => entry.MultiplyAccumulates ?? 0) is long sum
            && Entries.All(entry => entry.MultiplyAccumulates is not null) ? sum : null;

    /// <summary>Formats one line with the totals, then a table with one line per attention, then one line per note.</summary>
    public override string ToString()
    {
        string[][] rows =
        [
            ["place", "attention", "map", "parameters", "multiply-accumulates", "key"],
            .. Entries.Select(entry => new[]
            {
                $"{(entry.Side == InsertionSide.After ? "after" : "before")} " +
                $"{string.Join(" = ", entry.OtherPaths.Prepend(entry.Path))} ({entry.ModuleType})" +
                (entry.Calls > 1 ? $", {entry.Calls} calls" : ""),
                entry.Attention.Kind(),
                entry.MapShape is { } shape ? string.Join("×", shape) : $"{entry.Channels} channels",
                Count(entry.Parameters),
                Count(entry.MultiplyAccumulates),
                entry.Key,
            }),
        ];
        StringBuilder text = new();
        text.Append(CultureInfo.InvariantCulture, $"{Network}: {Entries.Count} attention{(Entries.Count == 1 ? "" : "s")}, ")
            .Append(
                CultureInfo.InvariantCulture, $"{Count(Parameters)} parameters beside the network's {Count(NetworkParameters)}, ")
            .Append(
                MultiplyAccumulates is null
                    ? "multiply-accumulates not counted without an example"
                    : $"{Count(MultiplyAccumulates)} multiply-accumulates for the example");
        int[] widths = [.. Enumerable.Range(0, rows[0].Length).Select(column => rows.Max(row => row[column].Length))];
        foreach (string[] row in rows)
        {
            text.Append("\n ");
            for (int i = 0; i < row.Length; i++)
            {
                text.Append(' ').Append(i is 3 or 4 ? row[i].PadLeft(widths[i]) : row[i].PadRight(widths[i])).Append(' ');
            }

            while (text[^1] == ' ') text.Length--;
        }

        foreach (string note in Entries.SelectMany(entry => entry.Notes).Distinct()) text.Append("\n  Note: ").Append(note);
        return text.ToString();
    }

    private static string Count(long? number) => number is long value ? value.ToString("N0", CultureInfo.InvariantCulture) : "–";
}
