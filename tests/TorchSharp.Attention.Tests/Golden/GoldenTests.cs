using TorchSharp.Attention.Golden;

namespace TorchSharp.Attention.Tests;

/// <summary>The library against numbers that public implementations produced, and whether the comparison would notice.</summary>
public sealed class GoldenTests : IDisposable
{
    /// <summary>Rounding of every step adds up to more than the rounding of weights and inputs alone.</summary>
    private const double MostOverCondition = 100;

    private readonly TestFolder _folder = new();

    public static TheoryData<string> Fixtures()
    {
        string root = Path.Combine(AppContext.BaseDirectory, "fixtures");
        return [.. Directory.GetFiles(root, "*.safetensors", SearchOption.AllDirectories)
            .Select(path => Path.ChangeExtension(Path.GetRelativePath(root, path), null).Replace('\\', '/')).Order(StringComparer.Ordinal)];
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Fixtures))]
    public void Agrees_with_the_reference(string fixture)
    {
        GoldenResult result = GoldenRunner.Run(GoldenFile.PathOf(fixture));
        Assert.True(result.Outcome == GoldenOutcome.Pass, result.Line());
    }

    [Fact]
    public void What_float32_is_off_by_is_what_the_cases_numbers_explain()
    {
        foreach (string name in Fixtures().Select(row => row.Data))
        {
            if (GoldenCondition.Of(GoldenFile.PathOf(name)) is not { } condition) continue;

            // Which cases come to need more than the stated tolerance is up to a processor's order of sums; that no case loses more than its condition explains is not.
            Assert.True(condition.Rounding <= 1e-5 + (MostOverCondition * condition.Moved), $"{name}: {condition}");
        }
    }

    [Fact]
    public void Rules_that_widen_a_tolerance_say_where_they_act()
    {
        Dictionary<string, GoldenResult> results = Fixtures().Select(row => row.Data).ToDictionary(name => name, name => GoldenRunner.Run(GoldenFile.PathOf(name)));
        foreach ((string name, GoldenResult result) in results)
        {
            string note = result.Reason ?? "";
            bool widened = result.GradientError > GoldenTolerance.Module.Gradient || result.TrainingError > GoldenTolerance.Network.Output;
            if (widened) Assert.Contains("float32 alone", note, StringComparison.Ordinal);
            Assert.Equal(name.StartsWith("forward/", StringComparison.Ordinal), note.Contains("1.0E-08 allowed, the file's numbers have nine digits", StringComparison.Ordinal));
        }

        // Biases before a norm; and a well-conditioned module, which needs no rule.
        Assert.Contains("grad.W_g.0.bias and 2 more zero but for rounding", results["attention_gate"].Reason, StringComparison.Ordinal);
        Assert.Null(results["se"].Reason);
    }

    [Theory]
    [InlineData("se", "state.fc1.weight")]
    [InlineData("bam", "state.spatial_att.gate_s.gate_s_conv_final.bias")]
    [InlineData("resnet_basic_se", "state.layer3.0.se.fc2.bias")]
    [InlineData("mobilenet_v2", "state.classifier.1.bias")]
    [InlineData("cbam", "state.spatial.conv.bn.running_var")]
    public void A_changed_weight_fails(string fixture, string tensor)
    {
        GoldenResult result = Run(GoldenFile.Read(fixture).Corrupt(tensor, value => value + 0.25f));
        Assert.Equal(GoldenOutcome.Fail, result.Outcome);
        Assert.Contains("y_eval is off by", result.Reason, StringComparison.Ordinal);
        Assert.True(result.EvaluationError > 1e-4, result.Line());
    }

    [Theory]
    [InlineData("se", "grad.fc2.bias")]
    [InlineData("attention_gate", "grad_x1")]
    [InlineData("attention_gate", "grad.W_g.0.conv.bias")]
    [InlineData("bam", "after.channel_att.gate_c.gate_c_bn_1.running_mean")]
    [InlineData("mobilenet_v2", "grad.features.3.conv.2.weight")]
    [InlineData("mobilenet_v2", "grad.features.3.conv.3.bias")]
    public void A_changed_gradient_or_statistic_fails(string fixture, string tensor)
    {
        GoldenResult result = Run(GoldenFile.Read(fixture).Corrupt(tensor, value => value + 1));
        Assert.Equal(GoldenOutcome.Fail, result.Outcome);
        Assert.Contains("is off by", result.Reason, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("y_eval", float.NaN)]
    [InlineData("grad.fc1.weight", float.PositiveInfinity)]
    [InlineData("state.fc1.weight", float.NaN)]
    public void A_value_that_is_not_finite_fails(string tensor, float value)
    {
        GoldenResult result = Run(GoldenFile.Read("se").Corrupt(tensor, _ => value));
        Assert.Equal(GoldenOutcome.Fail, result.Outcome);
        Assert.Contains("not finite", result.Reason, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("se", "rd_ratio", 0.5, "'fc1.bias' has shape [8]; the arguments make 'fc1.bias' of shape [32]")]
    [InlineData("se", "channels", 32, "the argument 'channels' is 32; 'x' has 64")]
    [InlineData("se", "bias", false, "nothing here takes 'fc1.bias'")]
    [InlineData("se", "gate_layer", "tanh", "supported: \"sigmoid\", \"hard_sigmoid\"")]
    [InlineData("se", "rd_channels", "six", "must be an integer")]
    [InlineData("se", "depth", 3, "not understood: the arguments 'depth'")]
    [InlineData("eca", "kernel_size", 5, "of shape [1, 1, 5]")]
    [InlineData("eca", "kernel_size", 4, "KernelSize is 4")]
    [InlineData("eca", "use_mlp", true, "the arguments make 'conv.weight' of shape [8, 1, 1]")]
    [InlineData("ese", "add_maxpool", true, "y_eval is off by")]
    [InlineData("lcbam", "gate_layer", "hard_sigmoid", "supported: \"sigmoid\"")]
    [InlineData("lcbam", "spatial_kernel_size", 3, "of shape [1, 1, 3, 3]")]
    [InlineData("simam", "lambda", 0.5, "y_eval is off by")]
    [InlineData("ge_e4", "extent", 2, "y_eval is off by")]
    [InlineData("ge_e0", "use_mlp", false, "nothing here takes 'mlp.fc1.bias'")]
    [InlineData("ge_e0", "feat_size", "8", "only null is supported")]
    [InlineData("coord", "has_skip", true, "y_eval is off by")]
    [InlineData("ge_e4", "extra_params", true, "the file has nothing for 'gather.conv1.weight'")]
    [InlineData("coord", "rd_channels", 4, "'bn1.bias' of shape [4]")]
    [InlineData("coord", "bias", true, "the file has nothing for 'conv1.bias'")]
    [InlineData("triplet", "kernel_size", 3, "of shape [1, 2, 3, 3]")]
    [InlineData("triplet", "no_spatial", true, "not understood: the arguments 'no_spatial'")]
    [InlineData("cbam", "mlp_bias", true, "the file has nothing for 'channel.fc1.bias', 'channel.fc2.bias'")]
    [InlineData("cbam", "spatial_kernel_size", 3, "of shape [1, 2, 3, 3]")]
    [InlineData("cbam_official", "spatial_bn", false, "nothing here takes 'SpatialGate.spatial.bn.bias'")]
    [InlineData("cbam_official", "reduction", 8, "'channel.fc1.bias' of shape [8]")]
    [InlineData("bam", "dilated_convs", 3, "the file has nothing for 'spatial.dilated.2.bn.bias'")]
    [InlineData("bam", "dilated_convs", 1000000000, "asks for 1000000000 layers")]
    [InlineData("bam", "merge", "add", "y_eval is off by")]
    [InlineData("bam", "dilation", 2, "y_eval is off by")]
    [InlineData("bam", "merge", "max", "supported: \"multiply\", \"add\"")]
    [InlineData("ceca", "gate_layer", "hard_sigmoid", "y_eval is off by")]
    [InlineData("se_maxpool", "add_maxpool", false, "y_eval is off by")]
    [InlineData("attention_gate", "f_int", 4, "'W_g.0.bias' of shape [4]")]
    [InlineData("resnet_basic", "block", "Basic", "supported: \"BasicBlock\", \"Bottleneck\"")]
    [InlineData("resnet_basic_se", "attention", "eca", "nothing here takes 'layer1.0.se.fc1.bias'")]
    [InlineData("resnet_basic_se", "attention", "bam", "no place and no names")]
    [InlineData("resnet_basic_se", "position", "after the residual add", "the argument 'position'")]
    [InlineData("sk", "split_input", false, "of shape [32, 32, 3, 3]")]
    [InlineData("sk", "groups", 2, "of shape [32, 8, 3, 3]")]
    [InlineData("sk", "keep_3x3", false, "of shape [32, 16, 5, 5]")]
    [InlineData("sk", "rd_divisor", 16, "'attn.bn.bias' of shape [16]")]
    [InlineData("sk", "rd_ratio", 0.3, "'attn.bn.bias' of shape [16]")]
    [InlineData("sk", "dilation", 2, "y_eval is off by")]
    [InlineData("sk", "stride", 2, "has shape [2, 32, 10, 10]; the arguments make [2, 32, 5, 5]")]
    [InlineData("sk", "act_layer", "gelu", "supported: \"relu\"")]
    [InlineData("sk", "paths", 3, "not understood: the arguments 'paths'")]
    [InlineData("splat", "radix", 1, "of shape [32, 32, 3, 3]")]
    [InlineData("splat", "groups", 2, "of shape [64, 8, 3, 3]")]
    [InlineData("splat", "bias", true, "the file has nothing for 'conv.bias'")]
    [InlineData("splat", "rd_ratio", 1.0, "'fc1.bias' of shape [64]")]
    [InlineData("splat", "rd_channels", 8, "'fc1.bias' of shape [16]")]
    [InlineData("splat", "norm_layer", "batchnorm2d", "the file has nothing for 'bn0.")]
    [InlineData("splat", "dilation", 2, "does not keep the map's size; supported: 2")]
    [InlineData("attention_unet", "kernel_size", 5, "of shape [8, 1, 5, 5]")]
    [InlineData("attention_unet", "up_kernel_size", 5, "of shape [32, 16, 5, 5]")]
    [InlineData("attention_unet", "strides", new[] { 1, 2 }, "y_eval is off by")]
    [InlineData("attention_unet", "strides", new[] { 2 }, "a depth of 2 has 2 steps")]
    [InlineData("attention_unet", "channels", new[] { 8, 16, 24 }, "the arguments make")]
    [InlineData("attention_unet", "spatial_dims", 3, "'spatial_dims' is not 2")]
    [InlineData("attention_unet", "dropout", 0.1, "its draws cannot be repeated")]
    [InlineData("mobilenet_v2", "width_mult", 0.5, "the arguments make")]
    [InlineData("mobilenet_v2", "dropout", 0.2, "its draws cannot be repeated")]
    public void Arguments_that_do_not_go_with_the_numbers_fail_with_the_reason(string fixture, string argument, object value, string reason)
    {
        GoldenResult result = Run(GoldenFile.Read(fixture).With(argument, System.Text.Json.JsonSerializer.SerializeToNode(value)));
        Assert.Equal(GoldenOutcome.Fail, result.Outcome);
        Assert.Contains(reason, result.Reason, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("state.fc2.bias", "state.fc3.bias", "nothing here takes 'fc3.bias'")]
    [InlineData("grad.fc2.bias", "state.fc2.bias2", "nothing here takes 'fc2.bias2'")]
    [InlineData("grad_x", "x1", "'x1' and 'grad_x1' must come together")]
    [InlineData("y_eval", "y_test", "the tensor 'y_test' is not understood")]
    [InlineData("cotangent", "grad.cotangent", "no tensor 'cotangent'")]
    public void Tensors_without_a_counterpart_fail(string tensor, string name, string reason)
    {
        GoldenFile file = GoldenFile.Read("se").Rename(tensor, name);
        if (name == "x1") file.Add("grad_x", torch.zeros(2, 64, 14, 11));
        GoldenResult result = Run(file);
        Assert.Equal(GoldenOutcome.Fail, result.Outcome);
        Assert.Contains(reason, result.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void A_missing_gradient_fails()
    {
        GoldenFile file = GoldenFile.Read("se").Rename("grad.fc2.bias", "after.fc2.bias");
        Assert.Contains("grad: the file has nothing for 'fc2.bias'", Run(file).Reason, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("se", "kind", "squeezer", "kind 'squeezer' has no module yet")]
    [InlineData("mobilenet_v2", "source", "torchvision vgg", "network 'torchvision vgg' has no counterpart yet")]
    public void What_the_library_does_not_have_is_skipped(string fixture, string metadata, string value, string reason)
    {
        GoldenFile file = GoldenFile.Read(fixture);
        file.Metadata[metadata] = value;
        Assert.Equal(new GoldenResult("case", GoldenOutcome.Skip, reason), Run(file));
    }

    [Theory]
    [InlineData("resnet_basic_se", "attention", "gc", "attention 'gc' in a network has no module yet")]
    public void An_argument_that_asks_for_what_the_library_does_not_have_is_skipped(string fixture, string argument, object value, string reason)
    {
        GoldenFile file = GoldenFile.Read(fixture).With(argument, System.Text.Json.JsonSerializer.SerializeToNode(value));
        Assert.Equal(new GoldenResult("case", GoldenOutcome.Skip, reason), Run(file));
    }

    [Fact]
    public void A_file_cut_short_anywhere_fails_without_an_exception()
    {
        byte[] whole = GoldenFile.Read("forward/official_eca").ToBytes();
        for (int length = 0; length < whole.Length; length += 97)
        {
            GoldenResult result = Run(whole[..length]);
            Assert.Equal(GoldenOutcome.Fail, result.Outcome);
            Assert.False(string.IsNullOrEmpty(result.Reason));
        }
    }

    [Theory]
    [InlineData("[]", "not a JSON object")]
    [InlineData("{", "not understood")]
    [InlineData("""{"__metadata__":{"kind":7}}""", "the metadata")]
    [InlineData("""{"__metadata__":{}}""", "'x'", "no 'kind'")]
    [InlineData("""{"x":{"dtype":"F8","shape":[4],"data_offsets":[0,4]}}""", "no 'kind'")]
    [InlineData("""{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}""", "needs 8 bytes and has 4")]
    [InlineData("""{"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}""", "[-1]; at most 64, none negative")]
    [InlineData("""{"x":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}""", "offsets [4, 0]")]
    [InlineData("""{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", "offsets [0, 8]")]
    [InlineData("""{"x":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,4]}}""", "not understood")]
    [InlineData("""{"x":{"dtype":"F32","data_offsets":[0,4]}}""", "not understood")]
    [InlineData("""{"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}""", "end at byte 0")]
    [InlineData("""{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x1":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "'x1' starts at byte 0")]
    public void A_malformed_header_fails_with_the_reason(string header, params string[] reasons)
    {
        bool hasData = header.Contains("dtype", StringComparison.Ordinal);
        GoldenResult result = Run(GoldenFile.Join(header, new byte[hasData ? 4 : 0]));
        Assert.Equal(GoldenOutcome.Fail, result.Outcome);
        Assert.Contains(reasons[^1], result.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void Running_a_case_leaves_no_tensor_behind()
    {
        GoldenRunner.Run(GoldenFile.PathOf("attention_gate"));
        long before = LiveTensors.OfThread;
        for (int i = 0; i < 5; i++) GoldenRunner.Run(GoldenFile.PathOf("attention_gate"));
        Assert.Equal(before, LiveTensors.OfThread);
    }

    [Fact]
    public void The_program_prints_a_line_a_file_and_the_totals()
    {
        Directory.CreateDirectory(_folder.PathOf("below"));
        File.Copy(GoldenFile.PathOf("se"), _folder.PathOf("se.safetensors"));
        File.Copy(GoldenFile.PathOf("eca"), Path.Combine(_folder.Root, "below", "eca.safetensors"));
        (int code, string output, string errors) = Program(_folder.Root);
        string[] lines = output.TrimEnd().Split('\n');
        Assert.Equal((0, ""), (code, errors));
        Assert.Matches(@"^PASS  below/eca  y_eval \S+  y_train \S+  gradients \S+  statistics +-$", lines[0].TrimEnd());
        Assert.StartsWith("PASS  se  ", lines[1], StringComparison.Ordinal);
        Assert.Equal("2 passed, 0 failed, 0 skipped", lines[2].TrimEnd());
    }

    [Fact]
    public void The_program_returns_one_if_something_failed_and_zero_if_all_was_skipped()
    {
        GoldenFile unknown = GoldenFile.Read("se");
        unknown.Metadata["kind"] = "unknown";
        File.WriteAllBytes(_folder.PathOf("a.safetensors"), unknown.ToBytes());
        Assert.Equal(0, Program(_folder.Root).Code);
        File.WriteAllBytes(_folder.PathOf("b.safetensors"), [1, 2, 3]);
        (int code, string output, _) = Program(_folder.Root);
        Assert.Equal(1, code);
        Assert.EndsWith("0 passed, 1 failed, 1 skipped", output.TrimEnd(), StringComparison.Ordinal);
    }

    [Fact]
    public void The_program_returns_two_if_the_folders_cannot_be_used()
    {
        Assert.Equal(2, Program().Code);
        Assert.Contains("Usage", Program().Errors, StringComparison.Ordinal);
        (int code, string output, string errors) = Program(_folder.PathOf("nowhere"));
        Assert.Equal((2, ""), (code, output));
        Assert.Contains("There is no folder", errors, StringComparison.Ordinal);
        (code, output, errors) = Program(_folder.Root);
        Assert.Equal((2, ""), (code, output));
        Assert.Contains("holds no *.safetensors file", errors, StringComparison.Ordinal);
    }

    private static (int Code, string Output, string Errors) Program(params string[] args)
    {
        using StringWriter output = new(), errors = new();
        int code = GoldenProgram.Run(args, output, errors);
        return (code, output.ToString(), errors.ToString());
    }

    private GoldenResult Run(GoldenFile file) => Run(file.ToBytes());

    private GoldenResult Run(byte[] file)
    {
        string path = _folder.PathOf("case.safetensors");
        File.WriteAllBytes(path, file);
        return GoldenRunner.Run(path);
    }
}
