using System.Buffers.Binary;
using System.IO.Compression;
using System.Runtime.CompilerServices;
using TorchSharp;
using Xunit.Sdk;
using Xunit.v3;

// Training needs one thread: other tests must not collect garbage meanwhile.
[assembly: Parallelization(Mode = ParallelMode.None)]

namespace Samples.Tests;

/// <summary>A temporary folder and the data files that tests put there.</summary>
public sealed class DataFolder : TestFolder
{
    /// <summary>Networks this small are fastest on one thread, and a busy machine does not slow them down.</summary>
    [ModuleInitializer]
    internal static void UseOneThread() => torch.set_num_threads(1);

    public static byte[] Idx(uint magic, uint[] sizes, byte[] body)
    {
        byte[] bytes = new byte[4 * (1 + sizes.Length) + body.Length];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, magic);
        for (int i = 0; i < sizes.Length; i++) BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(4 * (i + 1)), sizes[i]);
        body.CopyTo(bytes, 4 * (1 + sizes.Length));
        return bytes;
    }

    public static byte[] Gzip(byte[] bytes)
    {
        using MemoryStream packed = new();
        using (GZipStream gzip = new(packed, CompressionLevel.Fastest)) gzip.Write(bytes);
        return packed.ToArray();
    }

    /// <summary>Eight-pixel images whose class is the place of a bright bar: learnt at once. The four files of MNIST.</summary>
    public DataFolder WithTinyIdx(int train = 40, int test = 20, bool packed = true)
    {
        foreach ((string part, int count) in new[] { ("train", train), ("t10k", test) })
        {
            byte[] pixels = new byte[count * 64], labels = new byte[count];
            Random random = new(count);
            for (int i = 0; i < count; i++)
            {
                labels[i] = (byte)(i % 10);
                for (int p = 0; p < 64; p++) pixels[(i * 64) + p] = (byte)((p / 6 == labels[i] ? 200 : 0) + random.Next(50));
            }

            byte[] images = Idx(0x803, [(uint)count, 8, 8], pixels), answers = Idx(0x801, [(uint)count], labels);
            Write($"{part}-images-idx3-ubyte{(packed ? ".gz" : "")}", packed ? Gzip(images) : images);
            Write($"{part}-labels-idx1-ubyte{(packed ? ".gz" : "")}", packed ? Gzip(answers) : answers);
        }

        return this;
    }

    /// <summary>CIFAR-10's files, two records each: pixel (channel, y, x) of image i is 7 i + 50 channel + 3 y + x, modulo 256.</summary>
    public DataFolder WithCifar(string folder = "")
    {
        int image = 0;
        foreach (string name in new[] { "data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch" })
        {
            byte[] records = new byte[2 * 3073];
            for (int record = 0; record < 2; record++, image++)
            {
                records[record * 3073] = (byte)(image % 10);
                for (int p = 0; p < 3072; p++) records[(record * 3073) + 1 + p] = CifarPixel(image, p / 1024, p % 1024 / 32, p % 32);
            }

            Write(Path.Combine(folder, name + ".bin"), records);
        }

        Write(Path.Combine(folder, "batches.meta.txt"), "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n"u8.ToArray());
        return this;
    }

    public static byte CifarPixel(int image, int channel, int y, int x) => (byte)((7 * image) + (50 * channel) + (3 * y) + x);
}
