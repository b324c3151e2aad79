using Microsoft.Win32.SafeHandles;

namespace TorchSharp.Attention;

/// <summary>Files of a hub's cache, many of which are links to others. A link whose target is gone counts as no file.</summary>
internal static class HubFiles
{
    private const int LongestReference = 200, ReadOnlyFileSystem = 30;

    /// <summary>Whether there is a file, at the end of a link too.</summary>
    public static bool IsThere(string path)
    {
        try
        {
            return File.Exists(path)
                && (File.ResolveLinkTarget(path, returnFinalTarget: true) is not { } target || target.Exists);
        }
        catch (IOException)
        {
            // Links in a circle.
            return false;
        }
    }

    /// <summary>Length of a file, at the end of a link too; -1 where there is none.</summary>
    public static long LengthOf(string path)
    {
        if (!IsThere(path)) return -1;
        try
        {
            using SafeFileHandle file = File.OpenHandle(
                path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            return RandomAccess.GetLength(file);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            // Somebody deleted it in between.
            return -1;
        }
    }

    /// <summary>Deletes a link, so that nothing is written to where it leads. A file that is no link stays.</summary>
    public static void RemoveLink(string path)
    {
        if (new FileInfo(path).LinkTarget is not null) File.Delete(path);
    }

    /// <summary>What a reference (a branch or tag in the folder <c>refs</c>) says; null where there is none.</summary>
    public static string? ReadReference(string path)
        => LengthOf(path) is >= 0 and <= LongestReference ? File.ReadAllText(path).Trim() : null;

    /// <summary>Whether an error says that nothing may be written here.</summary>
    public static bool IsReadOnly(Exception e)
        => e is UnauthorizedAccessException || (e is IOException && e.HResult == ReadOnlyFileSystem);
}
