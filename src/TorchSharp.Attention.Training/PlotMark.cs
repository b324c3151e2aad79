namespace TorchSharp.Attention.Training;

/// <summary>Something that a plot consists of, in pixels from the upper left corner; colours as #rrggbb.</summary>
internal abstract record PlotMark;

/// <summary>A straight line.</summary>
internal sealed record PlotLine(
    double X0, double Y0, double X1, double Y1, string Colour, double Width = 1, double Opacity = 1, bool Dashed = false) : PlotMark;

/// <summary>A filled circle with a white rim.</summary>
internal sealed record PlotDot(double X, double Y, double Radius, string Colour) : PlotMark;

/// <summary>A line of text on its baseline.</summary>
internal sealed record PlotText(
    double X, double Y, string Words, string Colour = "#222222", double Size = 13, PlotAnchor Anchor = PlotAnchor.Start, bool Bold = false, bool Upwards = false) : PlotMark;

/// <summary>Which end of a text stands at its place.</summary>
internal enum PlotAnchor
{
    Start,
    Middle,
    End,
}
