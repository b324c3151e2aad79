using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Implemented by modules of the library whose forward calls functions, which hooks do not see: what they
/// cost. Child modules count themselves.
/// </summary>
internal interface ICountsFunctions
{
    /// <summary>Adds the functions of one call.</summary>
    /// <param name="count">Adds them up.</param>
    /// <param name="inputs">The module's inputs; only their shapes matter.</param>
    void Count(FunctionCount count, Tensor[] inputs);
}
