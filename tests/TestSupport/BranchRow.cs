namespace TorchSharp.Attention.TestSupport;

/// <summary>One branch module with one choice of settings, and the convolution that it replaces.</summary>
public sealed record BranchRow(string Name, BranchAttentionOptions Options, ConvolutionSpec Convolution)
{
    public static IReadOnlyList<BranchRow> All { get; } =
    [
        new("sk", new SelectiveKernelOptions(), new(6, 6)),
        new("sk, timm", SelectiveKernelOptions.Timm, new(6, 8)),
        new("sk, stride 2", new SelectiveKernelOptions { MinimumReducedChannels = 3 }, new(4, 6, 2)),
        new("sk, split, stride 2", new SelectiveKernelOptions { SplitInput = true, Reduction = 2, MinimumReducedChannels = 1 }, new(6, 4, 2)),
        new("sk, large kernels", new SelectiveKernelOptions { DilatedKernels = false, ReducedChannels = 2 }, new(4, 4)),
        new("sk, three paths", new SelectiveKernelOptions { KernelSizes = [3, 5, 7], ReducedChannels = 3, SplitInput = true }, new(6, 4)),
        new("sk, groups, dilation", new SelectiveKernelOptions { Groups = 2, Dilation = 2, ReducedChannels = 3 }, new(4, 6)),
        new("sk, dilation, stride 3", new SelectiveKernelOptions { Dilation = 2, DilatedKernels = false, ReducedChannels = 2 }, new(3, 4, 3)),
        new("splat", new SplitAttentionOptions(), new(6, 6)),
        new("splat, timm", SplitAttentionOptions.Timm, new(6, 4)),
        new("splat, no norm, bias", new SplitAttentionOptions { Norm = false, Bias = true, ReducedChannels = 4 }, new(4, 6)),
        new("splat, stride 2", new SplitAttentionOptions { MinimumReducedChannels = 1, Reduction = 3 }, new(4, 4, 2)),
        new("splat, radix 1", new SplitAttentionOptions { Radix = 1, ReducedChannels = 4 }, new(5, 6)),
        new("splat, radix 3", new SplitAttentionOptions { Radix = 3, ReducedChannels = 4 }, new(6, 4)),
        new("splat, groups", new SplitAttentionOptions { Groups = 2, ReducedChannels = 6 }, new(8, 6)),
        new("splat, groups, radix 1", new SplitAttentionOptions { Groups = 2, Radix = 1, ReducedChannels = 6 }, new(4, 6, 2)),
        new("splat, kernel 5, dilation", new SplitAttentionOptions { KernelSize = 5, Dilation = 2, ReducedChannels = 4 }, new(4, 4)),
        new("splat, kernel 1", new SplitAttentionOptions { KernelSize = 1, ReducedChannels = 4 }, new(4, 4, 2)),
        new("sk, depthwise", new SelectiveKernelOptions { ReducedChannels = 3 }, Depthwise(4, 4)),
        new("sk, depthwise, stride 2, two outputs a channel", new SelectiveKernelOptions { KernelSizes = [3, 5, 7], ReducedChannels = 3 }, Depthwise(3, 6, 2)),
        new("sk, depthwise, split", SelectiveKernelOptions.Timm, Depthwise(6, 6)),
        new("sk, grouped convolution", new SelectiveKernelOptions { ReducedChannels = 3 }, new(6, 4) { Groups = 2 }),
        new("sk, grouped convolution, split", new SelectiveKernelOptions { ReducedChannels = 3, SplitInput = true }, new(8, 4) { Groups = 4 }),
        new("sk, depthwise convolution, own groups", new SelectiveKernelOptions { ReducedChannels = 3, Groups = 2 }, Depthwise(4, 4)),
        new("splat, depthwise", new SplitAttentionOptions { ReducedChannels = 4 }, Depthwise(5, 5)),
        new("splat, depthwise, radix 3, stride 2, two outputs a channel", new SplitAttentionOptions { Radix = 3, ReducedChannels = 4 }, Depthwise(3, 6, 2)),
        new("splat, depthwise, radix 1, bias", new SplitAttentionOptions { Radix = 1, ReducedChannels = 4, Bias = true }, Depthwise(4, 4)),
        new("splat, grouped convolution", new SplitAttentionOptions { ReducedChannels = 4 }, new(8, 4) { Groups = 2, Activation = GateActivation.SiLU }),
        new("splat, depthwise convolution, own groups", new SplitAttentionOptions { Groups = 2, ReducedChannels = 4 }, Depthwise(8, 8)),
    ];

    private static ConvolutionSpec Depthwise(int channels, int outputs, int stride = 1)
        => new(channels, outputs, stride) { Groups = channels, Activation = GateActivation.ReLU6 };
}
