namespace TorchSharp.Attention;

/// <summary>What every attention module of the library has, whatever its number of inputs.</summary>
public interface IAttentionModule
{
    /// <summary>Number of channels of the map that is refined.</summary>
    int Channels { get; }

    /// <summary>The settings that the module was built with.</summary>
    AttentionOptions Options { get; }

    /// <summary>Forgets the weights and starts afresh as <see cref="AttentionOptions.Initialization"/> says.</summary>
    void ResetParameters();
}
