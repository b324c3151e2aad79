using System.Globalization;
using System.Text;

namespace TorchSharp.Attention;

/// <summary>
/// A file of readings that grows at its end. All rows of a step are one write, flushed to the system, so that a killed process
/// leaves whole rows; if the machine itself stops, the last row may be half-written, and is cut off when the file is opened
/// again. What a failed write has left is cut off before the next one.
/// </summary>
/// <remarks>
/// A second writer is refused by a file beside this one, opened by one alone and deleted with it. On Linux and macOS sharing
/// modes keep no second writer away that lets others read.
/// </remarks>
internal sealed class MonitorCsv : IDisposable
{
    private static readonly string Head = "step,module,map," + string.Join(
        ',', new GateReading { Step = 0, Module = "", Map = default }.Numbers.Select(number => number.Name)) + "\n";

    private readonly Stream _file;
    private readonly FileStream? _lock;

    // Where the next row begins.
    private long _end;

    public MonitorCsv(string path)
    {
        string full = Path.GetFullPath(path);
        Directory.CreateDirectory(Path.GetDirectoryName(full)!);
        if (File.Exists(full)) full = File.ResolveLinkTarget(full, returnFinalTarget: true)?.FullName ?? full;
        _lock = Lock(full);
        try
        {
            // Without a buffer: what could not be written must not come later.
            _file = new FileStream(full, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read, bufferSize: 0);
            GoOn(full);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Goes on in a stream that can be cut off.</summary>
    internal MonitorCsv(Stream file)
    {
        _file = file;
        GoOn("The stream");
    }

    public void Append(IEnumerable<GateReading> readings)
    {
        StringBuilder rows = new();
        foreach (GateReading reading in readings)
        {
            rows.Append(CultureInfo.InvariantCulture, $"{reading.Step},{Quoted(reading.Module)},{reading.Map}");
            foreach ((string _, double? value) in reading.Numbers)
            {
                rows.Append(',').Append(value?.ToString("R", CultureInfo.InvariantCulture));
            }

            rows.Append('\n');
        }

        Write(rows.ToString());
    }

    public void Dispose()
    {
        _file?.Dispose();
        _lock?.Dispose();
    }

    private static FileStream Lock(string path)
    {
        try
        {
            return new FileStream(
                path +
                ".lock", FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 1, FileOptions.DeleteOnClose);
        }
        catch (IOException e) when (File.Exists(path + ".lock"))
        {
            throw new IOException(
                $"{path} is written by another GateMonitor, in this program or another one: {path}.lock is in use. " +
                "Give each monitor a file of its own, or dispose the other one first.", e);
        }
    }

    /// <summary>To the end of the last whole row of a file of ours, or to the start of an empty one.</summary>
    private void GoOn(string path)
    {
        byte[] head = Encoding.UTF8.GetBytes(Head), found = new byte[head.Length];
        int read = _file.ReadAtLeast(found, found.Length, throwOnEndOfStream: false);
        if (!found.AsSpan(0, read).SequenceEqual(head.AsSpan(0, read)))
        {
            throw new IOException(
                $"{path} does not begin as a file of a GateMonitor does, so nothing is added to it. " +
                "Name another file, or move that one away.");
        }

        if (read < head.Length)
        {
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

        _end = end;
        CutOff();
    }

    private void Write(string rows)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(rows);
        CutOff();
        try
        {
            _file.Write(bytes);
            _file.Flush();
            _end += bytes.Length;
        }
        catch (IOException)
        {
            // The next write tries again.
            try
            {
                CutOff();
            }
            catch (IOException)
            {
            }

            throw;
        }
    }

    /// <summary>Ends the file behind its last whole row.</summary>
    private void CutOff()
    {
        if (_file.Length != _end) _file.SetLength(_end);
        _file.Position = _end;
    }

    private static string Quoted(string cell)
        => cell.AsSpan().ContainsAny(",\"\r\n") ? $"\"{cell.Replace("\"", "\"\"", StringComparison.Ordinal)}\"" : cell;
}
