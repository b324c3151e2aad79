namespace TorchSharp.Attention.Training;

/// <summary>A straight line.</summary>
internal sealed record PlotLine(
    double X0, double Y0, double X1, double Y1, string Colour, double Width = 1, double Opacity = 1, bool Dashed = false)
        : PlotMark;
