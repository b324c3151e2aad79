using TorchSharp.Attention.Onnx.Schema;
using TorchSharp.Modules;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>What the settings of an export do to the file and to the files beside it.</summary>
public sealed class ExportOptionTests : IDisposable
{
    private readonly TestFolder _folder = new();

    private string Path => _folder.PathOf("network.onnx");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Large_weights_go_into_a_file_of_their_own_and_an_old_one_goes()
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(1);
        using Sequential network = Layers(32);
        string[] strangers = ["network.onnx.mynotes1.data", "network.onnx.DEADBEEF.data", "network.onnx.1234567.data", "other.onnx.12345678.data", "network.onnx.12345678.dat"];
        foreach (string stranger in strangers) File.WriteAllText(_folder.PathOf(stranger), "mine");

        OnnxExportReport first = network.ExportOnnx(Path, randn(2, 32), new OnnxExportOptions { ExternalDataThreshold = 4000 });
        Assert.Matches(@"network\.onnx\.[0-9a-f]{8}\.data$", first.DataPath);
        Assert.Equal(new FileInfo(Path).Length + new FileInfo(first.DataPath!).Length, first.Bytes);
        Assert.InRange(first.MaxRelativeError!.Value, 0, 1e-6);
        GraphProto graph = OnnxModelFile.Load(Path).Graph;
        Assert.Equal(
            ((Linear)network[0]).weight!.data<float>().ToArray(), NodeGraph.Floats(graph.Initializer.Single(constant => constant.Name == "0.weight")));
        Assert.True(File.ReadAllBytes(Path).Length < 2000);

        OnnxExportReport second = network.ExportOnnx(Path, randn(2, 32), new OnnxExportOptions { ExternalDataThreshold = 4000 });
        Assert.NotEqual(first.DataPath, second.DataPath);
        Assert.Equal(["network.onnx", .. strangers.Append(System.IO.Path.GetFileName(second.DataPath)!).Order(StringComparer.Ordinal)], _folder.Files().OrderBy(file => file != "network.onnx"));

        OnnxExportReport whole = network.ExportOnnx(Path, randn(2, 32));
        Assert.Null(whole.DataPath);
        Assert.Equal(strangers.Append("network.onnx").Order(StringComparer.Ordinal), _folder.Files());
    }

    [Fact]
    public void A_link_stays_a_link_and_a_long_name_may_have_weights_beside_it()
    {
        using DisposeScope scope = NewDisposeScope();
        using Sequential network = Layers(32);
        OnnxExportOptions options = new() { ExternalDataThreshold = 0 };
        string name = new string('n', 250) + ".onnx";
        OnnxExportReport first = network.ExportOnnx(_folder.PathOf(name), randn(2, 32), options), second = network.ExportOnnx(_folder.PathOf(name), randn(2, 32), options);
        Assert.Equal(2, _folder.Files().Length);
        Assert.False(File.Exists(first.DataPath));
        Assert.True(File.Exists(second.DataPath));
        Assert.Equal(4096, OnnxModelFile.Load(_folder.PathOf(name)).Graph.Initializer.Single(constant => constant.Name == "0.weight").RawData.Length);
        if (OperatingSystem.IsWindows()) return;

        string link = _folder.PathOf("link.onnx");
        Directory.CreateDirectory(_folder.PathOf("kept"));
        File.CreateSymbolicLink(link, System.IO.Path.Combine("kept", "model.onnx"));
        OnnxExportReport linked = network.ExportOnnx(link, randn(2, 32), options);
        Assert.NotNull(new FileInfo(link).LinkTarget);
        Assert.Equal(_folder.PathOf("kept"), System.IO.Path.GetDirectoryName(linked.DataPath));
        Assert.Equal(4096, OnnxModelFile.Load(link).Graph.Initializer.Single(constant => constant.Name == "0.weight").RawData.Length);
        using Microsoft.ML.OnnxRuntime.InferenceSession session = new(_folder.PathOf("kept/model.onnx"));
        Assert.Single(session.OutputNames);
    }

    [Fact]
    public void A_network_of_small_weights_has_no_file_for_them()
    {
        using DisposeScope scope = NewDisposeScope();
        using Sequential network = Layers(4);
        OnnxExportReport report = network.ExportOnnx(Path, randn(2, 4), new OnnxExportOptions { ExternalDataThreshold = 0 });
        Assert.Null(report.DataPath);
        Assert.Equal(["network.onnx"], _folder.Files());
    }

    [Theory]
    [InlineData("location", "../network.onnx.12345678.data", "is no file beside the model")]
    [InlineData("location", "gone.data", "which does not exist")]
    [InlineData("offset", "99999999", "should lie at 99999999")]
    [InlineData("length", "many", "'many' of '0.weight' is no number")]
    public void External_weights_that_are_not_there_are_named(string key, string value, string message)
    {
        using DisposeScope scope = NewDisposeScope();
        using Sequential network = Layers(32);
        network.ExportOnnx(Path, randn(2, 32), new OnnxExportOptions { ExternalDataThreshold = 0 });
        ModelProto model = ModelProto.Parser.ParseFrom(File.ReadAllBytes(Path));
        model.Graph.Initializer.Single(constant => constant.Name == "0.weight").ExternalData.Single(entry => entry.Key == key).Value = value;
        File.WriteAllBytes(Path, Google.Protobuf.MessageExtensions.ToByteArray(model));
        Assert.Contains(message, Assert.Throws<InvalidDataException>(() => OnnxModelFile.Load(Path)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0L)]
    [InlineData(1_900_000_000L)]
    public void On_failure_an_older_file_stays_whole(long threshold)
    {
        using DisposeScope scope = NewDisposeScope();
        using Sequential network = Layers(32);
        OnnxExportOptions options = new() { ExternalDataThreshold = threshold };
        network.ExportOnnx(Path, randn(2, 32), options);
        Dictionary<string, byte[]> before = _folder.Files().ToDictionary(file => file, file => File.ReadAllBytes(_folder.PathOf(file)));
        OnnxEmitters wrong = OnnxEmitters.Default.With<Linear>((context, module, x) => context.Mul(context.MatMul(x, context.Transpose(context.Parameter(module.weight!), 1, 0)), 1.5));
        Assert.Throws<OnnxVerificationException>(() => network.ExportOnnx(Path, randn(2, 32), options with { Emitters = wrong }));
        Assert.Equal(before.Keys, _folder.Files());
        Assert.All(before, entry => Assert.Equal(entry.Value, File.ReadAllBytes(_folder.PathOf(entry.Key))));
    }

    [Fact]
    public void Without_verification_nothing_is_compared()
    {
        using DisposeScope scope = NewDisposeScope();
        using Sequential network = Layers(4);
        OnnxEmitters wrong = OnnxEmitters.Default.With<Linear>((context, _, x) => x);
        OnnxExportReport report = network.ExportOnnx(Path, randn(2, 4), new OnnxExportOptions { Verify = false, Emitters = wrong });
        Assert.Empty(report.Checks);
        Assert.Null(report.MaxRelativeError);
        Assert.Contains("not verified", report.ToString(), StringComparison.Ordinal);
        Assert.Equal(["network.onnx"], _folder.Files());
    }

    [Fact]
    public void A_folder_that_is_not_there_is_named()
    {
        using DisposeScope scope = NewDisposeScope();
        using Sequential network = Layers(4);
        string path = System.IO.Path.Combine(_folder.PathOf("nowhere"), "network.onnx");
        Assert.Contains(path, Assert.Throws<DirectoryNotFoundException>(() => network.ExportOnnx(path, randn(2, 4))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(ScalarType.Float64, 1e-6)]
    [InlineData(ScalarType.Float16, 8.0 / 1024)]
    [InlineData(ScalarType.BFloat16, 8.0 / 128)]
    public void Weights_of_another_type_are_rounded_where_that_is_asked_for(ScalarType type, double within)
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(2);
        using ResNet network = new ResNetOptions
        {
            Layers = [1],
            StagePlanes = [8],
            StemWidth = 8,
            Classes = 3,
            Stem = ResNetStem.Small,
            Attention = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }),
        }.Create();
        ExportTests.Disturb(network);
        network.to(type);
        Tensor example = randn(2, 3, 12, 12).to_type(type);
        NotSupportedException refused = Assert.Throws<NotSupportedException>(() => network.ExportOnnx(Path, example));
        Assert.Contains($"'conv1.weight' is {type}", refused.Message, StringComparison.Ordinal);

        OnnxExportReport report = network.ExportOnnx(Path, example, new OnnxExportOptions { ConvertToFloat32 = true });
        Assert.InRange(report.MaxRelativeError!.Value, 0, within);
        Assert.Equal(type == ScalarType.Float64 ? 0 : 1, report.Notes.Count);
        if (type != ScalarType.Float64) Assert.Contains($"because the network computes in {type}", report.Notes[0], StringComparison.Ordinal);
        TensorProto weight = OnnxModelFile.Load(Path).Graph.Initializer.Single(constant => constant.Name == "conv1.weight");
        Assert.Equal(network.state_dict()["conv1.weight"].to_type(ScalarType.Float32).data<float>().ToArray(), NodeGraph.Floats(weight));
    }

    [Fact]
    public void Metadata_of_ones_own_stands_beside_that_of_the_export()
    {
        using DisposeScope scope = NewDisposeScope();
        using Sequential network = Layers(4);
        network.ExportOnnx(Path, randn(2, 4), new OnnxExportOptions { Metadata = new Dictionary<string, string> { ["author"] = "me", ["empty"] = "" } });
        Dictionary<string, string> metadata = OnnxModelFile.Load(Path).MetadataProps.ToDictionary(entry => entry.Key, entry => entry.Value);
        Assert.Equal("me", metadata["author"]);
        Assert.Equal("", metadata["empty"]);
        Assert.Equal(network.GetName(), metadata["torchsharp_attention.model"]);
    }

    [Theory]
    [InlineData("class_names", "x", "has the key 'class_names'")]
    [InlineData("normalization.mean", "x", "has the key 'normalization.mean'")]
    [InlineData("torchsharp_attention.model", "x", "has the key 'torchsharp_attention.model'")]
    [InlineData("", "x", "has the key ''")]
    [InlineData("author", null, "has null under 'author'")]
    public void Metadata_that_the_export_writes_itself_is_refused(string key, string? value, string message)
        => Refused(new OnnxExportOptions { Metadata = new Dictionary<string, string> { [key] = value! } }, message);

    [Fact]
    public void Names_that_clash_or_are_empty_are_refused()
    {
        Refused(new OnnxExportOptions { InputNames = ["image"], OutputNames = ["image"] }, "The name 'image' of OutputNames is that of another input or output");
        Refused(new OnnxExportOptions { InputNames = ["output"] }, "The name 'output' of OutputNames is that of another input or output");
        Refused(new OnnxExportOptions { OutputNames = ["a", "b"] }, "give 1 different names");
        Refused(new OnnxExportOptions { OutputNames = [""] }, "none of them empty");
        Refused(new OnnxExportOptions { InputNames = [null!] }, "none of them empty");
        using DisposeScope scope = NewDisposeScope();
        using Cbam attention = new(4, new CbamOptions { Reduction = 2 });
        ArgumentException error = Assert.Throws<ArgumentException>(
            () => attention.ExportOnnx(Path, randn(1, 4, 5, 5), new OnnxExportOptions { AttentionMaps = true, OutputNames = ["Channel"] }));
        Assert.Contains("The name 'Channel' of an attention map", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Outputs_have_their_names_though_a_parameter_is_called_the_same()
    {
        using DisposeScope scope = NewDisposeScope();
        using Named network = new();
        OnnxExportOptions options = new() { Emitters = OnnxEmitters.Default.With<Named>((context, _, x) => context.Relu(context.Mul(x, context.Parameter("output")))) };
        Assert.Equal(["output (batch, 3)"], network.ExportOnnx(Path, randn(2, 3), options).Outputs);
        GraphProto graph = OnnxModelFile.Load(Path).Graph;
        Assert.Equal("output", Assert.Single(graph.Output).Name);
        Assert.Equal("output_1", Assert.Single(graph.Initializer).Name);
        Assert.Equal(["input (batch, 3)"], network.ExportOnnx(Path, randn(2, 3), options with { InputNames = ["input"], OutputNames = ["logits"] }).Inputs);
    }

    [Fact]
    public void Axes_that_no_input_has_are_noted_or_refused()
    {
        using DisposeScope scope = NewDisposeScope();
        using Sequential network = Layers(4);
        OnnxExportReport report = network.ExportOnnx(Path, randn(2, 4), new OnnxExportOptions { DynamicAxes = OnnxDynamicAxes.Batch | OnnxDynamicAxes.Size });
        Assert.Equal(
        [
            "Height of DynamicAxes finds no axis: it is axis 2 of (N, C, H, W), and the example input is (2, 4).",
            "Width of DynamicAxes finds no axis: it is axis 3 of (N, C, H, W) or axis 2 of (N, C, L), and the example input is (2, 4).",
        ], report.Notes);
        File.Delete(Path);
        Refused(new OnnxExportOptions { DynamicAxes = OnnxDynamicAxes.Length, RequireDynamicAxes = true }, "DynamicAxes has Length, which is axis 1 of (N, L, C)");
        Refused(new OnnxExportOptions { DynamicAxes = (OnnxDynamicAxes)64 }, "DynamicAxes is 64");
    }

    [Fact]
    public void An_axis_that_must_stay_dynamic_and_cannot_is_refused()
    {
        using DisposeScope scope = NewDisposeScope();
        using WindowAttention module = new(4, new WindowAttentionOptions { Heads = 2, WindowSize = 3, Shift = 1 });
        OnnxExportOptions options = new() { DynamicAxes = OnnxDynamicAxes.Batch | OnnxDynamicAxes.Size };
        Assert.Equal(
            "height fixed at the example's size: WindowAttention: its blocks, masks and positions are made for one size.",
            module.ExportOnnx(Path, randn(1, 4, 6, 6), options).Notes[0]);
        NotSupportedException error = Assert.Throws<NotSupportedException>(() => module.ExportOnnx(Path, randn(1, 4, 6, 6), options with { RequireDynamicAxes = true }));
        Assert.StartsWith("height cannot stay dynamic: WindowAttention: its blocks", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Inputs_share_a_first_axis_only_where_it_is_as_long()
    {
        using DisposeScope scope = NewDisposeScope();
        using CrossAttention same = new(8, 6, new() { Heads = 2 });
        Assert.Equal(["input1 (batch, 8, 4, 4)", "input2 (batch, 3, 6)"], same.ExportOnnx(Path, [randn(2, 8, 4, 4), randn(2, 3, 6)], null).Inputs);
        using Three network = new();
        OnnxExportOptions options = new()
        {
            Emitters = OnnxEmitters.Default.WithMultiple<Three>((context, _, inputs) =>
            [context.Add(context.Mean(inputs[0], 0), context.Add(context.Mean(inputs[1], 0), context.Mean(inputs[2], 0)))])
        };
        OnnxExportReport report = network.ExportOnnx(Path, [randn(5, 3), randn(4, 3), randn(4, 3)], options);
        Assert.Equal(["input1 (batch, 3)", "input2 (batch2, 3)", "input3 (batch2, 3)"], report.Inputs);
        Assert.Contains(report.Checks, check => check.InputShapes.ToString() == "[[6, 3], [5, 3], [5, 3]]");
    }

    [Fact]
    public void A_normalization_that_does_not_go_with_the_input_is_refused()
    {
        using DisposeScope scope = NewDisposeScope();
        using Sequential network = nn.Sequential(("conv", nn.Conv2d(1, 2, 3)));
        foreach ((OnnxNormalization normalization, string message) in new[]
        {
            (OnnxNormalization.ImageNet, "3 means and 3 deviations; give one of each per channel, of which the first input has 1"),
            (new OnnxNormalization([0.5, 0.5], [0.5]), "2 means and 1 deviations"),
            (new OnnxNormalization([0.5], [0]), "Std of Normalization is [0]"),
            (new OnnxNormalization([double.NaN], [1]), "Mean of Normalization is [NaN]"),
        })
        {
            ArgumentException error = Assert.Throws<ArgumentException>(() => network.ExportOnnx(Path, randn(1, 1, 5, 5), new OnnxExportOptions { Normalization = normalization }));
            Assert.Contains(message, error.Message, StringComparison.Ordinal);
        }

        network.ExportOnnx(Path, randn(1, 1, 5, 5), new OnnxExportOptions { Normalization = new([0.28], [0.35]) });
        Assert.Equal("[0.28]", OnnxModelFile.Load(Path).MetadataProps.Single(entry => entry.Key == "normalization.mean").Value);
    }

    [Fact]
    public void A_plan_with_a_predicate_is_not_in_the_metadata_and_that_is_noted()
    {
        using DisposeScope scope = NewDisposeScope();
        using ResNet network = new ResNetOptions
        {
            Layers = [1],
            StagePlanes = [8],
            StemWidth = 8,
            Classes = 3,
            Stem = ResNetStem.Small,
            Attention = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }).Where(_ => true),
        }.Create();
        OnnxExportReport report = network.ExportOnnx(Path, randn(1, 3, 12, 12));
        Assert.Equal(["the plan is not in the metadata, because a rule has a predicate, which is code."], report.Notes);
        Assert.DoesNotContain(OnnxModelFile.Load(Path).MetadataProps, entry => entry.Key == "torchsharp_attention.plan");
    }

    [Fact]
    public void The_plan_of_a_unets_encoder_is_in_the_metadata_too()
    {
        using DisposeScope scope = NewDisposeScope();
        AttentionPlan plan = AttentionPlan.Of(new EfficientChannelAttentionOptions());
        using UNet network = Encoded(plan);
        Assert.Empty(network.ExportOnnx(Path, randn(1, 3, 16, 16)).Notes);
        Dictionary<string, string> metadata = OnnxModelFile.Load(Path).MetadataProps.ToDictionary(entry => entry.Key, entry => entry.Value);
        Assert.Equal(AttentionPlan.None, AttentionPlan.FromJson(metadata["torchsharp_attention.plan"]));
        Assert.Equal(plan, AttentionPlan.FromJson(metadata["torchsharp_attention.encoder_plan"]));

        using UNet other = Encoded(plan.Where(_ => true));
        Assert.Equal(["the encoder's plan is not in the metadata, because a rule has a predicate, which is code."], other.ExportOnnx(Path, randn(1, 3, 16, 16)).Notes);

        static UNet Encoded(AttentionPlan plan) => new(new()
        {
            Widths = [4, 4],
            Encoder = new ResNetOptions { Layers = [1], StagePlanes = [8], StemWidth = 4, Attention = plan },
        });
    }

    [Fact]
    public void Every_module_keeps_its_mode()
    {
        using DisposeScope scope = NewDisposeScope();
        using Sequential network = nn.Sequential(("a", nn.Sequential(("norm", nn.BatchNorm1d(4)), ("drop", nn.Dropout(0.5)))), ("b", nn.Linear(4, 2)));
        network.train();
        foreach (string name in new[] { "a.norm", "b" }) network.named_modules().Single(entry => entry.name == name).module.eval();
        bool[] before = [.. network.modules().Select(module => module.training)];
        Assert.Contains(false, before);
        network.ExportOnnx(Path, randn(2, 4));
        Assert.Equal(before, network.modules().Select(module => module.training));
        Assert.Throws<OnnxVerificationException>(() => network.ExportOnnx(
            Path, randn(2, 4), new OnnxExportOptions { Emitters = OnnxEmitters.Default.With<Linear>((context, _, x) => context.Slice(x, 1, 0, 2)) }));
        Assert.Equal(before, network.modules().Select(module => module.training));
    }

    [Theory]
    [InlineData("lambda")]
    [InlineData("window")]
    [InlineData("bat")]
    [InlineData("sparse")]
    [InlineData("heads")]
    public void An_export_leaves_no_tensor_behind(string kind)
    {
        using nn.Module module = kind switch
        {
            "lambda" => new LambdaLayer(8, new() { Heads = 2, KeyWidth = 4, KernelSize = 3 }),
            "window" => new WindowAttention(8, new() { Heads = 2, WindowSize = 3, Shift = 1 }),
            "bat" => new BatAttention(8, new() { BlockSize = 2, Groups = 2 }),
            "sparse" => new SparseAttention(8, new() { Heads = 2 }),
            _ => new MultiHeadAttention(8, new() { Heads = 2 }),
        };
        using Tensor example = kind == "heads" ? randn(1, 5, 8) : randn(1, 8, 6, 6);
        Export();
        long before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        Export();
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);

        void Export() => module.ExportOnnx(Path, example, new OnnxExportOptions { DynamicAxes = OnnxDynamicAxes.Batch | OnnxDynamicAxes.Size, AttentionMaps = kind != "heads" });
    }

    private static Sequential Layers(long width) => nn.Sequential(("0", nn.Linear(width, width)), ("1", nn.ReLU()), ("2", nn.Linear(width, 2)));

    private void Refused(OnnxExportOptions options, string message)
    {
        using DisposeScope scope = NewDisposeScope();
        using Sequential network = Layers(4);
        Assert.Contains(message, Assert.ThrowsAny<ArgumentException>(() => network.ExportOnnx(Path, randn(2, 4), options)).Message, StringComparison.Ordinal);
        Assert.Empty(_folder.Files());
    }

    private sealed class Named : nn.Module<Tensor, Tensor>
    {
        private readonly Modules.Parameter output = new(tensor([1.5f]));

        public Named()
            : base(nameof(Named)) => RegisterComponents();

        public override Tensor forward(Tensor x) => x.mul(output).relu_();
    }

    private sealed class Three() : nn.Module<Tensor, Tensor, Tensor, Tensor>(nameof(Three))
    {
        public override Tensor forward(Tensor a, Tensor b, Tensor c) => a.mean([0], keepdim: true).add(b.mean([0], keepdim: true).add(c.mean([0], keepdim: true)));
    }
}
