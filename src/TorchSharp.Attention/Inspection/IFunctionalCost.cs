using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Implemented by modules whose forward has matrix products that are not modules of their own, such as q kᵀ of self-attention, so
/// that <see cref="ModelCost"/> counts them.
/// </summary>
public interface IFunctionalCost
{
    /// <summary>
    /// Multiply-accumulates of those products for an input, the batch included; child modules count themselves.
    /// </summary>
    /// <param name="input">The module's input; only its shape matters.</param>
    long MultiplyAccumulates(Tensor input);
}
