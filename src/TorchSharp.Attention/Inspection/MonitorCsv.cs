using System.Globalization;
using System.Text;

namespace TorchSharp.Attention;

/// <summary>
/// A file of readings that grows at its end. All rows of a step are one write, flushed to the system, so that a killed process leaves whole
/// rows; if the machine itself stops, the last row may be half-written, and is cut off when the file is opened again.
/// </summary>
internal sealed class MonitorCsv : IDisposable
{
    private static readonly string Head = "step,module,map," + string.Join(
        ',', new GateReading { Step = 0, Module = "", Map = default }.Numbers.Select(number => number.Name)) + "\n";

    private readonly FileStream _file;

    public MonitorCsv(string path)
    {
        string full = Path.GetFullPath(path);
        Directory.CreateDirectory(Path.GetDirectoryName(full)!);
        _file = new FileStream(full, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);
        try
        {
            GoOn(full);
        }
        catch
        {
            _file.Dispose();
            throw;
        }
    }

    public void Append(IEnumerable<GateReading> readings)
    {
        StringBuilder rows = new();
        foreach (GateReading reading in readings)
        {
            rows.Append(CultureInfo.InvariantCulture, $"{reading.Step},{Quoted(reading.Module)},{reading.Map}");
            foreach ((string _, double? value) in reading.Numbers) rows.Append(',').Append(value?.ToString("R", CultureInfo.InvariantCulture));
            rows.Append('\n');
        }

        Write(rows.ToString());
    }

    public void Dispose() => _file.Dispose();

    /// <summary>To the end of the last whole row of a file of ours, or to the start of an empty one.</summary>
    private void GoOn(string path)
    {
        byte[] head = Encoding.UTF8.GetBytes(Head), found = new byte[head.Length];
        int read = _file.ReadAtLeast(found, found.Length, throwOnEndOfStream: false);
        if (!found.AsSpan(0, read).SequenceEqual(head.AsSpan(0, read)))
        {
            throw new IOException($"{path} does not begin as a file of a GateMonitor does, so nothing is added to it. Name another file, or move that one away.");
        }

        if (read < head.Length)
        {
            _file.SetLength(0);
            Write(Head);
            return;
        }

        long end = _file.Length;
        byte[] one = new byte[1];
        while (end > head.Length)
        {
            _file.Position = end - 1;
            _file.ReadExactly(one);
            if (one[0] == (byte)'\n') break;
            end--;
        }

        _file.SetLength(end);
        _file.Position = end;
    }

    private void Write(string rows)
    {
        _file.Write(Encoding.UTF8.GetBytes(rows));
        _file.Flush();
    }

    private static string Quoted(string cell) => cell.AsSpan().ContainsAny(",\"\r\n") ? $"\"{cell.Replace("\"", "\"\"", StringComparison.Ordinal)}\"" : cell;
}
