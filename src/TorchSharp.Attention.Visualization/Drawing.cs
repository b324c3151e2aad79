using System.Globalization;
using SkiaSharp;

namespace TorchSharp.Attention.Visualization;

/// <summary>Text and canvases, the same on every machine: the font comes along, since a bare Linux has none.</summary>
internal static class Drawing
{
    public const int Margin = 6, TextSize = 12, LegendWidth = 52;

    public static readonly SKColor Paper = SKColors.White, Ink = new(0x22, 0x22, 0x22), Faint = new(0xd8, 0xd8, 0xd8);

    /// <summary>Smooth, for enlarging pictures of a few pixels.</summary>
    public static readonly SKSamplingOptions Smooth = new(SKCubicResampler.CatmullRom);

    private static readonly Lazy<SKTypeface> Face = new(() =>
    {
        using Stream file = typeof(Drawing).Assembly.GetManifestResourceStream("font.ttf")!;
        using SKData data = SKData.Create(file);
        return SKTypeface.FromData(data);
    });

    /// <summary>Height of a line.</summary>
    public static int LineHeight => TextSize + 6;

    /// <summary>A picture, white at first.</summary>
    public static Picture Draw(int width, int height, Action<SKCanvas> draw)
    {
        SKBitmap bitmap = new(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque));
        using SKCanvas canvas = new(bitmap);
        canvas.Clear(Paper);
        draw(canvas);
        return new Picture(bitmap);
    }

    public static float Width(string text, float size = TextSize)
    {
        using SKFont font = new(Face.Value, size);
        return font.MeasureText(text);
    }

    /// <summary>A line of text whose vertical middle is given; too long a line loses its end.</summary>
    public static void Text(
        SKCanvas canvas, string text, float x, float middle, SKTextAlign align = SKTextAlign.Left, float most = float.MaxValue,
        float size = TextSize)
    {
        if (Width(text, size) > most)
        {
            while (text.Length > 1 && Width(text + "…", size) > most) text = text[..^1];
            text += "…";
        }

        Words(canvas, text, x, middle + (size * 0.36f), align, size, Ink);
    }

    /// <summary>A line of text on its baseline.</summary>
    public static void Words(
        SKCanvas canvas, string text, float x, float baseline, SKTextAlign align, float size, SKColor color, bool bold = false)
    {
        using SKFont font = new(Face.Value, size) { Subpixel = true, Edging = SKFontEdging.Antialias, Embolden = bold };
        using SKPaint paint = new() { Color = color, IsAntialias = true };
        canvas.DrawText(text, x, baseline, align, font, paint);
    }

    public static void Line(SKCanvas canvas, float x0, float y0, float x1, float y1, SKColor color, float width = 1)
    {
        using SKPaint paint = new() { Color = color, StrokeWidth = width, IsAntialias = false };
        canvas.DrawLine(x0, y0, x1, y1, paint);
    }

    public static void Fill(SKCanvas canvas, float x, float y, float width, float height, SKColor color)
    {
        using SKPaint paint = new() { Color = color };
        canvas.DrawRect(x, y, width, height, paint);
    }

    /// <summary>A bar of colours with its scale to the right.</summary>
    public static void Legend(SKCanvas canvas, ColorMap colors, double minimum, double maximum, float x, float y, float height)
    {
        const int Bar = 11;
        for (int i = 0; i < height; i++) Fill(canvas, x, y + i, Bar, 1, colors.At(1 - (i / Math.Max(1, height - 1))));
        const float Half = TextSize / 2f;
        (string low, string middle, string high) = Scale(minimum, maximum);
        Text(canvas, high, x + Bar + 4, y + Half, size: 11);
        Text(canvas, middle, x + Bar + 4, y + (height / 2), size: 11);
        Text(canvas, low, x + Bar + 4, y + height - Half, size: 11);
    }

    /// <summary>
    /// The ends and the middle of a scale; as many decimals as tell them apart, up to five, where the short form would not.
    /// </summary>
    public static (string Low, string Middle, string High) Scale(double minimum, double maximum)
    {
        double middle = minimum + ((maximum - minimum) / 2);
        if (minimum == maximum || Apart(Number)) return (Number(minimum), Number(middle), Number(maximum));
        for (int decimals = 3; decimals < 5; decimals++)
        {
            if (Apart(Fixed(decimals))) return (Fixed(decimals)(minimum), Fixed(decimals)(middle), Fixed(decimals)(maximum));
        }

        return (Fixed(5)(minimum), Fixed(5)(middle), Fixed(5)(maximum));

        bool Apart(Func<double, string> text) => text(minimum) != text(middle) && text(middle) != text(maximum);

        static Func<double, string> Fixed(int decimals) => value => value.ToString($"F{decimals}", CultureInfo.InvariantCulture);
    }

    /// <summary>Three significant digits.</summary>
    public static string Number(double value)
    {
        double size = Math.Abs(value);
        string format = size == 0
            ? "0"
            : size is < 0.001 or >= 100000 ? "0.0e0" : size < 0.1 ? "0.0000" : size < 10 ? "0.00" : "0";
        return value.ToString(format, CultureInfo.InvariantCulture);
    }
}
