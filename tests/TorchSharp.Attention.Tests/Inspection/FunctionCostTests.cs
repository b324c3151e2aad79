using System.Reflection;

namespace TorchSharp.Attention.Tests;

/// <summary>Functions that the library's own forwards call: counted by hand, and held against the tensors that a forward really makes.</summary>
public sealed class FunctionCostTests
{
    public static TheoryData<string> Names => Row.Names;

    [Fact]
    public void Squeeze_and_excitation_is_counted_as_by_hand()
    {
        using SqueezeExcitation gate = new(8, new SqueezeExcitationOptions { Reduction = 2 });
        ModuleCost cost = ModelCost.Measure(gate, 2, 8, 4, 4).Total;

        // Mean, bias of the first layer, ReLU, bias of the second, sigmoid, product.
        Assert.Equal(256 + 8 + 8 + 16 + 16 + 256, cost.ElementwiseOperations);
        int mean = 256 + 16, first = 16 + 32 + 4 + 8, relu = 16, second = 8 + 32 + 8 + 16, sigmoid = 32, product = 256 + 16 + 256;
        Assert.Equal(4 * (mean + first + relu + second + sigmoid + product), cost.BytesMoved);
        Assert.Equal(4 * (16 + 8 + 8 + 16 + 16 + 256), cost.ActivationBytes);
    }

    [Fact]
    public void An_identity_start_costs_its_blend()
    {
        SqueezeExcitationOptions options = new() { Reduction = 2 };
        using SqueezeExcitation plain = new(8, options), started = new(8, options with { Initialization = AttentionInitialization.Identity });
        ModuleCost without = ModelCost.Measure(plain, 2, 8, 4, 4).Total, with = ModelCost.Measure(started, 2, 8, 4, 4).Total;

        // 1 + alpha · (g − 1) on 16 values.
        Assert.Equal(3 * 16, with.ElementwiseOperations - without.ElementwiseOperations);
        Assert.Equal(4 * (32 + 33 + 32), with.BytesMoved - without.BytesMoved);
        Assert.Equal(4 * 3 * 16, with.ActivationBytes - without.ActivationBytes);
    }

    [Fact]
    public void SimAm_without_a_single_layer_is_counted_as_by_hand()
    {
        using SimAm gate = new(8);
        ModuleCost cost = ModelCost.Measure(gate, 2, 8, 4, 4).Total;

        // Mean, difference, square, sum, three on the sums, product, half more, sigmoid, product.
        Assert.Equal((8 * 256) + (3 * 16), cost.ElementwiseOperations);
        Assert.Equal(4 * (272 + 528 + 512 + 272 + 32 + 32 + 32 + 528 + 512 + 512 + 768), cost.BytesMoved);
        Assert.Equal(4 * ((6 * 256) + (5 * 16)), cost.ActivationBytes);
        Assert.Equal(0, cost.MultiplyAccumulates);
    }

    [Fact]
    public void Self_attention_holds_no_weights_but_computes_them()
    {
        using SelfAttention2d context = new(8, new SelfAttention2dOptions { Heads = 2 });
        ModelCost cost = ModelCost.Measure(context, 2, 8, 4, 4);
        long Own(Func<ModuleCost, long> of) => of(cost.Total) - cost.Total.Children.Sum(of);

        // Softmax of 2 · 2 · 16 · 16 logits and the addition; queries, keys and values laid out, the fused product, heads laid out, the addition.
        Assert.Equal((3 * 1024) + 256, Own(module => module.ElementwiseOperations));
        Assert.Equal(4 * ((3 * 512) + (4 * 256) + 512 + (3 * 256)), Own(module => module.BytesMoved));
        Assert.Equal(4 * ((3 * 256) + 256 + 256 + 256), Own(module => module.ActivationBytes));
    }

    [Fact]
    public void The_functions_of_a_residual_network_are_counted_as_by_hand()
    {
        using ResNet network = new(Cases.TinyResNet);
        ModelCost cost = ModelCost.Measure(network, 1, 3, 16, 16);
        long Own(Func<ModuleCost, long> of) => of(cost.Total) - cost.Modules.Where(module => module.Children.Count == 0).Sum(of);

        // The stem's ReLU; two ReLUs in place and an addition in each of three blocks; the mean.
        int stem = 1024, blocks = 1024 + 256 + 128, mean = 128;
        Assert.Equal(stem + (3 * blocks) + mean, Own(module => module.ElementwiseOperations));
        Assert.Equal(4 * ((2 * stem) + (7 * blocks) + mean + 8), Own(module => module.BytesMoved));
        Assert.Equal(4 * (blocks + 8), Own(module => module.ActivationBytes));
        Assert.DoesNotContain("not seen", cost.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void The_functions_of_a_mobile_network_are_counted_as_by_hand()
    {
        using MobileNetV2 network = new(Cases.TinyMobileNet);
        ModelCost cost = ModelCost.Measure(network, 1, 3, 16, 16);
        long Own(Func<ModuleCost, long> of) => of(cost.Total) - cost.Modules.Where(module => module.Children.Count == 0).Sum(of);
        static long Values(ModuleCost module) => module.OutputShape!.Aggregate(1L, (product, size) => product * size);

        // ReLU6 in place after every convolution but a block's last; an addition where a block keeps shape; the mean.
        long activated = cost.Modules.Where(module => module.Description == "ConvNormReLU6").Sum(Values);
        (ModuleCost Before, ModuleCost Block)[] blocks = [.. cost["features"].Children.Zip(cost["features"].Children.Skip(1)).Where(pair => pair.Second.Description == "InvertedResidual")];
        long added = blocks.Where(pair => pair.Before.OutputShape!.Equals(pair.Block.OutputShape)).Sum(pair => Values(pair.Block));
        ModuleCost last = cost["features"].Children[^1];
        Assert.True(added > 0);
        Assert.Equal(activated + added + Values(last), Own(module => module.ElementwiseOperations));
        Assert.Equal(4 * (added + last.OutputShape![1]), Own(module => module.ActivationBytes));
    }

    [Fact]
    public void The_functions_of_a_u_net_are_counted_as_by_hand()
    {
        using UNet network = new(new UNetOptions { InputChannels = 1, Classes = 1, Widths = [2, 4], Attention = AttentionPlan.None });
        ModelCost cost = ModelCost.Measure(network, 1, 1, 9, 8);
        long Own(Func<ModuleCost, long> of) => of(cost.Total) - cost.Modules.Where(module => module.Children.Count == 0).Sum(of);
        static long Values(ModuleCost module) => module.OutputShape!.Aggregate(1L, (product, size) => product * size);

        // Two ReLUs in place in each double convolution; pooling by windows of 4; a padded row where 8 rows become 9 again; concatenations.
        long activated = 2 * cost.Modules.Where(module => module.Description == "DoubleConvolution").Sum(Values);
        ModuleCost[] encoders = [.. cost.Modules.Where(module => module.Path.StartsWith("encoder", StringComparison.Ordinal) && !module.Path.Contains('.', StringComparison.Ordinal))];
        long pooled = encoders.Sum(module => module.OutputShape![1] * (module.OutputShape[2] / 2) * (module.OutputShape[3] / 2));
        ModuleCost[] ups = [.. cost.Modules.Where(module => module.Description == "UpSampling")];
        Assert.Equal(encoders.Length, ups.Length);
        long padded = ups.Sum(up => up.OutputShape!.Equals(up.Children[0].OutputShape) ? 0 : Values(up));
        long joined = ups.Zip(encoders.OrderBy(encoder => encoder.Path)).Sum(pair => Values(pair.First)) + encoders.Sum(Values);
        Assert.True(padded > 0);
        Assert.Equal(activated + (4 * pooled), Own(module => module.ElementwiseOperations));
        Assert.Equal(4 * (pooled + padded + joined), Own(module => module.ActivationBytes));
        Assert.All(ups, up => Assert.Equal(1, up.Calls));
    }

    /// <summary>
    /// What a module says that its functions keep is what a forward makes: every new floating-point tensor that no child module returned.
    /// </summary>
    [Theory]
    [MemberData(nameof(Names))]
    public void Declared_activations_are_the_tensors_that_a_forward_makes(string name)
    {
        Row row = Row.Named(name);
        foreach (AttentionInitialization initialization in new[] { AttentionInitialization.Default, AttentionInitialization.Identity })
        {
            (long declared, long observed) = Compare(row.As(initialization));

            // The relative positions, and the chunks of the k best, end in scopes of their own.
            if (row.Options is SelfAttention2dOptions { RelativePosition: true } or SparseAttentionOptions { Pattern: SparsePattern.TopK }) Assert.True(declared > observed);
            else Assert.Equal(observed, declared);
        }
    }

    private static (long Declared, long Observed) Compare(Row row)
    {
        using KernelSettings kernels = KernelSettings.On();
        using Subject subject = new(row, ScalarType.Float32);
        subject.Mode(false);
        using DisposeScope outer = NewDisposeScope();
        Tensor x = randn(2, row.Channels, 5, 4);
        Tensor[] inputs = row.GuideChannels == 0 ? [x] : [x, randn(2, row.GuideChannels, 3, 2)];
        Dictionary<nn.Module, ValueList<long>> shapes = new(ReferenceEqualityComparer.Instance);
        List<Tensor> returned = [];
        using ModuleHooks hooks = new();
        foreach (nn.Module child in subject.Module.modules().Where(child => child != subject.Module && ModuleHooks.CanWatch(child)))
        {
            hooks.Around(child, _ => { }, (module, _, output) =>
            {
                Tensor made = ModuleHooks.Tensors(output).Single();
                shapes[module] = ValueList.Create<long>(made.shape);
                returned.Add(made);
            });
        }

        long product = 0;
        using DisposeScope scope = NewDisposeScope();
        AttentionKernels.Enabled = false;
        using IDisposable quiet = no_grad();
        string method = subject.Module is AttentionModule ? "Attend" : "EffectiveGate";
        MethodInfo? attend = null;
        for (Type type = subject.Module.GetType(); attend is null; type = type.BaseType!)
        {
            attend = type.GetMethod(
                method, BindingFlags.Instance | BindingFlags.NonPublic | BindingFlags.DeclaredOnly, [.. inputs.Select(_ => typeof(Tensor))]);
        }

        attend.Invoke(subject.Module, BindingFlags.DoNotWrapExceptions, null, [.. inputs], null);
        if (subject.Module is not AttentionModule) product = x.numel();

        HashSet<nint> others = [.. inputs.Concat(subject.Module.parameters()).Concat(subject.Module.named_buffers().Select(buffer => buffer.buffer))
            .Concat(returned.Where(tensor => !tensor.IsInvalid)).Select(Storage)];
        long observed = product + scope.DisposablesView.OfType<Tensor>().Where(tensor => tensor.is_floating_point() && !others.Contains(Storage(tensor)))
            .GroupBy(Storage).Sum(same => same.Max(Span));
        FunctionCount count = new(child => shapes.GetValueOrDefault(child));
        ((ICountsFunctions)subject.Module).Count(count, inputs);
        return (count.Kept, observed);
    }

    private static unsafe nint Storage(Tensor tensor) => (nint)MapView.Pointer(tensor) - (nint)(tensor.storage_offset() * tensor.ElementSize);

    private static long Span(Tensor tensor)
        => 1 + tensor.storage_offset() + tensor.shape.Zip(tensor.stride()).Sum(dimension => (dimension.First - 1) * dimension.Second);
}
