using System.Globalization;
using System.Security;
using System.Text;

namespace TorchSharp.Attention.Training;

/// <summary>
/// Cost against score, as marks that the visualization package draws as well, and as SVG: text that any browser draws, with its
/// own fonts and without native libraries. Works on what is public of a report alone: the visualization package compiles it in.
/// </summary>
internal static class AblationPlot
{
    public const int Width = 900, Height = 520;

    private const double Left = 80, Right = 620, Top = 50, Bottom = 450, LabelX = 660, LineHeight = 17;
    private const string Best = "#0072b2", Other = "#777777", Frame = "#555555";

    /// <summary>The picture's marks, first ones first.</summary>
    public static IReadOnlyList<PlotMark> Marks(AblationReport report)
    {
        AblationRow[] rows = [.. report.Rows];
        CostAxis cost = CostAxis.Over([.. rows.Select(row => (double)row.MultiplyAccumulates)], Left, Right);
        Axis score = Axis.Over(
            rows.SelectMany(row => new[] { row.Score.Low ?? row.Score.Mean, row.Score.High ?? row.Score.Mean }), Bottom, Top);
        List<PlotMark> marks =
        [
            new PlotText(
                Left, 28, Text($"Score and cost, means of {rows.Max(row => row.Runs)} seeds, {report.Confidence:0.#%} intervals"),
                Size: 16),
        ];
        foreach (double tick in cost.Ticks)
        {
            double x = cost.AtShare(tick);
            marks.Add(new PlotLine(x, Top, x, Bottom, "#e5e5e5"));
            marks.Add(
                new PlotText(x, Bottom + 20, tick == 0 ? "0" : Text($"+{tick * 100:0.######} %"), Anchor: PlotAnchor.Middle));
        }

        foreach (double tick in score.Ticks)
        {
            marks.Add(new PlotLine(Left, score.At(tick), Right, score.At(tick), "#e5e5e5"));
            marks.Add(new PlotText(Left - 8, score.At(tick) + 4, Text($"{tick:G6}"), Anchor: PlotAnchor.End));
        }

        marks.AddRange(
        [
            new PlotLine(Left, Top, Right, Top, Frame), new PlotLine(Left, Bottom, Right, Bottom, Frame),
            new PlotLine(Left, Top, Left, Bottom, Frame), new PlotLine(Right, Top, Right, Bottom, Frame),
            new PlotText(
                (Left + Right) / 2, Bottom + 44,
                Text($"multiply-accumulates above the least ({cost.Least / 1e6:G4} million), logarithmic"),
                Anchor: PlotAnchor.Middle),
            new PlotText(
                22, (Top + Bottom) / 2, $"score, {(report.HigherIsBetter ? "higher" : "lower")} is better",
                Anchor: PlotAnchor.Middle, Upwards: true),
        ]);

        AblationRow[] front = [.. rows.Where(row => row.IsOnFront).OrderBy(row => row.MultiplyAccumulates)];
        for (int i = 1; i < front.Length; i++)
        {
            marks.Add(new PlotLine(X(front[i - 1]), Y(front[i - 1]), X(front[i]), Y(front[i]), Best, 2, Dashed: true));
        }

        AblationRow[] ordered = [.. rows.OrderBy(Y)];
        double[] labels = Spread([.. ordered.Select(Y)]);
        for (int i = 0; i < ordered.Length; i++)
        {
            AblationRow row = ordered[i];
            string colour = row.IsOnFront ? Best : Other;
            marks.Add(new PlotLine(X(row), Y(row), LabelX - 5, labels[i], colour, Opacity: 0.35));
            if (row.Score.Low is double low && row.Score.High is double high)
            {
                marks.Add(new PlotLine(X(row), score.At(low), X(row), score.At(high), colour, 1.5));
            }

            marks.Add(new PlotDot(X(row), Y(row), 5, colour));
            marks.Add(
                new PlotText(LabelX, labels[i] + 4, Short(row.Variant), row.IsOnFront ? Best : "#333333", Bold: row.IsOnFront));
        }

        marks.Add(new PlotText(LabelX, Height - 26, "bold, dashed: nothing scores higher", Size: 11));
        marks.Add(new PlotText(LabelX, Height - 12, "for as little (by the means alone)", Size: 11));
        return marks;

        // Of equal costs one stands beside the other, so that no interval hides another.
        double X(AblationRow row)
        {
            AblationRow[] equal = [.. rows.Where(other => other.MultiplyAccumulates == row.MultiplyAccumulates)];
            return cost.At(row.MultiplyAccumulates) + (8 * (Array.IndexOf(equal, row) - ((equal.Length - 1) / 2.0)));
        }

        double Y(AblationRow row) => score.At(row.Score.Mean);

        static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
    }

    public static string Svg(AblationReport report)
    {
        StringBuilder svg = new();
        Add(
            $"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {Width} {Height}\" width=\"{Width}\" height=\"{Height}\" ",
            $"font-family=\"sans-serif\">");
        Add($"<rect width=\"{Width}\" height=\"{Height}\" fill=\"white\"/>");
        foreach (PlotMark mark in Marks(report))
        {
            switch (mark)
            {
                case PlotLine line:
                    string dashes = line.Dashed ? " stroke-dasharray=\"6 4\"" : "";
                    Add(
                        $"<line x1=\"{line.X0:F1}\" y1=\"{line.Y0:F1}\" x2=\"{line.X1:F1}\" y2=\"{line.Y1:F1}\" ",
                        $"stroke=\"{line.Colour}\" stroke-width=\"{line.Width}\" stroke-opacity=\"{line.Opacity}\"{dashes}/>");
                    break;
                case PlotDot dot:
                    Add(
                        $"<circle cx=\"{dot.X:F1}\" cy=\"{dot.Y:F1}\" r=\"{dot.Radius}\" fill=\"{dot.Colour}\" ",
                        $"stroke=\"white\"/>");
                    break;
                case PlotText text:
                    string place = text.Upwards
                        ? FormattableString.Invariant($"transform=\"translate({text.X} {text.Y}) rotate(-90)\"")
                        : FormattableString.Invariant($"x=\"{text.X:0.#}\" y=\"{text.Y:0.#}\"");
                    string anchor = text.Anchor switch
                    {
                        PlotAnchor.Middle => " text-anchor=\"middle\"",
                        PlotAnchor.End => " text-anchor=\"end\"",
                        _ => "",
                    };
                    string weight = text.Bold ? " font-weight=\"bold\"" : "";
                    Add(
                        $"<text {place} font-size=\"{text.Size}\" ",
                        $"fill=\"{text.Colour}\"{anchor}{weight}>{SecurityElement.Escape(text.Words)}</text>");
                    break;
            }
        }

        return svg.Append("</svg>\n").ToString();

        void Add(params FormattableString[] parts)
            => svg.AppendJoin("", parts.Select(part => part.ToString(CultureInfo.InvariantCulture))).Append('\n');
    }

    private static string Short(string name) => name.Length <= 32 ? name : $"{name[..31]}…";

    /// <summary>Heights of labels that lie as near to the wanted ones as their size allows; wanted ones ascend.</summary>
    private static double[] Spread(double[] wanted)
    {
        double[] placed = [.. wanted];
        for (int i = 1; i < placed.Length; i++) placed[i] = Math.Max(placed[i], placed[i - 1] + LineHeight);
        for (int i = placed.Length - 1; i >= 0; i--)
        {
            placed[i] = Math.Min(placed[i], Bottom - ((placed.Length - 1 - i) * LineHeight));
        }

        return placed;
    }

    /// <summary>
    /// What costs have above the least one, as shares of it, along a line of pixels: nothing at the start, then powers
    /// of ten equally far apart. Attentions cost between hundredths of a percent and several percent; side by side on
    /// an even line they would be one point.
    /// </summary>
    private readonly record struct CostAxis(double Least, int FirstPower, int LastPower, double Start, double End)
    {
        private const double Margin = 24, Room = 70;

        public static CostAxis Over(IReadOnlyList<double> costs, double start, double end)
        {
            // A cost of nothing is one that nobody gave: it stands with the least.
            double least = costs.Where(cost => cost > 0).DefaultIfEmpty(1).Min();
            double[] shares = [.. costs.Select(cost => (cost / least) - 1).Where(share => share > 0)];
            if (shares.Length == 0) return new CostAxis(least, 0, 0, start, end);
            int first = (int)Math.Floor(Math.Log10(shares.Min())), last = (int)Math.Ceiling(Math.Log10(shares.Max()));
            return new CostAxis(least, first, Math.Max(first + 1, last), start, end);
        }

        /// <summary>Shares to write down.</summary>
        public IEnumerable<double> Ticks
        {
            get
            {
                yield return 0;
                if (LastPower == FirstPower) yield break;
                for (int power = FirstPower; power <= LastPower; power++) yield return Math.Pow(10, power);
            }
        }

        public double At(double cost) => AtShare((cost / Least) - 1);

        public double AtShare(double share)
        {
            if (LastPower == FirstPower) return (Start + End) / 2;
            double from = Start + Margin + Room;
            return share <= 0
                ? Start + Margin
                : from + ((Math.Log10(share) - FirstPower) / (LastPower - FirstPower) * (End - Margin - from));
        }
    }

    /// <summary>Numbers along a line of pixels, with ticks at 1, 2 or 5 times a power of ten.</summary>
    private readonly record struct Axis(double From, double To, double Start, double End)
    {
        public static Axis Over(IEnumerable<double> values, double start, double end)
        {
            double[] all = [.. values];
            double low = all.Min(), high = all.Max(), margin = high > low
                ? (high - low) * 0.08
                : Math.Max(Math.Abs(high) * 0.05, 1e-6);
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
