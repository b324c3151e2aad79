using System.Runtime.InteropServices;
using SkiaSharp;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Visualization;

/// <summary>An image in memory, drawn or read from a PNG or JPEG file.</summary>
public sealed class Picture : IDisposable
{
    private const long MostPixels = 200_000_000;

    internal Picture(SKBitmap bitmap) => Bitmap = bitmap;

    /// <summary>Width in pixels.</summary>
    public int Width => Bitmap.Width;

    /// <summary>Height in pixels.</summary>
    public int Height => Bitmap.Height;

    /// <summary>The pixels, red, green, blue, alpha; owned by this picture.</summary>
    public SKBitmap Bitmap { get; }

    /// <summary>
    /// Reads an image file: PNG, JPEG or another format that SkiaSharp supports. The orientation tags of cameras are ignored.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <exception cref="FileNotFoundException">There is no such file.</exception>
    /// <exception cref="InvalidDataException">
    /// The file is damaged, of an unknown kind, or larger than 200 million pixels.
    /// </exception>
    public static Picture Open(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (!File.Exists(path)) throw new FileNotFoundException($"There is no file {path}.", path);
        return Decode(File.ReadAllBytes(path), path);
    }

    /// <summary>Reads an image from the bytes of a file.</summary>
    /// <param name="bytes">The file's bytes.</param>
    /// <exception cref="InvalidDataException">
    /// The bytes are damaged, of an unknown kind, or more than 200 million pixels.
    /// </exception>
    public static Picture Decode(byte[] bytes)
    {
        ArgumentNullException.ThrowIfNull(bytes);
        return Decode(bytes, "The data");
    }

    /// <summary>An image from a tensor, such as a network's input.</summary>
    /// <param name="image">
    /// (C, H, W) or (1, C, H, W) with one or three channels; bytes, or numbers that become 0 to 1 by
    /// <paramref name="mean"/> and <paramref name="std"/>.
    /// </param>
    /// <param name="mean">Mean per channel that normalization subtracted; null for none.</param>
    /// <param name="std">Deviation per channel that normalization divided by; null for none.</param>
    /// <exception cref="ArgumentException">The shape does not fit.</exception>
    public static Picture FromTensor(Tensor image, IReadOnlyList<double>? mean = null, IReadOnlyList<double>? std = null)
    {
        ArgumentNullException.ThrowIfNull(image);
        bool batch = image.dim() == 4 && image.size(0) == 1;
        if (!(batch || image.dim() == 3) || image.size(-3) is not (1 or 3) || image.size(-1) < 1 || image.size(-2) < 1)
        {
            throw new ArgumentException(
                $"image has shape ({string.Join(", ", image.shape)}); it must be (C, H, W) or (1, C, H, W) with one or three " +
                "channels.", nameof(image));
        }

        int channels = (int)image.size(-3), height = (int)image.size(-2), width = (int)image.size(-1);
        if ((mean is not null && mean.Count != channels) || (std is not null && std.Count != channels))
        {
            throw new ArgumentException($"mean and std must have one number for each of the {channels} channels.", nameof(mean));
        }

        double whole = image.dtype == ScalarType.Byte ? 255 : 1;
        float[] values;
        using (NewDisposeScope())
        using (no_grad())
        {
            values = image.detach().to_type(ScalarType.Float32).cpu().contiguous().data<float>().ToArray();
        }

        int plane = height * width;
        byte[] pixels = new byte[4 * plane];
        for (int i = 0; i < plane; i++)
        {
            for (int c = 0; c < 3; c++)
            {
                int channel = Math.Min(c, channels - 1);
                double value = (values[(channel * plane) + i] * (std?[channel] ?? 1)) + (mean?[channel] ?? 0);
                pixels[(4 * i) + c] = (byte)Math.Round(Math.Clamp(double.IsNaN(value) ? 0 : value / whole, 0, 1) * 255);
            }

            pixels[(4 * i) + 3] = 255;
        }

        return FromPixels(pixels, width, height);
    }

    /// <summary>The bytes of a PNG file.</summary>
    public byte[] ToPng()
    {
        using SKData data = Bitmap.Encode(SKEncodedImageFormat.Png, 100);
        return data.ToArray();
    }

    /// <summary>Writes a PNG file, completely or not at all. A missing folder is created.</summary>
    /// <param name="path">The file.</param>
    public void SavePng(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        byte[] png = ToPng();
        AtomicFile.Write(path, stream => stream.Write(png));
    }

    /// <inheritdoc/>
    public void Dispose() => Bitmap.Dispose();

    internal static Picture FromPixels(byte[] rgba, int width, int height)
    {
        SKBitmap bitmap = new(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque));
        Marshal.Copy(rgba, 0, bitmap.GetPixels(), rgba.Length);
        return new Picture(bitmap);
    }

    /// <summary>Red, green, blue, alpha, row by row.</summary>
    internal byte[] Pixels()
    {
        byte[] pixels = new byte[4 * Width * Height];
        Marshal.Copy(Bitmap.GetPixels(), pixels, 0, pixels.Length);
        return pixels;
    }

    internal Picture Resized(int width, int height, SKSamplingOptions sampling)
        => new(Bitmap.Resize(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque), sampling));

    private static Picture Decode(byte[] bytes, string name)
    {
        using SKData data = SKData.CreateCopy(bytes);
        using SKCodec? codec = SKCodec.Create(data);
        if (codec is null) throw new InvalidDataException($"{name} is no image that can be read (PNG and JPEG can).");
        if ((long)codec.Info.Width * codec.Info.Height > MostPixels)
        {
            throw new InvalidDataException(
                $"{name} has {codec.Info.Width} × {codec.Info.Height} pixels, more than {MostPixels / 1_000_000} million.");
        }

        // Transparent parts lie on white.
        using SKBitmap decoded = new(
            new SKImageInfo(codec.Info.Width, codec.Info.Height, SKColorType.Rgba8888, SKAlphaType.Premul));
        SKCodecResult result = codec.GetPixels(decoded.Info, decoded.GetPixels());
        if (result != SKCodecResult.Success) throw new InvalidDataException($"{name} is damaged ({result}).");
        return Drawing.Draw(decoded.Width, decoded.Height, canvas => canvas.DrawBitmap(decoded, 0, 0));
    }
}
