namespace TorchSharp.Attention.Onnx;

/// <summary>Writes an EfficientNet.</summary>
internal sealed class EfficientNetEmitter : BackboneEmitter<EfficientNet>
{
    protected override OnnxEmitters AddBlocks(OnnxEmitters emitters) => emitters.With<MbConv>(Write);

    protected override List<OnnxValue> Pyramid(
        OnnxContext context, EfficientNet network, OnnxValue image, Func<int, OnnxValue, OnnxValue> refine)
    {
        OnnxValue map = context.Emit("features.0", image);
        List<OnnxValue> maps = [];
        int[] ends = [.. network.Options.PyramidStages()];
        for (int stage = 1; stage <= network.Options.Stages.Count; stage++)
        {
            map = context.EmitOptional($"stage{stage}_attn", context.Emit($"features.{stage}", map));
            if (Array.IndexOf(ends, stage) is >= 0 and int level) maps.Add(map = refine(level, map));
        }

        return maps;
    }

    protected override OnnxValue Logits(OnnxContext context, EfficientNet network, OnnxValue map)
        => context.Emit("classifier", Pooled(context, context.Emit($"features.{network.Options.Stages.Count + 1}", map)));

    private static OnnxValue Write(OnnxContext context, MbConv module, OnnxValue input)
    {
        EfficientNetBlock shape = module.Shape;
        OnnxValue x = context.EmitOptional("attn_before", input), y = x;
        int key = 0;
        if (shape.Fused || shape.Expands) y = Layer(y);
        if (shape.Expands) y = context.EmitOptional("attn_expand", y);
        if (!shape.Fused)
        {
            y = Layer(y);
            y = context.EmitOptional($"block.{key++}", y);
        }

        if (shape.Expands || !shape.Fused) y = Layer(y);
        y = context.EmitOptional("attn", y);
        if (shape.HasShortcut) y = context.Add(y, context.EmitOptional("attn_shortcut", x));
        return context.EmitOptional("attn_after", y);

        OnnxValue Layer(OnnxValue map) => context.Emit($"block.{key++}", map);
    }
}
