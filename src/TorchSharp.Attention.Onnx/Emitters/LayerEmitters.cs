using TorchSharp.Modules;

namespace TorchSharp.Attention.Onnx;

/// <summary>TorchSharp's layers with weights, those that reshape, and those that do nothing in evaluation.</summary>
internal static class LayerEmitters
{
    public static OnnxEmitters WithLayers(this OnnxEmitters emitters) => emitters
        .With<Sequential>((context, module, x) => module.children().Aggregate(x, (map, child) => context.Emit(child, map)))
        .With<AttentionContainer>((_, _, x) => x)
        .With<Identity>((_, _, x) => x)
        .With<Dropout>((_, _, x) => x)
        .With<Dropout1d>((_, _, x) => x)
        .With<Dropout2d>((_, _, x) => x)
        .With<Dropout3d>((_, _, x) => x)
        .With<AlphaDropout>((_, _, x) => x)
        .With<FeatureAlphaDropout>((_, _, x) => x)
        .With<Linear>(Write)
        .With<Convolution>(Write)
        .With<Conv1d>(Write)
        .With<Conv2d>(Write)
        .With<Conv3d>(Write)
        .With<ConvTranspose1d>(WriteTransposed)
        .With<ConvTranspose2d>(WriteTransposed)
        .With<ConvTranspose3d>(WriteTransposed)
        .With<BatchNorm1d>(Write)
        .With<BatchNorm2d>(Write)
        .With<BatchNorm3d>(Write)
        .With<InstanceNorm1d>(Write)
        .With<InstanceNorm2d>(Write)
        .With<InstanceNorm3d>(Write)
        .With<GroupNorm>(Write)
        .With<LayerNorm>(Write)
        .With<Flatten>((context, module, x) => context.Flatten(x, (int)module.start_dim, (int)module.end_dim))
        .With<Unflatten>(Write)
        .With<PadBase>(Write)
        .With<LocalResponseNorm>(Write)
        .With<ChannelShuffle>((context, module, x) => context.Reshape(
            context.Transpose(
                context.Reshape(x, [x[0], module.groups, x[1].Size / module.groups, .. x.Shape.Skip(2)]),
                [0, 2, 1, .. Enumerable.Range(3, x.Rank - 2)]),
            x.Shape));

    private static OnnxValue Write(OnnxContext context, Linear module, OnnxValue x)
    {
        OnnxValue weight = context.Parameter(module.weight!);
        OnnxValue? bias = module.bias is null ? null : context.Parameter(module.bias);
        context.RequireStatic(x[-1], "its weight has as many columns");
        if (x.Rank == 2) return context.Node("Gemm", [x, weight, bias], [x[0], weight[0]], ("transB", 1L));
        OnnxValue product = context.MatMul(x, context.Transpose(weight, 1, 0));
        return bias is null ? product : context.Add(product, bias);
    }

    private static OnnxValue Write(OnnxContext context, Convolution module, OnnxValue x)
    {
        OnnxValue weight = context.Parameter(module.weight!);
        OnnxValue? bias = module.bias is null ? null : context.Parameter(module.bias);
        int spatial = weight.Rank - 2;
        if (x.Rank != spatial + 2) throw context.Unsupported($"its input {x} has no batch axis. Give it one.");
        (long[] first, long[] last) = Pads(module, spatial);
        if (module.padding_mode != PaddingModes.Zeros)
        {
            x = context.Pad(x, Mode(context, module.padding_mode), [0, 0, .. first], [0, 0, .. last]);
            (first, last) = (new long[spatial], new long[spatial]);
        }
        else if (!first.AsSpan().SequenceEqual(last))
        {
            x = context.Pad(x, "constant", [0, 0, .. first], [0, 0, .. last]);
            (first, last) = (new long[spatial], new long[spatial]);
        }

        return context.Conv(x, weight, bias, module.stride, first, module.dilation, module.groups);
    }

    /// <summary>
    /// What is added on both ends of each axis; an even kernel with "same" padding adds one more at the far end.
    /// </summary>
    private static (long[] First, long[] Last) Pads(Convolution module, int spatial)
    {
        if (module.padding_type == Padding.Valid) return (new long[spatial], new long[spatial]);
        if (module.padding_type is null)
        {
            return (OnnxContext.Each(module.padding!, spatial), OnnxContext.Each(module.padding!, spatial));
        }

        long[] total = [
            .. OnnxContext.Each(module.kernel_size, spatial)
                .Zip(OnnxContext.Each(module.dilation, spatial), (kernel, dilation) => dilation * (kernel - 1))];
        return ([.. total.Select(pad => pad / 2)], [.. total.Select(pad => pad - pad / 2)]);
    }

    private static string Mode(OnnxContext context, PaddingModes mode) => mode switch
    {
        PaddingModes.Reflect => "reflect",
        PaddingModes.Replicate => "edge",
        PaddingModes.Circular => "wrap",
        _ => throw context.Unsupported($"padding mode {mode} is unknown."),
    };

    private static OnnxValue WriteTransposed(OnnxContext context, ConvolutionTranspose module, OnnxValue x)
    {
        OnnxValue weight = context.Parameter(module.weight!);
        OnnxValue? bias = module.bias is null ? null : context.Parameter(module.bias);
        int spatial = weight.Rank - 2;
        if (x.Rank != spatial + 2) throw context.Unsupported($"its input {x} has no batch axis. Give it one.");
        long[] kernel = OnnxContext.Each(module.kernel_size, spatial), stride = OnnxContext.Each(module.stride, spatial),
            pad = OnnxContext.Each(module.padding ?? [0], spatial);
        long[] extra = OnnxContext.Each(module.output_padding ?? [0], spatial),
            dilation = OnnxContext.Each(module.dilation, spatial);
        OnnxLength[] shape = [
            x[0], weight[1].Size * module.groups,
            .. Enumerable.Range(
                0,
                spatial)
                .Select(
                    i => OnnxContext.After(
                        x[i + 2], size => (size - 1) * stride[i] - 2 * pad[i] + dilation[i] * (kernel[i] - 1) + extra[i] + 1))];
        return context.Node(
            "ConvTranspose", [x, weight, bias], shape, ("kernel_shape", kernel), ("strides", stride),
            ("pads", (long[])[.. pad, .. pad]),
            ("output_padding", extra), ("dilations", dilation), ("group", module.groups));
    }

    private static OnnxValue Write(OnnxContext context, BatchNorm module, OnnxValue x) => context.Norm(module, x);

    private static OnnxValue Write(OnnxContext context, InstanceNorm module, OnnxValue x)
    {
        if (module.track_running_stats) return context.Norm(module, x);
        return context.InstanceNorm(x, module.weight, module.bias, module.eps);
    }

    private static OnnxValue Write(OnnxContext context, GroupNorm module, OnnxValue x)
    {
        // Groups as channels of an instance norm, then the scale and shift of each channel.
        OnnxValue rows = x.Rank == 4
            ? context.Reshape(x, x[0], module.num_groups, x[1].Size / module.num_groups * x[2], x[3])
            : context.Reshape(x, x[0], module.num_groups, x.Shape.Skip(1).Aggregate((a, b) => a * b) is var rest && rest.IsDynamic
            ? Rest(x, module.num_groups)
            : rest.Size / module.num_groups);
        OnnxValue normed = context.Reshape(context.InstanceNorm(rows, null, null, module.eps), x.Shape);
        return context.ScaleAndShift(normed, module.weight, module.bias, 1);
    }

    private static OnnxLength Rest(OnnxValue x, long groups)
        => x.Shape.Skip(2).Aggregate((OnnxLength)(x[1].Size / groups), (product, length) => product * length);

    private static OnnxValue Write(OnnxContext context, LayerNorm module, OnnxValue x)
    {
        long[] shape = module.normalized_shape;
        for (int axis = x.Rank - shape.Length; axis < x.Rank; axis++)
        {
            context.RequireStatic(x[axis], "it normalizes over this axis");
        }

        return context.Node(
            "LayerNormalization",
            [x, module.weight is null ? context.Ones(shape) : context.Parameter(module.weight), module.bias is null
                ? null
                : context.Parameter(module.bias)],
            x.Shape, ("axis", (long)(x.Rank - shape.Length)), ("epsilon", module.eps));
    }

    private static OnnxValue Write(OnnxContext context, Unflatten module, OnnxValue x)
    {
        int axis = (int)(module.dim < 0 ? module.dim + x.Rank : module.dim);
        long[] sizes = [.. module.unflattened_size];
        int open = Array.IndexOf(sizes, -1);
        if (open >= 0)
        {
            sizes[open] =
                context.RequireStatic(x[axis], "one of the sizes of Unflatten is -1") / -sizes.Aggregate(1L, (a, b) => a * b);
        }

        return context.Reshape(x, [.. x.Shape.Take(axis), .. sizes.Select(OnnxLength.Of), .. x.Shape.Skip(axis + 1)]);
    }

    private static OnnxValue Write(OnnxContext context, PadBase module, OnnxValue x)
    {
        // The last axis comes first.
        long[] first = new long[x.Rank], last = new long[x.Rank];
        for (int i = 0; i < module.padding.Length / 2; i++)
        {
            (first[^(i + 1)], last[^(i + 1)]) = (module.padding[2 * i], module.padding[2 * i + 1]);
        }

        return module switch
        {
            ZeroPad2d or ConstantPad1d or ConstantPad2d or ConstantPad3d => context.Pad(x, "constant", first, last, module.value),
            ReflectionPad1d or ReflectionPad2d or ReflectionPad3d => context.Pad(x, "reflect", first, last),
            ReplicationPad1d or ReplicationPad2d or ReplicationPad3d => context.Pad(x, "edge", first, last),
            _ =>
                throw context.Unsupported(
                    "how it pads is unknown. Give its type an emitter, or use ConstantPad, ReflectionPad or ReplicationPad."),
        };
    }

    private static OnnxValue Write(OnnxContext context, LocalResponseNorm module, OnnxValue x)
    {
        if (module.size % 2 == 0)
        {
            throw context.Unsupported(
                "its size is even, and then the operator's window lies one channel further. Use an odd size.");
        }

        return context.Elementwise(
            "LRN", x, ("size", module.size), ("alpha", module.alpha), ("beta", module.beta), ("bias", module.k));
    }
}
