using SkiaSharp;
using TorchSharp.Attention.Training;

namespace TorchSharp.Attention.Visualization;

/// <summary>Draws the results of an ablation.</summary>
public static class AblationPicture
{
    /// <summary>
    /// Draws the cost-accuracy front. Cost is on the x axis, score on the y axis, intervals are bars, and the front is a dashed
    /// line. It is the same picture as <see cref="AblationReport.ToSvg"/>, for places that cannot show SVG.
    /// </summary>
    /// <param name="report">The ablation.</param>
    /// <param name="scale">Pixels a unit of the plot, which is 900 × 520. Default 2.</param>
    /// <returns>A new picture.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="scale"/> is not from 0.5 to 8.</exception>
    public static Picture Draw(AblationReport report, double scale = 2)
    {
        ArgumentNullException.ThrowIfNull(report);
        if (!(scale is >= 0.5 and <= 8))
        {
            throw new ArgumentOutOfRangeException(nameof(scale), scale, $"scale is {scale}; it must be from 0.5 to 8.");
        }

        return Drawing.Draw((int)Math.Round(AblationPlot.Width * scale), (int)Math.Round(AblationPlot.Height * scale), canvas =>
        {
            canvas.Scale((float)scale);
            foreach (PlotMark mark in AblationPlot.Marks(report)) Draw(canvas, mark);
        });
    }

    private static void Draw(SKCanvas canvas, PlotMark mark)
    {
        switch (mark)
        {
            case PlotLine line:
                using (SKPaint paint = new()
                {
                    Color = SKColor.Parse(line.Colour).WithAlpha((byte)(255 * line.Opacity)),
                    StrokeWidth = (float)line.Width,
                    IsAntialias = true,
                })
                using (SKPathEffect? dashes = line.Dashed ? SKPathEffect.CreateDash([6, 4], 0) : null)
                {
                    paint.PathEffect = dashes;
                    canvas.DrawLine((float)line.X0, (float)line.Y0, (float)line.X1, (float)line.Y1, paint);
                }

                break;
            case PlotDot dot:
                Disc(dot.Radius + 0.5, SKColors.White);
                Disc(dot.Radius - 0.5, SKColor.Parse(dot.Colour));
                break;

                void Disc(double radius, SKColor color)
                {
                    using SKPaint paint = new() { Color = color, IsAntialias = true };
                    canvas.DrawCircle((float)dot.X, (float)dot.Y, (float)radius, paint);
                }

            case PlotText text:
                canvas.Save();
                canvas.Translate((float)text.X, (float)text.Y);
                if (text.Upwards) canvas.RotateDegrees(-90);
                SKTextAlign align = text.Anchor switch
                {
                    PlotAnchor.Middle => SKTextAlign.Center,
                    PlotAnchor.End => SKTextAlign.Right,
                    _ => SKTextAlign.Left,
                };
                Drawing.Words(canvas, text.Words, 0, 0, align, (float)text.Size, SKColor.Parse(text.Colour), text.Bold);
                canvas.Restore();
                break;
        }
    }
}
