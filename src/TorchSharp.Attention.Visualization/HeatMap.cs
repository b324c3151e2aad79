using SkiaSharp;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Visualization;

/// <summary>How a spatial map is drawn.</summary>
public sealed record HeatMapOptions
{
    /// <summary>The colours. Default viridis.</summary>
    public ColorMap Colors { get; init; } = ColorMap.Viridis;

    /// <summary>How much an overlay covers the image, from 0 to 1. Default 0.6.</summary>
    public double Opacity { get; init; } = 0.6;

    /// <summary>
    /// Value of the first colour. Default null: the smallest value of the map. If all values of the map are equal to v, the scale
    /// goes from 0 to 1, or from 0 to v if v is outside.
    /// </summary>
    public double? Minimum { get; init; }

    /// <summary>
    /// Value of the last colour. Default null: the largest value of the map, or the end of the scale of a map of
    /// equal values (<see cref="Minimum"/>).
    /// </summary>
    public double? Maximum { get; init; }

    /// <summary>Whether the map is enlarged by bicubic interpolation; false draws squares. Default true.</summary>
    public bool Smooth { get; init; } = true;

    /// <summary>Whether an overlay shows the image in grey, so that all colours belong to the map. Default true.</summary>
    public bool GreyImage { get; init; } = true;

    /// <summary>Whether the colour scale is drawn beside the map. Default true.</summary>
    public bool Legend { get; init; } = true;

    /// <summary>A line above the map. Default none.</summary>
    public string? Title { get; init; }

    /// <summary>Length of the longer side in pixels. Default 224.</summary>
    public int Size { get; init; } = 224;

    /// <summary>A position of the map to mark with a ring, such as the query of attention weights. Default none.</summary>
    public (int Row, int Column)? Mark { get; init; }
}

/// <summary>Draws spatial maps: gates, attention weights, class activations.</summary>
public static class HeatMap
{
    /// <summary>Draws a map in colours.</summary>
    /// <param name="map">(H, W), or (1, H, W), of any size.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <returns>A new picture.</returns>
    /// <exception cref="ArgumentException">The map's shape or a setting does not fit.</exception>
    public static Picture Draw(Tensor map, HeatMapOptions? options = null)
    {
        Tensor checkedMap = Check(map);
        return Draw(checkedMap, null, (double)checkedMap.size(-1) / checkedMap.size(-2), options ?? new HeatMapOptions());
    }

    /// <summary>Draws a map in colours over the image that it belongs to.</summary>
    /// <param name="image">The image.</param>
    /// <param name="map">(H, W), or (1, H, W), of any size: it is stretched over the image.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <returns>A new picture.</returns>
    /// <exception cref="ArgumentException">The map's shape or a setting does not fit.</exception>
    public static Picture Overlay(Picture image, Tensor map, HeatMapOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(image);
        return Draw(Check(map), image, (double)image.Width / image.Height, options ?? new HeatMapOptions());
    }

    /// <summary>Draws an image in the same size and frame as a map, so that both can be placed side by side.</summary>
    /// <param name="image">The image.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <returns>A new picture.</returns>
    public static Picture Plain(Picture image, HeatMapOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(image);
        options ??= new HeatMapOptions();
        (int width, int height) = Size((double)image.Width / image.Height, options);
        using Picture sized = image.Resized(width, height, Drawing.Smooth);
        return Frame(sized, options with { Legend = false }, 0, 0);
    }

    /// <summary>The map's values at a size, bicubic without overshoot beyond the map's own range, or nearest.</summary>
    internal static float[] Resample(Tensor map, int height, int width, bool smooth)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        Tensor wide = map.detach().to_type(ScalarType.Float32).cpu().reshape(1, 1, map.size(-2), map.size(-1));
        Tensor sized = nn.functional.interpolate(
            wide, size: [height, width], mode: smooth ? InterpolationMode.Bicubic : InterpolationMode.Nearest,
            align_corners: smooth ? false : null);
        return sized.maximum(wide.min()).minimum(wide.max()).contiguous().data<float>().ToArray();
    }

    private static Picture Draw(Tensor map, Picture? image, double aspect, HeatMapOptions options)
    {
        if (!(options.Opacity is >= 0 and <= 1))
        {
            throw new ArgumentOutOfRangeException(
                nameof(options), options.Opacity, $"Opacity is {options.Opacity}; it must lie in [0, 1].");
        }

        if (options.Minimum > options.Maximum || double.IsNaN(options.Minimum ?? 0) || double.IsNaN(options.Maximum ?? 0))
        {
            throw new ArgumentOutOfRangeException(
                nameof(options), options.Minimum,
                $"Minimum is {options.Minimum} and Maximum {options.Maximum}; the first must not be above the second.");
        }

        (int width, int height) = Size(aspect, options);
        float[] values = Resample(map, height, width, options.Smooth);
        ValueScale scale = ValueScale.Of(values, options.Minimum, options.Maximum);
        using Picture? below = image?.Resized(width, height, Drawing.Smooth);
        byte[] pixels = below?.Pixels() ?? new byte[4 * width * height];
        double cover = below is null ? 1 : options.Opacity;
        for (int i = 0; i < values.Length; i++)
        {
            SKColor color = options.Colors.At(scale.Place(values[i]));
            Span<byte> pixel = pixels.AsSpan(4 * i, 4);
            if (options.GreyImage)
            {
                pixel[0] = pixel[1] = pixel[2] = (byte)((0.299 * pixel[0]) + (0.587 * pixel[1]) + (0.114 * pixel[2]));
            }

            pixel[0] = Blend(pixel[0], color.Red);
            pixel[1] = Blend(pixel[1], color.Green);
            pixel[2] = Blend(pixel[2], color.Blue);
            pixel[3] = 255;
        }

        using Picture drawn = Picture.FromPixels(pixels, width, height);
        if (options.Mark is { } mark) Ring(drawn, map, mark);
        return Frame(drawn, options, scale.Minimum, scale.Maximum);

        byte Blend(byte under, byte over) => (byte)Math.Round((under * (1 - cover)) + (over * cover));
    }

    private static void Ring(Picture drawn, Tensor map, (int Row, int Column) mark)
    {
        (long rows, long columns) = (map.size(-2), map.size(-1));
        if (mark.Row < 0 || mark.Row >= rows || mark.Column < 0 || mark.Column >= columns)
        {
            throw new ArgumentOutOfRangeException(
                nameof(mark), mark, $"Mark is {mark}; the map has {rows} rows and {columns} columns.");
        }

        float x = (mark.Column + 0.5f) * drawn.Width / columns, y = (mark.Row + 0.5f) * drawn.Height / rows;
        float radius = Math.Clamp(Math.Min(drawn.Width / columns, drawn.Height / rows) / 2f, 5, 14);
        using SKCanvas canvas = new(drawn.Bitmap);
        using SKPaint paint = new() { IsStroke = true, IsAntialias = true, StrokeWidth = 4, Color = SKColors.Black };
        canvas.DrawCircle(x, y, radius, paint);
        (paint.StrokeWidth, paint.Color) = (2, SKColors.White);
        canvas.DrawCircle(x, y, radius, paint);
    }

    private static Picture Frame(Picture drawn, HeatMapOptions options, double minimum, double maximum)
    {
        int top = options.Title is null ? 0 : Drawing.LineHeight;
        int right = options.Legend ? Drawing.Margin + Drawing.LegendWidth : 0;
        return Drawing.Draw(drawn.Width + right, drawn.Height + top, canvas =>
        {
            canvas.DrawBitmap(drawn.Bitmap, 0, top);
            if (options.Title is { } title) Drawing.Text(canvas, title, 0, top / 2f, most: drawn.Width + right);
            if (options.Legend)
            {
                Drawing.Legend(canvas, options.Colors, minimum, maximum, drawn.Width + Drawing.Margin, top, drawn.Height);
            }
        });
    }

    private static (int Width, int Height) Size(double aspect, HeatMapOptions options)
    {
        if (options.Size is < 8 or > 8192)
        {
            throw new ArgumentOutOfRangeException(
                nameof(options), options.Size, $"Size is {options.Size}; it must be from 8 to 8192 pixels.");
        }

        return aspect >= 1
            ? (options.Size, Math.Max(1, (int)Math.Round(options.Size / aspect)))
            : (Math.Max(1, (int)Math.Round(options.Size * aspect)), options.Size);
    }

    private static Tensor Check(Tensor map)
    {
        ArgumentNullException.ThrowIfNull(map);
        bool fits = (map.dim() == 2 || (map.dim() == 3 && map.size(0) == 1)) && map.size(-1) > 0 && map.size(-2) > 0;
        return fits ? map : throw new ArgumentException(
            $"map has shape ({string.Join(", ", map.shape)}); one map, (H, W), is drawn at a time: choose a sample with map[0].",
            nameof(map));
    }
}
