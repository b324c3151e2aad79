namespace TorchSharp.Attention.Onnx;

/// <summary>Writes a ConvNeXt.</summary>
internal sealed class ConvNeXtEmitter : BackboneEmitter<ConvNeXt>
{
    protected override OnnxEmitters AddBlocks(OnnxEmitters emitters) => emitters
        .With<CnBlock>(Write)
        .With<LayerNorm2d>((context, module, x) => ChannelsFirst(context, context.Node(
            "LayerNormalization", [ChannelsLast(context, x), context.Parameter("weight"), context.Parameter("bias")],
            [x[0], x[2], x[3], x[1]], ("axis", -1L), ("epsilon", module.Epsilon))));

    protected override List<OnnxValue> Pyramid(
        OnnxContext context, ConvNeXt network, OnnxValue image, Func<int, OnnxValue, OnnxValue> refine)
    {
        OnnxValue map = image;
        List<OnnxValue> maps = [];
        for (int stage = 0; stage < network.Options.Blocks.Count; stage++)
        {
            map = context.Emit($"features.{(2 * stage) + 1}", context.Emit($"features.{2 * stage}", map));
            map = context.EmitOptional($"stage{stage + 1}_attn", map);
            maps.Add(map = refine(stage, map));
        }

        return maps;
    }

    protected override OnnxValue Logits(OnnxContext context, ConvNeXt network, OnnxValue map)
        => context.Emit("classifier", context.Reduce("ReduceMean", map, [2, 3]));

    private static OnnxValue Write(OnnxContext context, CnBlock module, OnnxValue input)
    {
        OnnxValue x = context.EmitOptional("attn_before", input);
        OnnxValue y = context.EmitOptional("attn_depthwise", context.Emit("block.0", x));
        y = context.Emit("block.3", context.Emit("block.2", ChannelsLast(context, y)));
        y = ChannelsFirst(context, context.Emit("block.5", context.Gelu(y)));
        y = context.Mul(context.EmitOptional("attn", y), context.Parameter("layer_scale"));
        return context.EmitOptional("attn_after", context.Add(y, x));
    }

    private static OnnxValue ChannelsLast(OnnxContext context, OnnxValue map) => context.Transpose(map, 0, 2, 3, 1);

    private static OnnxValue ChannelsFirst(OnnxContext context, OnnxValue map) => context.Transpose(map, 0, 3, 1, 2);
}
