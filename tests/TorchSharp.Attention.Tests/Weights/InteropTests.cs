namespace TorchSharp.Attention.Tests;

/// <summary>
/// Files that PyTorch and torchvision wrote themselves: networks give PyTorch's logits, and what is not read says why. The two small files are
/// in tests/fixtures; the networks come from tests/interop/make_checkpoints.py.
/// </summary>
public sealed class InteropTests : IDisposable
{
    private const string FolderVariable = "TORCHSHARP_ATTENTION_INTEROP";

    private static readonly string[] ObjectNames =
    [
        "counter", "set", "frozenset", "bytes", "bytearray", "complex", "numpy_scalar", "numpy_array", "namespace", "defaultdict", "ordered", "datetime", "timedelta",
        "path", "enum", "size", "device", "dtype", "layout", "optimizer", "dataclass", "slotted", "plain", "dictionary", "deque", "decimal", "uuid", "range", "slice",
        "partial", "function", "class", "numpy_rng", "rng", "large", "enormous", "epoch", "none", "flag", "loss", "name", "under an integer",
    ];

    private readonly DisposeScope _scope = NewDisposeScope();

    public static TheoryData<string> Networks =>
    [
        "timm_seresnet50.pth", "timm_seresnet50.safetensors", "torchvision_resnet50.pth", "torchvision_mobilenet_v2.pth", "timm_mobilenetv2.pth",
        "official_senet.pth", "official_cbam.pth", "official_bam.pth", "official_eca.pth", "official_eca_mobilenet.pth",

        "torchvision_convnext_tiny.pth", "torchvision_efficientnet_b0.pth", "torchvision_efficientnet_b2.pth", "torchvision_efficientnet_v2_s.pth",

        // In the format before PyTorch 1.6, as the released files of these are.
        "official_senet.old.pth", "official_cbam.old.pth", "official_bam.old.pth", "official_eca.old.pth",
    ];

    public void Dispose() => _scope.Dispose();

    [Theory]
    [MemberData(nameof(Networks))]
    public void A_network_gives_the_logits_and_gradients_that_it_gave_in_PyTorch(string file)
    {
        string path = PathOf(file);
        (nn.Module<Tensor, Tensor> network, KeyMap names) = Create(file.Split('.')[0]);
        using nn.Module<Tensor, Tensor> owned = network;
        WeightsReport report = network.LoadWeights(path, names);
        Assert.True(report.IsComplete, report.ToString());
        Assert.Empty(report.Skipped);
        network.eval();
        using SafetensorsFile io = SafetensorsFile.Open(PathOf(file.Split('.')[0] + ".io.safetensors"));
        Tensor expected = io.Load("y"), x = io.Load("x").requires_grad_(), y = network.call(x);
        double largest = expected.abs().max().ToDouble();
        Assert.True(largest > 0.3);
        Assert.InRange((y - expected).abs().max().ToDouble(), 0, 1e-4 * Math.Max(1, largest));

        // A ReLU at its edge may fall on the other side, which moves a patch of the gradient. GELU and SiLU have no edge.
        double tolerance = network is ConvNeXt or EfficientNet ? 1e-3 : 5e-2;
        y.square().sum().div(2).backward();
        Tensor gradient = io.Load("dx");
        Assert.InRange((x.grad! - gradient).abs().mean().ToDouble() / gradient.abs().mean().ToDouble(), 0, tolerance);
    }

    /// <summary>Keys of the file and of the network are one set: none is missing, and no parameter has a second name.</summary>
    [Theory]
    [InlineData("torchvision_resnet50.pth")]
    [InlineData("torchvision_convnext_tiny.pth")]
    [InlineData("torchvision_efficientnet_b0.pth")]
    [InlineData("torchvision_efficientnet_v2_s.pth")]
    public void The_keys_of_a_network_are_those_of_torchvision(string file)
    {
        (nn.Module<Tensor, Tensor> network, _) = Create(file.Split('.')[0]);
        using nn.Module<Tensor, Tensor> owned = network;
        using WeightsFile weights = WeightsFile.Open(PathOf(file));
        Assert.Equal(weights.Entries.Keys.Order(StringComparer.Ordinal), network.state_dict().Keys.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void The_same_tensors_come_out_of_both_formats()
    {
        using WeightsFile archive = WeightsFile.Open(PathOf("timm_seresnet50.pth"), memoryMap: true), safetensors = WeightsFile.Open(PathOf("timm_seresnet50.safetensors"));
        Assert.Equal(safetensors.Entries, archive.Entries);
        Assert.Equal("pt", safetensors.Metadata["format"]);
        foreach (string name in archive.Entries.Keys)
        {
            using DisposeScope scope = NewDisposeScope();
            Assert.True(archive.Load(name).equal(safetensors.Load(name)).all().ToBoolean(), name);
        }
    }

    [Theory]
    [InlineData("torch_save_oldest.pth", "tar archive")]
    [InlineData("whole_model.pth", "'torch.nn.modules.linear.Linear'")]
    [InlineData("whole_model_old.pth", "'torch.nn.modules.linear.Linear'")]
    [InlineData("torch_script.pt", "TorchScript")]
    public void What_holds_more_than_weights_is_refused_with_the_way_out(string file, string reason)
    {
        string message = Assert.Throws<WeightsFormatException>(() => WeightsFile.Open(PathOf(file))).Message;
        Assert.Contains(reason, message, StringComparison.Ordinal);
        Assert.Contains("torch.save(", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("torch_save.pth")]
    [InlineData("torch_save_old.pth")]
    [InlineData("torch_save_protocol_2.pth")]
    [InlineData("torch_save_protocol_3.pth")]
    [InlineData("torch_save_protocol_4.pth")]
    [InlineData("torch_save_protocol_5.pth")]
    [InlineData("torch_save_old_protocol_1.pth")]
    [InlineData("torch_save_old_protocol_2.pth")]
    [InlineData("torch_save_old_protocol_3.pth")]
    [InlineData("torch_save_old_protocol_4.pth")]
    [InlineData("torch_save_old_protocol_5.pth")]
    public void The_file_kept_here_is_what_PyTorch_still_writes(string file) => AllTypesAndViews(PathOf(file));

    [Theory]
    [InlineData("torch_save.pth")]
    [InlineData("torch_save_old.pth")]
    public void A_small_file_of_PyTorchs_has_all_types_tied_and_turned_tensors(string file) => AllTypesAndViews(Fixture(file));

    [Theory]
    [InlineData("torch_save_objects.pth")]
    [InlineData("torch_save_objects_old.pth")]
    public void Objects_beside_the_weights_are_skipped_by_name(string file) => Objects(Fixture(file));

    [Theory]
    [InlineData("torch_save_objects.pth")]
    [InlineData("torch_save_objects_old.pth")]
    [InlineData("torch_save_objects_1.pth")]
    [InlineData("torch_save_objects_2.pth")]
    [InlineData("torch_save_objects_3.pth")]
    [InlineData("torch_save_objects_4.pth")]
    [InlineData("torch_save_objects_5.pth")]
    public void Objects_of_every_protocol_are_skipped_by_name(string file) => Objects(PathOf(file));

    [Theory]
    [InlineData("torch_save_rare.pth")]
    [InlineData("torch_save_rare_old.pth")]
    public void Tensors_that_TorchSharp_has_no_type_for_are_skipped_by_name(string file)
    {
        using WeightsFile archive = WeightsFile.Open(PathOf(file));
        Assert.Equal(["bias", "weight"], archive.Entries.Keys);
        Assert.Equal([0f, 1, 2], archive.Load("weight").data<float>().ToArray());
        Assert.Equal([1f, 1], archive.Load("bias").data<float>().ToArray());
        Assert.Equal(["'quantized': 'torch._utils._rebuild_qtensor'", "'sparse': 'torch._utils._rebuild_sparse_tensor'", "'storage': a storage"], archive.NotTensors);
    }

    private static void Objects(string path)
    {
        using WeightsFile file = WeightsFile.Open(path);
        Assert.Equal(["bias", "marked", "weight"], file.Entries.Keys);
        Assert.Equal([0f, 1, 2, 3, 4, 5], file.Load("weight").data<float>().ToArray());
        Assert.Equal([0f, 1, 2, 3, 4, 5], file.Load("marked").data<float>().ToArray());
        Assert.Equal([1.5f, -2], file.Load("bias").data<float>().ToArray());
        string all = string.Join("\n", file.NotTensors);
        Assert.Equal(ObjectNames, file.NotTensors.Select(line => line.Split(':')[0].Trim('\'')));
        foreach (string line in new[]
        {
            "'counter': 'collections.Counter'", "'namespace': 'argparse.Namespace'", "'datetime': 'datetime.datetime'", "'path': 'pathlib.PurePosixPath'",
            "'enum': '__main__.Color'", "'device': 'torch.device'", "'dtype': 'torch.float16'", "'dataclass': '__main__.Settings'", "'plain': '__main__.Plain'",
            "'slotted': '__main__.Slotted'", "'dictionary': '__main__.Dictionary'", "'deque': 'collections.deque'", "'uuid': 'uuid.UUID'", "'numpy_array': 'numpy.ndarray'",
            "'optimizer': a dictionary", "'defaultdict': a dictionary", "'size': a tuple", "'bytes': bytes", "'rng': a tensor", "'epoch': an integer",
            "'large': an integer", "'enormous': an integer", "'none': None", "'flag': a truth value", "'loss': a number", "'name': a text", "under an integer: a text",
        })
        {
            Assert.Contains(line, all, StringComparison.Ordinal);
        }
    }

    private static void AllTypesAndViews(string path)
    {
        using TorchArchive file = TorchArchive.Open(path);
        Assert.Equal("state_dict", file.Section);
        ScalarType[] types =
        [
            ScalarType.Float64, ScalarType.Float32, ScalarType.Float16, ScalarType.BFloat16, ScalarType.Int64, ScalarType.Int32, ScalarType.Int16,
            ScalarType.Int8, ScalarType.Byte, ScalarType.Bool, ScalarType.ComplexFloat32, ScalarType.ComplexFloat64,
        ];
        Tensor six = arange(6, ScalarType.Int64).reshape(2, 3), whole = arange(24, ScalarType.Float32).reshape(4, 6);
        foreach (ScalarType type in types)
        {
            string name = type switch
            {
                ScalarType.Byte => "uint8",
                ScalarType.ComplexFloat32 => "complex64",
                ScalarType.ComplexFloat64 => "complex128",
                _ => type.ToString().ToLowerInvariant(),
            };
            Assert.Equal(new WeightsEntry(name, type, [2, 3]), file.Entries[name]);
            Assert.Equal(WeightsFolder.Bytes(six.to_type(type)), WeightsFolder.Bytes(file.Load(name)));
        }

        Dictionary<string, Tensor> views = new()
        {
            ["whole"] = whole,
            ["tied"] = whole,
            ["turned"] = whole.t(),
            ["column"] = whole.select(1, 5),
            ["part"] = whole.narrow(0, 1, 2).narrow(1, 2, 3),
            ["every_other"] = whole[TensorIndex.Slice(step: 2), TensorIndex.Slice(step: 3)],
            ["channels_last"] = arange(16, ScalarType.Float32).reshape(1, 2, 2, 4),
            ["parameter"] = whole[0],
            ["scalar"] = tensor(7f),
            ["empty"] = zeros(0, 3),
        };
        Assert.Equal(types.Length + views.Count, file.Entries.Count);
        foreach ((string name, Tensor expected) in views)
        {
            Tensor read = file.Load(name);
            Assert.Equal(expected.shape, read.shape);
            Assert.Equal(WeightsFolder.Bytes(expected), WeightsFolder.Bytes(read));
        }
    }

    private static (nn.Module<Tensor, Tensor> Network, KeyMap Names) Create(string name)
    {
        AttentionPlan squeeze = AttentionPlan.Of(SqueezeExcitationOptions.Timm);
        return name switch
        {
            "timm_seresnet50" => (ResNet.ResNet50(attention: squeeze), KeyMaps.TimmResNet),
            "torchvision_resnet50" => (ResNet.ResNet50(classes: 10), KeyMap.Identity),
            "torchvision_mobilenet_v2" => (new MobileNetV2(new MobileNetV2Options { Classes = 10 }), KeyMap.Identity),
            "torchvision_convnext_tiny" => (ConvNeXt.Tiny(classes: 10), KeyMap.Identity),
            "torchvision_efficientnet_b0" => (EfficientNet.B0(classes: 10), KeyMap.Identity),
            "torchvision_efficientnet_b2" => (EfficientNet.B2(classes: 10), KeyMap.Identity),
            "torchvision_efficientnet_v2_s" => (EfficientNet.V2Small(classes: 10), KeyMap.Identity),
            "timm_mobilenetv2" => (new MobileNetV2(new MobileNetV2Options { Classes = 10 }), KeyMaps.TimmMobileNetV2),
            "official_senet" => (Shallow(AttentionPlan.Of(new SqueezeExcitationOptions { Bias = false })), KeyMaps.OfficialSeNet),
            "official_cbam" => (Shallow(AttentionPlan.Of(CbamOptions.Official)), KeyMaps.DataParallel.Then(KeyMaps.OfficialCbam)),
            "official_bam" => (Shallow(AttentionPlan.Of(BamOptions.Official, AttentionPosition.StageEnd).InStages(1, 2, 3)), KeyMaps.OfficialBam),
            "official_eca" => (Shallow(AttentionPlan.Of(new EfficientChannelAttentionOptions { KernelSize = 3 })), KeyMaps.OfficialEca),
            "official_eca_mobilenet" => (new MobileNetV2(new MobileNetV2Options
            {
                Classes = 10,
                Attention = AttentionPlan.Of(new EfficientChannelAttentionOptions { KernelSize = 1 }).InStages(1, 2, 3, 4, 5)
                    .Add(new EfficientChannelAttentionOptions { KernelSize = 3 }).InStages(6, 7),
            }), KeyMaps.OfficialEca),
            _ => throw new ArgumentOutOfRangeException(nameof(name), name, "There is no such network."),
        };

        static ResNet Shallow(AttentionPlan attention) => new(new ResNetOptions { Layers = [1, 1, 1, 1], Classes = 10, Attention = attention });
    }

    private static string Fixture(string name) => Path.Combine(AppContext.BaseDirectory, "fixtures", name);

    private static string PathOf(string name)
    {
        string? folder = Environment.GetEnvironmentVariable(FolderVariable);
        if (string.IsNullOrEmpty(folder))
        {
            Assert.Skip($"needs PyTorch files, see tests/interop: make_checkpoints.py FOLDER, then {FolderVariable}=FOLDER");
        }

        string path = Path.Combine(folder, name);
        Assert.True(File.Exists(path), $"{FolderVariable} is '{folder}', which lacks '{name}'.");
        return path;
    }
}
