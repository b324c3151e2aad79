using System.Diagnostics.CodeAnalysis;
using Samples.Data;

namespace Samples.Tests;

public sealed class DataTests : IDisposable
{
    private readonly DataFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Idx_files_come_back_as_written(bool packed)
    {
        byte[] pixels = [.. Enumerable.Range(0, 2 * 3 * 4).Select(i => (byte)(10 * i))];
        byte[] images = DataFolder.Idx(0x803, [2, 3, 4], pixels), labels = DataFolder.Idx(0x801, [2], [9, 0]);
        string suffix = packed ? ".gz" : "";
        foreach (string part in new[] { "train", "t10k" })
        {
            _folder.Write($"{part}-images-idx3-ubyte{suffix}", packed ? DataFolder.Gzip(images) : images);
            _folder.Write($"{part}-labels-idx1-ubyte{suffix}", packed ? DataFolder.Gzip(labels) : labels);
        }

        DataSet data = DataSet.Load(_folder.Root);
        Assert.Equal(new ImageShape(1, 3, 4), data.Train.Shape);
        Assert.Equal(pixels, data.Train.Pixels);
        Assert.Equal([9, 0], data.Test.Labels);
        Assert.Equal(pixels.AsSpan(12), data.Test.Image(1));
        Assert.Equal("9", data.Classes[9]);
        Assert.False(data.Mirror, "a mirrored digit is another sign");
    }

    [Theory]
    [InlineData("")]
    [InlineData("cifar-10-batches-bin")]
    public void Cifar_pixels_land_in_their_channel_row_and_column(string inner)
    {
        DataSet data = DataSet.Load(_folder.WithCifar(inner).Root);
        Assert.Equal((10, 2), (data.Train.Count, data.Test.Count));
        Assert.Equal(new ImageShape(3, 32, 32), data.Train.Shape);
        Assert.Equal([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], data.Train.Labels);
        Assert.Equal("truck", data.Classes[9]);

        Normalisation identity = new([0, 0, 0], [1, 1, 1]);
        using TorchSharp.torch.Tensor batch = new Batches(data.Train, identity).Images([7, 2]);
        Assert.Equal([2, 3, 32, 32], batch.shape);
        foreach ((int at, int image) in new[] { (0, 7), (1, 2) })
        {
            for (int channel = 0; channel < 3; channel++)
            {
                foreach ((int y, int x) in new[] { (0, 0), (0, 31), (31, 0), (5, 17) })
                {
                    Assert.Equal(DataFolder.CifarPixel(image, channel, y, x) / 255f, batch[at, channel, y, x].item<float>(), 1e-6f);
                }
            }
        }
    }

    [Fact]
    public void Shipped_data_is_the_documented_subset()
    {
        DataSet data = DataSet.LoadShipped();
        Assert.Equal((10_000, 2_000), (data.Train.Count, data.Test.Count));
        Assert.Equal("Ankle boot", data.Classes[data.Train.Labels[0]]);
        Assert.True(data.Mirror);
        Assert.Equal([942, 1027, 1016, 1019, 974, 989, 1021, 1022, 990, 1000], data.Train.Labels.CountBy(label => label).OrderBy(c => c.Key).Select(c => c.Value));

        // Mean and deviation as published for the full set, to the precision that a sixth of it allows.
        Normalisation normalisation = Normalisation.Of(data.Train);
        Assert.Equal(0.2860, normalisation.Mean[0], 0.003);
        Assert.Equal(0.3530, normalisation.Std[0], 0.003);
    }

    /// <summary>Damage to one file of an otherwise good set: the file, its new content, and what the message must say.</summary>
    public static TheoryData<string, byte[]?, string> DamagedIdx
    {
        get
        {
            byte[] images = DataFolder.Idx(0x803, [40, 8, 8], new byte[40 * 64]), labels = DataFolder.Idx(0x801, [40], new byte[40]);
            byte[] packed = DataFolder.Gzip(images);
            byte[] Labels(int at, byte value)
            {
                byte[] changed = [.. labels];
                changed[8 + at] = value;
                return DataFolder.Gzip(changed);
            }

            const string Images = "train-images-idx3-ubyte.gz", Answers = "train-labels-idx1-ubyte.gz";
            return new()
            {
                { Images, null, "is missing" },
                { Images, [], "is empty" },
                { Images, images, "is no gzip file" },
                { Images, [.. packed.Take(packed.Length / 2)], "" },
                { Images, DataFolder.Gzip(images[..10]), "ends after 10 of 16 bytes of its header" },
                { Images, DataFolder.Gzip(images[..^1]), "ends after 2,559 bytes; its header promises 40 images of 8 x 8, 2,560 bytes" },
                { Images, DataFolder.Gzip([.. images, 0]), "goes on after 40 images of 8 x 8, 2,560 bytes" },
                { Images, DataFolder.Gzip(labels), "starts with 0x00000801; expected 0x00000803, an IDX file of images" },
                { Images, DataFolder.Gzip(DataFolder.Idx(0x803, [0, 8, 8], [])), "holds no images" },
                { Images, DataFolder.Gzip(DataFolder.Idx(0x803, [40, 0, 8], [])), "its images are 0 x 8; expected sides of 1 to 1024 pixels" },
                { Images, DataFolder.Gzip(DataFolder.Idx(0x803, [0x80000000, 8, 8], [])), "promises 2147483648 images of 8 x 8, more than" },
                { Images, DataFolder.Gzip(DataFolder.Idx(0x803, [uint.MaxValue, uint.MaxValue, uint.MaxValue], [])), "expected sides of 1 to 1024" },
                { Images, DataFolder.Gzip(DataFolder.Idx(0x803, [2000, 1024, 1024], [1, 2, 3])), "ends after 3 bytes" },
                { Images, DataFolder.Gzip(DataFolder.Idx(0x803, [40, 4, 8], new byte[40 * 32])), "its test images are 1 x 8 x 8, its training images 1 x 4 x 8" },
                { Answers, null, "is missing" },
                { Answers, packed, "starts with 0x00000803; expected 0x00000801, an IDX file of labels" },
                { Answers, Labels(17, 10), "label 17 is 10; expected 0 to 9" },
                { Answers, DataFolder.Gzip(DataFolder.Idx(0x801, [39], new byte[39])), "holds 39 labels for the 40 images of train-images-idx3-ubyte.gz" },
            };
        }
    }

    [Theory]
    [MemberData(nameof(DamagedIdx))]
    [SuppressMessage("Usage", "xUnit1045", Justification = "Byte arrays are readable as they are.")]
    public void Damaged_idx_files_are_named_with_what_is_wrong_and_where_to_get_them(string file, byte[]? content, string problem)
    {
        _folder.WithTinyIdx();
        if (content is null) File.Delete(_folder.PathOf(file));
        else _folder.Write(file, content);

        long before = GC.GetAllocatedBytesForCurrentThread();
        DataException error = Assert.Throws<DataException>(() => DataSet.Load(_folder.Root));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 2_000_000);
        string named = problem.StartsWith("its test", StringComparison.Ordinal) ? _folder.Root : _folder.PathOf(file);
        Assert.StartsWith(named + ": ", error.Message);
        Assert.Contains(problem, error.Message);
        Assert.Contains("https://github.com/zalandoresearch/fashion-mnist", error.Message);
    }

    [Theory]
    [InlineData("data_batch_3.bin", -1, "is missing")]
    [InlineData("data_batch_3.bin", 0, "is empty")]
    [InlineData("test_batch.bin", 3073 + 5, "has 3,078 bytes; expected records of 3,073 bytes")]
    [InlineData("data_batch_1.bin", 10_001 * 3073, "at most 10,000 of them")]
    [InlineData("batches.meta.txt", -1, "is missing")]
    [InlineData("batches.meta.txt", 0, "names 0 classes; expected 10")]
    public void Damaged_cifar_files_are_named(string file, int length, string problem)
    {
        _folder.WithCifar();
        if (length < 0) File.Delete(_folder.PathOf(file));
        else _folder.Write(file, new byte[length]);
        ThrowsNaming(file, problem);
    }

    [Fact]
    public void A_cifar_label_out_of_range_is_named()
    {
        byte[] records = new byte[2 * 3073];
        records[3073] = 10;
        _folder.WithCifar().Write("data_batch_5.bin", records);
        ThrowsNaming("data_batch_5.bin", "label 1 is 10; expected 0 to 9");
    }

    [Fact]
    public void A_folder_without_data_says_what_is_looked_for()
    {
        DataException error = Assert.Throws<DataException>(() => DataSet.Load(_folder.Root));
        Assert.StartsWith(_folder.Root, error.Message);
        Assert.Contains("train-images-idx3-ubyte[.gz]", error.Message);
        Assert.Contains("data_batch_1.bin", error.Message);
    }

    [Fact]
    public void Training_images_move_by_one_pixel_and_mirror_only_where_allowed()
    {
        byte[] pixels = new byte[25];
        pixels[(2 * 5) + 1] = 255;
        ImageSet set = new(pixels, [0], new ImageShape(1, 5, 5));
        Normalisation identity = new([0], [1]);
        Random random = new(1);
        HashSet<(int, int)> seen = [], mirrored = [];
        for (int i = 0; i < 200; i++)
        {
            seen.Add(Place(new Batches(set, identity)));
            mirrored.Add(Place(new Batches(set, identity, mirror: true)));
        }

        Assert.Equal(from y in Enumerable.Range(1, 3) from x in Enumerable.Range(0, 3) select (y, x), seen.Order());
        Assert.Equal(from y in Enumerable.Range(1, 3) from x in Enumerable.Range(0, 5) select (y, x), mirrored.Order());

        (int, int) Place(Batches batches)
        {
            using TorchSharp.torch.Tensor image = batches.Images([0], random);
            Assert.Equal(1f, image.sum().item<float>());
            int at = (int)image.argmax().item<long>();
            return (at / 5, at % 5);
        }
    }

    private void ThrowsNaming(string file, string problem)
    {
        DataException error = Assert.Throws<DataException>(() => DataSet.Load(_folder.Root));
        Assert.StartsWith(_folder.PathOf(file) + ": ", error.Message);
        Assert.Contains(problem, error.Message);
        Assert.Contains("https://www.cs.toronto.edu/~kriz/cifar.html", error.Message);
    }
}
