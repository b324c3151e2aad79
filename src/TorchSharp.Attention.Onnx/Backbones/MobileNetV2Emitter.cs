namespace TorchSharp.Attention.Onnx;

/// <summary>Writes a MobileNetV2.</summary>
internal sealed class MobileNetV2Emitter : BackboneEmitter<MobileNetV2>
{
    protected override OnnxEmitters AddBlocks(OnnxEmitters emitters) => emitters.With<InvertedResidual>(Write);

    protected override List<OnnxValue> Pyramid(
        OnnxContext context, MobileNetV2 network, OnnxValue image, Func<int, OnnxValue, OnnxValue> refine)
    {
        OnnxValue map = context.Emit("features.0", image);
        List<OnnxValue> maps = [];
        int feature = 1;
        foreach (MobileNetV2Block block in MobileNetV2Block.All(network.Options))
        {
            map = context.Emit($"features.{feature++}", map);
            if (block.Index < block.InStage - 1) continue;
            map = context.EmitOptional($"stage{block.Stage}_attn", map);
            if (Array.IndexOf(MobileNetV2.PyramidStages, block.Stage) is >= 0 and int level) maps.Add(map = refine(level, map));
        }

        return maps;
    }

    protected override OnnxValue Logits(OnnxContext context, MobileNetV2 network, OnnxValue map)
        => context.Emit(
            "classifier", Pooled(context, context.Emit($"features.{MobileNetV2Block.All(network.Options).Count() + 1}", map)));

    private static OnnxValue Write(OnnxContext context, InvertedResidual module, OnnxValue input)
    {
        // Attentions inserted around a layer are in the list, too, under other names.
        string[] layers = [
            .. context.Child("conv")!.named_children().Select(child => child.name).Where(name => name.All(char.IsAsciiDigit))];
        int depthwise = module.Shape.Expands ? 1 : 0;
        OnnxValue x = context.EmitOptional("attn_before", input), y = x;
        if (module.Shape.Expands) y = context.EmitOptional("attn_expand", context.Emit("conv.0", y));
        y = context.EmitOptional("attn_depthwise", context.Emit($"conv.{depthwise}", y));
        for (int i = depthwise + 1; i < layers.Length; i++) y = context.Emit($"conv.{i}", y);
        y = context.EmitOptional("attn", y);
        if (module.Shape.HasShortcut) y = context.Add(y, context.EmitOptional("attn_shortcut", x));
        return context.EmitOptional("attn_after", y);
    }
}
