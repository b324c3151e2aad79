using TorchSharp.Modules;

namespace TorchSharp.Attention;

/// <summary>
/// A part of a network that folds norms into its convolutions for inference, and can run one that cannot be folded.
/// </summary>
internal interface IKeepsNorms
{
    /// <summary>Registers and runs a norm that the fused part was built without.</summary>
    /// <param name="key">The norm's key in the part that is not fused.</param>
    /// <param name="norm">The norm, in evaluation mode.</param>
    void Keep(string key, BatchNorm2d norm);
}
