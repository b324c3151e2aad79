using System.Buffers.Binary;
using System.Globalization;
using System.IO.Compression;

namespace Samples.Data;

/// <summary>
/// IDX, the format of MNIST: a big-endian magic number (type 8 for bytes, then the number of dimensions), one big-endian 32-bit
/// size a dimension, then the bytes. Files that end in .gz are unpacked on the way.
/// </summary>
public static class IdxFile
{
    private const uint ImagesMagic = 0x0803, LabelsMagic = 0x0801;
    private const uint LargestSide = 1024;

    /// <summary>Reads images, (count, height, width).</summary>
    public static (byte[] Pixels, ImageShape Shape) ReadImages(string path, string source) => Read(path, source, file =>
    {
        uint[] sizes = file.Header(ImagesMagic, "images", dimensions: 3);
        if (sizes.Skip(1).Any(side => side is 0 or > LargestSide))
        {
            throw file.Damaged($"its images are {sizes[1]} x {sizes[2]}; expected sides of 1 to {LargestSide} pixels.");
        }

        byte[] pixels = file.Body((long)sizes[0] * sizes[1] * sizes[2], $"{sizes[0]} images of {sizes[1]} x {sizes[2]}");
        return (pixels, new ImageShape(1, (int)sizes[1], (int)sizes[2]));
    });

    /// <summary>Reads labels, each below the number of classes.</summary>
    public static byte[] ReadLabels(string path, int classes, string source) => Read(path, source, file =>
    {
        uint count = file.Header(LabelsMagic, "labels", dimensions: 1)[0];
        byte[] labels = file.Body(count, $"{count} labels");
        int wrong = Array.FindIndex(labels, label => label >= classes);
        return wrong < 0 ? labels : throw file.Damaged($"label {wrong} is {labels[wrong]}; expected 0 to {classes - 1}.");
    });

    private static T Read<T>(string path, string source, Func<Reader, T> read)
    {
        try
        {
            using FileStream file = File.OpenRead(path);
            using Stream stream = path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase)
                ? new GZipStream(file, CompressionMode.Decompress)
                : file;
            return read(new Reader(stream, path, source));
        }
        catch (InvalidDataException e)
        {
            throw new DataException(path, $"is no gzip file, or a damaged one ({e.Message}).", source, e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DataException(path, $"cannot be read ({e.Message}).", source, e);
        }
    }

    private sealed class Reader(Stream stream, string path, string source)
    {
        public DataException Damaged(string problem) => new(path, problem, source);

        public uint[] Header(uint magic, string content, int dimensions)
        {
            byte[] header = new byte[4 * (1 + dimensions)];
            int found = stream.ReadAtLeast(header, header.Length, throwOnEndOfStream: false);
            if (found == 0) throw Damaged("is empty.");
            if (found < header.Length) throw Damaged($"ends after {found} of {header.Length} bytes of its header.");

            uint first = BinaryPrimitives.ReadUInt32BigEndian(header);
            if (first != magic) throw Damaged($"starts with 0x{first:X8}; expected 0x{magic:X8}, an IDX file of {content}.");
            uint[] sizes = new uint[dimensions];
            for (int i = 0; i < dimensions; i++) sizes[i] = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(4 * (i + 1)));
            return sizes[0] > 0 ? sizes : throw Damaged($"holds no {content}.");
        }

        /// <summary>
        /// Exactly the promised number of bytes. What is allocated grows with what the file really holds, so that a hostile header
        /// allocates nothing.
        /// </summary>
        public byte[] Body(long promised, string content)
        {
            if (promised > Array.MaxLength) throw Damaged($"its header promises {content}, more than {Bytes(Array.MaxLength)}.");
            using MemoryStream body = new();
            byte[] chunk = new byte[1 << 16];
            while (body.Length <= promised && stream.Read(chunk) is > 0 and int count) body.Write(chunk, 0, count);
            if (body.Length < promised) throw Damaged($"ends after {Bytes(body.Length)}; its header promises {content}, {Bytes(promised)}.");
            if (body.Length > promised) throw Damaged($"goes on after {content}, {Bytes(promised)}, that its header promises.");
            return body.ToArray();
        }

        private static string Bytes(long count) => count.ToString("N0", CultureInfo.InvariantCulture) + " bytes";
    }
}
