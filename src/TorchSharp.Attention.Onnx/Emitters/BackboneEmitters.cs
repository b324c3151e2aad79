using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>The library's networks and their blocks.</summary>
internal static class BackboneEmitters
{
    public static OnnxEmitters WithBackbones(this OnnxEmitters emitters) => emitters
        .With<ResNet>((context, module, x) => context.Emit("fc", Pooled(context, Pyramid(context, module, x, (_, map) => map)[^1])))
        .With<MobileNetV2>(Write)
        .With<UNet>(Write)
        .With<ResidualBlock>(Write)
        .WithMultiple<GuidedSequence>(Write)
        .WithMultiple<UpSampling>(Write)
        .With<DoubleConvolution>((context, _, x) => Twice(context, Twice(context, x, 1), 2))
        .With<MergeConvolution>((context, _, x) => context.Emit("act", context.InstanceNorm(context.Emit("conv", x), null, null, 1e-5)));

    /// <summary>The pyramid of a network, each map refined before the next level reads it.</summary>
    private static List<OnnxValue> Pyramid(OnnxContext context, FeatureNetwork network, OnnxValue x, Func<int, OnnxValue, OnnxValue> refine) => network switch
    {
        ResNet module => Pyramid(context, module, x, refine),
        MobileNetV2 module => Pyramid(context, module, x, refine),
        _ => throw context.Unsupported($"{network.GetName()} is unknown as an encoder."),
    };

    private static List<OnnxValue> Pyramid(OnnxContext context, ResNet module, OnnxValue x, Func<int, OnnxValue, OnnxValue> refine)
    {
        OnnxValue map = refine(0, context.Relu(context.EmitOptional("bn1", context.Emit("conv1", x))));
        List<OnnxValue> maps = [map];
        if (module.Options.Stem == ResNetStem.Standard) map = context.MaxPool(map, [3, 3], [2, 2], [1, 1]);
        for (int stage = 1; stage <= module.Options.Layers.Count; stage++)
        {
            map = context.EmitOptional($"layer{stage}_attn", context.Emit($"layer{stage}", map));
            maps.Add(map = refine(stage, map));
        }

        return maps;
    }

    private static List<OnnxValue> Pyramid(OnnxContext context, MobileNetV2 module, OnnxValue x, Func<int, OnnxValue, OnnxValue> refine)
    {
        OnnxValue map = Feature(context, 0, x, ConvNormReLU6);
        List<OnnxValue> maps = [];
        int feature = 1;
        foreach (MobileNetV2Block block in MobileNetV2Block.All(module.Options))
        {
            map = Feature(context, feature++, map, (_, given) => InvertedResidual(context, block, given));
            if (block.Index < block.InStage - 1) continue;
            map = context.EmitOptional($"stage{block.Stage}_attn", map);
            if (Array.IndexOf(MobileNetV2.PyramidStages, block.Stage) is >= 0 and int level) maps.Add(map = refine(level, map));
        }

        return maps;
    }

    private static OnnxValue Write(OnnxContext context, MobileNetV2 module, OnnxValue x)
    {
        OnnxValue last = Pyramid(context, module, x, (_, map) => map)[^1];
        int features = Layers(context, "features").Length;
        return context.Emit("classifier", Pooled(context, Feature(context, features - 1, last, ConvNormReLU6)));
    }

    /// <summary>The members of a list; attentions inserted around one of them are in it, too, under other names.</summary>
    private static nn.Module[] Layers(OnnxContext context, string key)
        => [.. context.Child(key)!.named_children().Where(child => child.name.All(char.IsAsciiDigit)).Select(child => child.module)];

    /// <summary>A member of MobileNetV2's sequence.</summary>
    private static OnnxValue Feature(OnnxContext context, int index, OnnxValue x, Func<OnnxContext, OnnxValue, OnnxValue> write)
        => context.Within("features", () => context.Within($"{index}", x, map => write(context, map)));

    private static OnnxValue ConvNormReLU6(OnnxContext context, OnnxValue x)
        => context.Clip(context.EmitOptional("1", context.Emit("0", x)), 0, 6);

    private static OnnxValue InvertedResidual(OnnxContext context, MobileNetV2Block block, OnnxValue input)
    {
        nn.Module[] layers = Layers(context, "conv");
        int depthwise = block.Expands ? 1 : 0;
        OnnxValue x = context.EmitOptional("attn_before", input), y = x;
        if (block.Expands) y = context.EmitOptional("attn_expand", Layer(0, y));
        y = context.EmitOptional("attn_depthwise", Layer(depthwise, y));
        for (int i = depthwise + 1; i < layers.Length; i++) y = Layer(i, y);
        y = context.EmitOptional("attn", y);
        if (block.HasShortcut) y = context.Add(y, context.EmitOptional("attn_shortcut", x));
        return context.EmitOptional("attn_after", y);

        OnnxValue Layer(int index, OnnxValue map) => layers[index] is Conv2d or BatchNorm2d or Sequential
            ? context.Emit(layers[index], map)
            : context.Within("conv", () => context.Within($"{index}", map, own => ConvNormReLU6(context, own)));
    }

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

    private static OnnxValue Write(OnnxContext context, UNet module, OnnxValue image)
    {
        UNetOptions options = module.Options;
        IReadOnlyList<UNetLevel> levels = options.Levels().Levels;
        OnnxValue?[] skips = new OnnxValue?[levels.Count];
        OnnxValue map = image;
        if (context.Child("encoder") is FeatureNetwork backbone)
        {
            // While the encoder is written, it is the current module, so that this network's own children are called as objects.
            nn.Module?[] ends = [.. levels.Select((_, i) => context.Child($"encoder{i + 1}_attn"))];
            context.Within("encoder", () =>
            {
                List<OnnxValue> pyramid = Pyramid(context, backbone, image, (feature, given) =>
                    levels.ToList().FindIndex(level => level.Feature == feature) is >= 0 and int i && ends[i] is { } end ? context.Emit(end, given) : given);
                for (int i = 0; i < skips.Length; i++) skips[i] = levels[i].Feature is int feature ? pyramid[feature] : null;
                return map = pyramid[^1];
            });
        }
        else
        {
            for (int i = 0; i < skips.Length; i++)
            {
                skips[i] = map = context.EmitOptional($"encoder{i + 1}_attn", context.Emit($"encoder{i + 1}", map));
                if (options.DownSampling == UNetDownSampling.MaxPool) map = context.MaxPool(map, [levels[i].Stride], [levels[i].Stride], [0]);
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
        if (module.Kind == UNetUpSampling.Bilinear) return [context.Resize(map, like[2], like[3], bilinear: true)];
        if (module.Kind == UNetUpSampling.TransposedBlock) map = context.Relu(context.EmitOptional("norm", map));
        return [context.FittedTo(map, like)];
    }

    private static OnnxValue Twice(OnnxContext context, OnnxValue x, int number)
        => context.Relu(context.EmitOptional($"norm{number}", context.Emit($"conv{number}", x)));

    private static OnnxValue Pooled(OnnxContext context, OnnxValue map) => context.Reduce("ReduceMean", map, [2, 3], keep: false);
}
