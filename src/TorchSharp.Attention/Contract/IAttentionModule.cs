namespace TorchSharp.Attention;

/// <summary>The members that every attention module of the library has, regardless of its number of inputs.</summary>
public interface IAttentionModule
{
    /// <summary>Number of channels of the map that is refined.</summary>
    int Channels { get; }

    /// <summary>The settings that the module was built with.</summary>
    AttentionOptions Options { get; }

    /// <summary>Initializes all weights again, as <see cref="AttentionOptions.Initialization"/> says.</summary>
    void ResetParameters();
}
