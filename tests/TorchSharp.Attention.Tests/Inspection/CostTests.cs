using System.Globalization;
using System.Text.Json.Nodes;
using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>Every column of the cost, counted by hand; networks of users; nothing left behind.</summary>
public sealed class CostTests
{
    private static readonly string[] TableEnd = ["all", "145", "13,864", "2,698", "0.02", "0.01"];

    /// <summary>Layer, shape of its input, strict, element-wise, thop, fvcore.</summary>
    public static TheoryData<string, long[], long, long, long, long> Layers => new()
    {
        { "conv with bias", [1, 4, 5, 5], 6 * 9 * 36, 54, 6 * 9 * 36, 6 * 9 * 36 },
        { "grouped 1-d conv", [2, 4, 5], 2 * 6 * 3 * 6, 0, 216, 216 },
        { "transposed conv", [1, 4, 5, 5], 100 * 27, 726, 726 * 2 * 9, 2700 },
        { "linear", [2, 3, 4], 6 * 5 * 4, 30, 120, 120 },
        { "linear without bias", [2, 4], 40, 0, 40, 40 },
        { "batch norm", [2, 4, 3, 3], 0, 144, 288, 144 },
        { "batch norm without scale", [1, 4, 3, 3], 0, 72, 72, 36 },
        { "batch norm without statistics", [2, 4, 3, 3], 0, 7 * 72, 4 * 72, 5 * 72 },
        { "batch norm of the batch alone", [2, 4, 3, 3], 0, 5 * 72, 2 * 72, 4 * 72 },
        { "group norm", [1, 4, 3, 3], 0, 252, 0, 180 },
        { "group norm without scale", [1, 4, 3, 3], 0, 180, 0, 144 },
        { "layer norm without scale", [2, 3], 0, 30, 12, 24 },
        { "instance norm with scale", [1, 4, 3, 3], 0, 252, 144, 180 },
        { "2-d softmax", [1, 3, 2, 2], 0, 36, 0, 0 },
        { "log-softmax", [2, 5], 0, 30, 0, 0 },
        { "leaky relu", [2, 3], 0, 6, 0, 0 },
        { "1-d adaptive average pool", [1, 3, 6], 0, 18, (3 + 1) * 6, 0 },
        { "1-d linear", [1, 1, 4], 0, 24, 40, 0 },
        { "bicubic", [1, 1, 2, 2], 0, 31 * 16, 259 * 16, 0 },
        { "trilinear", [1, 1, 2, 2, 2], 0, 15 * 64, 0, 0 },
        { "layer norm", [2, 3], 0, 42, 24, 30 },
        { "instance norm", [1, 4, 3, 3], 0, 180, 72, 144 },
        { "softmax", [2, 5], 0, 30, 28, 0 },
        { "gelu", [2, 5], 0, 10, 0, 0 },
        { "prelu", [2, 3], 0, 6, 6, 0 },
        { "max pool", [1, 1, 4, 4], 0, 16, 0, 0 },
        { "average pool", [1, 1, 4, 4], 0, 16, 4, 0 },
        { "oblong average pool", [1, 1, 4, 6], 0, 24, 4, 0 },
        { "adaptive average pool", [1, 3, 5, 4], 0, 60, (5 + 1) * 12, 60 },
        { "nearest", [1, 1, 2, 2], 0, 0, 16, 16 },
        { "bilinear", [1, 1, 2, 2], 0, 112, 176, 64 },
        { "dropout", [1, 1, 2, 2], 0, 0, 0, 0 },
    };

    [Theory]
    [MemberData(nameof(Layers))]
    public void A_layer_costs_what_its_formula_says(string name, long[] shape, long strict, long elementwise, long thop, long fvcore)
    {
        using nn.Module<Tensor, Tensor> layer = name switch
        {
            "conv with bias" => nn.Conv2d(4, 6, 3),
            "grouped 1-d conv" => nn.Conv1d(4, 6, 3, groups: 2, bias: false),
            "transposed conv" => nn.ConvTranspose2d(4, 6, 3, stride: 2, groups: 2),
            "linear" => nn.Linear(4, 5),
            "linear without bias" => nn.Linear(4, 5, hasBias: false),
            "batch norm" => nn.BatchNorm2d(4),
            "batch norm without scale" => nn.BatchNorm2d(4, affine: false),
            "batch norm without statistics" => nn.BatchNorm2d(4, track_running_stats: false),
            "batch norm of the batch alone" => nn.BatchNorm2d(4, affine: false, track_running_stats: false),
            "group norm" => nn.GroupNorm(2, 4),
            "group norm without scale" => nn.GroupNorm(2, 4, affine: false),
            "layer norm without scale" => nn.LayerNorm(3, elementwise_affine: false),
            "instance norm with scale" => nn.InstanceNorm2d(4, affine: true),
            "2-d softmax" => nn.Softmax2d(),
            "log-softmax" => nn.LogSoftmax(1),
            "leaky relu" => nn.LeakyReLU(0.1),
            "1-d adaptive average pool" => nn.AdaptiveAvgPool1d(2),
            "1-d linear" => nn.Upsample(scale_factor: [2], mode: UpsampleMode.Linear),
            "bicubic" => nn.Upsample(scale_factor: [2, 2], mode: UpsampleMode.Bicubic),
            "trilinear" => nn.Upsample(scale_factor: [2, 2, 2], mode: UpsampleMode.Trilinear),
            "layer norm" => nn.LayerNorm(3),
            "instance norm" => nn.InstanceNorm2d(4),
            "softmax" => nn.Softmax(1),
            "gelu" => nn.GELU(),
            "prelu" => nn.PReLU(1),
            "max pool" => nn.MaxPool2d(2),
            "average pool" => nn.AvgPool2d(2),
            "oblong average pool" => nn.AvgPool2d((2, 3), (2, 3)),
            "adaptive average pool" => nn.AdaptiveAvgPool2d((2, 2)),
            "nearest" => nn.Upsample(scale_factor: [2, 2]),
            "bilinear" => nn.Upsample(scale_factor: [2, 2], mode: UpsampleMode.Bilinear),
            "dropout" => nn.Dropout(0.5),
            _ => throw new ArgumentException(name),
        };
        ModelCost cost = ModelCost.Measure(layer, shape);
        Assert.Equal(
            (strict, elementwise, thop, fvcore),
            (cost.MultiplyAccumulates, cost.Total.ElementwiseOperations, cost.Total.Operations(CostConvention.Thop), cost.Total.Operations(CostConvention.Fvcore)));
        Assert.Equal(CostCoverage.Counted, cost.Total.Coverage);
        Assert.Empty(cost.NotCounted);
    }

    [Fact]
    public void A_small_network_is_counted_as_by_hand()
    {
        using Sequential network = Small();
        ModelCost cost = ModelCost.Measure(network, 2, 3, 8, 8);
        Assert.Equal([2, 3, 8, 8], cost.InputShape);
        Assert.Equal((145, 13_824 + 40), (cost.Parameters, cost.MultiplyAccumulates));
        Assert.Equal(512 + 1024 + 512 + 512 + 128 + 10, cost.Total.ElementwiseOperations);
        Assert.Equal(13_864 + 2048 + 136, cost.Total.Operations(CostConvention.Thop));
        Assert.Equal(13_864 + 1024 + 128, cost.Total.Operations(CostConvention.Fvcore));

        // Inputs, outputs, parameters, buffers; flatten moves nothing.
        Assert.Equal((1536 + 2048 + 448) + (2048 + 2048 + 32 + 40) + 4096 + (2048 + 512) + (512 + 32) + (32 + 40 + 100), cost.Total.BytesMoved);
        Assert.Equal(2048 + 2048 + 2048 + 512 + 32 + 40, cost.Total.ActivationBytes);
        Assert.Null(cost.Total.Milliseconds);

        ModuleCost conv = cost["conv"];
        Assert.Equal(("Conv2d(3 → 4, 3×3)", 112, 13_824, 512, 1), (conv.Description, conv.Parameters, conv.MultiplyAccumulates, conv.ElementwiseOperations, conv.Calls));
        Assert.Equal([2, 4, 8, 8], conv.OutputShape);
        Assert.Equal(["", "conv", "bn", "relu", "pool", "avg", "flat", "fc"], cost.Modules.Select(module => module.Path));
        Assert.Contains("'nowhere'", Assert.Throws<ArgumentException>(() => cost["nowhere"]).Message, StringComparison.Ordinal);
        Assert.Equal(cost, ModelCost.Measure(network, 2, 3, 8, 8));
        Assert.NotEqual(cost, ModelCost.Measure(network, 1, 3, 8, 8));
    }

    [Fact]
    public void Activations_in_place_keep_nothing()
    {
        using ReLU layer = nn.ReLU(inplace: true);
        ModuleCost cost = ModelCost.Measure(layer, 2, 3).Total;
        Assert.Equal((6, 48, 0), (cost.ElementwiseOperations, cost.BytesMoved, cost.ActivationBytes));
    }

    /// <summary>CBAM's halves count themselves, whether they are called or run side by side.</summary>
    [Fact]
    public void A_gate_of_gates_costs_what_they_cost()
    {
        using Cbam cbam = new(8, new CbamOptions { Reduction = 2 });
        ModuleCost both = ModelCost.Measure(cbam, 2, 8, 4, 4).Total;
        Assert.Equal(both.Children.Sum(half => half.ElementwiseOperations), both.ElementwiseOperations);
        Assert.All(both.Children, half => Assert.True(half.ElementwiseOperations >= 256));

        using Cbam parallel = new(8, new CbamOptions { Reduction = 2, Order = CbamOrder.Parallel });
        ModelCost unwatched = ModelCost.Measure(parallel, 2, 8, 4, 4);
        Assert.Empty(unwatched.NotCounted);
        Assert.Equal(
            (both.MultiplyAccumulates, both.ElementwiseOperations, both.BytesMoved, both.ActivationBytes),
            (unwatched.MultiplyAccumulates, unwatched.Total.ElementwiseOperations, unwatched.Total.BytesMoved, unwatched.Total.ActivationBytes));
    }

    [Fact]
    public void The_share_of_attention_is_that_of_the_outermost()
    {
        using ResNet network = new(Cases.TinyResNet with { Attention = AttentionPlan.Of(new CbamOptions { Reduction = 2 }) });
        ModelCost cost = ModelCost.Measure(network, 1, 3, 16, 16);
        Assert.All(cost.Attentions, attention => Assert.EndsWith(".attn", attention.Path, StringComparison.Ordinal));
        using ResNet plain = new(Cases.TinyResNet with { Attention = AttentionPlan.None });
        ModelCost without = ModelCost.Measure(plain, 1, 3, 16, 16);
        Assert.Equal((cost.Parameters - without.Parameters) / (double)cost.Parameters, cost.AttentionShare.Parameters, 12);
        Assert.Equal(
            (cost.MultiplyAccumulates - without.MultiplyAccumulates) / (double)cost.MultiplyAccumulates, cost.AttentionShare.MultiplyAccumulates, 12);
        Assert.Equal((cost.Total.BytesMoved - without.Total.BytesMoved) / (double)cost.Total.BytesMoved, cost.AttentionShare.BytesMoved, 12);
        Assert.Equal(new AttentionShare(0, 0, 0, 0, 0, null), without.AttentionShare);
        Assert.Empty(cost.NotCounted);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Nothing_depends_on_the_fused_kernels_and_their_switch_is_put_back(bool enabled)
    {
        using KernelSettings kernels = KernelSettings.On();
        AttentionPlan plan = AttentionPlan.Of(new CbamOptions { Reduction = 2 }).Add(new SqueezeExcitationOptions { Reduction = 2 });
        using ResNet network = new(Cases.TinyResNet with { Attention = plan });
        AttentionKernels.Enabled = !enabled;
        ModelCost other = ModelCost.Measure(network, 1, 3, 16, 16);
        AttentionKernels.Enabled = enabled;
        Assert.Equal(other, ModelCost.Measure(network, 1, 3, 16, 16));
        Assert.Equal(enabled, AttentionKernels.Enabled);
    }

    [Fact]
    public void What_cannot_be_counted_is_listed()
    {
        using UserNetwork network = new();
        ModelCost cost = ModelCost.Measure(network, 2, 4, 6, 6);
        Assert.Equal(
            ["lstm", "encoder", "scale", "table", "unused", "direct"], cost.NotCounted.Select(module => module.Path));
        Assert.Equal(CostCoverage.NotCounted, cost["lstm"].Coverage);
        Assert.Equal(CostCoverage.NotCounted, cost["encoder"].Coverage);
        Assert.Equal(CostCoverage.NotCounted, cost["scale"].Coverage);
        Assert.Equal(CostCoverage.NotCounted, cost["table"].Coverage);
        Assert.Equal(CostCoverage.NotCalled, cost["unused"].Coverage);
        Assert.Equal(CostCoverage.NotCalled, cost["direct"].Coverage);
        Assert.Equal(CostCoverage.PartlyCounted, cost.Total.Coverage);
        Assert.Equal(CostCoverage.Counted, cost["declared"].Coverage);

        // The convolution is called twice, and stands at two places; the declared product counts.
        Assert.Equal((2, 2 * 2 * 36 * 4 * 4, 16), (cost["conv"].Calls, cost["conv"].MultiplyAccumulates, cost["conv"].Parameters));
        Assert.Equal(cost["conv"].MultiplyAccumulates + 77, cost.MultiplyAccumulates);
        Assert.Equal(network.parameters().Sum(parameter => parameter.numel()), cost.Parameters);
        Assert.DoesNotContain(cost.Modules, module => module.Path == "again");

        string text = cost.ToString();
        Assert.Contains("! not counted: lstm: LSTM, ", text, StringComparison.Ordinal);
        Assert.Contains("! not counted: direct: Conv2d(4 → 4, 1×1), 20 parameters; never called, or by forward instead of call", text, StringComparison.Ordinal);
        Assert.Contains("of UserNetwork only the modules inside are counted", text, StringComparison.Ordinal);
    }

    /// <summary>nn.MultiheadAttention returns a tensor without a handle in place of weights that nobody asked for.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Multi_head_attention_is_measured_with_and_without_weights(bool weights)
    {
        using WeightlessAttention network = new(weights);
        ModelCost cost = ModelCost.Measure(network, 5, 2, 8);
        Assert.Equal(["mha"], cost.NotCounted.Select(module => module.Path));
        Assert.Equal(network.parameters().Sum(parameter => parameter.numel()), cost.Parameters);
        Assert.Equal([5, 2, 8], cost.Total.OutputShape!.ToArray());
        Assert.Equal(weights ? null : [5, 2, 8], cost["mha"].OutputShape?.ToArray());
        Assert.NotNull(ModelCost.Measure(network, new CostOptions { Repetitions = 1 }, 5, 2, 8).Total.Milliseconds);
    }

    /// <summary>A network whose output is a dictionary: its tensors are outputs like those of a tuple.</summary>
    [Fact]
    public void Outputs_in_a_dictionary_count()
    {
        using DictionaryNetwork network = new();
        using Tensor input = randn(1, 4);
        ModelCost cost = ModelCost.Measure(network, new CostOptions(), [input]);
        Assert.Equal(4 * 3, cost.MultiplyAccumulates);
        Assert.Null(cost.Total.OutputShape);
        Assert.Equal([""], cost.PartlyCounted.Select(module => module.Path));
    }

    /// <summary>The second wrapper has no line for the layer, which stands below the first; that makes it no layer without a formula.</summary>
    [Fact]
    public void A_class_whose_submodule_stands_elsewhere_too_is_a_class_and_not_an_uncounted_layer()
    {
        using Linear shared = nn.Linear(10, 10);
        using ReLU activation = nn.ReLU();
        using Sequential network = nn.Sequential(("a", new Wrap(shared)), ("b", new Wrap(shared)), ("c", new Wrap(activation)), ("d", new Wrap(activation)), ("e", new Wrap(nn.Sequential(shared))));
        ModelCost cost = ModelCost.Measure(network, 1, 10);
        Assert.Equal(300, cost.MultiplyAccumulates);
        Assert.Empty(cost.NotCounted);
        Assert.Equal(["a", "b", "c", "d", "e"], cost.PartlyCounted.Select(module => module.Path));
        Assert.Equal(110, cost.Parameters);

        // The shared layer moves its bytes three times: 110 parameters, 10 values in, 10 out. The wrappers move none.
        Assert.Equal((3 * 130 * 4) + (2 * 20 * 4), cost.Total.BytesMoved);
    }

    [Fact]
    public void An_embedding_takes_an_input_of_ones_own()
    {
        using Sequential network = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 3));
        using Tensor words = tensor(new long[] { 1, 2, 9 });
        ModelCost cost = ModelCost.Measure(network, new CostOptions(), words);
        Assert.Equal((40 + 15, 36), (cost.Parameters, cost.MultiplyAccumulates));
        Assert.False(words.IsInvalid);
    }

    [Fact]
    public void Time_is_measured_where_asked_for()
    {
        using UserNetwork network = new();
        ModelCost cost = ModelCost.Measure(network, new CostOptions { Repetitions = 3, WarmUps = 1 }, 1, 4, 6, 6);
        Assert.True(cost.Total.Milliseconds > 0);
        Assert.All(cost.Modules, module => Assert.Equal(module.Calls > 0, module.Milliseconds > 0));
        Assert.Equal(2, cost["conv"].Calls);
        Assert.Contains("  ms\n", cost.ToTable(), StringComparison.Ordinal);
    }

    [Fact]
    public void Attentions_are_timed_as_they_run_or_down_to_their_layers()
    {
        using SqueezeExcitation gate = new(16);
        using Sequential network = nn.Sequential(("conv", nn.Conv2d(3, 16, 3)), ("attn", gate));
        CostOptions options = new() { Repetitions = 2 };
        ModelCost running = ModelCost.Measure(network, options, 1, 3, 9, 9), layers = ModelCost.Measure(network, options with { FusedKernels = false }, 1, 3, 9, 9);
        Assert.All(new[] { "conv", "attn" }, path => Assert.True(running[path].Milliseconds > 0 && layers[path].Milliseconds > 0));
        Assert.Null(running["attn.fc1"].Milliseconds);
        Assert.True(layers["attn.fc1"].Milliseconds > 0);
        Assert.True(running.AttentionShare.Milliseconds is > 0 and < 1);
        Assert.Contains("fc1", running.ToTree(), StringComparison.Ordinal);
        Assert.Equal(layers.MultiplyAccumulates, running.MultiplyAccumulates);
        Assert.True(AttentionKernels.Enabled);
    }

    [Fact]
    public void A_network_of_several_inputs_is_measured_as_its_call_takes_them()
    {
        using TwoInputNetwork network = new();
        using Tensor x = randn(1, 3, 6, 6), guide = randn(1, 1, 6, 6);
        ModelCost cost = ModelCost.Measure(network, new CostOptions { Repetitions = 1 }, [x, guide]);
        Assert.Equal([[1, 3, 6, 6], [1, 1, 6, 6]], cost.InputShapes.Select(shape => shape.ToArray()));
        Assert.Equal(network.parameters().Sum(parameter => parameter.numel()), cost.Parameters);
        Assert.Equal((3 + 1) * 6 * 9 * 36, cost.MultiplyAccumulates);
        Assert.True(cost.Total.Milliseconds > 0);
        Assert.Equal([""], cost.PartlyCounted.Select(module => module.Path));
        Assert.Equal(["merge", "sequence"], cost.NotCounted.Select(module => module.Path));
        Assert.Contains("no call with 1 tensor;", Assert.Throws<ArgumentException>(() => ModelCost.Measure(network, new CostOptions(), [x])).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => ModelCost.Measure(network, new CostOptions(), (IReadOnlyList<Tensor>)[]));
    }

    [Fact]
    public void Modes_statistics_and_random_numbers_stay_as_they_were()
    {
        using UserNetwork network = new();
        using Counting counting = new();
        ModelCost.Measure(counting, 2, 4, 6, 6);
        Assert.Equal(0, counting.Calls);
        using BatchNorm2d norm = nn.BatchNorm2d(4);
        using Sequential both = nn.Sequential(("norm", norm), ("network", network));
        both.train();
        network.eval();
        random.manual_seed(7);
        double first = Next(), second = Next();
        random.manual_seed(7);
        Assert.Equal(first, Next());
        ModelCost.Measure(both, new CostOptions { Repetitions = 2 }, 2, 4, 6, 6);
        Assert.Equal(second, Next());
        Assert.True(both.training && norm.training && !network.training);
        Assert.Equal(0, norm.num_batches_tracked!.item<long>());
        Assert.Equal(4, norm.running_var!.sum().item<float>());

        static double Next()
        {
            using Tensor value = rand(1);
            return value.item<float>();
        }
    }

    [Fact]
    public void A_network_that_throws_is_left_as_it_was()
    {
        using Throwing network = new();
        network.train();
        bool kernels = AttentionKernels.Enabled;
        Assert.Throws<InvalidOperationException>(() => ModelCost.Measure(network, 1, 8, 4, 4));
        Assert.False(network.Gate.HasHooks);
        Assert.True(network.training && network.Gate.training);
        Assert.Equal(kernels, AttentionKernels.Enabled);
        ModelCost.Measure(network.Gate, new CostOptions { Repetitions = 1 }, 1, 8, 4, 4);
        Assert.False(network.Gate.HasHooks);
    }

    [Fact]
    public void What_the_network_keeps_lives_on()
    {
        using LooseNetwork network = new();
        using Tensor x = randn(1, 3, 8, 8);
        ModelCost.Measure(network, new CostOptions { Repetitions = 2 }, x);
        network.call(x).Dispose();
        using KeepingNetwork keeping = new();
        ModelCost.Measure(keeping, 1, 3, 8, 8);
        keeping.call(x).Dispose();
    }

    [Fact]
    public void Measuring_leaves_no_tensor_behind()
    {
        using UserNetwork network = new();
        CostOptions options = new() { Repetitions = 2, WarmUps = 1 };
        ModelCost.Measure(network, options, 2, 4, 6, 6);
        long before = LiveTensors.OfThread;
        for (int i = 0; i < 20; i++) ModelCost.Measure(network, options, 2, 4, 6, 6);
        Assert.Equal(before, LiveTensors.OfThread);
    }

    [Fact]
    public void Reports_are_aligned_and_hold_the_numbers()
    {
        CultureInfo culture = CultureInfo.CurrentCulture;
        try
        {
            CultureInfo.CurrentCulture = new CultureInfo("") { NumberFormat = { NumberDecimalSeparator = ",", NumberGroupSeparator = "." } };
            using Sequential network = Small();
            ModelCost cost = ModelCost.Measure(network, 2, 3, 8, 8);

            string[] table = cost.ToTable().Split('\n');
            Assert.Equal(9, table.Length);
            Assert.Single(table.Select(line => line.Length).Distinct());
            Assert.Equal(TableEnd, table[^1].Split(' ', StringSplitOptions.RemoveEmptyEntries));

            string[] tree = cost.ToTree(CostConvention.Thop).Split('\n');
            Assert.Single(tree.Select(line => line.Length).Distinct());
            Assert.Contains("Thop operations", tree[0], StringComparison.Ordinal);
            Assert.Contains("16,048", tree[1], StringComparison.Ordinal);
            Assert.StartsWith("└─ fc: Linear(4 → 5)", tree[^1], StringComparison.Ordinal);
            Assert.Equal(2, cost.ToTree(depth: 0).Split('\n').Length);

            string[] csv = cost.ToCsv().Split('\n');
            Assert.Equal("conv,\"Conv2d(3 → 4, 3×3)\",false,Counted,1,112,13824,13824,13824,512,4032,2048,,2x4x8x8", csv[2]);
            Assert.All(csv[..^1], line => Assert.Equal(csv[0].Count(','), line.Replace("4, 3×3", "", StringComparison.Ordinal).Count(',')));

            JsonNode json = JsonNode.Parse(cost.ToJson())!;
            Assert.Equal(13_864, (long)json["total"]!["strict"]!);
            Assert.Equal("bn", (string?)json["total"]!["children"]![1]!["path"]);
            Assert.Equal([2, 3, 8, 8], json["inputShape"]!.AsArray().Select(size => (long)size!));
        }
        finally
        {
            CultureInfo.CurrentCulture = culture;
        }
    }

    [Fact]
    public void Bad_settings_are_refused()
    {
        using Sequential network = Small();
        Assert.Contains("Repetitions is -1", Assert.Throws<ArgumentOutOfRangeException>(
            () => ModelCost.Measure(network, new CostOptions { Repetitions = -1 }, 2, 3, 8, 8)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentNullException>(() => ModelCost.Measure(network, null!, 1));
        ModelCost cost = ModelCost.Measure(network, 2, 3, 8, 8);
        Assert.Contains("Strict, Thop, Fvcore", Assert.Throws<ArgumentOutOfRangeException>(
            () => cost.ToTable((CostConvention)9)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => cost.ToTree(depth: -1));
    }

    private static Sequential Small() => nn.Sequential(
        ("conv", nn.Conv2d(3, 4, 3, padding: 1)), ("bn", nn.BatchNorm2d(4)), ("relu", nn.ReLU()), ("pool", nn.MaxPool2d(2)),
        ("avg", nn.AdaptiveAvgPool2d(1)), ("flat", nn.Flatten()), ("fc", nn.Linear(4, 5)));

    /// <summary>Everything that a counter does not know.</summary>
    private sealed class UserNetwork : nn.Module<Tensor, Tensor>
    {
        private readonly Conv2d conv = nn.Conv2d(4, 4, 1, bias: false);
        private readonly Conv2d again;
        private readonly LSTM lstm = nn.LSTM(4, 4, batchFirst: true);
        private readonly TransformerEncoderLayer encoder = nn.TransformerEncoderLayer(4, 2, 8);
        private readonly Scale scale = new();
        private readonly ParameterList table = new(new Parameter(ones(3)));
        private readonly Declared declared = new();
        private readonly Linear unused = nn.Linear(2, 2);
        private readonly Conv2d direct = nn.Conv2d(4, 4, 1);

        public UserNetwork()
            : base(nameof(UserNetwork))
        {
            again = conv;
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor x = declared.call(scale.call(again.call(conv.call(input))));
            x = direct.forward(x).add(rand(1));
            Tensor rows = x.flatten(2).transpose(1, 2);
            (Tensor read, _, _) = lstm.call(rows);
            return encoder.call(read, null!, null!).MoveToOuterDisposeScope();
        }
    }

    private sealed class Scale : nn.Module<Tensor, Tensor>
    {
        private readonly Parameter factor = new(ones(1));

        public Scale()
            : base(nameof(Scale)) => RegisterComponents();

        public override Tensor forward(Tensor input) => input.mul(factor);
    }

    private sealed class Declared : nn.Module<Tensor, Tensor>, IFunctionalCost
    {
        public Declared()
            : base(nameof(Declared))
        {
        }

        public long MultiplyAccumulates(Tensor input) => 77;

        public override Tensor forward(Tensor input) => input.alias();
    }

    /// <summary>Counts its calls in a buffer, in evaluation, too.</summary>
    private sealed class Counting : nn.Module<Tensor, Tensor>
    {
        private readonly Tensor calls = zeros(1);

        public Counting()
            : base(nameof(Counting)) => RegisterComponents();

        public float Calls => calls.item<float>();

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            using IDisposable quiet = no_grad();
            calls.add_(ones(1));
            return input.alias().MoveToOuterDisposeScope();
        }
    }

    private sealed class Throwing : nn.Module<Tensor, Tensor>
    {
        public Throwing()
            : base(nameof(Throwing)) => RegisterComponents();

        public SqueezeExcitation Gate => gate;

        private readonly SqueezeExcitation gate = new(8, new SqueezeExcitationOptions { Reduction = 2 });

        public override Tensor forward(Tensor input)
        {
            gate.call(input).Dispose();
            throw new InvalidOperationException("on purpose");
        }
    }

    private sealed class WeightlessAttention : nn.Module<Tensor, Tensor>
    {
        private readonly MultiheadAttention mha = nn.MultiheadAttention(8, 2);
        private readonly bool _weights;

        public WeightlessAttention(bool weights)
            : base(nameof(WeightlessAttention))
        {
            _weights = weights;
            RegisterComponents();
        }

        public override Tensor forward(Tensor x) => mha.call(x, x, x, null, _weights, null).Item1;
    }

    private sealed class DictionaryNetwork : nn.Module<Tensor, Dictionary<string, Tensor>>
    {
        private readonly Linear fc = nn.Linear(4, 3);

        public DictionaryNetwork()
            : base(nameof(DictionaryNetwork)) => RegisterComponents();

        public override Dictionary<string, Tensor> forward(Tensor x)
        {
            Tensor logits = fc.call(x);
            return new() { ["logits"] = logits, ["probabilities"] = logits.softmax(1) };
        }
    }

    private sealed class Wrap : nn.Module<Tensor, Tensor>
    {
        private readonly nn.Module<Tensor, Tensor> inner;

        public Wrap(nn.Module<Tensor, Tensor> module)
            : base(nameof(Wrap))
        {
            inner = module;
            RegisterComponents();
        }

        public override Tensor forward(Tensor x) => inner.call(x);
    }
}
