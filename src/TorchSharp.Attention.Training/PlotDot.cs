namespace TorchSharp.Attention.Training;

/// <summary>A filled circle with a white rim.</summary>
internal sealed record PlotDot(double X, double Y, double Radius, string Colour) : PlotMark;
