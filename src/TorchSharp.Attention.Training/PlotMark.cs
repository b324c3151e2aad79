namespace TorchSharp.Attention.Training;

/// <summary>Something that a plot consists of, in pixels from the upper left corner; colours as #rrggbb.</summary>
internal abstract record PlotMark;

/// <summary>Which end of a text stands at its place.</summary>
internal enum PlotAnchor
{
    Start,
    Middle,
    End,
}
