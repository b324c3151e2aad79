using System.Globalization;
using System.Security;
using System.Text;

namespace TorchSharp.Attention.Training;

/// <summary>Cost against score as SVG: text that any browser draws, with its own fonts and without native libraries.</summary>
internal static class AblationPlot
{
    private const double Width = 900, Height = 520, Left = 80, Right = 620, Top = 50, Bottom = 450, LabelX = 660, LineHeight = 17;

    public static string Svg(AblationReport report, bool higherIsBetter)
    {
        AblationRow[] rows = [.. report.Rows];
        Axis cost = Axis.Over(rows.Select(row => row.MultiplyAccumulates / 1e6), Left, Right);
        Axis score = Axis.Over(rows.SelectMany(row => new[] { row.Score.Low ?? row.Score.Mean, row.Score.High ?? row.Score.Mean }), Bottom, Top);

        StringBuilder svg = new();
        Add($"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {Width} {Height}\" width=\"{Width}\" height=\"{Height}\" font-family=\"sans-serif\" font-size=\"13\">");
        Add($"<rect width=\"{Width}\" height=\"{Height}\" fill=\"white\"/>");
        Add($"<text x=\"{Left}\" y=\"28\" font-size=\"16\">Score and cost, means of {rows.Max(row => row.Runs)} seeds, {report.Confidence:0.#%} intervals</text>");
        foreach (double tick in cost.Ticks)
        {
            Add($"<line x1=\"{cost.At(tick):F1}\" x2=\"{cost.At(tick):F1}\" y1=\"{Top}\" y2=\"{Bottom}\" stroke=\"#e5e5e5\"/>");
            Add($"<text x=\"{cost.At(tick):F1}\" y=\"{Bottom + 20}\" text-anchor=\"middle\">{tick:G6}</text>");
        }

        foreach (double tick in score.Ticks)
        {
            Add($"<line x1=\"{Left}\" x2=\"{Right}\" y1=\"{score.At(tick):F1}\" y2=\"{score.At(tick):F1}\" stroke=\"#e5e5e5\"/>");
            Add($"<text x=\"{Left - 8}\" y=\"{score.At(tick) + 4:F1}\" text-anchor=\"end\">{tick:G6}</text>");
        }

        Add($"<rect x=\"{Left}\" y=\"{Top}\" width=\"{Right - Left}\" height=\"{Bottom - Top}\" fill=\"none\" stroke=\"#555\"/>");
        Add($"<text x=\"{(Left + Right) / 2}\" y=\"{Bottom + 44}\" text-anchor=\"middle\">million multiply-accumulates</text>");
        Add($"<text transform=\"translate(22 {(Top + Bottom) / 2}) rotate(-90)\" text-anchor=\"middle\">score, {(higherIsBetter ? "higher" : "lower")} is better</text>");

        AblationRow[] front = [.. rows.Where(row => row.IsOnFront).OrderBy(row => row.MultiplyAccumulates)];
        string line = string.Join(' ', front.Select(row => FormattableString.Invariant($"{X(row):F1},{Y(row):F1}")));
        Add($"<polyline points=\"{line}\" fill=\"none\" stroke=\"#0072b2\" stroke-width=\"2\" stroke-dasharray=\"6 4\"/>");

        AblationRow[] ordered = [.. rows.OrderBy(Y)];
        double[] labels = Spread([.. ordered.Select(Y)]);
        for (int i = 0; i < ordered.Length; i++)
        {
            AblationRow row = ordered[i];
            string colour = row.IsOnFront ? "#0072b2" : "#777777";
            Add($"<line x1=\"{X(row):F1}\" y1=\"{Y(row):F1}\" x2=\"{LabelX - 5}\" y2=\"{labels[i]:F1}\" stroke=\"{colour}\" stroke-opacity=\"0.35\"/>");
            if (row.Score.Low is double low && row.Score.High is double high)
            {
                Add($"<line x1=\"{X(row):F1}\" x2=\"{X(row):F1}\" y1=\"{score.At(low):F1}\" y2=\"{score.At(high):F1}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>");
            }

            Add($"<circle cx=\"{X(row):F1}\" cy=\"{Y(row):F1}\" r=\"5\" fill=\"{colour}\" stroke=\"white\"/>");
            string weight = row.IsOnFront ? " font-weight=\"bold\"" : "";
            Add($"<text x=\"{LabelX}\" y=\"{labels[i] + 4:F1}\" fill=\"{(row.IsOnFront ? colour : "#333333")}\"{weight}>{SecurityElement.Escape(Short(row.Variant))}</text>");
        }

        Add($"<text x=\"{LabelX}\" y=\"{Height - 26}\" font-size=\"11\">bold, dashed: nothing scores higher</text>");
        Add($"<text x=\"{LabelX}\" y=\"{Height - 12}\" font-size=\"11\">for as little (by the means alone)</text>");
        return svg.Append("</svg>\n").ToString();

        // Of equal costs one stands beside the other, so that no interval hides another.
        double X(AblationRow row)
        {
            AblationRow[] equal = [.. rows.Where(other => other.MultiplyAccumulates == row.MultiplyAccumulates)];
            return cost.At(row.MultiplyAccumulates / 1e6) + (8 * (Array.IndexOf(equal, row) - ((equal.Length - 1) / 2.0)));
        }

        double Y(AblationRow row) => score.At(row.Score.Mean);

        void Add(FormattableString text) => svg.Append(text.ToString(CultureInfo.InvariantCulture)).Append('\n');
    }

    private static string Short(string name) => name.Length <= 32 ? name : $"{name[..31]}…";

    /// <summary>Heights of labels that lie as near to the wanted ones as their size allows; wanted ones ascend.</summary>
    private static double[] Spread(double[] wanted)
    {
        double[] placed = [.. wanted];
        for (int i = 1; i < placed.Length; i++) placed[i] = Math.Max(placed[i], placed[i - 1] + LineHeight);
        for (int i = placed.Length - 1; i >= 0; i--) placed[i] = Math.Min(placed[i], Bottom - ((placed.Length - 1 - i) * LineHeight));
        return placed;
    }

    /// <summary>Numbers along a line of pixels, with ticks at 1, 2 or 5 times a power of ten.</summary>
    private readonly record struct Axis(double From, double To, double Start, double End)
    {
        public static Axis Over(IEnumerable<double> values, double start, double end)
        {
            double[] all = [.. values];
            double low = all.Min(), high = all.Max(), margin = high > low ? (high - low) * 0.08 : Math.Max(Math.Abs(high) * 0.05, 1e-6);
            return new Axis(low - margin, high + margin, start, end);
        }

        public IEnumerable<double> Ticks
        {
            get
            {
                double rough = (To - From) / 6, power = Math.Pow(10, Math.Floor(Math.Log10(rough)));
                double step = power * (rough / power) switch { < 1.5 => 1, < 3.5 => 2, < 7.5 => 5, _ => 10 };
                for (double k = Math.Ceiling(From / step); k * step <= To; k++) yield return k * step;
            }
        }

        public double At(double value) => Start + ((value - From) / (To - From) * (End - Start));
    }
}
