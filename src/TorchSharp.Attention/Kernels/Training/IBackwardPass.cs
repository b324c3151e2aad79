namespace TorchSharp.Attention.Kernels;

/// <summary>A pass whose backward hands something from step to step.</summary>
internal interface IBackwardPass
{
    /// <summary>Disposes it.</summary>
    void Forget();
}
