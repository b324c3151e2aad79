using SkiaSharp;
using TorchSharp.Attention.Training;

namespace TorchSharp.Attention.Visualization.Tests;

/// <summary>An ablation's plot as PNG: the marks of the SVG, at their places.</summary>
public sealed class AblationPictureTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Dots_lie_where_the_svg_has_them()
    {
        AblationVariant[] variants = [new("plain", AttentionPlan.None), new("se", AttentionPlan.Parse("se")), new("eca", AttentionPlan.Parse("eca"))];
        AblationReport report = Ablation.Run(
            variants, [1, 2, 3], (variant, seed, _) => variant.Name switch
            {
                "plain" => new AblationOutcome(0.8 + (seed / 100.0), 1000, 50_000),
                "se" => new AblationOutcome(0.85 + (seed / 50.0), 1100, 51_000),
                _ => new AblationOutcome(0.79 + (seed / 70.0), 1010, 52_000),
            }, new AblationOptions { Folder = _folder.Root }, TestContext.Current.CancellationToken);
        using Picture picture = AblationPicture.Draw(report, scale: 2);
        Assert.Equal((1800, 1040), (picture.Width, picture.Height));
        PlotDot[] dots = [.. AblationPlot.Marks(report).OfType<PlotDot>()];
        Assert.Equal(3, dots.Length);
        foreach (PlotDot dot in dots)
        {
            Assert.Equal(SKColor.Parse(dot.Colour), picture.Bitmap.GetPixel((int)(2 * dot.X), (int)(2 * dot.Y)));
            Assert.Contains(FormattableString.Invariant($"cx=\"{dot.X:F1}\" cy=\"{dot.Y:F1}\""), report.ToSvg(), StringComparison.Ordinal);
        }

        // Text is drawn, with the font that comes along.
        PlotText label = AblationPlot.Marks(report).OfType<PlotText>().Single(text => text.Words == "se");
        bool inked = Enumerable.Range(0, 20).Any(x => Enumerable.Range(-16, 16).Any(y => picture.Bitmap.GetPixel((int)(2 * label.X) + x, (int)(2 * label.Y) + y) != SKColors.White));
        Assert.True(inked);
        Assert.Contains("0.5 to 8", Assert.Throws<ArgumentOutOfRangeException>(() => AblationPicture.Draw(report, 0)).Message, StringComparison.Ordinal);
    }
}
