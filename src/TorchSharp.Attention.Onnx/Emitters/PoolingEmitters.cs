using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>TorchSharp's pooling and resizing.</summary>
internal static class PoolingEmitters
{
    public static OnnxEmitters WithPooling(this OnnxEmitters emitters) => emitters
        .With<MaxPool1d>((context, module, x) => context.MaxPool(
            x, [module.kernel_size], [module.stride ?? module.kernel_size], [module.padding ?? 0], [module.dilation ?? 1],
            module.ceil_mode))
        .With<MaxPool2d>((context, module, x) => context.MaxPool(
            x, module.kernel_size, module.stride ?? module.kernel_size, module.padding ?? [0, 0], module.dilation ?? [1, 1],
            module.ceil_mode))
        .With<MaxPool3d>((context, module, x) => context.MaxPool(
            x, module.kernel_size, module.stride ?? module.kernel_size, module.padding ?? [0], module.dilation ?? [1],
            module.ceil_mode))
        .With<AvgPool1d>((context, module, x) => context.AveragePool(
            x, [module.kernel_size], [module.stride ?? module.kernel_size], [module.padding ?? 0], module.ceil_mode,
            module.count_include_pad))
        .With<AvgPool2d>((context, module, x) => module.divisor_override is null
            ? context.AveragePool(
                x, module.kernel_size, module.stride ?? module.kernel_size, module.padding ?? [0, 0], module.ceil_mode,
                module.count_include_pad)
            : throw context.Unsupported("its divisor_override has no operator."))
        .With<AvgPool3d>((context, module, x) => module.divisor_override is null
            ? context.AveragePool(
                x, module.kernel_size, module.stride ?? module.kernel_size, module.padding ?? [0], module.ceil_mode,
                module.count_include_pad)
            : throw context.Unsupported("its divisor_override has no operator."))
        .With<AdaptiveAvgPool3d>((context, module, x) => context.AdaptivePool(x, module.output_size, maximum: false))
        .With<AdaptiveAvgPool1d>((context, module, x) => context.AdaptivePool(x, [module.output_size], maximum: false))
        .With<AdaptiveAvgPool2d>((context, module, x) => context.AdaptivePool(x, module.output_size, maximum: false))
        .With<AdaptiveMaxPool1d>((context, module, x) => context.AdaptivePool(x, [module.output_size], maximum: true))
        .With<AdaptiveMaxPool2d>((context, module, x) => context.AdaptivePool(x, module.output_size, maximum: true))
        .With<Upsample>(Write)
        .With<PixelShuffle>((context, module, x) => context.Node(
            "DepthToSpace", [x],
            [x[0], x[1].Size / (module.upscale_factor * module.upscale_factor), Times(x[2], module.upscale_factor), Times(
                x[3], module.upscale_factor)],
            ("blocksize", module.upscale_factor), ("mode", "CRD")))
        .With<PixelUnshuffle>((context, module, x) =>
        {
            long factor = module.downscale_factor, height = context.RequireStatic(x[2], "PixelUnshuffle divides it") / factor,
                width = context.RequireStatic(x[3], "PixelUnshuffle divides it") / factor;
            OnnxValue cut = context.Transpose(context.Reshape(x, x[0], x[1], height, factor, width, factor), 0, 1, 3, 5, 2, 4);
            return context.Reshape(cut, x[0], x[1].Size * factor * factor, height, width);
        });

    private static OnnxValue Write(OnnxContext context, Upsample module, OnnxValue x)
    {
        bool corners = module.align_corners == true;
        List<(string, object)> attributes = module.mode switch
        {
            UpsampleMode.Nearest =>
                [("mode", "nearest"), ("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor")],
            UpsampleMode.Bicubic => [("mode", "cubic"), ("cubic_coeff_a", -0.75f)],
            _ => [("mode", "linear")],
        };
        if (module.mode != UpsampleMode.Nearest)
        {
            attributes.Add(("coordinate_transformation_mode", corners ? "align_corners" : "half_pixel"));
        }

        int spatial = x.Rank - 2;
        if (module.size.Length > 0)
        {
            long[] size = OnnxContext.Each(module.size.ToArray(), spatial);
            OnnxLength[] sized = [x[0], x[1], .. size.Select(OnnxLength.Of)];
            return context.Node("Resize", [x, null, null, context.Lengths(sized)], sized, [.. attributes]);
        }

        double[] scales = OnnxContext.Each(module.scale_factor.ToArray(), spatial);
        if (module.recompute_scale_factor == true && scales.Any(scale => scale != Math.Floor(scale)))
        {
            throw context.Unsupported("recompute_scale_factor with a scale that is no whole number. Leave it out.");
        }

        OnnxLength[] shape = [
            x[0], x[1], .. scales.Select((scale, i) => OnnxContext.After(x[i + 2], length => (long)(length * scale)))];
        float[] factors = [1, 1, .. scales.Select(scale => (float)scale)];
        return context.Node("Resize", [x, null, context.Constant(factors, factors.Length)], shape, [.. attributes]);
    }

    private static OnnxLength Times(OnnxLength length, long factor) => OnnxContext.After(length, size => size * factor);
}
