using TorchSharp.Attention.Golden;

namespace TorchSharp.Attention.Tests;

/// <summary>Weights into networks: the golden logits come back, nothing broadcasts, nothing is half loaded.</summary>
public sealed class LoadWeightsTests : IDisposable
{
    private static readonly AttentionPlan IdentityCbam = AttentionPlan.Of(new CbamOptions { Reduction = 4, Initialization = AttentionInitialization.Identity });

    private readonly WeightsFolder _folder = new();
    private readonly DisposeScope _scope = NewDisposeScope();

    public static TheoryData<string, bool> GoldenResNets => new()
    {
        { "resnet_basic", false }, { "resnet_basic_se", false }, { "resnet_bottleneck_cbam", false }, { "resnet_bottleneck_eca", false },
        { "resnet_basic", true }, { "resnet_basic_se", true }, { "resnet_bottleneck_cbam", true }, { "resnet_bottleneck_eca", true },
    };

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [MemberData(nameof(GoldenResNets))]
    public void A_golden_network_gives_its_logits_from_either_format(string fixture, bool archive)
    {
        Dictionary<string, Tensor> state = WeightsFolder.GoldenState(fixture);
        string path = archive ? _folder.Torch("a.pth", state) : _folder.Safetensors("a.safetensors", state);
        using ResNet network = Golden(fixture);
        WeightsReport report = network.LoadWeights(path, KeyMaps.TimmResNet);
        Assert.True(report.IsComplete, report.ToString());
        Assert.Equal(state.Count, report.Loaded.Count);
        Assert.InRange(WeightsFolder.LogitError(network, fixture), 0, 1e-6);
    }

    [Fact]
    public void Half_precision_and_a_checkpoint_of_a_data_parallel_run_load_too()
    {
        TorchWriter writer = new();
        PickledState state = writer.State(WeightsFolder.GoldenState("resnet_basic_se").Select(pair =>
            KeyValuePair.Create("module." + pair.Key, pair.Value.is_floating_point() ? pair.Value.to_type(ScalarType.Float16) : pair.Value)));
        string path = _folder.Write("a.pth", writer.ToBytes(new Dictionary<string, object?> { ["epoch"] = 3, ["state_dict"] = state }));
        using ResNet network = Golden("resnet_basic_se");
        network.LoadWeights(path, KeyMaps.DataParallel.Then(KeyMaps.TimmResNet));
        Assert.All(network.parameters(), parameter => Assert.Equal(ScalarType.Float32, parameter.dtype));
        Assert.InRange(WeightsFolder.LogitError(network, "resnet_basic_se"), 1e-7, 1e-2);
    }

    [Fact]
    public void What_is_saved_comes_back_to_the_last_bit()
    {
        string path = _folder.PathOf("a.safetensors");
        using ResNet saved = Small(), loaded = Small();
        saved.SaveWeights(path);
        Assert.NotEqual(WeightsFolder.Snapshot(saved), WeightsFolder.Snapshot(loaded));
        Assert.Equal(saved.state_dict().Keys.Order(StringComparer.Ordinal), loaded.LoadWeights(path).Loaded);
        Assert.Equal(WeightsFolder.Snapshot(saved), WeightsFolder.Snapshot(loaded));
        using WeightsFile file = WeightsFile.Open(path);
        Assert.Equal("pt", file.Metadata["format"]);
    }

    [Fact]
    public void A_shape_that_would_broadcast_is_refused_and_the_model_stays()
    {
        using nn.Module<Tensor, Tensor> model = nn.Sequential(("a", nn.Linear(8, 3)), ("b", nn.Linear(8, 2)));
        byte[] before = WeightsFolder.Snapshot(model);
        string path = _folder.Safetensors("a", new Dictionary<string, Tensor>
        {
            ["a.weight"] = ones(1, 8),
            ["a.bias"] = ones(3),
            ["b.weight"] = ones(2, 8),
            ["c.weight"] = ones(1),
        });
        WeightsMismatchException e = Assert.Throws<WeightsMismatchException>(() => model.LoadWeights(path));
        Assert.Equal(before, WeightsFolder.Snapshot(model));
        Assert.Equal(["a.bias", "b.weight"], e.Report.Loaded);
        Assert.Equal(["b.bias"], e.Report.Missing);
        Assert.Equal(["c.weight"], e.Report.Unexpected);
        Assert.Equal([new WeightsMismatch("a.weight", "a.weight", [1, 8], [3, 8], ScalarType.Float32, ScalarType.Float32)], e.Report.Mismatched);
        Assert.Contains("the file's 'a.weight' is Float32 [1, 8]; the network's 'a.weight' is Float32 [3, 8]", e.Message, StringComparison.Ordinal);

        WeightsReport report = model.LoadWeights(path, options: new WeightsLoadOptions { Strict = false });
        Assert.Equal(e.Report, report);
        Assert.Equal(ones(3), model.state_dict()["a.bias"]);
        Assert.NotEqual(1, model.state_dict()["a.weight"][0, 0].ToSingle());
    }

    [Fact]
    public void Types_convert_only_where_nothing_is_lost()
    {
        using BatchNorm norm = new();
        Dictionary<string, Tensor> state = norm.state_dict().ToDictionary(pair => pair.Key, pair => pair.Value.detach().clone());
        state["bn.weight"] = tensor(new long[] { 3, 4 });
        norm.LoadWeights(_folder.Safetensors("a", state));
        Assert.Equal([3f, 4f], norm.state_dict()["bn.weight"].data<float>().ToArray());
        state["bn.num_batches_tracked"] = tensor(1.5f);
        state["bn.bias"] = zeros(2, ScalarType.ComplexFloat32);
        WeightsMismatchException e = Assert.Throws<WeightsMismatchException>(() => norm.LoadWeights(_folder.Safetensors("b", state)));
        Assert.Equal(["bn.bias", "bn.num_batches_tracked"], e.Report.Mismatched.Select(mismatch => mismatch.Name));
        state.Remove("bn.num_batches_tracked");
        state["bn.bias"] = zeros(2);
        Assert.True(norm.LoadWeights(_folder.Safetensors("c", state)).IsComplete);
    }

    [Theory]
    [InlineData(ScalarType.Int32, ScalarType.Int64, false)]
    [InlineData(ScalarType.Int64, ScalarType.Int32, true)]
    [InlineData(ScalarType.Byte, ScalarType.Int8, false)]
    [InlineData(ScalarType.Int8, ScalarType.Byte, false)]
    [InlineData(ScalarType.Int16, ScalarType.Byte, true)]
    [InlineData(ScalarType.Bool, ScalarType.Byte, false)]
    [InlineData(ScalarType.Byte, ScalarType.Bool, true)]
    [InlineData(ScalarType.Byte, ScalarType.Byte, true)]
    [InlineData(ScalarType.Int64, ScalarType.Float32, false)]
    [InlineData(ScalarType.Float32, ScalarType.ComplexFloat32, false)]
    [InlineData(ScalarType.ComplexFloat32, ScalarType.Float32, true)]
    [InlineData(ScalarType.Float16, ScalarType.Float64, true)]
    public void Integers_do_not_wrap_around(ScalarType own, ScalarType given, bool fits)
    {
        using Holder model = new(zeros(2, own));
        string path = _folder.Safetensors("a", new Dictionary<string, Tensor> { ["value"] = ones(2, given) });
        WeightsReport report = model.LoadWeights(path, options: new WeightsLoadOptions { Strict = false, MemoryMap = true });
        Assert.Equal(fits, report.IsComplete);
        Assert.Equal(fits ? 2 : 0, model.state_dict()["value"].count_nonzero().ToInt64());
    }

    [Fact]
    public void A_long_report_is_cut_in_words_and_whole_in_lists()
    {
        using nn.Module<Tensor, Tensor> model = nn.Linear(1, 1);
        Dictionary<string, Tensor> state = model.state_dict();
        for (int i = 10; i < 60; i++) state[$"other\n.{i}"] = zeros(1);
        WeightsMismatchException e = Assert.Throws<WeightsMismatchException>(() => model.LoadWeights(_folder.Safetensors("a", state)));
        Assert.Equal(50, e.Report.Unexpected.Count);
        Assert.Contains("'other?.29' and 30 more", e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("30'", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Other_classes_keep_their_classifier()
    {
        using ResNet trained = Small(), other = Small(classes: 3);
        trained.SaveWeights(_folder.PathOf("a"));
        byte[] classifier = WeightsFolder.Bytes(other.state_dict()["fc.weight"]);
        WeightsReport report = other.LoadWeights(_folder.PathOf("a"), options: new WeightsLoadOptions { DropClassifier = true });
        Assert.Equal(["fc.bias", "fc.weight"], report.Skipped);
        Assert.Equal(classifier, WeightsFolder.Bytes(other.state_dict()["fc.weight"]));
        Assert.Equal(WeightsFolder.Bytes(trained.state_dict()["conv1.weight"]), WeightsFolder.Bytes(other.state_dict()["conv1.weight"]));
    }

    [Fact]
    public void A_backbone_goes_into_the_encoder_of_a_unet()
    {
        ResNetOptions options = new() { Layers = [1, 1], StemWidth = 8, StagePlanes = [8, 16], Classes = 4 };
        using ResNet backbone = new(options);
        using UNet unet = new(new UNetOptions { Classes = 2, Encoder = options });
        backbone.SaveWeights(_folder.PathOf("a"));
        WeightsReport report = unet.LoadWeights(_folder.PathOf("a"), options: new WeightsLoadOptions { Submodule = "encoder", AllowUnexpected = true });
        Assert.Equal(["fc.bias", "fc.weight"], report.Skipped);
        Assert.All(report.Loaded, name => Assert.StartsWith("encoder.", name, StringComparison.Ordinal));
        Assert.Equal(WeightsFolder.Bytes(backbone.state_dict()["layer2.0.conv1.weight"]), WeightsFolder.Bytes(unet.state_dict()["encoder.layer2.0.conv1.weight"]));
        Assert.Contains("Submodule is 'decoder'", Assert.Throws<ArgumentException>(
            () => unet.LoadWeights(_folder.PathOf("a"), options: new WeightsLoadOptions { Submodule = "decoder" })).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(6)]
    [InlineData(7)]
    public void The_first_convolution_adapts_to_other_input_channels(int channels)
    {
        using ResNet trained = Small(), other = Small(inputChannels: channels);
        trained.SaveWeights(_folder.PathOf("a"));
        if (channels != 3) Assert.Throws<WeightsMismatchException>(() => other.LoadWeights(_folder.PathOf("a")));
        WeightsReport report = other.LoadWeights(_folder.PathOf("a"), options: new WeightsLoadOptions { AdaptInputChannels = true });
        Assert.Equal(channels == 3 ? null : "conv1.weight", report.Adapted);
        Tensor from = trained.state_dict()["conv1.weight"], to = other.state_dict()["conv1.weight"];
        for (int i = 0; i < channels; i++)
        {
            Tensor expected = channels == 1 ? from.sum(1) : from.select(1, i % 3) * (3.0 / channels);
            Assert.InRange((to.select(1, i) - expected).abs().max().ToDouble(), 0, 1e-6);
        }
    }

    [Fact]
    public void Plain_weights_in_a_network_with_attention_give_the_plain_outputs_to_the_last_bit()
    {
        using ResNet plain = Small(), attentive = Small(attention: IdentityCbam);
        plain.SaveWeights(_folder.PathOf("a"));
        Assert.Throws<WeightsMismatchException>(() => attentive.LoadWeights(_folder.PathOf("a")));
        WeightsReport report = attentive.LoadWeights(_folder.PathOf("a"), options: new WeightsLoadOptions { AllowMissingAttention = true });
        Assert.Equal(attentive.state_dict().Keys.Where(name => name.Contains(".attn.", StringComparison.Ordinal) && !name.EndsWith("tracked", StringComparison.Ordinal))
            .Order(StringComparer.Ordinal), report.KeptAttention);
        Tensor x = randn(2, 3, 33, 32);
        foreach (bool training in new[] { false, true })
        {
            plain.train(training);
            attentive.train(training);
            Assert.Equal(WeightsFolder.Bytes(plain.call(x)), WeightsFolder.Bytes(attentive.call(x)));
        }
    }

    [Fact]
    public void A_missing_backbone_key_is_not_forgiven_with_the_attention()
    {
        using ResNet plain = Small(), attentive = Small(attention: IdentityCbam);
        Dictionary<string, Tensor> state = plain.state_dict();
        state.Remove("layer1.0.conv1.weight");
        WeightsMismatchException e = Assert.Throws<WeightsMismatchException>(
            () => attentive.LoadWeights(_folder.Safetensors("a", state), options: new WeightsLoadOptions { AllowMissingAttention = true }));
        Assert.Equal(["layer1.0.conv1.weight"], e.Report.Missing);
    }

    [Fact]
    public void An_attention_that_is_only_partly_in_the_file_is_refused()
    {
        using ResNet attentive = Small(attention: IdentityCbam);
        Dictionary<string, Tensor> state = attentive.state_dict();
        foreach (string name in state.Keys.Where(name => name.StartsWith("layer2.0.attn.", StringComparison.Ordinal)).ToArray()) state.Remove(name);
        state.Remove("layer1.0.attn.channel.fc1.weight");
        WeightsMismatchException e = Assert.Throws<WeightsMismatchException>(
            () => attentive.LoadWeights(_folder.Safetensors("a", state), options: new WeightsLoadOptions { AllowMissingAttention = true }));
        Assert.Equal(["layer1.0.attn.channel.fc1.weight"], e.Report.Missing);
        Assert.All(e.Report.KeptAttention, name => Assert.StartsWith("layer2.0.attn.", name, StringComparison.Ordinal));
        Assert.NotEmpty(e.Report.KeptAttention);
    }

    [Fact]
    public void Two_tensors_for_one_name_are_an_error_of_the_map()
    {
        using nn.Module<Tensor, Tensor> model = nn.Linear(1, 1, hasBias: false);
        string path = _folder.Safetensors("a", new Dictionary<string, Tensor> { ["a.weight"] = ones(1, 1), ["weight"] = ones(1, 1) });
        Assert.Contains("sends both 'a.weight' and 'weight' to 'weight'", Assert.Throws<ArgumentException>(
            () => model.LoadWeights(path, KeyMap.Prefix("a.", ""))).Message, StringComparison.Ordinal);
        Assert.Equal(["a.weight"], model.LoadWeights(path, KeyMap.Drop(@"^a\.")).Skipped);
    }

    [Fact]
    public void A_file_that_fails_while_it_is_read_changes_nothing()
    {
        using ResNet saved = Small(), loaded = Small();
        string path = _folder.PathOf("a");
        saved.SaveWeights(path);
        byte[] before = WeightsFolder.Snapshot(loaded);
        using WeightsFile file = WeightsFile.Open(path);
        using (FileStream writer = new(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite)) writer.SetLength(writer.Length - 1);
        Assert.Throws<WeightsFormatException>(() => file.LoadInto(loaded));
        Assert.Equal(before, WeightsFolder.Snapshot(loaded));
    }

    [Fact]
    public void Loading_and_saving_leave_no_tensor_alive()
    {
        using ResNet network = Golden("resnet_basic_se"), gray = Small(inputChannels: 1);
        string path = _folder.Torch("a.pth", WeightsFolder.GoldenState("resnet_basic_se")), small = _folder.PathOf("small");
        using (ResNet saved = Small()) saved.SaveWeights(small);
        Step();
        long before = LiveTensors.OfThread;
        for (int i = 0; i < 20; i++) Step();
        Assert.Equal(before, LiveTensors.OfThread);

        void Step()
        {
            network.LoadWeights(path, KeyMaps.TimmResNet);
            Assert.Throws<WeightsMismatchException>(() => network.LoadWeights(path));
            gray.LoadWeights(small, options: new WeightsLoadOptions { AdaptInputChannels = true });
            network.SaveWeights(_folder.PathOf("b"));
        }
    }

    [Fact]
    public void Nonsense_is_an_argument_error()
    {
        using ResNet network = Small();
        Assert.Throws<ArgumentNullException>(() => network.LoadWeights((string)null!));
        Assert.Throws<ArgumentException>(() => network.LoadWeights(""));
        Assert.Throws<ArgumentException>(() => network.SaveWeights(""));
        Assert.Throws<ArgumentNullException>(() => ((nn.Module)null!).LoadWeights("a"));
        Assert.Equal(new WeightsLoadOptions { Classifier = ["a."] }, new WeightsLoadOptions { Classifier = ["a."] });
    }

    private static ResNet Small(int classes = 5, int inputChannels = 3, AttentionPlan? attention = null) => new(new ResNetOptions
    {
        Layers = [1, 1],
        StemWidth = 8,
        StagePlanes = [8, 16],
        Classes = classes,
        InputChannels = inputChannels,
        Attention = attention ?? AttentionPlan.None,
    });

    private static ResNet Golden(string fixture) => new(new ResNetOptions
    {
        Block = fixture.Contains("bottleneck", StringComparison.Ordinal) ? ResNetBlock.Bottleneck : ResNetBlock.Basic,
        Layers = fixture == "resnet_basic" ? [2, 1, 1, 1] : [1, 1, 1, 1],
        StagePlanes = [8, 16, 24, 32],
        Classes = 10,
        Attention = fixture.Split('_')[^1] switch
        {
            "se" => AttentionPlan.Of(SqueezeExcitationOptions.Timm),
            "cbam" => AttentionPlan.Of(CbamOptions.Timm),
            "eca" => AttentionPlan.Of(new EfficientChannelAttentionOptions()),
            _ => AttentionPlan.None,
        },
    });

    private sealed class Holder : nn.Module
    {
        public Holder(Tensor value)
            : base(nameof(Holder)) => register_buffer("value", value.DetachFromDisposeScope());
    }

    private sealed class BatchNorm : nn.Module<Tensor, Tensor>
    {
        private readonly Modules.BatchNorm2d bn = nn.BatchNorm2d(2);

        public BatchNorm()
            : base(nameof(BatchNorm)) => RegisterComponents();

        public override Tensor forward(Tensor input) => bn.call(input);
    }
}
