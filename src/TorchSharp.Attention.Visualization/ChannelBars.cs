using SkiaSharp;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Visualization;

/// <summary>Draws channel gates as strips of bars, one strip per sample, class or stage.</summary>
public static class ChannelBars
{
    private const int StripHeight = 46, Gap = 12, WidestStrip = 768, WidestBar = 14, LabelRoom = 6;

    /// <summary>
    /// Draws one strip per row and one bar per channel, all on the same scale. A line marks the middle of the scale in each
    /// strip.
    /// </summary>
    /// <param name="gates">(strips, C), or (C) for one strip.</param>
    /// <param name="labels">Words to the left of the strips; null for none.</param>
    /// <param name="title">A line above; null for none.</param>
    /// <param name="minimum">Value of a bar without height. Default 0.</param>
    /// <param name="maximum">Value of a bar of full height. Default 1, the most that a sigmoid opens.</param>
    /// <param name="colors">The colours; null for viridis.</param>
    /// <returns>A new picture.</returns>
    /// <exception cref="ArgumentException">The shape, the number of labels or the scale does not fit.</exception>
    public static Picture Draw(
        Tensor gates, IReadOnlyList<string>? labels = null, string? title = null, double minimum = 0, double maximum = 1,
        ColorMap? colors = null)
    {
        ArgumentNullException.ThrowIfNull(gates);
        if (gates.dim() is not (1 or 2) || gates.numel() == 0)
        {
            throw new ArgumentException(
                $"gates has shape ({string.Join(", ", gates.shape)}); it must be (strips, C) or (C), and not empty.",
                nameof(gates));
        }

        int strips = gates.dim() == 1 ? 1 : (int)gates.size(0), channels = (int)gates.size(-1);
        if (labels is not null && labels.Count != strips)
        {
            throw new ArgumentException($"labels has {labels.Count} words for {strips} strips.", nameof(labels));
        }

        if (!(maximum > minimum))
        {
            throw new ArgumentOutOfRangeException(
                nameof(maximum), maximum, $"maximum is {maximum}; it must be above minimum, {minimum}.");
        }

        double[] values;
        using (NewDisposeScope())
        {
            values = gates.detach().to_type(ScalarType.Float64).cpu().contiguous().data<double>().ToArray();
        }

        colors ??= ColorMap.Viridis;
        int bar = Math.Clamp(WidestStrip / channels, 1, WidestBar), width = bar * channels;
        int left = labels is null ? 0 : (int)Math.Ceiling(labels.Max(label => Drawing.Width(label))) + (2 * LabelRoom);
        int top = title is null ? 0 : Drawing.LineHeight, total = (strips * (StripHeight + Gap)) - Gap;
        int height = top + Math.Max(total, StripHeight);
        return Drawing.Draw(left + width + Drawing.Margin + Drawing.LegendWidth, height, canvas =>
        {
            if (title is not null) Drawing.Text(canvas, title, 0, top / 2f);
            for (int strip = 0; strip < strips; strip++)
            {
                int y = top + (strip * (StripHeight + Gap));
                if (labels is not null)
                {
                    Drawing.Text(canvas, labels[strip], left - LabelRoom, y + (StripHeight / 2f), SKTextAlign.Right);
                }

                Drawing.Fill(canvas, left, y, width, StripHeight, new SKColor(0xf6, 0xf6, 0xf6));
                for (int channel = 0; channel < channels; channel++)
                {
                    double share = (values[(strip * channels) + channel] - minimum) / (maximum - minimum);
                    float tall = (float)(Math.Clamp(double.IsNaN(share) ? 0 : share, 0, 1) * StripHeight);
                    Drawing.Fill(
                        canvas, left + (channel * bar), y + StripHeight - tall, bar > 3 ? bar - 1 : bar, tall, colors.At(share));
                }

                Drawing.Line(canvas, left, y + (StripHeight / 2f), left + width, y + (StripHeight / 2f), Drawing.Faint);
                Drawing.Line(canvas, left, y + StripHeight - 0.5f, left + width, y + StripHeight - 0.5f, Drawing.Ink);
            }

            Drawing.Legend(
                canvas, colors, minimum, maximum, left + width + Drawing.Margin, top, Math.Min(total, 3 * StripHeight));
        });
    }
}
