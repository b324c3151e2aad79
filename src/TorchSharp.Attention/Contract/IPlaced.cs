namespace TorchSharp.Attention;

/// <summary>A module that knows where its parameters are.</summary>
internal interface IPlaced
{
    /// <summary>Type and device of the parameters.</summary>
    ParameterPlace Place { get; }
}
