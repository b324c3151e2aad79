using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>Writes every backbone, the U-Net and their shared parts.</summary>
internal static class UNetEmitter
{
    public static OnnxEmitters WithNetworks(this OnnxEmitters emitters)
        => BackboneEmitter.All.Aggregate(emitters, (all, backbone) => backbone.AddTo(all))
        .With<ConvNormActivation>((context, module, x) =>
        {
            OnnxValue map = context.EmitOptional("1", context.Emit("0", x));
            return module.Activation is { } activation ? context.Activate(activation, map) : map;
        })
        .With<UNet>(Write)
        .WithMultiple<GuidedSequence>(Write)
        .WithMultiple<UpSampling>(Write)
        .With<DoubleConvolution>((context, _, x) => Twice(context, Twice(context, x, 1), 2))
        .With<MergeConvolution>(
            (context, _, x) => context.Emit("act", context.InstanceNorm(context.Emit("conv", x), null, null, 1e-5)));

    private static OnnxValue Write(OnnxContext context, UNet module, OnnxValue image)
    {
        UNetOptions options = module.Options;
        IReadOnlyList<UNetLevel> levels = options.Levels().Levels;
        OnnxValue?[] skips = new OnnxValue?[levels.Count];
        OnnxValue map = image;
        if (context.Child("encoder") is Backbone backbone)
        {
            // While the encoder is written, it is the current module, so that this network's own children are called as objects.
            nn.Module?[] ends = [.. levels.Select((_, i) => context.Child($"encoder{i + 1}_attn"))];
            context.Within("encoder", () =>
            {
                List<OnnxValue> pyramid = BackboneEmitter.Pyramid(context, backbone, image, (feature, given) =>
                    levels.ToList().FindIndex(level => level.Feature == feature) is >= 0 and int i && ends[i] is { } end
                        ? context.Emit(end, given)
                        : given);
                for (int i = 0; i < skips.Length; i++) skips[i] = levels[i].Feature is int feature ? pyramid[feature] : null;
                return map = pyramid[^1];
            });
        }
        else
        {
            for (int i = 0; i < skips.Length; i++)
            {
                skips[i] = map = context.EmitOptional($"encoder{i + 1}_attn", context.Emit($"encoder{i + 1}", map));
                if (options.DownSampling == UNetDownSampling.MaxPool)
                {
                    map = context.MaxPool(map, [levels[i].Stride], [levels[i].Stride], [0]);
                }
            }

            map = context.Emit("bottleneck", map);
        }

        map = context.EmitOptional("bottleneck_attn", map);
        for (int i = skips.Length - 1; i >= 0; i--)
        {
            map = context.Emit(context.Child($"up{i + 1}")!, [map, skips[i] ?? image])[0];
            if (skips[i] is { } skip)
            {
                if (context.Child($"skip{i + 1}_attn") is { } gate) skip = context.Emit(gate, [skip, map])[0];
                map = context.EmitOptional($"concat{i + 1}_attn", context.Concat(1, skip, map));
            }

            map = context.EmitOptional($"decoder{i + 1}_attn", context.Emit($"decoder{i + 1}", map));
        }

        return context.Emit("head", map);
    }

    /// <summary>Attentions at a skip, one after the other; those of one input do not look at the guide.</summary>
    private static OnnxValue[] Write(OnnxContext context, GuidedSequence module, IReadOnlyList<OnnxValue> inputs)
    {
        OnnxValue map = inputs[0];
        foreach (nn.Module child in module.children())
        {
            map = child is GuidedAttentionModule ? context.Emit(child, [map, inputs[1]])[0] : context.Emit(child, map);
        }

        return [map];
    }

    /// <summary>The deeper map in the size of another.</summary>
    private static OnnxValue[] Write(OnnxContext context, UpSampling module, IReadOnlyList<OnnxValue> inputs)
    {
        OnnxValue map = context.Emit("conv", inputs[0]), like = inputs[1];
        if (module.Kind == UNetUpSampling.Bilinear)
        {
            OnnxLength height = module.IsFitted ? like[2] : map[2] * module.Stride, width = module.IsFitted
                ? like[3]
                : map[3] * module.Stride;
            return [context.Resize(map, height, width, bilinear: true)];
        }

        if (module.Kind == UNetUpSampling.TransposedBlock) map = context.Relu(context.EmitOptional("norm", map));
        return [module.IsFitted ? context.FittedTo(map, like) : map];
    }

    private static OnnxValue Twice(OnnxContext context, OnnxValue x, int number)
        => context.Relu(context.EmitOptional($"norm{number}", context.Emit($"conv{number}", x)));
}
