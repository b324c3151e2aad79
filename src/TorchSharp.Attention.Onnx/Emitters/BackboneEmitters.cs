namespace TorchSharp.Attention.Onnx;

/// <summary>The library's networks and their blocks.</summary>
internal static class BackboneEmitters
{
    public static OnnxEmitters WithBackbones(this OnnxEmitters emitters) => emitters
        .With<ResNet>((context, module, x) => context.Call("fc", context.Reduce("ReduceMean", Stages(context, module, x, (_, map) => map)[^1], [2, 3], keep: false)))
        .With<ResidualBlock>(Write);

    /// <summary>The pyramid of a ResNet, each map refined before the next stage reads it.</summary>
    private static List<OnnxValue> Stages(OnnxContext context, ResNet module, OnnxValue x, Func<int, OnnxValue, OnnxValue> refine)
    {
        OnnxValue map = refine(0, context.Relu(context.CallIfAny("bn1", context.Call("conv1", x))));
        List<OnnxValue> maps = [map];
        if (module.Options.Stem == ResNetStem.Standard) map = context.MaxPool(map, [3, 3], [2, 2], [1, 1]);
        for (int stage = 1; stage <= module.Options.Layers.Count; stage++)
        {
            map = context.CallIfAny($"layer{stage}_attn", context.Call($"layer{stage}", map));
            maps.Add(map = refine(stage, map));
        }

        return maps;
    }

    private static OnnxValue Write(OnnxContext context, ResidualBlock module, OnnxValue input)
    {
        bool bottleneck = context.Child("conv3") is not null;
        OnnxValue x = context.CallIfAny("attn_before", input);
        OnnxValue y = context.CallIfAny("attn_conv1", Convolved("conv1", "bn1", x, rectify: true));
        y = context.CallIfAny("attn_conv2", Convolved("conv2", "bn2", y, rectify: bottleneck));
        if (bottleneck) y = context.CallIfAny("bn3", context.Call("conv3", y));
        y = context.CallIfAny("attn", y);
        OnnxValue shortcut = context.CallIfAny("attn_shortcut", context.CallIfAny("downsample", x));
        return context.CallIfAny("attn_after", context.Relu(context.Add(y, shortcut)));

        OnnxValue Convolved(string convolution, string norm, OnnxValue map, bool rectify)
        {
            OnnxValue convolved = context.Call(convolution, map);
            if (context.Child(convolution) is BranchModule) return convolved; // It has a norm and an activation of its own.
            convolved = context.CallIfAny(norm, convolved);
            return rectify ? context.Relu(convolved) : convolved;
        }
    }
}
