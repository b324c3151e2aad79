namespace TorchSharp.Attention.Training;

/// <summary>A line of text on its baseline.</summary>
internal sealed record PlotText(
    double X, double Y, string Words, string Colour = "#222222", double Size = 13, PlotAnchor Anchor = PlotAnchor.Start,
    bool Bold = false, bool Upwards = false) : PlotMark;
