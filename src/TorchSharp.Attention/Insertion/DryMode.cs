namespace TorchSharp.Attention;

/// <summary>How a network is run to see what happens in it.</summary>
/// <param name="Training">In training mode; otherwise in evaluation mode.</param>
/// <param name="Gradients">With gradients.</param>
/// <param name="ExampleNeedsGradient">Whether a gradient is asked for the example.</param>
internal readonly record struct DryMode(bool Training = false, bool Gradients = false, bool ExampleNeedsGradient = false);
