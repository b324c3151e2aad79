namespace TorchSharp.Attention.Tests;

/// <summary>Values go into a model as they are, or not at all, unless rounding or overflow is asked for; then it is counted.</summary>
public sealed class ConversionTests : IDisposable
{
    private readonly WeightsFolder _folder = new();
    private readonly DisposeScope _scope = NewDisposeScope();

    public static TheoryData<string, ScalarType, ScalarType, long, long> Cases => new()
    {
        // Values, the file's type, the model's type, and how many round and overflow.
        { "1 0.5 -2 65504 NaN inf", ScalarType.Float32, ScalarType.Float16, 0, 0 },
        { "1 70000 -70000 2 inf", ScalarType.Float32, ScalarType.Float16, 0, 2 },
        { "1 0.1 1e-30 NaN", ScalarType.Float32, ScalarType.Float16, 2, 0 },
        { "1 257 3e38", ScalarType.Float32, ScalarType.BFloat16, 2, 0 },
        { "1 1e300 -1e300 0.1 1e-60 NaN -inf", ScalarType.Float64, ScalarType.Float32, 2, 2 },
        { "1 0.5 16777216", ScalarType.Float64, ScalarType.Float32, 0, 0 },
        { "1 3 70000", ScalarType.Float64, ScalarType.Float16, 0, 1 },
        { "1 0.0009765625 1025", ScalarType.Float16, ScalarType.BFloat16, 1, 0 },
        { "1 1e20", ScalarType.BFloat16, ScalarType.Float16, 0, 1 },
        { "1 0.1 1e5", ScalarType.BFloat16, ScalarType.Float32, 0, 0 },
        { "1152921504606846977 16777217 16777216 -5", ScalarType.Int64, ScalarType.Float32, 2, 0 },
        { "9223372036854775807 -9223372036854775808 9007199254740993", ScalarType.Int64, ScalarType.Float64, 2, 0 },
        { "9223372036854775807 -9223372036854775808 65504 2049", ScalarType.Int64, ScalarType.Float16, 1, 2 },
        { "2147483647 -2147483648 5", ScalarType.Int32, ScalarType.Float32, 1, 0 },
        { "32767 2048", ScalarType.Int16, ScalarType.Float16, 1, 0 },
        { "255 257", ScalarType.Int16, ScalarType.BFloat16, 1, 0 },
        { "127 -128", ScalarType.Int8, ScalarType.BFloat16, 0, 0 },
        { "16777217 3", ScalarType.Int32, ScalarType.ComplexFloat32, 1, 0 },
        { "1e300 0.5", ScalarType.Float64, ScalarType.ComplexFloat32, 0, 1 },
        { "1 0.1", ScalarType.Float32, ScalarType.ComplexFloat64, 0, 0 },
    };

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void What_is_lost_is_refused_or_counted(string values, ScalarType given, ScalarType own, long rounded, long overflowed)
    {
        Tensor value = Values(values).to_type(given), expected = value.to_type(own);
        if (given == ScalarType.Int64) value = tensor(values.Split(' ').Select(text => long.Parse(text, System.Globalization.CultureInfo.InvariantCulture)).ToArray());
        if (given == ScalarType.Int64) expected = value.to_type(own);
        using Holder model = new(zeros(value.numel(), own));
        string path = _folder.Safetensors("a", new Dictionary<string, Tensor> { ["value"] = value });
        WeightsLoadOptions both = new() { AllowRounding = true, AllowOverflow = true };
        if (rounded + overflowed > 0)
        {
            byte[] before = WeightsFolder.Snapshot(model);
            WeightsMismatchException e = Assert.Throws<WeightsMismatchException>(() => model.LoadWeights(path));
            Assert.Equal((given, own), (Assert.Single(e.Report.Mismatched).FileType, e.Report.Mismatched[0].ModelType));
            Assert.Contains(overflowed > 0 ? "AllowOverflow = true" : "AllowRounding = true", e.Message, StringComparison.Ordinal);
            Assert.Empty(e.Report.Loaded);
            if (overflowed > 0) Assert.Throws<WeightsMismatchException>(() => model.LoadWeights(path, options: both with { AllowOverflow = false }));
            if (rounded > 0) Assert.Throws<WeightsMismatchException>(() => model.LoadWeights(path, options: both with { AllowRounding = false }));
            Assert.False(model.LoadWeights(path, options: new WeightsLoadOptions { Strict = false }).IsComplete);
            Assert.Equal(before, WeightsFolder.Snapshot(model));
        }

        WeightsReport report = model.LoadWeights(path, options: rounded + overflowed > 0 ? both : null);
        Assert.True(report.IsComplete);
        Assert.Equal(rounded + overflowed > 0 ? [new WeightsConversion("value", given, own, rounded, overflowed)] : [], report.Conversions);
        if (rounded + overflowed > 0) Assert.Contains($"{rounded} values rounded, {overflowed} infinite", report.ToString(), StringComparison.Ordinal);
        Assert.Equal(WeightsFolder.Bytes(expected), WeightsFolder.Bytes(model.state_dict()["value"]));
    }

    [Fact]
    public void The_value_is_named_and_a_single_one_among_many_is_found()
    {
        Tensor value = zeros(1_000_000, ScalarType.Float64);
        value[777_777] = 1e300.ToTensor();
        using Holder model = new(zeros(1_000_000));
        string path = _folder.Safetensors("a", new Dictionary<string, Tensor> { ["value"] = value });
        Assert.Contains("1 value is beyond Float32, for example 1E+300; AllowOverflow", Assert.Throws<WeightsMismatchException>(() => model.LoadWeights(path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_weight_that_is_adapted_may_round_but_not_overflow()
    {
        using Modules.Conv2d convolution = nn.Conv2d(1, 1, 1, bias: false, dtype: ScalarType.Float16);
        WeightsLoadOptions adapt = new() { AdaptInputChannels = true };
        Assert.True(convolution.LoadWeights(_folder.Safetensors("a", new Dictionary<string, Tensor> { ["weight"] = full([1, 3, 1, 1], 0.1) }), options: adapt).IsComplete);
        Assert.Throws<WeightsMismatchException>(() => convolution.LoadWeights(_folder.Safetensors("b", new Dictionary<string, Tensor> { ["weight"] = full([1, 3, 1, 1], 30000) }), options: adapt));
    }

    [Theory]
    [InlineData(ScalarType.Float16, 1)]
    [InlineData(ScalarType.Float32, 0)]
    [InlineData(ScalarType.BFloat16, 1)]
    [InlineData(ScalarType.Float64, 2)]
    [InlineData(ScalarType.Int64, 1)]
    [InlineData(ScalarType.Int32, 1)]
    [InlineData(ScalarType.Byte, 0)]
    public void A_counter_loads_from_any_type_and_from_one_value_in_brackets(ScalarType type, int rank)
    {
        using Modules.BatchNorm2d norm = nn.BatchNorm2d(2);
        Dictionary<string, Tensor> state = norm.state_dict().ToDictionary(pair => pair.Key, pair => pair.Value.detach().clone());
        state["num_batches_tracked"] = full(Enumerable.Repeat(1L, rank).ToArray(), 96, type);
        Assert.True(norm.LoadWeights(_folder.Safetensors("a", state)).IsComplete);
        Assert.Equal(96, norm.state_dict()["num_batches_tracked"].ToInt64());
    }

    [Fact]
    public void A_counter_that_is_no_whole_number_is_refused_with_the_way_out()
    {
        using Modules.BatchNorm2d norm = nn.BatchNorm2d(2);
        foreach (Tensor wrong in new[] { tensor(1.5f), tensor(float.NaN), tensor(1e30), tensor(new[] { 1f, 2 }), zeros(1, ScalarType.ComplexFloat32), tensor(new long[] { 1, 2 }) })
        {
            Dictionary<string, Tensor> state = norm.state_dict().ToDictionary(pair => pair.Key, pair => pair.Value.detach().clone());
            state["num_batches_tracked"] = wrong;
            string path = _folder.Safetensors("a", state);
            WeightsMismatchException e = Assert.Throws<WeightsMismatchException>(() => norm.LoadWeights(path));
            Assert.Equal("num_batches_tracked", Assert.Single(e.Report.Mismatched).Name);
            Assert.Contains("KeyMap.Drop(\"num_batches_tracked$\")", e.Message, StringComparison.Ordinal);
            Assert.True(norm.LoadWeights(path, KeyMap.Drop("num_batches_tracked$")).IsComplete);
        }
    }

    private static Tensor Values(string values) => tensor(values.Split(' ').Select(text => text switch
    {
        "inf" => double.PositiveInfinity,
        "-inf" => double.NegativeInfinity,
        _ => double.Parse(text, System.Globalization.CultureInfo.InvariantCulture),
    }).ToArray());

    private sealed class Holder : nn.Module
    {
        public Holder(Tensor value)
            : base(nameof(Holder)) => register_buffer("value", value.DetachFromDisposeScope());
    }
}
