namespace TorchSharp.Attention.Onnx;

/// <summary>Attentions over positions.</summary>
internal static class SpatialEmitters
{
    public static OnnxEmitters WithSpatialAttentions(this OnnxEmitters emitters) => emitters
        .WithGate<SpatialAttention>(Gate)
        .WithGate<SeparableSpatialAttention>(Gate)
        .WithGate<MultiScaleSpatialAttention>(Gate)
        .WithGate<LargeKernelAttention>(Gate)
        .WithMultiple<AttentionGate>(Write);

    private static OnnxValue Gate(OnnxContext context, SpatialAttention module, OnnxValue x)
    {
        SpatialAttentionOptions options = (SpatialAttentionOptions)module.Options;
        OnnxValue mean = context.Mean(x, 1), maximum = context.Max(x, 1);
        OnnxValue maps = options.MapOrder switch
        {
            SpatialMapOrder.Average => context.Mul(context.Add(mean, maximum), 0.5),
            SpatialMapOrder.MaxMean => context.Concat(1, maximum, mean),
            _ => context.Concat(1, mean, maximum),
        };
        return context.Activate(options.Gate, ConvNorm(context, "conv", maps));
    }

    private static OnnxValue Gate(OnnxContext context, SeparableSpatialAttention module, OnnxValue x)
    {
        SeparableSpatialAttentionOptions options = (SeparableSpatialAttentionOptions)module.Options;
        OnnxValue logits = context.Emit(
            "conv_pw", context.Emit("conv_h", context.Emit("conv_v", context.Concat(1, context.Mean(x, 1), context.Max(x, 1)))));
        return context.Activate(options.Gate, context.EmitOptional("bn", logits));
    }

    private static OnnxValue Gate(OnnxContext context, MultiScaleSpatialAttention module, OnnxValue x)
    {
        MultiScaleSpatialAttentionOptions options = (MultiScaleSpatialAttentionOptions)module.Options;
        OnnxValue pooled = context.Concat(1, context.Mean(x, 1), context.Max(x, 1));
        OnnxValue[] scales = [.. Enumerable.Range(0, options.KernelSizes.Count).Select(
            i => context.Within("scales", () => ConvNorm(context, $"{i}", pooled)))];
        OnnxValue shares = context.Reshape(context.Softmax(context.Parameter("fusion"), 0), 1, scales.Length, 1, 1);
        return context.Sum(context.Mul(context.Activate(options.Gate, context.Concat(1, scales)), shares), 1);
    }

    private static OnnxValue Gate(OnnxContext context, LargeKernelAttention module, OnnxValue x)
    {
        foreach (string key in new[] { "conv0", "conv0h", "conv0v", "conv_spatial", "conv_spatial_h", "conv_spatial_v" })
        {
            x = context.EmitOptional(key, x);
        }

        return context.Emit("conv1", x);
    }

    private static IReadOnlyList<OnnxValue> Write(OnnxContext context, AttentionGate module, IReadOnlyList<OnnxValue> inputs)
    {
        if (inputs is not [OnnxValue x, OnnxValue guide])
        {
            throw context.Unsupported($"it was called with {inputs.Count} values and takes a map and a guide.");
        }

        if (!guide[2].Equals(x[2]) || !guide[3].Equals(x[3])) guide = context.Resize(guide, x[2], x[3], bilinear: true);
        OnnxValue hidden = context.Relu(context.Add(Projection("W_g", guide), Projection("W_x", x)));
        return [context.Refine(x, context.Sigmoid(Projection("psi", hidden)), context.Tensor("alpha"))];

        OnnxValue Projection(string key, OnnxValue map)
            => context.Within(key, () => context.EmitOptional("1", context.Emit("0", map)));
    }

    /// <summary>A child with a convolution and perhaps a norm.</summary>
    private static OnnxValue ConvNorm(OnnxContext context, string key, OnnxValue x)
        => context.Within(key, () => context.EmitOptional("bn", context.Emit("conv", x)));
}
