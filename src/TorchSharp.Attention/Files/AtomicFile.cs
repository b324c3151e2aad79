using System.Text;

namespace TorchSharp.Attention;

/// <summary>
/// Writes files so that each is either the old one or the new one, never half of one. Every file of
/// the packages is written through this.
/// </summary>
internal static class AtomicFile
{
    /// <summary>
    /// Writes under a temporary name in the same folder, brings it to disk, then renames. On failure the old file stays. An
    /// old file keeps its access mode, and a symbolic link keeps pointing to its target, which is what is written. Temporary
    /// files of dead processes are removed.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="write">Writes the content.</param>
    /// <param name="check">Looks at the file under its temporary name, given as argument; an exception ends the writing.</param>
    /// <exception cref="IOException">The file cannot be written, or would be larger than its file system allows.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder does not let this user create files.</exception>
    public static void Write(string path, Action<Stream> write, Action<string>? check = null)
    {
        string target = TargetOf(path), folder = FolderOf(target);
        if (!Directory.Exists(folder))
        {
            throw new DirectoryNotFoundException($"The folder of '{path}' does not exist. Create it first.");
        }

        TemporaryFiles.Collect(folder);
        string temporary = Path.Combine(folder, TemporaryFiles.NewName());
        FileStream? file = null;
        try
        {
            // The open file is locked: nobody takes it for one that a dead process left.
            using (file = Create(path, temporary, target))
            {
                WriteStream stream = new(file, path);
                write(stream);
                stream.FlushToDisk();

                // Windows renames no open file.
                if (OperatingSystem.IsWindows()) file.Dispose();
                check?.Invoke(temporary);
                File.Move(temporary, target, overwrite: true);
            }
        }
        catch
        {
            // Null: the temporary file was never made.
            if (file is not null) TryDelete(temporary);
            throw;
        }
    }

    /// <summary>Writes a text as UTF-8, as <see cref="Write"/> writes bytes.</summary>
    public static void WriteText(string path, string text) => Write(path, stream => stream.Write(Encoding.UTF8.GetBytes(text)));

    /// <summary>The file that writing to a path changes, as a full path: behind all symbolic links.</summary>
    public static string TargetOf(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        string full = Path.GetFullPath(path);
        return new FileInfo(full).LinkTarget is null ? full : File.ResolveLinkTarget(full, returnFinalTarget: true)!.FullName;
    }

    /// <summary>Deletes what a failure left; why it failed matters more than that this fails too.</summary>
    public static void TryDelete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
        }
    }

    private static string FolderOf(string full) => Path.GetDirectoryName(full) ?? full;

    private static FileStream Create(string path, string temporary, string target)
    {
        FileStreamOptions options = new() { Mode = FileMode.CreateNew, Access = FileAccess.Write, Share = FileShare.Read };
        UnixFileMode? mode = !OperatingSystem.IsWindows() && File.Exists(target) ? File.GetUnixFileMode(target) : null;

        // At no moment more open than the old file.
        if (mode is not null && !OperatingSystem.IsWindows()) options.UnixCreateMode = mode;
        try
        {
            FileStream file = new(temporary, options);

            // The system has masked what new files may have; an old file may have more.
            if (mode is not null && !OperatingSystem.IsWindows()) File.SetUnixFileMode(file.SafeFileHandle, mode.Value);
            return file;
        }
        catch (UnauthorizedAccessException e)
        {
            throw new UnauthorizedAccessException(
                $"'{path}' cannot be written: its folder does not let this user create files.", e);
        }
    }
}
