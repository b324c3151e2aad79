namespace TorchSharp.Attention.Onnx;

/// <summary>Attentions over channels.</summary>
internal static class ChannelEmitters
{
    public static OnnxEmitters WithChannelAttentions(this OnnxEmitters emitters) => emitters
        .WithGate<SqueezeExcitation>(Gate)
        .WithGate<EffectiveSqueezeExcitation>(Gate)
        .WithGate<ChannelAttention>(Gate)
        .WithGate<EfficientChannelAttention>(Gate)
        .WithGate<GatedChannelTransformation>(Gate)
        .WithGate<StyleRecalibration>(Gate);

    private static OnnxValue Gate(OnnxContext context, SqueezeExcitation module, OnnxValue x)
    {
        SqueezeExcitationOptions options = (SqueezeExcitationOptions)module.Options;
        OnnxValue hidden = context.EmitOptional("bn", context.Emit("fc1", context.Squeezed(x, options.MaxPool)));
        return context.Activate(options.Gate, context.Emit("fc2", context.Activate(options.Activation, hidden)));
    }

    private static OnnxValue Gate(OnnxContext context, EffectiveSqueezeExcitation module, OnnxValue x)
    {
        EffectiveSqueezeExcitationOptions options = (EffectiveSqueezeExcitationOptions)module.Options;
        return context.Activate(options.Gate, context.Emit("fc", context.Squeezed(x, options.MaxPool)));
    }

    private static OnnxValue Gate(OnnxContext context, ChannelAttention module, OnnxValue x)
    {
        ChannelAttentionOptions options = (ChannelAttentionOptions)module.Options;
        return context.Activate(options.Gate, context.Add(Layers(context.Mean(x, 2, 3)), Layers(context.Max(x, 2, 3))));

        OnnxValue Layers(OnnxValue pooled)
            => context.Emit("fc2", context.Activate(options.Activation, context.Emit("fc1", pooled)));
    }

    private static OnnxValue Gate(OnnxContext context, EfficientChannelAttention module, OnnxValue x)
    {
        EfficientChannelAttentionOptions options = (EfficientChannelAttentionOptions)module.Options;
        OnnxValue squeezed = context.Reshape(context.Mean(x, 2, 3), x[0], 1, x[1]);
        if (options.Mlp) squeezed = context.Activate(options.Activation, context.Emit("conv", squeezed));
        long side = options.Padding == ChannelPadding.Circular ? module.KernelSize / 2 : 0;
        squeezed = context.Pad(squeezed, "wrap", [0, 0, side], [0, 0, side]);
        return context.Reshape(
            context.Activate(options.Gate, context.Emit(options.Mlp ? "conv2" : "conv", squeezed)), x[0], x[1], 1, 1);
    }

    private static OnnxValue Gate(OnnxContext context, GatedChannelTransformation module, OnnxValue x)
    {
        GatedChannelTransformationOptions options = (GatedChannelTransformationOptions)module.Options;
        bool squares = options.Norm == GctNorm.L2;
        OnnxValue size = squares ? Root(context.Reduce("ReduceSumSquare", x, [2, 3])) : context.Reduce("ReduceL1", x, [2, 3]);
        OnnxValue embedding = context.Mul(size, context.Parameter("embedding"));
        OnnxValue norm = squares
            ? Root(context.Mean(context.Mul(embedding, embedding), 1))
            : context.Add(context.Mean(context.Elementwise("Abs", embedding), 1), options.Epsilon);
        OnnxValue logits = context.Add(
            context.Mul(embedding, context.Div(context.Parameter("gamma"), norm)), context.Parameter("beta"));
        return context.Add(context.Elementwise("Tanh", logits), 1);

        OnnxValue Root(OnnxValue value) => context.Elementwise("Sqrt", context.Add(value, options.Epsilon));
    }

    private static OnnxValue Gate(OnnxContext context, StyleRecalibration module, OnnxValue x)
    {
        StyleRecalibrationOptions options = (StyleRecalibrationOptions)module.Options;
        OnnxValue mean = context.Mean(x, 2, 3), centred = context.Sub(x, mean), squares = context.Mul(centred, centred);
        OnnxValue variance = options.Unbiased
            ? context.Div(context.Sum(squares, 2, 3), context.PositionsLessOne(x))
            : context.Mean(squares, 2, 3);
        OnnxValue deviation = context.Elementwise("Sqrt", context.Add(variance, 1e-5));
        OnnxValue weights = context.Reshape(context.Parameter("cfc"), 1, x[1], 2, 1);
        OnnxValue style = context.Add(
            context.Mul(mean, context.Slice(weights, 2, 0, 1)), context.Mul(deviation, context.Slice(weights, 2, 1, 2)));
        return context.Activate(options.Gate, context.Emit("bn", style));
    }
}
