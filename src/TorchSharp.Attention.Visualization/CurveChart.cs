using System.Globalization;
using System.Text;

namespace TorchSharp.Attention.Visualization;

/// <summary>Curves as SVG that a browser draws by itself.</summary>
internal static class CurveChart
{
    private const int Plot = 434, Left = 56, Least = 280, Top = 30, Bottom = 40, Line = 18, KeyRoom = 44;

    // Okabe and Ito's, told apart with any colour vision.
    private static readonly string[] Colors = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];

    /// <summary>
    /// The first point stands for step <paramref name="first"/>, each further one for <paramref name="every"/> steps more.
    /// </summary>
    public static string Svg(
        string title, string axis, IReadOnlyList<(string Name, IReadOnlyList<double> Values)> curves, long first = 1,
        long every = 1)
    {
        double[] finite = [.. curves.SelectMany(curve => curve.Values).Where(IsDrawn)];
        if (finite.Length == 0) throw new ArgumentException($"The curves '{title}' hold no number.", nameof(curves));
        int points = curves.Max(curve => curve.Values.Count);
        double step = AxisStep(finite.Min(), finite.Max());
        double low = Math.Floor(finite.Min() / step) * step;
        int lines = Math.Max(1, (int)Math.Ceiling((finite.Max() - low) / step));
        double high = low + (lines * step);

        // The words beside the curves may need more room than most do; the curves keep theirs.
        int right = Math.Max(150, KeyRoom + (7 * curves.Max(curve => curve.Name.Length)));
        int width = Left + Plot + right, height = Math.Max(Least, Top + Bottom + (Line * curves.Count));
        StringBuilder svg = new();
        svg.Append(
            CultureInfo.InvariantCulture,
            $"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" " +
            $"font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\" role=\"img\">");
        svg.Append(
            CultureInfo.InvariantCulture,
            $"<text x=\"{Left}\" y=\"16\" font-size=\"14\" font-weight=\"bold\">{HtmlReport.Escape(title)}</text>");
        for (int line = 0; line <= lines; line++)
        {
            double y = low + (line * step);
            svg.Append(
                CultureInfo.InvariantCulture,
                $"<path d=\"M{Left} {Y(y):0.0}H{Left + Plot}\" stroke=\"#ddd\"/><text x=\"{Left - 8}\" y=\"{Y(y) + 4:0.0}\" " +
                $"text-anchor=\"end\">{Label(y, step)}</text>");
        }

        int apart = Math.Max(1, (int)Step(points - 1, 8));
        for (int i = 0; i < points; i++)
        {
            if (i != 0 && (i + 1) % apart != 0) continue;
            svg.Append(
                CultureInfo.InvariantCulture,
                $"<text x=\"{X(i):0.0}\" y=\"{height - Bottom + 18}\" text-anchor=\"middle\">{first + (i * every)}</text>");
        }

        svg.Append(CultureInfo.InvariantCulture, $"<path d=\"M{Left} {height - Bottom}H{Left + Plot}\" stroke=\"#222\"/>");
        svg.Append(
            CultureInfo.InvariantCulture,
            $"<text x=\"{Left + (Plot / 2)}\" y=\"{height - 6}\" text-anchor=\"middle\">{HtmlReport.Escape(axis)}</text>");
        for (int c = 0; c < curves.Count; c++) Curve(c);
        return svg.Append("</svg>").ToString();

        void Curve(int c)
        {
            string color = Colors[c % Colors.Length];
            StringBuilder path = new();
            bool pen = false;
            for (int i = 0; i < curves[c].Values.Count; i++)
            {
                double value = curves[c].Values[i];
                if (!IsDrawn(value))
                {
                    pen = false;
                    continue;
                }

                path.Append(CultureInfo.InvariantCulture, $"{(pen ? 'L' : 'M')}{X(i):0.0} {Y(value):0.0}");
                pen = true;
                if (points <= 40)
                {
                    svg.Append(
                        CultureInfo.InvariantCulture,
                        $"<circle cx=\"{X(i):0.0}\" cy=\"{Y(value):0.0}\" r=\"2.5\" fill=\"{color}\"/>");
                }
            }

            // The colours come round again, dashed.
            string dashes = c < Colors.Length ? "" : " stroke-dasharray=\"5 3\"";
            svg.Append(
                CultureInfo.InvariantCulture,
                $"<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" stroke-linejoin=\"round\"{dashes}/>");
            int key = Top + 8 + (c * Line);
            svg.Append(
                CultureInfo.InvariantCulture,
                $"<path d=\"M{Left + Plot + 12} {key}h20\" stroke=\"{color}\" stroke-width=\"2\"{dashes}/><text " +
                $"x=\"{Left + Plot + 38}\" y=\"{key + 4}\">{HtmlReport.Escape(curves[c].Name)}</text>");
        }

        double X(int i) => Left + (Plot * (points == 1 ? 0.5 : (double)i / (points - 1)));

        double Y(double value) => height - Bottom - ((height - Bottom - Top) * (value - low) / (high - low));
    }

    /// <summary>Numbers whose differences are numbers, too.</summary>
    private static bool IsDrawn(double value) => Math.Abs(value) < 1e300;

    /// <summary>
    /// About five steps; values that differ by rounding alone are one value, and the steps about it are those of its size.
    /// </summary>
    private static double AxisStep(double least, double greatest)
    {
        double size = Math.Max(Math.Abs(least), Math.Abs(greatest)), range = greatest - least;
        if (range > size * 1e-9) return Step(range, 5);
        return size < 1e6 ? 1 : Step(size, 5);
    }

    /// <summary>1, 2 or 5 times a power of ten, so that a range has about so many steps.</summary>
    internal static double Step(double range, int steps)
    {
        if (!(range > 0)) return 1;
        double rough = range / steps, power = Math.Pow(10, Math.Floor(Math.Log10(rough))), share = rough / power;
        return power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
    }

    private static string Label(double value, double step)
    {
        int digits = Math.Clamp((int)Math.Ceiling(-Math.Log10(step) - 1e-9), 0, 9);
        double clean = Math.Abs(value) < step / 1e6 ? 0 : value;
        return clean.ToString("F" + digits.ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);
    }
}
