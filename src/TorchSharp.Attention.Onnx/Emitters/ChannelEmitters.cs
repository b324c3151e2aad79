namespace TorchSharp.Attention.Onnx;

/// <summary>Attentions over channels.</summary>
internal static class ChannelEmitters
{
    public static OnnxEmitters WithChannelAttentions(this OnnxEmitters emitters) => emitters
        .WithGate<SqueezeExcitation>(Gate);

    private static OnnxValue Gate(OnnxContext context, SqueezeExcitation module, OnnxValue x)
    {
        SqueezeExcitationOptions options = (SqueezeExcitationOptions)module.Options;
        OnnxValue squeezed = context.Mean(x, 2, 3);
        if (options.MaxPool) squeezed = context.Mul(context.Add(squeezed, context.Max(x, 2, 3)), 0.5);
        OnnxValue hidden = context.Call("fc1", squeezed);
        if (options.Norm) hidden = context.Call("bn", hidden);
        return context.Activate(options.Gate, context.Call("fc2", context.Activate(options.Activation, hidden)));
    }
}
