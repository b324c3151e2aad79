using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>
/// A value that float32 rounds across the edge of a ReLU6 switches a gradient on or off, and one such value changes gradients by several percent
/// in a network of random weights. That is no fault of a kernel: with the same values on the same sides, float64 gives what the kernels give.
/// </summary>
public sealed class ActivationEdgeTests
{
    /// <summary>Without the same sides, gradients differ by 0.3 to 10 % for these seeds, with the kernels or without (measured on AVX2).</summary>
    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(5)]
    public void Channel_attention_before_the_addition_has_the_gradients_of_float64_on_the_same_sides(int seed)
    {
        MobileNetV2Options options = Options(new ChannelAttentionOptions(), AttentionPosition.BeforeAdd);
        (double composed, double kernels) = Errors(options, seed, 67, 40);
        Assert.InRange(kernels, 0, 5e-4);
        Assert.InRange(composed, 0, 5e-4);
    }

    /// <summary>The norm of the styles divides by deviations over four images, so float32 itself knows these gradients to a hundredth.</summary>
    [Theory]
    [InlineData(3)]
    [InlineData(4)]
    public void Style_recalibration_after_the_depthwise_convolution_loses_no_more_than_the_composed_operations(int seed)
    {
        MobileNetV2Options options = Options(new StyleRecalibrationOptions(), AttentionPosition.AfterDepthwise);
        (double composed, double kernels) = Errors(options, seed, 46, 33);
        Assert.InRange(kernels, 0, Math.Max(2 * composed, 0.015));
    }

    /// <summary>The first value of each map is an outlier: sums of squares around it would cancel to four digits.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public unsafe void Deviations_around_an_outlier_do_not_cancel(bool channelsLast)
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(1);
        Tensor x = randn(2, 16, 56, 56).mul_(0.01f);
        x[.., .., 0, 0] = 5;
        if (channelsLast) x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2);
        Tensor pooled = zeros(2, 2, 16), exact = x.to_type(ScalarType.Float64);
        MapView view = new(MapView.Pointer(x), 2, 16, 56 * 56, channelsLast, half: false);
        ChannelPooling.Run(view, ChannelStatistics.Mean | ChannelStatistics.SquaredDeviations, MapView.Pointer(pooled));
        Tensor mean = exact.mean([2, 3], keepdim: true), wanted = exact.sub(mean).square().sum([2, 3]);
        Assert.InRange(pooled[1].sub(wanted).abs().div(wanted).max().item<double>(), 0, 1e-5);
        GC.KeepAlive(x);
    }

    private static MobileNetV2Options Options(AttentionOptions attention, AttentionPosition position)
        => new() { Classes = 5, Dropout = 0, Attention = AttentionPlan.None.Add(attention, position) };

    /// <summary>The largest error of a gradient, by the size of its tensor, without and with the kernels, against float64 on the same sides.</summary>
    private static (double Composed, double Kernels) Errors(MobileNetV2Options options, int seed, int height, int width)
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(seed);
        using MobileNetV2 network = options.Create();
        Tensor images = randn(4, 3, height, width), weights = randn(4, 5);
        Dictionary<string, Tensor> state = network.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.clone());
        double composed;
        using (AttentionKernels.Disable()) composed = Error();
        return (composed, Error());

        double Error()
        {
            using DisposeScope inner = NewDisposeScope();
            using MobileNetV2 single = options.Create(), exact = options.Create();
            single.load_state_dict(state);
            exact.load_state_dict(state);
            exact.to(ScalarType.Float64);
            Dictionary<string, Tensor> sides = [];
            Watch(single, (name, before) =>
            {
                sides.Add(name, before.detach().clone().DetachFromDisposeScope());
                return null;
            });
            Watch(exact, (name, before) => OnTheSameSides(before, sides[name]));
            Dictionary<string, Tensor> actual = Gradients(single, images, weights), wanted = Gradients(exact, images.to_type(ScalarType.Float64), weights.to_type(ScalarType.Float64));
            foreach (Tensor side in sides.Values) side.Dispose();
            double largest = wanted.Values.Max(Size);
            return wanted.Max(pair => Size(actual[pair.Key].to_type(ScalarType.Float64).sub(pair.Value)) / Math.Max(Size(pair.Value), 1e-3 * largest));
        }
    }

    private static Dictionary<string, Tensor> Gradients(MobileNetV2 network, Tensor images, Tensor weights)
    {
        network.train();
        network.call(images).mul(weights).sum().backward();
        return network.named_parameters().ToDictionary(entry => entry.name, entry => entry.parameter.grad!);
    }

    /// <summary>Watches what the norms in front of a ReLU6 return; what the watcher returns takes its place.</summary>
    private static void Watch(MobileNetV2 network, Func<string, Tensor, Tensor?> watch)
    {
        foreach ((string name, nn.Module module) in network.named_modules())
        {
            string parent = name[..Math.Max(0, name.LastIndexOf('.'))];
            if (module is BatchNorm2d norm && name.EndsWith(".1", StringComparison.Ordinal) && !parent.EndsWith(".conv", StringComparison.Ordinal))
            {
                norm.register_forward_hook((_, _, output) => watch(name, output)!);
            }
        }
    }

    private static Tensor? OnTheSameSides(Tensor before, Tensor single)
    {
        Tensor here = before.detach(), there = single.to_type(ScalarType.Float64);
        Tensor below = there.le(0), above = there.ge(6), crossed = below.ne(here.le(0)).logical_or(above.ne(here.ge(6)));
        if (!crossed.any().item<bool>()) return null;
        Tensor inside = where(here.lt(3), full_like(here, 1e-13), full_like(here, 6 - 1e-13));
        Tensor target = where(below, full_like(here, -1e-13), where(above, full_like(here, 6 + 1e-13), inside));
        return before.add(where(crossed, target.sub(here), zeros_like(here)));
    }

    private static double Size(Tensor tensor) => tensor.abs().max().item<double>();
}
