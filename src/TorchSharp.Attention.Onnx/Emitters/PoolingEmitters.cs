using TorchSharp.Modules;

namespace TorchSharp.Attention.Onnx;

/// <summary>TorchSharp's pooling and resizing.</summary>
internal static class PoolingEmitters
{
    public static OnnxEmitters WithPooling(this OnnxEmitters emitters) => emitters
        .With<MaxPool1d>((context, module, x) => context.MaxPool(
            x, [module.kernel_size], [module.stride ?? module.kernel_size], [module.padding ?? 0], [module.dilation ?? 1], module.ceil_mode))
        .With<MaxPool2d>((context, module, x) => context.MaxPool(
            x, module.kernel_size, module.stride ?? module.kernel_size, module.padding ?? [0, 0], module.dilation ?? [1, 1], module.ceil_mode))
        .With<AvgPool1d>((context, module, x) => context.AveragePool(
            x, [module.kernel_size], [module.stride ?? module.kernel_size], [module.padding ?? 0], module.ceil_mode, module.count_include_pad))
        .With<AvgPool2d>((context, module, x) => module.divisor_override is null
            ? context.AveragePool(
                x, module.kernel_size, module.stride ?? module.kernel_size, module.padding ?? [0, 0], module.ceil_mode, module.count_include_pad)
            : throw context.Refuse("its divisor_override has no operator."))
        .With<AdaptiveAvgPool1d>((context, module, x) => context.AdaptivePool(x, [module.output_size], maximum: false))
        .With<AdaptiveAvgPool2d>((context, module, x) => context.AdaptivePool(x, module.output_size, maximum: false))
        .With<AdaptiveMaxPool1d>((context, module, x) => context.AdaptivePool(x, [module.output_size], maximum: true))
        .With<AdaptiveMaxPool2d>((context, module, x) => context.AdaptivePool(x, module.output_size, maximum: true));
}
