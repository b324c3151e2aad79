using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Scaled dot-product attention as the context modules use it: fused for the context, materialised for the weights.</summary>
internal static class DotProduct
{
    /// <summary>softmax(scale · q kᵀ + bias) v, fused where libtorch can.</summary>
    /// <param name="query">(…, L, d).</param>
    /// <param name="key">(…, S, d).</param>
    /// <param name="value">(…, S, e).</param>
    /// <param name="bias">Broadcasts to (…, L, S); null for none.</param>
    /// <param name="scale">Null for 1 / √d.</param>
    /// <param name="dropout">Probability of dropping a weight.</param>
    public static Tensor Context(Tensor query, Tensor key, Tensor value, Tensor? bias = null, double? scale = null, double dropout = 0)
    {
        // The fused operation divides by √d itself.
        if (scale is double factor) query = Times(query, factor * Math.Sqrt(query.size(-1)));
        return nn.functional.scaled_dot_product_attention(query, key, value, bias!, dropout, is_casual: false);
    }

    /// <summary>softmax(scale · q kᵀ + bias), (…, L, S).</summary>
    /// <inheritdoc cref="Context"/>
    public static Tensor Weights(Tensor query, Tensor key, Tensor? bias = null, double? scale = null)
    {
        Tensor logits = Times(query, scale ?? 1 / Math.Sqrt(query.size(-1))).matmul(key.transpose(-2, -1));
        return (bias is null ? logits : logits.add(bias)).softmax(-1);
    }

    private static Tensor Times(Tensor tensor, double factor)
    {
        if (factor == 1) return tensor;
        using Scalar scalar = factor.ToScalar();
        return tensor.mul(scalar);
    }
}
