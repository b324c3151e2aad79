using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// For modules whose <c>forward</c> has matrix products that are not modules, such as q kᵀ of self-attention.
/// <see cref="ModelCost"/> then counts these products.
/// </summary>
public interface IFunctionalCost
{
    /// <summary>
    /// Number of multiply-accumulates of the products in <c>forward</c> that are not modules, for an input including its batch.
    /// Child modules must not be included.
    /// </summary>
    /// <param name="input">The module's input; only its shape matters.</param>
    long MultiplyAccumulates(Tensor input);
}
