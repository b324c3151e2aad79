using SkiaSharp;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Visualization;

/// <summary>
/// How an image becomes a network's input: resize the shorter side, crop the middle, scale to 0 … 1, normalise.
/// </summary>
/// <remarks>
/// The steps are torchvision's; SkiaSharp's filters are not, so pixels differ a little where an image is resized.
/// </remarks>
public sealed record ImageTransform
{
    /// <summary>
    /// The transform of networks trained on ImageNet: resize to 256, crop to 224, and the mean and deviation of ImageNet.
    /// </summary>
    public static ImageTransform ImageNet { get; } = new();

    /// <summary>Length of the shorter side after resizing; null to leave the size. Default 256.</summary>
    public int? Resize { get; init; } = 256;

    /// <summary>Side of the square that is cut from the middle; null for the whole image. Default 224.</summary>
    public int? Crop { get; init; } = 224;

    /// <summary>
    /// Mean to subtract from each channel: one number for grey input, three for colour. Default: that of ImageNet.
    /// </summary>
    public ValueList<double> Mean { get; init; } = [0.485, 0.456, 0.406];

    /// <summary>Standard deviation to divide each channel by after the mean is subtracted. Default: that of ImageNet.</summary>
    public ValueList<double> Std { get; init; } = [0.229, 0.224, 0.225];

    /// <summary>Reads an image file as a network's input.</summary>
    /// <param name="path">A PNG or JPEG file.</param>
    /// <returns>(1, C, H, W), float32, owned by the caller.</returns>
    /// <exception cref="FileNotFoundException">There is no such file.</exception>
    /// <exception cref="InvalidDataException">The file is no image.</exception>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public Tensor Load(string path)
    {
        using Picture image = Picture.Open(path), seen = Prepare(image);
        return ToTensor(seen);
    }

    /// <summary>Resizes and crops an image to the part that the network sees.</summary>
    /// <param name="image">An image of any size.</param>
    /// <returns>A new picture.</returns>
    /// <exception cref="ArgumentException">A setting is out of range, or the crop is larger than the resized image.</exception>
    public Picture Prepare(Picture image)
    {
        ArgumentNullException.ThrowIfNull(image);
        Validate();
        // In whole numbers: a factor would be rounded, and the shorter side come out a pixel short.
        int least = Math.Min(image.Width, image.Height), shorter = Resize ?? least;
        int width = (int)((long)image.Width * shorter / least), height = (int)((long)image.Height * shorter / least);
        int cutWidth = Crop ?? width, cutHeight = Crop ?? height;
        if (cutWidth > width || cutHeight > height)
        {
            throw new ArgumentException(
                $"Crop is {Crop}, but the image is {width} × {height} here. Resize to at least {Crop}.", nameof(image));
        }

        SKSamplingOptions sampling = shorter < least
            ? new SKSamplingOptions(SKFilterMode.Linear, SKMipmapMode.Linear)
            : Drawing.Smooth;
        using Picture sized = image.Resized(width, height, sampling);
        int left = (int)Math.Round((width - cutWidth) / 2.0), top = (int)Math.Round((height - cutHeight) / 2.0);
        return Drawing.Draw(cutWidth, cutHeight, canvas => canvas.DrawBitmap(sized.Bitmap, -left, -top));
    }

    /// <summary>Normalises a picture as it is, without resizing or cropping.</summary>
    /// <param name="image">A picture, as <see cref="Prepare"/> returns it.</param>
    /// <returns>(1, C, H, W), float32, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A setting is out of range.</exception>
    public Tensor ToTensor(Picture image)
    {
        ArgumentNullException.ThrowIfNull(image);
        Validate();
        byte[] pixels = image.Pixels();
        int plane = image.Width * image.Height, channels = Mean.Count;
        float[] values = new float[channels * plane];
        for (int i = 0; i < plane; i++)
        {
            (byte red, byte green, byte blue) = (pixels[4 * i], pixels[(4 * i) + 1], pixels[(4 * i) + 2]);
            for (int c = 0; c < channels; c++)
            {
                // Grey as ITU-R BT.601 has it, and PIL.
                double value = channels == 1 ? (0.299 * red) + (0.587 * green) + (0.114 * blue) : pixels[(4 * i) + c];
                values[(c * plane) + i] = (float)(((value / 255) - Mean[c]) / Std[c]);
            }
        }

        return tensor(values, [1, channels, image.Height, image.Width]);
    }

    /// <summary>Converts a network's input back to a picture.</summary>
    /// <param name="input">(C, H, W) or (1, C, H, W).</param>
    /// <exception cref="ArgumentException">The shape or a setting does not fit.</exception>
    public Picture ToPicture(Tensor input)
    {
        Validate();
        return Picture.FromTensor(input, Mean, Std);
    }

    private void Validate()
    {
        if (Resize is < 1)
        {
            throw new ArgumentOutOfRangeException(nameof(Resize), Resize, $"Resize is {Resize}; it must be at least 1, or null.");
        }

        if (Crop is < 1)
        {
            throw new ArgumentOutOfRangeException(nameof(Crop), Crop, $"Crop is {Crop}; it must be at least 1, or null.");
        }

        if (Mean is null || Std is null || Mean.Count is not (1 or 3) || Std.Count != Mean.Count
            || Std.Any(value => !(value > 0)))
        {
            throw new ArgumentException(
                "Mean and Std must have one number each, or three each, and every number of Std must be above 0.", nameof(Mean));
        }
    }
}
