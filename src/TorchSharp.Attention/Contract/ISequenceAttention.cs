using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>An attention of the library that reads a sequence, so that no plan can place it.</summary>
internal interface ISequenceAttention
{
    /// <summary>Whether a module is an attention of the library, of maps or of sequences.</summary>
    static bool IsAttention(nn.Module module) => module is IAttentionModule or ISequenceAttention;
}
