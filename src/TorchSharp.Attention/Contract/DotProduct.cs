using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Scaled dot-product attention as the context modules use it: fused for the context, materialised for the weights.
/// </summary>
internal static class DotProduct
{
    private static readonly Scalar Masked = double.NegativeInfinity.ToScalar();
    private static readonly Scalar Zero = 0.0.ToScalar();

    /// <summary>
    /// softmax(scale · q kᵀ + bias) v, without ever holding the weights, unless <paramref name="bias"/> is learnt or weights are
    /// dropped: libtorch has no fused form of those.
    /// </summary>
    /// <param name="query">(N, heads, L, d).</param>
    /// <param name="key">(N, heads, S, d).</param>
    /// <param name="value">(N, heads, S, e).</param>
    /// <param name="bias">Broadcasts to (N, heads, L, S); null for none.</param>
    /// <param name="scale">Null for 1 / √d.</param>
    /// <param name="dropout">Probability of dropping a weight.</param>
    public static Tensor Context(
        Tensor query, Tensor key, Tensor value, Tensor? bias = null, double? scale = null, double dropout = 0)
    {
        double factor = scale ?? 1 / Math.Sqrt(query.size(-1));
        long keyWidth = query.size(-1), valueWidth = value.size(-1), width = Math.Max(keyWidth, valueWidth);

        // The fused operation asks for one width and for heads whose channels lie side by side. Otherwise it silently takes the
        // slow form, which holds several L × S matrices. Zeros change neither a logit nor a sum.
        bool fusible = dropout == 0 && bias is not { requires_grad: true };
        if (fusible && keyWidth != valueWidth)
        {
            (query, key, value) = (Widened(query, width), Widened(key, width), Widened(value, width));
        }

        // It divides by √d itself.
        double own = factor * Math.Sqrt(query.size(-1));
        if (Math.Abs(own - 1) > 1e-15) query = Times(query, own);
        Tensor gathered = nn.functional.scaled_dot_product_attention(
            Dense(query), Dense(key), Dense(value), bias!, dropout, is_casual: false);
        return gathered.size(-1) == valueWidth ? gathered : gathered.narrow(-1, 0, valueWidth);
    }

    /// <summary>softmax(scale · q kᵀ + bias), (…, L, S).</summary>
    /// <inheritdoc cref="Context"/>
    public static Tensor Weights(Tensor query, Tensor key, Tensor? bias = null, double? scale = null)
    {
        Tensor logits = Times(query, scale ?? 1 / Math.Sqrt(query.size(-1))).matmul(key.transpose(-2, -1));
        return (bias is null ? logits : logits.Plus(bias)).softmax(-1);
    }

    /// <summary>
    /// A 1×1 projection of a map, (N, outputs, H, W), with the channels of a position side by side, as <see cref="Heads"/>
    /// and the fused operation want them: of a contiguous map a matrix product writes them so at once, where a
    /// convolution's result would be copied.
    /// </summary>
    public static Tensor Project(Conv2d projection, Tensor map)
    {
        // Sixteen bits would be rounded once more before the bias; of another type than the weights, a
        // convolution's message is the clearer.
        Tensor weight = projection.weight!;
        bool exact = map.dtype is ScalarType.Float32 or ScalarType.Float64 && map.dtype == weight.dtype;
        if (!exact || !map.is_contiguous() || Hooks.Any(projection)) return projection.call(map);
        long samples = map.size(0), outputs = weight.size(0);
        Tensor rows = NormCalls.Flat(map).flatten(2).transpose(1, 2), product;
        if (is_grad_enabled() && (map.requires_grad || weight.requires_grad))
        {
            // One product over the batch, of a copy of the map: the gradient of a batch of products would hold the weights once
            // per sample.
            product = nn.functional.linear(rows.contiguous(), weight.view(outputs, -1), projection.bias);
        }
        else
        {
            product = rows.bmm(weight.view(outputs, -1).t().unsqueeze(0).expand(samples, -1, -1));
            if (projection.bias is { } bias) product.Plus_(bias);
        }

        return product.transpose(1, 2).view(samples, outputs, map.size(2), map.size(3));
    }

    /// <summary>
    /// The parts of a projected map, (N, parts · heads · d, H, W), as (N, heads, L, d) each, channels side by side.
    /// </summary>
    public static Tensor[] Heads(Tensor projected, int parts = 1, int heads = 1)
    {
        long n = projected.size(
            0), positions = projected.size(2) * projected.size(3), width = projected.size(1) / (parts * heads);
        return projected.permute(0, 2, 3, 1).reshape(n, positions, parts, heads, width).permute(2, 0, 3, 1, 4).unbind(0);
    }

    /// <summary>The way back: (N, heads, L, d) as a map (N, heads · d, H, W).</summary>
    public static Tensor Map(Tensor gathered, long height, long width)
        => gathered.transpose(1, 2).reshape(gathered.size(0), height, width, gathered.size(1) * gathered.size(3)).permute(
            0, 3, 1, 2);

    /// <summary>
    /// A bias that hides keys, in the parts that it and what it gathered need: a row without any key to see is left open, so that
    /// no softmax divides zero by zero, neither here nor in a gradient, and is to be emptied by <see cref="Emptied"/>.
    /// </summary>
    /// <param name="bias">−∞ where a query does not see a key.</param>
    public static (Tensor Bias, Tensor Empty) Open(Tensor bias)
    {
        Tensor empty = bias.eq(Masked).all(-1, keepdim: true);
        return (bias.masked_fill(empty, Zero), empty);
    }

    /// <summary>Zero for queries that see no key.</summary>
    /// <param name="rows">What queries gathered, or their weights, (N, heads, L, …).</param>
    /// <param name="empty">Of <see cref="Open"/>; null where nothing is hidden.</param>
    public static Tensor Emptied(Tensor rows, Tensor? empty) => empty is null ? rows : rows.masked_fill(empty, Zero);

    /// <summary>(N, 1, 1, S): −∞ for keys that are padding; or, given numbers, those.</summary>
    /// <param name="padding">(N, S).</param>
    /// <param name="type">Type of the logits.</param>
    public static Tensor Padding(Tensor padding, ScalarType type) => Hidden(padding, type).unsqueeze(1).unsqueeze(1);

    /// <summary>A boolean mask, true where hidden, as what to add to the logits; numbers as they are.</summary>
    public static Tensor Hidden(Tensor mask, ScalarType type) => mask.dtype == ScalarType.Bool
        ? zeros(mask.shape, dtype: type, device: mask.device).masked_fill(mask, Masked)
        : mask.to_type(type);

    /// <summary>Refuses a padding mask that is not (N, S), boolean or floating point.</summary>
    public static void CheckPadding(Tensor keyPaddingMask, long samples, long keys, string module)
    {
        Check.Alive(keyPaddingMask, module);
        if ((keyPaddingMask.dtype == ScalarType.Bool || keyPaddingMask.is_floating_point())
            && keyPaddingMask.shape.AsSpan().SequenceEqual([samples, keys]))
        {
            return;
        }

        throw new ArgumentException(
            $"{nameof(keyPaddingMask)} is {keyPaddingMask.dtype} {Check.Shape(keyPaddingMask)}; " +
            $"it must be Bool or floating point, ({samples}, {keys}).",
            nameof(keyPaddingMask));
    }

    /// <summary>The functions of <see cref="Context"/>; returns the number of values that all queries gather.</summary>
    /// <param name="count">Adds them up.</param>
    /// <param name="rows">Batch times heads.</param>
    /// <param name="queries">L.</param>
    /// <param name="keys">S.</param>
    /// <param name="keyWidth">d.</param>
    /// <param name="valueWidth">e.</param>
    /// <param name="scale">Null for 1 / √d.</param>
    /// <param name="bias">Number of the bias' values.</param>
    /// <param name="dense">
    /// Whether the channels of queries, keys and values lie side by side; otherwise they are laid out so.
    /// </param>
    public static long CountContext(
        FunctionCount count, long rows, long queries, long keys, long keyWidth, long valueWidth, double? scale = null,
        long bias = 0, bool dense = false)
    {
        long width = Math.Max(keyWidth, valueWidth), query = rows * queries * width, key = rows * keys * width;
        if (Math.Abs(((scale ?? 1 / Math.Sqrt(keyWidth)) * Math.Sqrt(width)) - 1) > 1e-15) count.Map(query);
        Laid(rows * queries * keyWidth, query, keyWidth);
        Laid(rows * keys * keyWidth, key, keyWidth);
        Laid(rows * keys * valueWidth, key, valueWidth);

        // Fused, the logits are computed, but never held.
        long logits = rows * queries * keys;
        count.Add((bias > 0 ? 4 : 3) * logits, (2 * query) + (2 * key) + bias, query);
        return rows * queries * valueWidth;

        void Laid(long from, long to, long own)
        {
            if (own < width) count.Pad(from, to);
            else if (!dense) count.Copy(to);
        }
    }

    /// <summary>The functions of <see cref="Map"/>: several heads are laid out side by side.</summary>
    public static void CountMap(FunctionCount count, long values, long heads)
    {
        if (heads > 1) count.Copy(values);
    }

    private static Tensor Widened(Tensor tensor, long width)
        => tensor.size(-1) == width ? tensor : nn.functional.pad(tensor, [0, width - tensor.size(-1)]);

    private static Tensor Dense(Tensor tensor) => tensor.stride(-1) == 1 ? tensor : tensor.contiguous();

    private static Tensor Times(Tensor tensor, double factor)
    {
        if (factor == 1) return tensor;
        using Scalar scalar = factor.ToScalar();
        return tensor.mul(scalar);
    }
}
