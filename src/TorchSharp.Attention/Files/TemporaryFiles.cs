using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace TorchSharp.Attention;

/// <summary>
/// Names of temporary files, which say whose they are: the machine, the process and its run. So those of killed processes are
/// found later. The names are short, whatever the file is called that they become.
/// </summary>
internal static class TemporaryFiles
{
    private const string Start = ".tsattn", End = ".tmp", RunKey = "TorchSharp.Attention.TemporaryFiles.Run";
    private const int Digits = 8;

    private static readonly string Machine =
        Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(Environment.MachineName)))[..Digits];

    /// <summary>A number of this run of the process, for all packages in it: a later process may get the same id.</summary>
    private static string Run
    {
        get
        {
            if (AppContext.GetData(RunKey) is string known) return known;
            string run = RandomNumberGenerator.GetHexString(Digits);
            AppContext.SetData(RunKey, run);
            return run;
        }
    }

    /// <summary>A new name of this process.</summary>
    public static string NewName() => Name(Environment.ProcessId, Run);

    /// <summary>A new name of a process of this machine.</summary>
    public static string Name(int process, string run) => string.Create(
        CultureInfo.InvariantCulture, $"{Start}-{Machine}-{process}-{run}-{RandomNumberGenerator.GetHexString(Digits)}{End}");

    /// <summary>
    /// Deletes the temporary files in a folder that dead processes of this machine left. A file stays if its process runs, if
    /// another machine made it, or if somebody holds its lock, as its writer does.
    /// </summary>
    public static void Collect(string folder)
    {
        try
        {
            foreach (string file in Directory.EnumerateFiles(folder, $"{Start}-{Machine}-*{End}"))
            {
                if (IsDead(Path.GetFileName(file)) && IsFree(file)) AtomicFile.TryDelete(file);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A folder that cannot be listed can still be written to.
        }
    }

    private static bool IsDead(string name)
    {
        string[] parts = name[..^End.Length].Split('-');
        if (parts.Length != 5 || !int.TryParse(parts[2], NumberStyles.None, CultureInfo.InvariantCulture, out int process))
        {
            return false;
        }

        return process == Environment.ProcessId ? parts[3] != Run : !Runs(process);
    }

    private static bool Runs(int id)
    {
        try
        {
            using Process process = Process.GetProcessById(id);
            return true;
        }
        catch (ArgumentException)
        {
            return false;
        }
        catch (Exception e) when (e is InvalidOperationException or System.ComponentModel.Win32Exception
            or PlatformNotSupportedException)
        {
            // Not known is not dead.
            return true;
        }
    }

    private static bool IsFree(string file)
    {
        try
        {
            using FileStream stream = new(file, FileMode.Open, FileAccess.Write, FileShare.None);
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
