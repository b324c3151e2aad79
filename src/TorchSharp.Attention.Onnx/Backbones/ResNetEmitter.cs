namespace TorchSharp.Attention.Onnx;

/// <summary>Writes a ResNet.</summary>
internal sealed class ResNetEmitter : BackboneEmitter<ResNet>
{
    protected override OnnxEmitters AddBlocks(OnnxEmitters emitters) => emitters.With<ResidualBlock>(Write);

    protected override List<OnnxValue> Pyramid(
        OnnxContext context, ResNet network, OnnxValue image, Func<int, OnnxValue, OnnxValue> refine)
    {
        OnnxValue map = refine(0, context.Relu(context.EmitOptional("bn1", context.Emit("conv1", image))));
        List<OnnxValue> maps = [map];
        if (network.Options.Stem == ResNetStem.Standard) map = context.MaxPool(map, [3, 3], [2, 2], [1, 1]);
        for (int stage = 1; stage <= network.Options.Layers.Count; stage++)
        {
            map = context.EmitOptional($"layer{stage}_attn", context.Emit($"layer{stage}", map));
            maps.Add(map = refine(stage, map));
        }

        return maps;
    }

    protected override OnnxValue Logits(OnnxContext context, ResNet network, OnnxValue map)
        => context.Emit("fc", Pooled(context, map));

    private static OnnxValue Write(OnnxContext context, ResidualBlock module, OnnxValue input)
    {
        bool bottleneck = context.Child("conv3") is not null;
        OnnxValue x = context.EmitOptional("attn_before", input);
        OnnxValue y = context.EmitOptional("attn_conv1", Convolved("conv1", "bn1", x, rectify: true));
        y = context.EmitOptional("attn_conv2", Convolved("conv2", "bn2", y, rectify: bottleneck));
        if (bottleneck) y = context.EmitOptional("bn3", context.Emit("conv3", y));
        y = context.EmitOptional("attn", y);
        OnnxValue shortcut = context.EmitOptional("attn_shortcut", context.EmitOptional("downsample", x));
        return context.EmitOptional("attn_after", context.Relu(context.Add(y, shortcut)));

        OnnxValue Convolved(string convolution, string norm, OnnxValue map, bool rectify)
        {
            OnnxValue convolved = context.Emit(convolution, map);
            if (context.Child(convolution) is BranchModule) return convolved; // It has a norm and an activation of its own.
            convolved = context.EmitOptional(norm, convolved);
            return rectify ? context.Relu(convolved) : convolved;
        }
    }
}
