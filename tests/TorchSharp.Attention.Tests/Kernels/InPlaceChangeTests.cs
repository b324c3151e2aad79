using System.Runtime.InteropServices;

namespace TorchSharp.Attention.Tests;

/// <summary>What was changed in place between the forward and the backward pass is an exception that says so, wherever it is needed; and nothing else is.</summary>
public sealed class InPlaceChangeTests : IDisposable
{
    private const string Words = "one of the variables needed for gradient computation has been modified by an inplace operation";

    private readonly KernelSettings _kernels = KernelSettings.ForAnySize();

    public static TheoryData<string> Gates => [.. Kinds.Keys];

    private static Dictionary<string, Func<GateModule>> Kinds { get; } = new()
    {
        ["se"] = () => new SqueezeExcitation(16),
        ["eca"] = () => new EfficientChannelAttention(16),
        ["srm"] = () => new StyleRecalibration(16),
        ["spatial"] = () => new SpatialAttention(16),
        ["cbam"] = () => new Cbam(16),
        ["cbam, identity"] = () => new Cbam(16, new() { Initialization = AttentionInitialization.Identity }),
        ["bam"] = () => new Bam(16),
        ["coord"] = () => new CoordinateAttention(16),
        ["triplet"] = () => new TripletAttention(16),
        ["simam"] = () => new SimAm(16),
        ["simam, identity"] = () => new SimAm(16, new() { Initialization = AttentionInitialization.Identity }),
    };

    public void Dispose() => _kernels.Dispose();

    [Theory]
    [MemberData(nameof(Gates))]
    public void A_map_changed_in_place_is_an_exception_in_pytorchs_words_with_the_remedy(string kind)
    {
        foreach (bool inputLearns in (bool[])[true, false])
        {
            using DisposeScope scope = NewDisposeScope();
            using GateModule module = Kinds[kind]();
            Tensor leaf = randn(2, 16, 9, 7).requires_grad_(inputLearns), x = leaf.mul(1.5f);
            if (!inputLearns && !module.parameters().Any()) continue;
            Tensor y = module.call(x);
            using (no_grad()) x.add_(1f);
            ExternalException thrown = Assert.ThrowsAny<ExternalException>(() => y.sum().backward());
            Assert.Contains(Words, thrown.Message);
            Assert.Contains("x.clone()", thrown.Message);
            Assert.DoesNotContain("invalid gradient", thrown.Message);

            // The next pass is not touched by the one that failed.
            module.call(randn(2, 16, 9, 7).requires_grad_()).sum().backward();
            foreach (Modules.Parameter parameter in module.parameters()) Assert.True(parameter.grad is null || parameter.grad.isfinite().all().item<bool>());
        }
    }

    [Fact]
    public void A_scale_of_one_value_gets_no_gradient_of_zero_from_a_map_that_was_changed()
    {
        using DisposeScope scope = NewDisposeScope();
        using SimAm module = new(16, new() { Initialization = AttentionInitialization.Identity });
        Tensor x = randn(2, 16, 9, 7), y = module.call(x);
        x.mul_(2f);
        Assert.Contains(Words, Assert.ThrowsAny<ExternalException>(() => y.sum().backward()).Message);
        Assert.All(module.parameters(), parameter => Assert.Null(parameter.grad));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_changed_output_of_a_block_is_an_exception_in_pytorchs_words(bool behindNorm)
    {
        using DisposeScope scope = NewDisposeScope();
        using SqueezeExcitation module = new(16);
        using Modules.BatchNorm2d norm = nn.BatchNorm2d(16);
        Tensor x = randn(2, 16, 9, 7).requires_grad_(), residual = randn(2, 16, 9, 7).requires_grad_();
        Tensor? y = behindNorm ? module.TryFuseAfterNorm(norm, x, residual) : module.TryGateAddRelu(x, residual);
        Assert.NotNull(y);
        using (no_grad()) y.add_(1f);
        Assert.Contains(Words, Assert.ThrowsAny<ExternalException>(() => y.sum().backward()).Message);
    }

    [Fact]
    public void A_weight_that_an_optimizer_changed_is_an_exception_in_pytorchs_words()
    {
        foreach (string kind in (string[])["se", "spatial", "cbam"])
        {
            using DisposeScope scope = NewDisposeScope();
            using GateModule module = Kinds[kind]();
            Tensor y = module.call(randn(2, 16, 9, 7).requires_grad_());
            using (no_grad()) module.parameters().First(parameter => parameter.dim() == 4).add_(0.1f);
            Assert.Contains(Words, Assert.ThrowsAny<ExternalException>(() => y.sum().backward()).Message);
        }
    }

    /// <summary>libtorch's layers keep no bias for the first derivative either.</summary>
    [Fact]
    public void A_bias_may_change_before_the_backward_pass_as_with_the_composed_operations()
    {
        using DisposeScope scope = NewDisposeScope();
        using SqueezeExcitation module = new(16, new() { ReducedChannels = 4 });
        Tensor x = randn(2, 16, 9, 7).requires_grad_();
        module.call(x).square().sum().backward();
        Tensor expected = x.grad!.clone();
        x.grad = null;
        Tensor y = module.call(x);
        using (no_grad())
        {
            foreach (Modules.Parameter bias in module.parameters().Where(parameter => parameter.dim() == 1)) bias.add_(1f);
        }

        y.square().sum().backward();
        Near.Identical(expected, x.grad!);
    }

    [Fact]
    public void A_second_derivative_after_a_bias_changed_is_an_exception_in_pytorchs_words()
    {
        using DisposeScope scope = NewDisposeScope();
        using SqueezeExcitation module = new(16, new() { ReducedChannels = 4 });
        Tensor y = module.call(randn(2, 16, 9, 7).requires_grad_());
        using (no_grad())
        {
            foreach (Modules.Parameter bias in module.parameters().Where(parameter => parameter.dim() == 1)) bias.add_(1f);
        }

        Assert.Contains(Words, Assert.ThrowsAny<ExternalException>(() => autograd.backward([y.sum()], create_graph: true)).Message);
    }

    [Fact]
    public void A_failure_that_nobody_saw_does_not_speak_for_a_later_one()
    {
        BackwardFailure.Report(new InvalidOperationException("of long ago"));
        BackwardFailure.Forget();
        Assert.Equal("returned an invalid gradient, of today", Assert.ThrowsAny<ExternalException>(() => Throw("returned an invalid gradient, of today")).Message);
        BackwardFailure.Report(new InvalidOperationException("of now"));
        Assert.Equal("something else", Assert.ThrowsAny<ExternalException>(() => Throw("something else")).Message);
        Assert.Equal("of now", Assert.ThrowsAny<ExternalException>(() => Throw("it returned an invalid gradient")).Message);
        Assert.Equal("it returned an invalid gradient", Assert.ThrowsAny<ExternalException>(() => Throw("it returned an invalid gradient")).Message);
    }

    private static void Throw(string message) => throw new Thrown(message);

    private sealed class Thrown(string message) : ExternalException(message);
}
