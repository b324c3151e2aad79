namespace TorchSharp.Attention.Onnx;

/// <summary>Attentions that weigh competing convolutions.</summary>
internal static class BranchEmitters
{
    public static OnnxEmitters WithBranchAttentions(this OnnxEmitters emitters) => emitters
        .With<SelectiveKernel>(Write)
        .With<SplitAttention>(Write);

    private static OnnxValue Write(OnnxContext context, SelectiveKernel module, OnnxValue x)
    {
        SelectiveKernelOptions options = (SelectiveKernelOptions)module.Options;
        int count = options.KernelSizes.Count, share = options.PathChannels(module.Channels);
        OnnxValue[] branches =
            [.. Enumerable.Range(0, count).Select(i => context.Within("paths", () => context.Within($"{i}", () =>
        {
            OnnxValue input = options.SplitInput ? context.Slice(x, 1, i * share, (i + 1) * share) : x;
            return context.Activate(module.Convolution.Activation, context.Emit("bn", context.Emit("conv", input)));
        })))];
        OnnxValue squeezed = context.Mean(branches.Aggregate(context.Add), 2, 3);
        OnnxValue logits = context.Within(
            "attn", () => context.Emit("fc_select", context.Relu(context.Emit("bn", context.Emit("fc_reduce", squeezed)))));
        return Weighted(context, branches, context.Softmax(context.Reshape(logits, x[0], count, module.OutputChannels), 1));
    }

    private static OnnxValue Write(OnnxContext context, SplitAttention module, OnnxValue x)
    {
        SplitAttentionOptions options = (SplitAttentionOptions)module.Options;
        int radix = options.Radix, output = module.OutputChannels, groups = options.Cardinality;
        OnnxValue map = context.Activate(module.Convolution.Activation, context.EmitOptional("bn0", context.Emit("conv", x)));
        if (options.IsDepthwise(module.Convolution))
        {
            // The candidates of an input channel lie together; a split takes one of each.
            OnnxValue candidates = context.Reshape(map, map[0], module.Channels, radix, output / module.Channels, map[2], map[3]);
            map = context.Reshape(context.Transpose(candidates, 0, 2, 1, 3, 4, 5), map.Shape);
        }

        IReadOnlyList<OnnxValue> branches = context.Split(map, 1, [.. Enumerable.Repeat((long)output, radix)]);
        OnnxValue squeezed = context.Mean(branches.Aggregate(context.Add), 2, 3);
        OnnxValue logits = context.Emit("fc2", context.Relu(context.EmitOptional("bn1", context.Emit("fc1", squeezed))));
        if (radix == 1) return Weighted(context, branches, context.Reshape(context.Sigmoid(logits), x[0], 1, output));

        // The logits of a cardinal group lie together, one split after the other.
        OnnxValue splits = context.Softmax(
            context.Transpose(context.Reshape(logits, x[0], groups, radix, output / groups), 0, 2, 1, 3), 1);
        return Weighted(context, branches, context.Reshape(splits, x[0], radix, output));
    }

    /// <summary>Σ_m w_m · b_m, w of (N, M, C).</summary>
    private static OnnxValue Weighted(OnnxContext context, IReadOnlyList<OnnxValue> branches, OnnxValue weights)
    {
        context.Map(AttentionMapKind.Branch, weights);
        return branches.Select((branch, i) => context.Mul(
            branch, context.Reshape(context.Slice(weights, 1, i, i + 1), weights[0], weights[2], 1, 1))).Aggregate(context.Add);
    }
}
