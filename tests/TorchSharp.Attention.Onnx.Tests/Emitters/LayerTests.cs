using TorchSharp.Modules;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>TorchSharp's own layers, each with settings that matter.</summary>
public sealed class LayerTests
{
    private static readonly long[] Map = [2, 6, 8, 12], Line = [2, 6, 12], Volume = [2, 4, 6, 4, 8];

    private static readonly (string Name, Func<nn.Module<Tensor, Tensor>> Create, long[] Shape)[] Rows =
    [
        ("Linear", () => nn.Linear(12, 5), Map),
        ("Linear, no bias", () => nn.Linear(6, 5, hasBias: false), [3, 6]),
        ("Conv1d", () => nn.Conv1d(6, 4, 3, stride: 2, padding: 2, dilation: 2), Line),
        ("Conv1d, same", () => nn.Conv1d(6, 4, 4, padding: Padding.Same), Line),
        ("Conv2d", () => nn.Conv2d(6, 4, 3, stride: 2, padding: 1, groups: 2, bias: false), Map),
        ("Conv2d, rectangular", () => nn.Conv2d(6, 4, (3, 1), stride: (1, 2), padding: (1, 0), dilation: (2, 1)), Map),
        ("Conv2d, same", () => nn.Conv2d(6, 4, 4, padding: Padding.Same), Map),
        ("Conv2d, valid", () => nn.Conv2d(6, 4, 3, padding: Padding.Valid), Map),
        ("Conv2d, reflect", () => nn.Conv2d(6, 4, 3, padding: 2, padding_mode: PaddingModes.Reflect), Map),
        ("Conv2d, replicate", () => nn.Conv2d(6, 4, 3, padding: 2, padding_mode: PaddingModes.Replicate), Map),
        ("Conv2d, circular", () => nn.Conv2d(6, 4, 3, padding: 2, padding_mode: PaddingModes.Circular), Map),
        ("Conv3d", () => nn.Conv3d(4, 4, 3, padding: 1), Volume),
        ("ConvTranspose1d", () => nn.ConvTranspose1d(6, 4, 3, stride: 2, padding: 1, output_padding: 1), Line),
        ("ConvTranspose2d", () => nn.ConvTranspose2d(6, 4, 3, stride: 2, padding: 1, output_padding: 1, groups: 2, bias: false), Map),
        ("ConvTranspose3d", () => nn.ConvTranspose3d(4, 3, 2, stride: 2), Volume),
        ("BatchNorm1d", () => nn.BatchNorm1d(6), Line),
        ("BatchNorm1d, features", () => nn.BatchNorm1d(6, affine: false), [3, 6]),
        ("BatchNorm2d", () => nn.BatchNorm2d(6, eps: 1e-3), Map),
        ("BatchNorm3d", () => nn.BatchNorm3d(4), Volume),
        ("InstanceNorm1d", () => nn.InstanceNorm1d(6, affine: true), Line),
        ("InstanceNorm2d", () => nn.InstanceNorm2d(6, affine: true), Map),
        ("InstanceNorm2d, running", () => nn.InstanceNorm2d(6, affine: true, track_running_stats: true), Map),
        ("InstanceNorm3d", () => nn.InstanceNorm3d(4), Volume),
        ("GroupNorm", () => QuantizedPoolTests.Started(nn.GroupNorm(3, 6)), Map),
        ("LayerNorm", () => nn.LayerNorm(12), Map),
        ("LayerNorm, no parameters", () => nn.LayerNorm([8, 12], elementwise_affine: false), Map),
        ("LocalResponseNorm", () => nn.LocalResponseNorm(3, alpha: 0.1), Map),
        ("MaxPool1d", () => nn.MaxPool1d(3, stride: 2, padding: 1), Line),
        ("MaxPool2d", () => nn.MaxPool2d(3, stride: 2, padding: 1), Map),
        ("MaxPool2d, ceil", () => nn.MaxPool2d(3, stride: 2, ceil_mode: true), Map),
        ("MaxPool3d", () => nn.MaxPool3d(2), Volume),
        ("AvgPool1d", () => nn.AvgPool1d(3, stride: 2, padding: 1), Line),
        ("AvgPool2d", () => nn.AvgPool2d(3, stride: 2, padding: 1), Map),
        ("AvgPool2d, pads not counted", () => nn.AvgPool2d(3, stride: 2, padding: 1, count_include_pad: false), Map),
        ("AvgPool3d", () => nn.AvgPool3d(2), Volume),
        ("AdaptiveAvgPool1d", () => nn.AdaptiveAvgPool1d(1), Line),
        ("AdaptiveAvgPool2d", () => nn.AdaptiveAvgPool2d(1), Map),
        ("AdaptiveAvgPool2d, 4 x 3", () => nn.AdaptiveAvgPool2d([4, 3]), Map),
        ("AdaptiveAvgPool3d", () => nn.AdaptiveAvgPool3d(1), Volume),
        ("AdaptiveMaxPool1d", () => nn.AdaptiveMaxPool1d(4), Line),
        ("AdaptiveMaxPool2d", () => nn.AdaptiveMaxPool2d([2, 2]), Map),
        ("Upsample, nearest", () => nn.Upsample(scale_factor: [2.0, 2.0]), Map),
        ("Upsample, nearest, 1.5", () => nn.Upsample(scale_factor: [1.5, 1.5]), Map),
        ("Upsample, nearest, size", () => nn.Upsample(size: [11, 17]), Map),
        ("Upsample, bilinear", () => nn.Upsample(scale_factor: [2.0, 2.0], mode: UpsampleMode.Bilinear, align_corners: false), Map),
        ("Upsample, bilinear, corners", () => nn.Upsample(size: [13, 9], mode: UpsampleMode.Bilinear, align_corners: true), Map),
        ("Upsample, bicubic", () => nn.Upsample(scale_factor: [2.0, 2.0], mode: UpsampleMode.Bicubic, align_corners: false), Map),
        ("Upsample, linear", () => nn.Upsample(scale_factor: [2.0], mode: UpsampleMode.Linear, align_corners: false), Line),
        ("Upsample, trilinear", () => nn.Upsample(scale_factor: [2.0, 2.0, 2.0], mode: UpsampleMode.Trilinear, align_corners: false), Volume),
        ("PixelShuffle", () => nn.PixelShuffle(2), [2, 8, 3, 5]),
        ("PixelUnshuffle", () => nn.PixelUnshuffle(2), Map),
        ("ChannelShuffle", () => nn.ChannelShuffle(3), Map),
        ("ZeroPad2d", () => nn.ZeroPad2d((1, 2, 3, 0)), Map),
        ("ConstantPad1d", () => nn.ConstantPad1d((1, 2), 0.5), Line),
        ("ConstantPad2d", () => nn.ConstantPad2d((1, 2, 0, 1), -2), Map),
        ("ConstantPad3d", () => nn.ConstantPad3d(1, 1.5), Volume),
        ("ReflectionPad1d", () => nn.ReflectionPad1d((1, 2)), Line),
        ("ReflectionPad2d", () => nn.ReflectionPad2d(2), Map),
        ("ReflectionPad3d", () => nn.ReflectionPad3d(1), Volume),
        ("ReplicationPad1d", () => nn.ReplicationPad1d(2), Line),
        ("ReplicationPad2d", () => nn.ReplicationPad2d((0, 1, 2, 3)), Map),
        ("ReplicationPad3d", () => nn.ReplicationPad3d(1), Volume),
        ("Flatten", () => nn.Flatten(), Map),
        ("Flatten, part", () => nn.Flatten(2, 3), Map),
        ("Unflatten", () => nn.Unflatten(1, [2, 3]), Map),
        ("Identity", () => nn.Identity(), Map),
        ("Dropout", () => nn.Dropout(0.5), Map),
        ("Dropout1d", () => nn.Dropout1d(0.5), Line),
        ("Dropout2d", () => nn.Dropout2d(0.5), Map),
        ("Dropout3d", () => nn.Dropout3d(0.5), Volume),
        ("AlphaDropout", () => nn.AlphaDropout(0.5), Map),
        ("FeatureAlphaDropout", () => nn.FeatureAlphaDropout(0.5), Map),
        ("ReLU", () => nn.ReLU(), Map),
        ("ReLU6", () => nn.ReLU6(), Map),
        ("LeakyReLU", () => nn.LeakyReLU(0.2), Map),
        ("RReLU", () => nn.RReLU(0.1, 0.4), Map),
        ("PReLU", () => nn.PReLU(6), Map),
        ("ELU", () => nn.ELU(0.7), Map),
        ("CELU", () => nn.CELU(0.7), Map),
        ("SELU", () => nn.SELU(), Map),
        ("GELU", () => nn.GELU(), Map),
        ("SiLU", () => nn.SiLU(), Map),
        ("Mish", () => nn.Mish(), Map),
        ("Hardsigmoid", () => nn.Hardsigmoid(), Map),
        ("Hardswish", () => nn.Hardswish(), Map),
        ("Hardshrink", () => nn.Hardshrink(0.3), Map),
        ("Softshrink", () => nn.Softshrink(0.3), Map),
        ("Tanhshrink", () => nn.Tanhshrink(), Map),
        ("Threshold", () => nn.Threshold(0.2, -1), Map),
        ("Sigmoid", () => nn.Sigmoid(), Map),
        ("LogSigmoid", () => nn.LogSigmoid(), Map),
        ("Tanh", () => nn.Tanh(), Map),
        ("Softsign", () => nn.Softsign(), Map),
        ("Softplus", () => nn.Softplus(2), Map),
        ("Softmax", () => nn.Softmax(1), Map),
        ("Softmin", () => nn.Softmin(-1), Map),
        ("Softmax2d", () => nn.Softmax2d(), Map),
        ("LogSoftmax", () => nn.LogSoftmax(1), Map),
        ("GLU", () => nn.GLU(1), Map),
    ];

    /// <summary>What keeps an axis at the example's size, as it must; everything else leaves all axes open.</summary>
    private static readonly Dictionary<string, string> Fixed = new()
    {
        ["Linear"] = "(batch, 6, height, 12)",
        ["LayerNorm"] = "(batch, 6, height, 12)",
        ["LayerNorm, no parameters"] = "(batch, 6, 8, 12)",
        ["AdaptiveAvgPool2d, 4 x 3"] = "(batch, 6, 8, 12)",
        ["AdaptiveMaxPool1d"] = "(batch, 6, 12)",
        ["AdaptiveMaxPool2d"] = "(batch, 6, 8, 12)",
        ["PixelUnshuffle"] = "(batch, 6, 8, 12)",
    };

    public static TheoryData<string> Names => [.. Rows.Select(row => row.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public void A_layer_computes_the_same(string name)
    {
        (_, Func<nn.Module<Tensor, Tensor>> create, long[] shape) = Rows.Single(row => row.Name == name);
        using TestFolder folder = new();
        using DisposeScope scope = NewDisposeScope();
        manual_seed(3);
        using nn.Module<Tensor, Tensor> layer = create();
        ExportTests.Disturb(layer);
        OnnxExportReport report = layer.ExportOnnx(
            folder.PathOf("layer.onnx"), randn(shape), new OnnxExportOptions { DynamicAxes = OnnxDynamicAxes.Batch | OnnxDynamicAxes.Size, Tolerance = 1e-5 });
        Assert.Empty(report.Skipped);
        string open = shape.Length switch
        {
            4 => $"(batch, {shape[1]}, height, width)",
            3 => $"(batch, {shape[1]}, width)",
            _ => $"(batch, {string.Join(", ", shape.Skip(1))})",
        };
        Assert.Equal($"input {Fixed.GetValueOrDefault(name, open)}", Assert.Single(report.Inputs));
        EmitterTests.AssertNothingUnread(OnnxModelFile.Load(folder.PathOf("layer.onnx")).Graph);
        OnnxFiles.Keep(folder.PathOf("layer.onnx"), $"layer {name}");
    }

    [Theory]
    [InlineData(8, 2, true, null, null)]
    [InlineData(12, 3, false, 5L, 5L)]
    [InlineData(6, 6, true, null, null)]
    public void Multi_head_attention_computes_the_same_whatever_its_heads(long width, long heads, bool bias, long? keys, long? values)
    {
        using TestFolder folder = new();
        using DisposeScope scope = NewDisposeScope();
        manual_seed(3);
        using SequenceNetwork network = new(nn.MultiheadAttention(width, heads, bias: bias, kdim: keys, vdim: values));
        OnnxExportReport report = network.ExportOnnx(
            folder.PathOf("heads.onnx"), [randn(5, 2, width), randn(4, 2, keys ?? width), randn(4, 2, values ?? width)],
            new OnnxExportOptions { Emitters = OnnxEmitters.Default.WithMultiple<SequenceNetwork>((context, _, inputs) => [context.Emit(context.Child("attention")!, inputs)[0]]) });
        Assert.InRange(report.MaxRelativeError!.Value, 0, 1e-5);
    }

    [Theory]
    [InlineData(ScalarType.Float16)]
    [InlineData(ScalarType.BFloat16)]
    [InlineData(ScalarType.Float64)]
    public void Multi_head_attention_of_another_type_is_rounded_where_that_is_asked_for(ScalarType type)
    {
        using TestFolder folder = new();
        using DisposeScope scope = NewDisposeScope();
        manual_seed(3);
        using SequenceNetwork network = new(nn.MultiheadAttention(12, 3));
        network.to(type);
        Tensor sequence = randn(5, 2, 12).to_type(type);
        OnnxExportReport report = network.ExportOnnx(folder.PathOf("heads.onnx"), [sequence, sequence, sequence], new OnnxExportOptions
        {
            Emitters = OnnxEmitters.Default.WithMultiple<SequenceNetwork>((context, _, inputs) => [context.Emit(context.Child("attention")!, inputs)[0]]),
            ConvertToFloat32 = true,
        });
        Assert.NotEmpty(report.Checks);
    }

    [Fact]
    public void A_layer_that_does_something_else_than_its_name_says_is_refused()
    {
        using TestFolder folder = new();
        using DisposeScope scope = NewDisposeScope();
        using Hardtanh layer = nn.Hardtanh(-0.5, 0.8);
        using Scalar three = 3.0.ToScalar();
        if (layer.call(full(1, three)).item<float>() < 1) Assert.Skip("this TorchSharp's Hardtanh clips");
        Assert.Contains("beyond its bounds", Assert.Throws<NotSupportedException>(() => layer.ExportOnnx(folder.PathOf("layer.onnx"), randn(1, 3))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Multi_head_attention_with_biases_as_keys_is_refused()
    {
        using TestFolder folder = new();
        using DisposeScope scope = NewDisposeScope();
        using SequenceNetwork network = new(nn.MultiheadAttention(8, 2, add_bias_kv: true));
        NotSupportedException error = Assert.Throws<NotSupportedException>(() => network.ExportOnnx(
            folder.PathOf("heads.onnx"), [randn(5, 2, 8), randn(4, 2, 8), randn(4, 2, 8)],
            new OnnxExportOptions { Emitters = OnnxEmitters.Default.WithMultiple<SequenceNetwork>((context, _, inputs) => [context.Emit(context.Child("attention")!, inputs)[0]]) }));
        Assert.Contains("MultiheadAttention 'attention' cannot be written: add_bias_kv", error.Message, StringComparison.Ordinal);
        Assert.Empty(folder.Files());
    }

    private sealed class SequenceNetwork : nn.Module<Tensor, Tensor, Tensor, Tensor>
    {
        private readonly MultiheadAttention attention;

        public SequenceNetwork(MultiheadAttention attention)
            : base(nameof(SequenceNetwork))
        {
            this.attention = attention;
            RegisterComponents();
        }

        public override Tensor forward(Tensor query, Tensor key, Tensor value)
        {
            using DisposeScope scope = NewDisposeScope();
            return attention.call(query, key, value, need_weights: false).Item1.MoveToOuterDisposeScope();
        }
    }
}
