using System.Globalization;

namespace Samples.Data;

/// <summary>
/// CIFAR-10's binary format: records of one label byte and 3 x 32 x 32 bytes, the red plane first, each plane row by row.
/// </summary>
public static class CifarFile
{
    private const int PlaneBytes = 32 * 32, ImageBytes = 3 * PlaneBytes, RecordBytes = 1 + ImageBytes;
    private const int LargestFile = 10_000 * RecordBytes;

    /// <summary>Reads the files one after the other into one set.</summary>
    public static ImageSet Read(IReadOnlyList<string> paths, int classes, string source)
    {
        byte[][] files = [.. paths.Select(path => ReadFile(path, classes, source))];
        int count = files.Sum(file => file.Length / RecordBytes);
        byte[] pixels = new byte[(long)count * ImageBytes], labels = new byte[count];
        int image = 0;
        foreach (byte[] file in files)
        {
            for (int at = 0; at < file.Length; at += RecordBytes, image++)
            {
                labels[image] = file[at];
                file.AsSpan(at + 1, ImageBytes).CopyTo(pixels.AsSpan(image * ImageBytes));
            }
        }

        return new ImageSet(pixels, labels, new ImageShape(3, 32, 32));
    }

    /// <summary>Reads the names of the classes, one per line.</summary>
    public static IReadOnlyList<string> ReadClasses(string path, int classes, string source)
    {
        string[] names = [.. Guard(path, source, () => File.ReadAllLines(path)).Select(line => line.Trim()).Where(line => line.Length > 0)];
        return names.Length == classes ? names : throw new DataException(
            path, $"names {names.Length} classes; expected {classes}, one per line.", source);
    }

    private static byte[] ReadFile(string path, int classes, string source)
    {
        long bytes = Guard(path, source, () => new FileInfo(path).Length);
        if (bytes == 0) throw new DataException(path, "is empty.", source);
        if (bytes % RecordBytes != 0 || bytes > LargestFile)
        {
            throw new DataException(
                path,
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"has {bytes:N0} bytes; expected records of {RecordBytes:N0} bytes, at most {LargestFile / RecordBytes:N0} of them."),
                source);
        }

        byte[] file = Guard(path, source, () => File.ReadAllBytes(path));
        for (int at = 0; at < file.Length; at += RecordBytes)
        {
            if (file[at] >= classes)
            {
                throw new DataException(path, $"label {at / RecordBytes} is {file[at]}; expected 0 to {classes - 1}.", source);
            }
        }

        return file;
    }

    private static T Guard<T>(string path, string source, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (FileNotFoundException e)
        {
            throw new DataException(path, "is missing.", source, e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DataException(path, $"cannot be read ({e.Message}).", source, e);
        }
    }
}
