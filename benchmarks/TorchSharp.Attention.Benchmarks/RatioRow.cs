using System.Globalization;

namespace TorchSharp.Attention.Benchmarks;

/// <summary>One way of one case: the median time, median and quartiles of the ratios to the baseline, the time over the floor's where there is one.</summary>
internal sealed record RatioRow(
    string Case, string Shape, string Layout, string Way, double Milliseconds, double Ratio, double LowerQuartile, double UpperQuartile, double? ToFloor,
    string Date, string Machine, int Threads, int Rounds)
{
    public const string Header = "case,shape,layout,way,milliseconds,ratio,lower_quartile,upper_quartile,to_floor,date,machine,threads,rounds";

    /// <summary>What changes the speed of libtorch itself.</summary>
    private static readonly string[] Limits = ["DNNL_MAX_CPU_ISA", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"];

    /// <summary>The name of the processor, the number of its cores, as Linux tells them, and limits set from outside.</summary>
    public static string ThisMachine { get; } = Describe();

    /// <summary>What a later measurement of the same replaces.</summary>
    public string Key => $"{Case},{Shape},{Layout},{Way}";

    public int Batch => int.Parse(Shape.Split('x')[0], CultureInfo.InvariantCulture);

    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"{Case},{Shape},{Layout},{Way},{Milliseconds:0.0000},{Ratio:0.000},{LowerQuartile:0.000},{UpperQuartile:0.000},{ToFloor:0.00},{Date},{Machine},{Threads},{Rounds}");

    /// <summary>The rows of a file that <see cref="Write"/> made; none where there is no file.</summary>
    public static IReadOnlyList<RatioRow> Read(string path)
        => File.Exists(path) ? [.. File.ReadLines(path).Skip(1).Where(line => line.Length > 0).Select(Parse)] : [];

    /// <summary>Writes the rows over those of the same cases; the file appears whole or not at all.</summary>
    public static void Write(string path, IReadOnlyList<RatioRow> rows)
    {
        HashSet<string> measured = [.. rows.Select(row => row.Key)];
        IEnumerable<RatioRow> all = Read(path).Where(row => !measured.Contains(row.Key)).Concat(rows);
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        AtomicFile.WriteText(path, string.Concat(all.Select(row => row.ToString()).Prepend(Header).Select(line => line + "\n")));
    }

    private static RatioRow Parse(string line)
    {
        string[] cells = line.Split(',');
        if (cells.Length != Header.Split(',').Length) throw new InvalidDataException($"No row of ratios: '{line}'.");
        return new RatioRow(
            cells[0], cells[1], cells[2], cells[3], Number(cells[4]), Number(cells[5]), Number(cells[6]), Number(cells[7]),
            cells[8].Length == 0 ? null : Number(cells[8]), cells[9], cells[10], (int)Number(cells[11]), (int)Number(cells[12]));
    }

    private static double Number(string text) => double.Parse(text, CultureInfo.InvariantCulture);

    private static string Describe()
    {
        string? name = File.Exists("/proc/cpuinfo")
            ? File.ReadLines("/proc/cpuinfo").FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal))?.Split(':')[1].Trim()
            : null;
        string limits = string.Concat(Limits.Select(limit => Environment.GetEnvironmentVariable(limit) is { } value ? $" {limit}={value}" : ""));
        return $"{name?.Replace(',', ' ') ?? "unknown processor"} {Environment.ProcessorCount} cores{limits}";
    }
}
