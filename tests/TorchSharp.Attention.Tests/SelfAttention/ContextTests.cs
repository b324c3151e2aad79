namespace TorchSharp.Attention.Tests;

/// <summary>What contexts promise beyond their formula: their cost, and how the papers start them.</summary>
public class ContextTests
{
    /// <summary>Convolutions, and the products that are not modules, written out for a map of 12 channels, 4 × 5, batch 2.</summary>
    private static readonly (AttentionOptions Options, long Expected)[] Costs =
    [
        (new GlobalContextOptions { Reduction = 3 }, 2 * ((20 * 12) + (20 * 12) + (2 * 12 * 4))),
        (new GlobalContextOptions { Reduction = 3, AttentionPooling = false }, 2 * 2 * 12 * 4),
        (new NonLocalOptions(), 2 * ((4 * 20 * 12 * 6) + (2 * 20 * 20 * 6))),
        (new NonLocalOptions { Pairwise = NonLocalPairwise.DotProduct }, 2 * ((4 * 20 * 12 * 6) + (2 * 20 * 6 * 6))),
        (new PositionAttentionOptions { Reduction = 4 }, 2 * ((20 * 12 * (3 + 3 + 12)) + (20 * 20 * (3 + 12)))),
        (new ChannelSelfAttentionOptions(), 2 * 2 * 12 * 12 * 20),
        (new CrissCrossAttentionOptions { Reduction = 4 }, 2 * ((20 * 12 * (3 + 3 + 12)) + (20 * (4 + 5) * (3 + 12)))),
        (CrissCrossAttentionOptions.Paper with { Reduction = 4 }, 2 * 2 * ((20 * 12 * (3 + 3 + 12)) + (20 * (4 + 5) * (3 + 12)))),

        // Four padded windows of 9 slots; products of the layers count every slot.
        (new WindowAttentionOptions { WindowSize = 3 }, 2 * ((36 * 12 * 48) + (2 * 36 * 9 * 12))),
        (new BottleneckAttentionOptions { FeatureHeight = 4, FeatureWidth = 3 }, 2 * ((20 * 12 * 36) + (2 * 20 * 20 * 12) + (20 * 12 * (7 + 9)))),

        // Six padded blocks of 4 queries and 16 keys.
        (new HaloAttentionOptions { Heads = 3, BlockSize = 2, HaloSize = 1 }, 2 * ((20 * 12 * 36) + (2 * 24 * 16 * 12) + (24 * 12 * (7 + 7)))),

        // Values of 3 channels: the content lambda, the position lambda's convolution, and both applied to 4 heads' queries.
        (new LambdaLayerOptions { KeyWidth = 4, KernelSize = 3 }, 2 * 20 * ((12 * (16 + 4 + 3)) + (4 * 3) + (4 * 3 * 9) + (2 * 4 * 4 * 3))),

        // 8 reduced channels, 2 groups, padded to 4 × 6: four 1×1 layers, two layers to 8 values, two products over blocks of 2.
        (new BatAttentionOptions { BlockSize = 2 }, 2 * ((20 * ((12 * 8) + (8 * 2) + (8 * 8) + (8 * 12))) + (2 * 8 * 4) + (2 * 2 * 8 * 24))),

        // Blocks of 5: a query has 5 + 4 keys.
        (new SparseAttentionOptions(), 2 * ((20 * 12 * 48) + (2 * 20 * 9 * 12))),
        (new SparseAttentionOptions { Pattern = SparsePattern.TopK }, 2 * ((20 * 12 * 48) + (2 * 20 * 20 * 12))),

        // Four heads of 3 channels: Σ φ(k) vᵀ, its product with φ(q), and the denominator.
        (new LinearAttentionOptions(), 2 * ((20 * 12 * 48) + (20 * 4 * ((2 * 3 * 3) + 3)))),
    ];

    public static TheoryData<int> CostRows => [.. Enumerable.Range(0, Costs.Length)];

    [Theory]
    [MemberData(nameof(CostRows))]
    public void Cost_counts_every_product(int row)
    {
        (AttentionOptions options, long expected) = Costs[row];
        using AttentionModule module = options.Create(12);
        Assert.Equal(expected, ModelCost.Measure(module, 2, 12, 4, 5).MultiplyAccumulates);
    }

    public static TheoryData<string> IdentityAtFirst => ["gc", "nl", "pam", "cam", "criss-cross"];

    [Theory]
    [MemberData(nameof(IdentityAtFirst))]
    public void The_papers_start_is_the_identity(string name)
    {
        Row row = Row.Named(name).As(AttentionInitialization.Paper);
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = new(row);
        Tensor x = MapShape.Several[0].Input(row, 1).Tensor();
        Near.Identical(x, subject.Mode(true).Forward(x, null));
    }

    [Fact]
    public void Linear_attention_stays_exact_where_elu_plus_one_rounds_to_zero()
    {
        using DisposeScope scope = NewDisposeScope();
        using LinearAttention module = new(4, new() { Heads = 1 });
        using (no_grad())
        {
            module.state_dict()["qkv.weight"].zero_();
            module.state_dict()["qkv.bias"].copy_(tensor([-30.0, -30, -30, -30, -25, -25, -25, -25, 1, 1, 1, 1]));
        }

        module.to(ScalarType.BFloat16);
        Tensor x = randn(1, 4, 2, 3).to_type(ScalarType.BFloat16).requires_grad_(true);
        Assert.All(module.Weights(x).Doubles(), weight => Assert.Equal(1.0 / 6, weight, 1e-3));
        Tensor y = module.call(x);
        y.sum().backward();
        Assert.All(y.Doubles().Concat(x.grad!.Doubles()), value => Assert.True(double.IsFinite(value)));
    }

    public static TheoryData<string> WithoutMatrix => ["self", "nl", "pam", "sparse", "top"];

    /// <summary>
    /// One matrix of 2304 × 2304 positions has 21 MB in each head. Where libtorch cannot fuse (a strided axis, widths that differ) it falls
    /// back silently, with the same numbers: only memory shows it.
    /// </summary>
    [Theory]
    [MemberData(nameof(WithoutMatrix))]
    public void The_forward_path_never_holds_the_matrix_of_weights(string kind)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Reads the peak from /proc.");
        AttentionOptions options = kind switch
        {
            "self" => new SelfAttention2dOptions(),
            "nl" => new NonLocalOptions(),
            "pam" => new PositionAttentionOptions(),
            "sparse" => new SparseAttentionOptions(),
            _ => new SparseAttentionOptions { Pattern = SparsePattern.TopK },
        };
        using AttentionModule module = options.Create(32);
        using Tensor x = randn(1, 32, 48, 48);
        using (no_grad())
        {
            module.call(x).Dispose();
            long matrices = options is SparseAttentionOptions { Pattern: SparsePattern.TopK } ? 48_000 : 18_000;

            // Other threads of the process allocate too, and the kernel counts the two figures a few pages apart.
            Assert.InRange(Enumerable.Range(0, 5).Min(_ => Peak()), -4_000, matrices);
        }

        long Peak()
        {
            File.WriteAllText("/proc/self/clear_refs", "5");
            long before = Kilobytes("VmRSS:");
            module.call(x).Dispose();
            return Kilobytes("VmHWM:") - before;
        }

        static long Kilobytes(string key) => long.Parse(
            File.ReadLines("/proc/self/status").First(line => line.StartsWith(key, StringComparison.Ordinal))
                .Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)[1],
            System.Globalization.CultureInfo.InvariantCulture);
    }

    /// <summary>
    /// Two samples, two heads, 1089 positions: 4.7 million logits, more than it looks at in one go. In float32 products of two shapes may
    /// put near logits in another order.
    /// </summary>
    [Fact]
    public void Top_k_by_parts_is_the_sum_by_its_weights()
    {
        using DisposeScope scope = NewDisposeScope();
        using SparseAttention module = new(4, new() { Pattern = SparsePattern.TopK, TopKeys = 3, Heads = 2, Residual = false, Bias = false });
        module.to(ScalarType.Float64);
        using (no_grad())
        {
            module.state_dict()["proj.weight"].copy_(eye(4).view(4, 4, 1, 1));
        }

        Tensor x = randn(2, 4, 33, 33, dtype: ScalarType.Float64, requires_grad: true), slope = randn(2, 4, 33, 33, dtype: ScalarType.Float64);
        Tensor value = nn.functional.conv2d(x, module.state_dict()["qkv.weight"].narrow(0, 8, 4)).view(2, 2, 2, 1089);
        Tensor expected = module.Weights(x).matmul(value.transpose(2, 3)).transpose(2, 3).reshape(x.shape);
        Near.Equal(expected.Doubles(), module.call(x).Doubles(), 1e-10, "output", ofLargest: 1);
        Near.Equal(Slope(expected), Slope(module.call(x)), 1e-10, "slope", ofLargest: 1);

        double[] Slope(Tensor y)
        {
            x.grad?.zero_();
            y.mul(slope).sum().backward();
            return x.grad!.Doubles();
        }
    }

    [Fact]
    public void Channel_dropout_drops_whole_channels_of_the_context_in_training_alone()
    {
        // A sum that nearly cancels has no ratio that float32 knows well.
        manual_seed(7);
        using DisposeScope scope = NewDisposeScope();
        using BatAttention module = new(64, BatAttentionOptions.Timm with { BlockSize = 2, ChannelDropout = 0.5 });
        using BatAttention plain = new(64, new() { BlockSize = 2 });
        plain.load_state_dict(module.state_dict());
        Tensor x = randn(4, 64, 4, 4);
        Tensor context = plain.call(x).sub(x), dropped = module.call(x).sub(x);
        double[] ratio = dropped.sum([2, 3]).div(context.sum([2, 3])).Doubles();
        Assert.All(ratio.Where(double.IsFinite), value => Assert.Equal(0, Math.Min(Math.Abs(value), Math.Abs(value - 2)), 1e-3));
        Assert.InRange(ratio.Count(value => Math.Abs(value) < 1e-3), 64, 192);
        module.load_state_dict(plain.state_dict());
        plain.eval();
        module.eval();
        Near.Equal(plain.call(x), module.call(x), 1e-5, "evaluation");
    }

    [Fact]
    public void Papers_starts_of_gates_and_lambdas()
    {
        using GlobalContext context = new(32, new() { Fusion = GlobalContextFusion.ScaleAndAdd, Initialization = AttentionInitialization.Paper });
        Assert.All(context.state_dict()["mlp_scale.fc2.weight"].Doubles(), value => Assert.Equal(0, value));
        Assert.All(context.state_dict()["mlp_add.fc2.weight"].Doubles(), value => Assert.Equal(0, value));

        using LambdaLayer lambda = new(256, new() { Initialization = AttentionInitialization.Paper });
        double[] projections = lambda.state_dict()["qkv.weight"].Doubles();
        Assert.Equal(1.0 / 64, Deviation(projections[..(64 * 256)]), 1e-3);
        Assert.Equal(1.0 / 16, Deviation(projections[(64 * 256)..]), 3e-3);
        Assert.Equal(1, Deviation(lambda.state_dict()["conv_lambda.weight"].Doubles()), 0.05);

        static double Deviation(double[] values) => Math.Sqrt(values.Average(value => value * value));
    }
}
