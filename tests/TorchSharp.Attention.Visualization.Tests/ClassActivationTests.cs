namespace TorchSharp.Attention.Visualization.Tests;

/// <summary>Class activation maps against loops over the equations.</summary>
public sealed class ClassActivationTests
{
    private const int Rows = 2, Columns = 3, Positions = Rows * Columns;

    private static readonly double[][] Images =
    [
        [0.2, -1.0, 0.7, 1.5, -0.3, 0.05],
        [-0.4, 2.0, 0.3, 0.0, 1.1, -2.0],
    ];

    [Theory]
    [InlineData(ClassActivationMethod.GradCam)]
    [InlineData(ClassActivationMethod.GradCamPlusPlus)]
    [InlineData(ClassActivationMethod.ScoreCam)]
    public void Maps_are_those_of_the_equations(ClassActivationMethod method)
    {
        using DisposeScope scope = NewDisposeScope();
        using TinyNetwork network = new();
        Tensor input = tensor(Images.SelectMany(image => image).ToArray(), [2, 1, Rows, Columns]);
        using ClassActivationMaps result = ClassActivation.Compute(network, input, "conv", method, [1, 0], channelsAtOnce: 2);
        Assert.Equal([2, Rows, Columns], result.Maps.shape);
        double[] maps = result.Maps.data<double>().ToArray();
        bool anything = false;
        for (int n = 0; n < 2; n++)
        {
            long wanted = 1 - n;
            Assert.Equal(wanted, result.Classes[n]);
            Assert.Equal(Logit(Images[n], wanted), result.Scores[n], 12);
            double[] weights = [.. Enumerable.Range(0, 3).Select(k => Weight(Images[n], k, wanted, method))];
            if (method == ClassActivationMethod.ScoreCam)
            {
                double sum = weights.Sum(Math.Exp);
                weights = [.. weights.Select(weight => Math.Exp(weight) / sum)];
            }

            for (int i = 0; i < Positions; i++)
            {
                double expected = Math.Max(0, Enumerable.Range(0, 3).Sum(k => weights[k] * Activation(Images[n], k, i)));
                Assert.Equal(expected, maps[(n * Positions) + i], 12);
                anything |= expected > 0;
            }
        }

        Assert.True(anything);
    }

    [Fact]
    public void The_networks_own_choice_is_explained_where_no_class_is_given()
    {
        using TinyNetwork network = new();
        using Tensor input = tensor(Images[0], [1, 1, Rows, Columns]);
        using ClassActivationMaps result = ClassActivation.Compute(network, input, "conv");
        Assert.Equal(Logit(Images[0], 0) > Logit(Images[0], 1) ? 0 : 1, result.Classes[0]);
    }

    [Theory]
    [InlineData(ClassActivationMethod.GradCam)]
    [InlineData(ClassActivationMethod.GradCamPlusPlus)]
    public void A_layer_without_influence_gives_zeros_and_no_end_of_the_process(ClassActivationMethod method)
    {
        using TinyNetwork network = new();
        using Tensor input = tensor(Images[0], [1, 1, Rows, Columns]);
        using ClassActivationMaps result = ClassActivation.Compute(network, input, "side", method);
        Assert.Equal(new double[Positions], result.Maps.data<double>().ToArray());
    }

    [Theory]
    [InlineData(ClassActivationMethod.GradCam)]
    [InlineData(ClassActivationMethod.ScoreCam)]
    public void The_network_stays_as_it_was_and_nothing_is_left(ClassActivationMethod method)
    {
        using TinyNetwork network = new();
        network.train();
        nn.Module drop = network.named_modules().Single(pair => pair.name == "drop").module;
        using Tensor input = tensor(Images[0], [1, 1, Rows, Columns]);
        using (no_grad())
        {
            ClassActivation.Compute(network, input, "conv", method).Dispose();
        }

        long before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        for (int i = 0; i < 100; i++) ClassActivation.Compute(network, input, "conv", method).Dispose();
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
        Assert.True(network.training && drop.training);
        Assert.All(network.parameters(), parameter => Assert.True(parameter.grad is null));
        Assert.False(input.requires_grad);
    }

    /// <summary>A table that the network makes at its first call, here a map's, must outlive it.</summary>
    [Theory]
    [InlineData(ClassActivationMethod.GradCam)]
    [InlineData(ClassActivationMethod.ScoreCam)]
    public void What_the_network_keeps_lives_on(ClassActivationMethod method)
    {
        using KeepingNet network = new();
        using Tensor input = rand(1, 1, 8, 8);
        ClassActivation.Compute(network, input, "conv", method).Dispose();
        network.call(input).Dispose();
        using KeepingNet other = new();
        AttentionOverlays.Draw(other, input).Dispose();
        other.call(input).Dispose();
    }

    /// <summary>Where no layer opens a dispose scope, the hook runs in the scope of the whole computation, which must free the leaf too.</summary>
    [Theory]
    [InlineData(ClassActivationMethod.GradCam)]
    [InlineData(ClassActivationMethod.ScoreCam)]
    public void Nothing_is_left_of_a_network_without_dispose_scopes(ClassActivationMethod method)
    {
        using SmallNet network = new();
        using Tensor input = rand(2, 1, 8, 8);
        ClassActivation.Compute(network, input, "stage1", method).Dispose();
        long before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        for (int i = 0; i < 10; i++) ClassActivation.Compute(network, input, "stage1", method).Dispose();
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }

    [Fact]
    public void It_works_on_the_librarys_networks_with_fused_attention()
    {
        // Another network's maps may be zero everywhere.
        manual_seed(7);
        using ResNet network = new(new ResNetOptions
        {
            Layers = [1, 1],
            StagePlanes = [8, 16],
            StemWidth = 8,
            Stem = ResNetStem.Small,
            Classes = 3,
            InputChannels = 1,
            Attention = AttentionPlan.Of(new CbamOptions { Reduction = 4, KernelSize = 3 }),
        });
        using Tensor input = randn(2, 1, 12, 12);
        foreach (ClassActivationMethod method in Enum.GetValues<ClassActivationMethod>())
        {
            using ClassActivationMaps early = ClassActivation.Compute(network, input, "layer1", method), attention = ClassActivation.Compute(network, input, "layer2.0.attn", method);
            Assert.Equal([2, 12, 12], early.Maps.shape);
            Assert.Equal([2, 6, 6], attention.Maps.shape);
            Assert.True(early.Maps.sum().item<float>() > 0, method.ToString());
        }
    }

    [Fact]
    public void Bad_input_is_an_error_that_helps()
    {
        using TinyNetwork network = new();
        using Tensor input = tensor(Images[0], [1, 1, Rows, Columns]);
        Assert.Contains("conv, fc, side", Error("layer9").Message, StringComparison.Ordinal);
        Assert.Contains("does not reach the layer 'lost'", Error("lost").Message, StringComparison.Ordinal);
        Assert.Contains("it must make maps", Error("fc").Message, StringComparison.Ordinal);
        Assert.Contains("classes 0 to 1", Error("conv", 2).Message, StringComparison.Ordinal);
        Assert.Contains("2 entries for 1 images", Error("conv", 0, 0).Message, StringComparison.Ordinal);

        ArgumentException Error(string layer, params long[] classes)
            => Assert.ThrowsAny<ArgumentException>(() => ClassActivation.Compute(network, input, layer, classes: classes.Length == 0 ? null : classes));
    }

    private static double Activation(double[] image, int k, int i) => (TinyNetwork.W[k] * image[i]) + TinyNetwork.B[k];

    private static double Logit(double[] image, long wanted)
        => Enumerable.Range(0, 3).Sum(k => TinyNetwork.V[wanted, k] * Enumerable.Range(0, Positions).Average(i => Math.Max(0, Activation(image, k, i))));

    private static double Weight(double[] image, int k, long wanted, ClassActivationMethod method)
    {
        double[] a = [.. Enumerable.Range(0, Positions).Select(i => Activation(image, k, i))];
        double[] g = [.. a.Select(value => value > 0 ? TinyNetwork.V[wanted, k] / Positions : 0)];
        switch (method)
        {
            case ClassActivationMethod.GradCam:
                return g.Average();
            case ClassActivationMethod.GradCamPlusPlus:
                double sum = a.Sum(), weight = 0;
                foreach (double one in g)
                {
                    double below = (2 * one * one) + (sum * one * one * one);
                    if (below != 0) weight += one * one / below * Math.Max(one, 0);
                }

                return weight;
            default:
                return Logit([.. image.Select((value, i) => value * (a[i] - a.Min()) / (a.Max() - a.Min()))], wanted);
        }
    }

    /// <summary>Keeps a table for each size of maps, and its last map.</summary>
    private sealed class KeepingNet : nn.Module<Tensor, Tensor>
    {
        private readonly Modules.Conv2d conv = nn.Conv2d(1, 4, 3);
        private readonly SpatialAttention attn = new(4, new SpatialAttentionOptions { KernelSize = 3 });
        private readonly Dictionary<long, Tensor> _tables = [];
        private (string Name, Tensor? Map) _last;

        public KeepingNet()
            : base(nameof(KeepingNet)) => RegisterComponents();

        public override Tensor forward(Tensor x)
        {
            Tensor y = attn.call(conv.call(x));
            if (!_tables.TryGetValue(y.size(3), out Tensor? table)) _tables[y.size(3)] = table = ones(1, 1, 1, y.size(3));
            if (_last.Map is { } last) Assert.False(last.IsInvalid);
            _last = ("y", y);
            return y.mul(table).mean([2, 3]);
        }
    }
}
