using SkiaSharp;

namespace TorchSharp.Attention.Visualization.Tests;

/// <summary>Pixels of drawings and of images that come in.</summary>
public sealed class PictureTests
{
    private static readonly HeatMapOptions Squares = new() { Smooth = false, Legend = false, Size = 8, GreyImage = false };

    [Fact]
    public void Colours_are_the_published_ones()
    {
        Assert.Equal("#ff440154", ColorMap.Viridis.At(0).ToString());
        Assert.Equal("#fffde725", ColorMap.Viridis.At(1).ToString());
        Assert.Equal(new SKColor(59, 82, 139), ColorMap.Viridis.At(64 / 255.0));
        Assert.Equal(new SKColor(188, 55, 84), ColorMap.Inferno.At(128 / 255.0));
        Assert.Equal("#ff000004", ColorMap.Inferno.At(-3).ToString());
        Assert.Equal(new SKColor(251, 126, 33), ColorMap.Turbo.At(192 / 255.0));
        Assert.Equal(new SKColor(122, 4, 3), ColorMap.Turbo.At(7));
        Assert.Equal(SKColors.Gray, ColorMap.Turbo.At(double.NaN));
    }

    /// <summary>viridis and inferno are monotone in lightness, which is what makes them readable in grey.</summary>
    [Fact]
    public void Perceptual_maps_only_get_lighter()
    {
        foreach (ColorMap map in (ColorMap[])[ColorMap.Viridis, ColorMap.Inferno])
        {
            double last = -1;
            for (int i = 0; i <= 50; i++)
            {
                SKColor color = map.At(i / 50.0);
                double light = (0.2126 * Math.Pow(color.Red / 255.0, 2.2)) + (0.7152 * Math.Pow(color.Green / 255.0, 2.2)) + (0.0722 * Math.Pow(color.Blue / 255.0, 2.2));
                Assert.True(light > last, $"{map} {i}");
                last = light;
            }
        }
    }

    [Fact]
    public void A_map_is_drawn_in_its_colours()
    {
        using Tensor map = tensor(new float[] { 0, 1, 2, 4 }, [2, 2]);
        using Picture picture = HeatMap.Draw(map, Squares);
        Assert.Equal((8, 8), (picture.Width, picture.Height));
        Assert.Equal(ColorMap.Viridis.At(0), picture.Bitmap.GetPixel(1, 1));
        Assert.Equal(ColorMap.Viridis.At(0.25), picture.Bitmap.GetPixel(5, 1));
        Assert.Equal(ColorMap.Viridis.At(0.5), picture.Bitmap.GetPixel(1, 5));
        Assert.Equal(ColorMap.Viridis.At(1), picture.Bitmap.GetPixel(7, 7));
        using Picture scaled = HeatMap.Draw(map, Squares with { Minimum = 0, Maximum = 8, Colors = ColorMap.Inferno });
        Assert.Equal(ColorMap.Inferno.At(0.5), scaled.Bitmap.GetPixel(7, 7));
    }

    /// <summary>An open gate is a map of ones: the colours of its own range would be the first one, that of a shut gate.</summary>
    [Theory]
    [InlineData(1, 0, 1)]
    [InlineData(0, 0, 1)]
    [InlineData(0.25, 0, 1)]
    [InlineData(5, 0, 5)]
    [InlineData(-2, -2, 0)]
    public void A_map_of_equal_values_is_drawn_on_a_scale_that_tells_open_from_shut(float value, double minimum, double maximum)
    {
        using Tensor even = full(2, 2, value), rounded = tensor(new[] { value, MathF.BitIncrement(value), value, value }, [2, 2]);
        foreach (Tensor map in new[] { even, rounded })
        {
            if (value == 0 && !ReferenceEquals(map, even)) continue;
            using Picture picture = HeatMap.Draw(map, Squares);
            Assert.Equal(ColorMap.Viridis.At((value - minimum) / (maximum - minimum)), picture.Bitmap.GetPixel(1, 1));
            ValueScale scale = ValueScale.Of(map.data<float>().ToArray(), null, null);
            Assert.Equal((minimum, maximum), (Math.Round(scale.Minimum, 5), Math.Round(scale.Maximum, 5)));
        }

        using Picture inOwnScale = HeatMap.Draw(even, Squares with { Minimum = value, Maximum = value });
        Assert.Equal(ColorMap.Viridis.At(0.5), inOwnScale.Bitmap.GetPixel(1, 1));
    }

    /// <summary>The legend of an open gate is that of its scale, 0 to 1, and not 1.00 three times.</summary>
    [Fact]
    public void The_legend_of_equal_values_is_that_of_their_scale()
    {
        using Tensor map = full(2, 2, 1f);
        HeatMapOptions options = new() { Size = 96, Smooth = false };
        using Picture own = HeatMap.Draw(map, options), whole = HeatMap.Draw(map, options with { Minimum = 0, Maximum = 1 }), none = HeatMap.Draw(map, options with { Minimum = 1, Maximum = 1 });
        Assert.Equal(whole.Pixels(), own.Pixels());
        Assert.NotEqual(none.Pixels(), own.Pixels());
    }

    [Fact]
    public void An_overlay_blends_by_its_opacity()
    {
        using Tensor map = tensor(new float[] { 0, 1 }, [1, 2]), pixels = tensor(new float[] { 1, 0, 0 }, [3, 1, 1]).expand(3, 8, 16);
        using Picture image = Picture.FromTensor(pixels), blended = HeatMap.Overlay(image, map, Squares with { Size = 16, Opacity = 0.25 });
        using Picture grey = HeatMap.Overlay(image, map, Squares with { Size = 16, Opacity = 0, GreyImage = true });
        Assert.Equal((16, 8), (blended.Width, blended.Height));
        SKColor color = ColorMap.Viridis.At(1);
        Assert.Equal(new SKColor(Mix(255, color.Red), Mix(0, color.Green), Mix(0, color.Blue)), blended.Bitmap.GetPixel(12, 4));
        Assert.Equal(new SKColor(76, 76, 76), grey.Bitmap.GetPixel(3, 3));

        static byte Mix(int under, int over) => (byte)Math.Round((0.75 * under) + (0.25 * over));
    }

    [Fact]
    public void Enlarging_is_smooth_and_stays_in_range()
    {
        using Tensor map = tensor(new float[] { 0, 0, 1, 1 }, [1, 4]);
        float[] values = HeatMap.Resample(map, 1, 64, smooth: true);
        Assert.Equal((0f, 1f), (values.Min(), values.Max()));
        Assert.Equal(values.Order(), values);
        Assert.True(values.Distinct().Count() > 15);
    }

    /// <summary>One bright value of a map and the same place of an image, enlarged, have one middle, to a fraction of a pixel.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_bright_place_lands_on_its_pixels(bool smooth)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor map = zeros(7, 9), pixels = zeros(3, 14, 18);
        map[2, 5] = tensor(1f);
        pixels.narrow(1, 4, 2).narrow(2, 10, 2).fill_(1.ToScalar());
        float[] heat = HeatMap.Resample(map, 224, 288, smooth);
        using Picture image = Picture.FromTensor(pixels), shown = HeatMap.Plain(image, new HeatMapOptions { Size = 288, Legend = false });
        Assert.Equal((288, 224), (shown.Width, shown.Height));
        (double y, double x) = Middle((row, column) => heat[(row * 288) + column]);
        Assert.Equal(80, y, 0.6);
        Assert.Equal(176, x, 0.6);
        (y, x) = Middle((row, column) => shown.Bitmap.GetPixel(column, row).Green);
        Assert.Equal(80, y, 0.6);
        Assert.Equal(176, x, 0.6);

        static (double Y, double X) Middle(Func<int, int, double> value)
        {
            double sum = 0, down = 0, across = 0;
            for (int row = 0; row < 224; row++)
            {
                for (int column = 0; column < 288; column++)
                {
                    double weight = Math.Max(0, value(row, column));
                    (sum, down, across) = (sum + weight, down + (weight * (row + 0.5)), across + (weight * (column + 0.5)));
                }
            }

            return (down / sum, across / sum);
        }
    }

    [Fact]
    public void A_scale_upside_down_is_refused()
    {
        using Tensor map = rand(2, 2);
        Assert.Contains("Minimum is 2 and Maximum 1", Assert.Throws<ArgumentOutOfRangeException>(
            () => HeatMap.Draw(map, Squares with { Minimum = 2, Maximum = 1 })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Words_are_drawn_without_any_font_of_the_system()
    {
        using Tensor map = ones(2, 2);
        using Picture legend = HeatMap.Draw(map, new HeatMapOptions { Title = "layer1 ≥ 0.5" });
        using Picture empty = HeatMap.Draw(map, new HeatMapOptions { Title = " " });
        Assert.True(Dark(legend, legend.Width, 18) > 100, "title");
        Assert.Equal(0, Dark(empty, empty.Width, 18));
        Assert.True(Drawing.Width("WWWW") > 2 * Drawing.Width("iiii"));
    }

    [Theory]
    [InlineData(0.0, "0")]
    [InlineData(0.5, "0.50")]
    [InlineData(-3.14159, "-3.14")]
    [InlineData(12.6, "13")]
    [InlineData(0.0123456, "0.0123")]
    [InlineData(0.000123, "1.2e-4")]
    [InlineData(1234567.0, "1.2e6")]
    public void Numbers_are_short(double value, string text) => Assert.Equal(text, Drawing.Number(value));

    [Theory]
    [InlineData(0.11, 0.66, "0.11", "0.39", "0.66")]
    [InlineData(1.118, 1.122, "1.118", "1.120", "1.122")]
    [InlineData(1.1199, 1.1201, "1.1199", "1.1200", "1.1201")]
    [InlineData(12.1, 12.9, "12.100", "12.500", "12.900")]
    [InlineData(1.0, 1.0, "1.00", "1.00", "1.00")]
    [InlineData(1.0, 1.0000001, "1.00000", "1.00000", "1.00000")]
    public void A_scale_tells_its_ends_apart(double minimum, double maximum, string low, string middle, string high)
        => Assert.Equal((low, middle, high), Drawing.Scale(minimum, maximum));

    [Fact]
    public void Bars_are_as_tall_as_their_gates()
    {
        using Tensor gates = tensor(new float[] { 1, 0, 0.5f, 0 }, [2, 2]);
        using Picture bars = ChannelBars.Draw(gates);
        Assert.Equal(ColorMap.Viridis.At(1), bars.Bitmap.GetPixel(5, 1));
        Assert.NotEqual(ColorMap.Viridis.At(1), bars.Bitmap.GetPixel(19, 1));
        Assert.Equal(ColorMap.Viridis.At(0.5), bars.Bitmap.GetPixel(5, 58 + 40));
        Assert.NotEqual(ColorMap.Viridis.At(0.5), bars.Bitmap.GetPixel(5, 58 + 10));
    }

    [Fact]
    public void A_mark_is_ringed_where_the_query_is()
    {
        using Tensor map = zeros(4, 4);
        using Picture plain = HeatMap.Draw(map, Squares with { Size = 64 }), marked = HeatMap.Draw(map, Squares with { Size = 64, Mark = (1, 2) });
        (int x, int y)[] changed = [.. from x in Enumerable.Range(0, 64) from y in Enumerable.Range(0, 64) where plain.Bitmap.GetPixel(x, y) != marked.Bitmap.GetPixel(x, y) select (x, y)];
        Assert.Equal((40, 24), (changed.Average(p => p.x) + 0.5, changed.Average(p => p.y) + 0.5));
        Assert.Throws<ArgumentOutOfRangeException>(() => HeatMap.Draw(map, Squares with { Mark = (4, 0) }));
    }

    [Fact]
    public void A_grid_holds_every_picture()
    {
        using Tensor map = tensor(new float[] { 0, 1 }, [1, 2]);
        using Picture one = HeatMap.Draw(map, Squares), two = HeatMap.Draw(map, Squares with { Size = 16 });
        using Picture grid = PictureGrid.Draw([[one, two], [two]]);
        Assert.Equal((16 + 16 + 24, 8 + 8 + 24), (grid.Width, grid.Height));
        Assert.Equal(ColorMap.Viridis.At(0), grid.Bitmap.GetPixel(9, 9));
        Assert.Equal(ColorMap.Viridis.At(1), grid.Bitmap.GetPixel(8 + 16 + 8 + 15, 9));
        Assert.Equal(SKColors.White, grid.Bitmap.GetPixel(3, 3));
        using Picture named = PictureGrid.Draw([[one]], ["first"], ["Ankle\nboot"]);
        Assert.True(named.Width > 24 + 16 && Dark(named, named.Width, named.Height) > 20);
        Assert.Throws<ArgumentException>(() => PictureGrid.Draw([]));
    }

    [Fact]
    public void Images_come_in_as_the_usual_transforms_make_them()
    {
        using Tensor pixels = arange(0, 3 * 4 * 6, dtype: ScalarType.Byte).view(3, 4, 6);
        using Picture image = Picture.FromTensor(pixels), again = Picture.Decode(image.ToPng());
        ImageTransform cut = new() { Resize = null, Crop = 2, Mean = [0.5, 0.4, 0.3], Std = [0.1, 0.2, 0.5] };
        using Picture seen = cut.Prepare(again);
        using Tensor input = cut.ToTensor(seen);
        Assert.Equal([1, 3, 2, 2], input.shape);
        for (int c = 0; c < 3; c++)
        {
            for (int i = 0; i < 4; i++)
            {
                double pixel = (c * 24) + ((1 + (i / 2)) * 6) + 2 + (i % 2);
                Assert.Equal(((pixel / 255) - cut.Mean[c]) / cut.Std[c], input[0, c, i / 2, i % 2].item<float>(), 5);
            }
        }

        using Picture back = cut.ToPicture(input);
        Assert.Equal(seen.Pixels(), back.Pixels());
        using Tensor grey = new ImageTransform { Resize = null, Crop = null, Mean = [0.0], Std = [1.0] }.ToTensor(image);
        Assert.Equal([1, 1, 4, 6], grey.shape);
        Assert.Equal(((0.299 * 0) + (0.587 * 24) + (0.114 * 48)) / 255, grey[0, 0, 0, 0].item<float>(), 5);
    }

    /// <summary>The shorter side is what was asked for, the longer one rounded down, as torchvision has it.</summary>
    [Theory]
    [InlineData(3264, 2448, 224, 298)]
    [InlineData(374, 500, 256, 342)]
    [InlineData(428, 500, 256, 299)]
    [InlineData(500, 375, 256, 341)]
    [InlineData(7, 3, 5, 11)]
    public void The_shorter_side_comes_out_exactly(int width, int height, int shorter, int longer)
    {
        using Picture image = Picture.FromPixels(new byte[4 * width * height], width, height);
        using Picture whole = new ImageTransform { Resize = shorter, Crop = null }.Prepare(image), cut = new ImageTransform { Resize = shorter, Crop = shorter }.Prepare(image);
        Assert.Equal(width < height ? (shorter, longer) : (longer, shorter), (whole.Width, whole.Height));
        Assert.Equal((shorter, shorter), (cut.Width, cut.Height));
    }

    [Fact]
    public void A_resized_image_keeps_its_shape_and_its_colours()
    {
        using Tensor half = cat([zeros(3, 100, 60), ones(3, 100, 60)], 2);
        string folder = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());
        try
        {
            using (Picture image = Picture.FromTensor(half)) image.SavePng(Path.Combine(folder, "new", "half.png"));
            using Tensor input = new ImageTransform { Resize = 50, Crop = 40, Mean = [0.0, 0.0, 0.0], Std = [1.0, 1.0, 1.0] }.Load(Path.Combine(folder, "new", "half.png"));
            Assert.Equal([1, 3, 40, 40], input.shape);
            Assert.Equal((0f, 1f), (input[0, 1, 20, 5].item<float>(), input[0, 1, 20, 35].item<float>()));
            Assert.Equal(0.5, input.mean().item<float>(), 2);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void A_jpeg_is_read()
    {
        using Tensor red = tensor(new float[] { 1, 0, 0 }, [3, 1, 1]).expand(3, 16, 16);
        using Picture image = Picture.FromTensor(red);
        using SKData jpeg = image.Bitmap.Encode(SKEncodedImageFormat.Jpeg, 95);
        using Picture read = Picture.Decode(jpeg.ToArray());
        SKColor pixel = read.Bitmap.GetPixel(8, 8);
        Assert.True(pixel.Red > 240 && pixel.Green < 15 && pixel.Blue < 15, pixel.ToString());
    }

    [Fact]
    public void Bad_input_is_an_error_that_helps()
    {
        using Tensor batch = zeros(2, 3, 3), five = zeros(5, 4, 4);
        Assert.Contains("map[0]", Assert.Throws<ArgumentException>(() => HeatMap.Draw(batch)).Message, StringComparison.Ordinal);
        Assert.Contains("one or three channels", Assert.Throws<ArgumentException>(() => Picture.FromTensor(five)).Message, StringComparison.Ordinal);
        Assert.Throws<FileNotFoundException>(() => Picture.Open("/there/is/none.png"));
        Assert.Throws<InvalidDataException>(() => Picture.Decode([1, 2, 3]));
        using Picture image = Picture.FromTensor(ones(3, 40, 40));
        Assert.Throws<InvalidDataException>(() => Picture.Decode(image.ToPng()[..60]));
        Assert.Contains("Resize to at least 64", Assert.Throws<ArgumentException>(() => new ImageTransform { Resize = null, Crop = 64 }.Prepare(image)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => new ImageTransform { Std = [1.0, 0.0, 1.0] }.ToTensor(image));
        Assert.Throws<ArgumentException>(() => ChannelBars.Draw(batch));
        Assert.Throws<ArgumentOutOfRangeException>(() => HeatMap.Draw(batch[0], new HeatMapOptions { Opacity = 2 }));
    }

    private static int Dark(Picture picture, int width, int height)
        => Enumerable.Range(0, width).Sum(x => Enumerable.Range(0, height).Count(y => picture.Bitmap.GetPixel(x, y) is { Red: < 100, Green: < 100, Blue: < 100 }));
}
