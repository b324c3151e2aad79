using System.Globalization;
using System.Text;
using Samples;
using Samples.Data;
using TorchSharp;
using TorchSharp.Attention;
using static TorchSharp.torch;

namespace QuickStart;

/// <summary>Test images as characters, with what the network takes them for.</summary>
internal static class Predictions
{
    private const int Columns = 5, Width = 14, Height = 7;
    private const string Shades = " .:-=+*#%@";

    /// <summary>Shows the first images of a set.</summary>
    public static void Show(Screen screen, ResNet network, ImageSet set, Normalisation normalisation, IReadOnlyList<string> classes, int count)
    {
        int[] images = [.. Enumerable.Range(0, Math.Min(count, set.Count))];
        using IDisposable quiet = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor batch = new Batches(set, normalisation).Images(images);
        (Tensor confidences, Tensor predicted) = network.call(batch).softmax(1).max(1);

        foreach (int[] row in images.Chunk(Columns))
        {
            string[][] pictures = [.. row.Select(image => Picture(set.Image(image), set.Shape))];
            for (int y = 0; y < Height; y++) Show(row.Select((_, i) => pictures[i][y]));
            Show(row.Select(image => classes[(int)predicted[image].item<long>()]));
            Show(row.Select(image => string.Create(
                CultureInfo.InvariantCulture,
                $"{confidences[image].item<float>():P0} {(predicted[image].item<long>() == set.Labels[image] ? "right" : "WRONG")}")));
            Show(row.Select(image => predicted[image].item<long>() == set.Labels[image] ? "" : $"is {classes[set.Labels[image]]}"));
        }

        void Show(IEnumerable<string> cells) => screen.Line(string.Join("  ", cells.Select(cell => cell.PadRight(Width))).TrimEnd());
    }

    /// <summary>Brightness of the image at a coarse grid, averaged over channels and over the pixels of each cell.</summary>
    private static string[] Picture(ReadOnlySpan<byte> pixels, ImageShape shape)
    {
        string[] lines = new string[Height];
        for (int row = 0; row < Height; row++)
        {
            StringBuilder line = new();
            for (int column = 0; column < Width; column++)
            {
                int sum = 0, count = 0;
                int bottom = Math.Max((row * shape.Height / Height) + 1, (row + 1) * shape.Height / Height);
                int right = Math.Max((column * shape.Width / Width) + 1, (column + 1) * shape.Width / Width);
                for (int channel = 0; channel < shape.Channels; channel++)
                {
                    for (int y = row * shape.Height / Height; y < bottom; y++)
                    {
                        for (int x = column * shape.Width / Width; x < right; x++, count++)
                        {
                            sum += pixels[(((channel * shape.Height) + y) * shape.Width) + x];
                        }
                    }
                }

                line.Append(Shades[sum * Shades.Length / (count * 256)]);
            }

            lines[row] = line.ToString();
        }

        return lines;
    }
}
