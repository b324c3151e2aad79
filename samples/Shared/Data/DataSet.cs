namespace Samples.Data;

/// <summary>Training and test images with the names of their classes.</summary>
/// <param name="Name">What it is and from where, for people.</param>
/// <param name="Train">Images to train on.</param>
/// <param name="Test">Images to test on.</param>
/// <param name="Classes">Names of the classes.</param>
/// <param name="Mirror">Whether a mirrored image keeps its class: true for clothes and animals, false for digits.</param>
public sealed record DataSet(string Name, ImageSet Train, ImageSet Test, IReadOnlyList<string> Classes, bool Mirror)
{
    private const int ClassCount = 10;

    private const string Shipped =
        "It ships with the repository: restore samples/data/fashion-mnist from version control and build again.";

    private const string Known =
        "Fashion-MNIST: https://github.com/zalandoresearch/fashion-mnist, MNIST: https://github.com/cvdfoundation/mnist (four IDX files, " +
        "packed or not); CIFAR-10: https://www.cs.toronto.edu/~kriz/cifar.html (binary version). Without --data the program trains on " +
        "images that ship with it.";

    private static readonly string[] Clothes =
        ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

    private static readonly string[] Digits = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

    /// <summary>The subset of Fashion-MNIST beside the program.</summary>
    public static DataSet LoadShipped() => LoadIdx(Path.Combine(AppContext.BaseDirectory, "data", "fashion-mnist"), Shipped) with
    {
        Name = "a subset of Fashion-MNIST",
    };

    /// <summary>Loads a folder of IDX files or of CIFAR-10's binary files, whichever is there.</summary>
    /// <exception cref="DataException">Neither is there, or a file is missing or damaged.</exception>
    public static DataSet Load(string folder)
    {
        if (!Directory.Exists(folder)) throw new DataException(folder, "is no folder.", Known);
        if (Directory.EnumerateFiles(folder, "*-ubyte*").Any()) return LoadIdx(folder, Known);

        string inner = Path.Combine(folder, "cifar-10-batches-bin");
        string cifar = Directory.Exists(inner) ? inner : folder;
        if (Directory.EnumerateFiles(cifar, "*_batch*.bin").Any()) return LoadCifar(cifar);
        throw new DataException(
            folder, "holds neither IDX files (train-images-idx3-ubyte[.gz], ...) nor CIFAR-10's (data_batch_1.bin, ...).", Known);
    }

    private static DataSet LoadIdx(string folder, string source)
    {
        // IDX files do not say what they show; the folder's name does, as a rule.
        bool clothes = Path.GetFullPath(folder).Contains("fashion", StringComparison.OrdinalIgnoreCase);
        ImageSet train = LoadIdxSet(folder, "train", source), test = LoadIdxSet(folder, "t10k", source);
        return test.Shape == train.Shape
            ? new DataSet(folder, train, test, clothes ? Clothes : Digits, clothes)
            : throw new DataException(folder, $"its test images are {test.Shape}, its training images {train.Shape}.", source);
    }

    private static ImageSet LoadIdxSet(string folder, string part, string source)
    {
        string imagesPath = Find(folder, $"{part}-images-idx3-ubyte", source), labelsPath = Find(folder, $"{part}-labels-idx1-ubyte", source);
        (byte[] pixels, ImageShape shape) = IdxFile.ReadImages(imagesPath, source);
        byte[] labels = IdxFile.ReadLabels(labelsPath, ClassCount, source);
        int images = pixels.Length / shape.Bytes;
        return images == labels.Length
            ? new ImageSet(pixels, labels, shape)
            : throw new DataException(labelsPath, $"holds {labels.Length} labels for the {images} images of {Path.GetFileName(imagesPath)}.", source);
    }

    private static string Find(string folder, string name, string source)
    {
        string path = Path.Combine(folder, name), packed = path + ".gz";
        return File.Exists(path) ? path
            : File.Exists(packed) ? packed
            : throw new DataException(packed, "is missing, and so is the unpacked file.", source);
    }

    private static DataSet LoadCifar(string folder)
    {
        IReadOnlyList<string> classes = CifarFile.ReadClasses(Path.Combine(folder, "batches.meta.txt"), ClassCount, Known);
        string[] batches = [.. Enumerable.Range(1, 5).Select(i => Path.Combine(folder, $"data_batch_{i}.bin"))];
        return new DataSet(
            folder,
            CifarFile.Read(batches, ClassCount, Known),
            CifarFile.Read([Path.Combine(folder, "test_batch.bin")], ClassCount, Known),
            classes,
            Mirror: true);
    }
}
