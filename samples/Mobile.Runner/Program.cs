using System.Globalization;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Samples;
using Samples.Data;

namespace Mobile.Runner;

/// <summary>
/// What a device does: the test images through ONNX files, one at a time, with ONNX Runtime and nothing else. For the folder of samples/Mobile
/// it also checks that every image gets the class that it got there.
/// </summary>
internal static class Program
{
    private const int Good = 0, Disagrees = 1, BadInput = 2;
    private const string Usage = "Mobile.Runner [--images N] [--rounds N] FOLDER | FILE.onnx ...   N images are classified (all), and one is timed in N rounds (25).";
    private const string Source = "It ships with the repository: restore samples/data/fashion-mnist from version control and build again.";

    private static int Main(string[] args) => Run(args, Console.Out, Console.Error);

    internal static int Run(string[] args, TextWriter output, TextWriter error)
    {
        try
        {
            (string[] paths, int? images, int rounds) = Parse(args);
            return Measure(paths, images, rounds, output);
        }
        catch (Exception e) when (e is ArgumentException or DataException or IOException or InvalidDataException or UnauthorizedAccessException or OnnxRuntimeException)
        {
            error.WriteLine(e.Message);
            return BadInput;
        }
    }

    private static (string[] Paths, int? Images, int Rounds) Parse(string[] args)
    {
        List<string> paths = [];
        int? images = null, rounds = null;
        for (int i = 0; i < args.Length; i++)
        {
            if (args[i] is "--images") images = Number();
            else if (args[i] is "--rounds") rounds = Number();
            else if (args[i].StartsWith('-')) throw new ArgumentException($"There is no option {args[i]}. {Usage}");
            else paths.Add(args[i]);

            int Number() => ++i < args.Length && int.TryParse(args[i], CultureInfo.InvariantCulture, out int number) && number > 0
                ? number
                : throw new ArgumentException($"{args[i - 1]} needs a whole number from 1. {Usage}");
        }

        return paths.Count > 0 ? ([.. paths], images, rounds ?? 25) : throw new ArgumentException($"No file is given. {Usage}");
    }

    private static int Measure(string[] paths, int? images, int rounds, TextWriter output)
    {
        ImageSet test = TestImages();
        (string Path, string? Expected)[] files = [.. paths.SelectMany(Files)];
        test = test.Take(images ?? files.Select(file => file.Expected?.Length).FirstOrDefault(count => count is not null) ?? test.Count);
        OnnxClassifier[] models = new OnnxClassifier[files.Length];
        OrtValue[] first = new OrtValue[files.Length];
        try
        {
            List<string> found = [];
            int[][] classes = new int[files.Length][];
            for (int i = 0; i < files.Length; i++)
            {
                models[i] = new OnnxClassifier(files[i].Path, threads: 1);
                Pixels pixels = Pixels.For(models[i], files[i].Path, test.Shape);
                first[i] = pixels.Of(test, 0);
                classes[i] = [.. Enumerable.Range(0, test.Count).Select(image =>
                {
                    using OrtValue value = pixels.Of(test, image);
                    float[] logits = models[i].Run(value);
                    return Array.IndexOf(logits, logits.Max());
                })];
            }

            Dictionary<string, Timing> times = Timing.Measure([.. files.Select((file, i) => (file.Path, (Action)(() => models[i].Run(first[i]))))], rounds);
            output.WriteLine("| file | KiB | one image, ms | accuracy, % | against samples/Mobile |\n|---|---:|---:|---:|---|");
            bool agrees = true;
            for (int i = 0; i < files.Length; i++)
            {
                int right = classes[i].Where((value, image) => value == test.Labels[image]).Count();
                (bool same, string words) = Compared(classes[i], files[i].Expected);
                agrees &= same;
                output.WriteLine(string.Create(
                    CultureInfo.InvariantCulture,
                    $"| {Path.GetFileName(files[i].Path)} | {new FileInfo(files[i].Path).Length / 1024.0:N0} | {times[files[i].Path].Milliseconds:N2} | {100.0 * right / test.Count:N2} | {words} |"));
            }

            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"\n{test.Count:N0} test images, one at a time, one thread, ONNX Runtime {OrtEnv.Instance().GetVersionString()}, no TorchSharp."));
            return agrees ? Good : Disagrees;
        }
        finally
        {
            foreach (OrtValue? value in first) value?.Dispose();
            foreach (OnnxClassifier? model in models) model?.Dispose();
        }
    }

    /// <summary>The files of samples/Mobile with the classes they must give; any other file without.</summary>
    private static IEnumerable<(string Path, string? Expected)> Files(string path)
    {
        if (!Directory.Exists(path)) return File.Exists(path) ? [(path, null)] : throw new FileNotFoundException($"{path} is neither a file nor a folder.");
        Results results = Results.Load(path) ?? throw new FileNotFoundException($"{path} holds no results.json; make it with samples/Mobile, or name the files themselves.");
        return results.Steps.Where(step => step.Expected is not null).Select(step => (Path.Combine(path, step.File!), step.Expected));
    }

    private static (bool Same, string Words) Compared(int[] classes, string? expected)
    {
        if (expected is null) return (true, "");
        int seen = Math.Min(classes.Length, expected.Length), near = expected.Take(seen).Count(value => value == '?');
        int other = Enumerable.Range(0, seen).Count(image => expected[image] != '?' && expected[image] != '0' + classes[image]);
        return (other == 0, other == 0
            ? $"the same class for {seen - near} images{(near > 0 ? $", {near} too near to call" : "")}"
            : $"ANOTHER CLASS for {other} of {seen - near} images");
    }

    private static ImageSet TestImages()
    {
        string folder = Path.Combine(AppContext.BaseDirectory, "data", "fashion-mnist");
        (byte[] pixels, ImageShape shape) = IdxFile.ReadImages(Path.Combine(folder, "t10k-images-idx3-ubyte.gz"), Source);
        return new ImageSet(pixels, IdxFile.ReadLabels(Path.Combine(folder, "t10k-labels-idx1-ubyte.gz"), classes: 10, Source), shape);
    }

    /// <summary>Images as a model wants them: normalised as its metadata say.</summary>
    private sealed class Pixels(float[][] byChannel, long[] shape)
    {
        public static Pixels For(OnnxClassifier model, string path, ImageShape image)
        {
            double[] mean = Numbers("normalization.mean"), deviation = Numbers("normalization.std");
            return model.InputShape is [_, int channels, int height, int width] && (channels, height, width) == (image.Channels, image.Height, image.Width)
                ? new Pixels([.. mean.Zip(deviation, (m, d) => Enumerable.Range(0, 256).Select(value => (float)(((value / 255.0) - m) / d)).ToArray())], [1, channels, height, width])
                : throw new InvalidDataException($"{path} takes inputs of {string.Join(" x ", model.InputShape)}; the images are {image}.");

            double[] Numbers(string key) => model.Metadata.TryGetValue(key, out string? text) && JsonSerializer.Deserialize<double[]>(text) is { } numbers && numbers.Length == image.Channels
                ? numbers
                : throw new InvalidDataException($"{path} has no '{key}' for {image.Channels} channels in its metadata; export with OnnxExportOptions.Normalization.");
        }

        public OrtValue Of(ImageSet set, int index)
        {
            ReadOnlySpan<byte> bytes = set.Image(index);
            float[] values = new float[bytes.Length];
            int plane = bytes.Length / byChannel.Length;
            for (int i = 0; i < bytes.Length; i++) values[i] = byChannel[i / plane][bytes[i]];
            return OrtValue.CreateTensorValueFromMemory(values, shape);
        }
    }
}
