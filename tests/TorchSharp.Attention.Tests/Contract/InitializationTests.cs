namespace TorchSharp.Attention.Tests;

/// <summary>How weights start: spreads by their formula, zero biases, repeatable by seed, and what the gates then do.</summary>
public class InitializationTests
{
    public static TheoryData<string> Names => Row.Names;

    public static TheoryData<string> Kinds => Row.Kinds;

    /// <summary>Kaiming, fan-out, ReLU: normal with σ = √(2 / fan-out).</summary>
    [Fact]
    public void Kaiming_has_its_spread()
    {
        IReadOnlyDictionary<string, double[]> start = Start(new SqueezeExcitationOptions { Reduction = 4 }, AttentionInitialization.Kaiming);
        Spread(start["fc1.weight"], Math.Sqrt(2.0 / 64));
        Spread(start["fc2.weight"], Math.Sqrt(2.0 / 256));
        Assert.True(start["fc1.weight"].Max() > 3.3 * Math.Sqrt(2.0 / 64), "normal, not uniform");
        IReadOnlyDictionary<string, double[]> bam = Start(new BamOptions { Reduction = 4 }, AttentionInitialization.Kaiming);
        Spread(bam["spatial.dilated.0.conv.weight"], Math.Sqrt(2.0 / (64 * 9)));
    }

    /// <summary>Xavier: uniform within ±√(6 / (fan-in + fan-out)).</summary>
    [Fact]
    public void Xavier_has_its_spread_and_bound()
    {
        IReadOnlyDictionary<string, double[]> start = Start(new SqueezeExcitationOptions { Reduction = 4 }, AttentionInitialization.Xavier);
        Uniform(start["fc1.weight"], Math.Sqrt(6.0 / (256 + 64)));
        IReadOnlyDictionary<string, double[]> self = Start(new SelfAttention2dOptions { RelativePosition = true }, AttentionInitialization.Xavier);
        Uniform(self["qkv.weight"], Math.Sqrt(6.0 / (256 + (3 * 256))));
        Uniform(self["rel_pos.fc2.weight"], Math.Sqrt(6.0 / (128 + 8)));
    }

    /// <summary>Default: uniform within ±1 / √fan-in, weights and biases, also after a reset.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Default_is_pytorchs_start(bool reset)
    {
        IReadOnlyDictionary<string, double[]> start = Start(new SqueezeExcitationOptions { Reduction = 4 }, AttentionInitialization.Default, reset);
        Uniform(start["fc1.weight"], 1 / Math.Sqrt(256));
        Uniform(start["fc2.weight"], 1 / Math.Sqrt(64));
        Uniform([.. start["fc1.bias"], .. start["fc2.bias"].Select(b => b / 2)], 1 / Math.Sqrt(256));
        IReadOnlyDictionary<string, double[]> bam = Start(new BamOptions { Reduction = 4 }, AttentionInitialization.Default, reset);
        Uniform(bam["spatial.dilated.1.conv.weight"], 1 / Math.Sqrt(64 * 9));
        IReadOnlyDictionary<string, double[]> self = Start(new SelfAttention2dOptions { RelativePosition = true }, AttentionInitialization.Default, reset);
        Uniform(self["rel_pos.fc2.weight"], 1 / Math.Sqrt(128));
    }

    [Fact]
    public void Paper_starts_are_the_papers()
    {
        IReadOnlyDictionary<string, double[]> se = Start(new SqueezeExcitationOptions { Reduction = 4 }, AttentionInitialization.Paper);
        Spread(se["fc1.weight"], Math.Sqrt(2.0 / 64));
        Assert.All([.. se["fc1.bias"], .. se["fc2.bias"]], bias => Assert.Equal(0, bias));

        IReadOnlyDictionary<string, double[]> cbam = Start(CbamOptions.Official, AttentionInitialization.Paper);
        Uniform(cbam["channel.fc1.weight"], 1 / Math.Sqrt(256));
        Assert.All([.. cbam["channel.fc1.bias"], .. cbam["channel.fc2.bias"]], bias => Assert.Equal(0, bias));
        Spread(cbam["spatial.conv.conv.weight"], Math.Sqrt(2.0 / 49), tolerance: 0.25);
        Assert.Equal(0, cbam["spatial.conv.bn.weight"][0]);

        IReadOnlyDictionary<string, double[]> bam = Start(new BamOptions { Reduction = 4 }, AttentionInitialization.Paper);
        Spread(bam["spatial.dilated.0.conv.weight"], Math.Sqrt(2.0 / (64 * 9)));
        Assert.All(bam["spatial.reduce.conv.bias"], bias => Assert.Equal(0, bias));
        Uniform(bam["channel.fc1.weight"], 1 / Math.Sqrt(256));

        Assert.All(Start(new StyleRecalibrationOptions(), AttentionInitialization.Paper)["cfc"], weight => Assert.Equal(0, weight));
        Uniform(Start(new StyleRecalibrationOptions(), AttentionInitialization.Default)["cfc"], 1 / Math.Sqrt(2));

        IReadOnlyDictionary<string, double[]> large = Start(new LargeKernelAttentionOptions(), AttentionInitialization.Paper);
        Spread(large["conv_spatial.weight"], Math.Sqrt(2.0 / 49));
        Spread(large["conv1.weight"], Math.Sqrt(2.0 / 256));
        Assert.All(large["conv0.bias"], bias => Assert.Equal(0, bias));

        IReadOnlyDictionary<string, double[]> polarized = Start(PolarizedSelfAttentionOptions.Official, AttentionInitialization.Paper);
        Spread(polarized["conv_v_left.weight"], Math.Sqrt(2.0 / 256));
        Spread(polarized["conv_q_right.weight"], Math.Sqrt(2.0 / 256), tolerance: 0.25);
        Uniform(polarized["conv_up.weight"], 1 / Math.Sqrt(128));

        IReadOnlyDictionary<string, double[]> self = Start(new SelfAttention2dOptions(), AttentionInitialization.Paper);
        Uniform(self["proj.weight"], Math.Sqrt(6.0 / (256 + 256)));
        Assert.All([.. self["qkv.bias"], .. self["proj.bias"]], bias => Assert.Equal(0, bias));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Kaiming_and_xavier_leave_biases_zero(string name)
    {
        foreach (AttentionInitialization initialization in new[] { AttentionInitialization.Kaiming, AttentionInitialization.Xavier })
        {
            using Subject subject = new(Row.Named(name).As(initialization));
            foreach ((string key, double[] values) in subject.State().Entries)
            {
                // The members of a dynamic attention start as their own settings say.
                if (key.StartsWith("attentions.", StringComparison.Ordinal)) continue;
                if (key.EndsWith("bias", StringComparison.Ordinal)) Assert.All(values, value => Assert.Equal(0, value));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Reset_starts_afresh_and_repeats_with_the_seed(string name)
    {
        foreach (AttentionInitialization initialization in Enum.GetValues<AttentionInitialization>())
        {
            using DisposeScope scope = NewDisposeScope();
            using Subject subject = new(Row.Named(name).As(initialization));
            IReadOnlyDictionary<string, double[]> start = subject.State().Entries;
            subject.Randomize(1);
            OracleState first = ResetFrom(seed: 5);
            subject.Randomize(2);
            Near.Equal(first, ResetFrom(seed: 5), 0, $"{name}, {initialization}");

            // What has no chance in it is what the constructor made: norms, statistics, zero biases and scales.
            foreach ((string key, double[] values) in start)
            {
                bool constant = values.Distinct().Count() == 1 && (values.Length > 1 || values[0] is 0 or 1);
                if (constant) Assert.True(values.SequenceEqual(first.Entries[key]), $"{name}, {initialization}: {key} is not reset.");
            }

            OracleState ResetFrom(long seed)
            {
                manual_seed(seed);
                subject.ResetParameters();
                return subject.State();
            }
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Reset_makes_an_identity_start_the_identity_again(string name)
    {
        Row row = Row.Named(name).As(AttentionInitialization.Identity);
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = Subject.Random(row, seed: 1);
        Tensor x = MapShape.Several[1].Input(row, 2).Tensor();
        Tensor? guide = MapShape.Several[1].Guide(row, 2)?.Tensor();
        subject.ResetParameters();
        Near.Identical(x, subject.Forward(x, guide));
    }

    /// <summary>Equal numbers are not enough for "to the last bit": a zero has a sign.</summary>
    [Theory]
    [MemberData(nameof(Names))]
    public void An_identity_start_keeps_the_signs_of_zeros(string name)
    {
        Row row = Row.Named(name).As(AttentionInitialization.Identity);
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = Subject.Random(row, seed: 1);
        subject.ResetParameters();
        Tensor? guide = MapShape.Several[1].Guide(row, 2)?.Tensor();
        Tensor x = MapShape.Several[1].Input(row, 2).Tensor();
        Tensor zeros = where(x.gt(0), zeros_like(x), zeros_like(x).neg());
        foreach (Tensor map in new[] { zeros, where(x.lt(0), x, zeros), where(x.gt(0), x, zeros) })
        {
            Assert.Equal(map.signbit().data<bool>().ToArray(), subject.Forward(map, guide).signbit().data<bool>().ToArray());
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_seed_builds_the_same_module_twice(string name)
    {
        manual_seed(9);
        using Subject first = new(Row.Named(name));
        manual_seed(9);
        using Subject second = new(Row.Named(name));
        Near.Equal(first.State(), second.State(), 0, name);
    }

    /// <summary>
    /// What a fresh gate leaves of a positive map, averaged over seeds (measured: 0.50, 0.50, 0.26): about one half a sigmoid, one
    /// quarter where two follow each other.
    /// </summary>
    [Fact]
    public void A_fresh_gate_shrinks_the_map_by_a_known_share()
    {
        Assert.InRange(Shrink(new SqueezeExcitationOptions()), 0.45, 0.55);
        Assert.InRange(Shrink(new EfficientChannelAttentionOptions()), 0.43, 0.57);
        Assert.InRange(Shrink(CbamOptions.Timm), 0.20, 0.30);
    }

    private static double Shrink(AttentionOptions options)
    {
        double share = 0;
        for (int seed = 0; seed < 20; seed++)
        {
            using DisposeScope scope = NewDisposeScope();
            manual_seed(seed);
            using AttentionModule module = options.Create(64);
            module.eval();
            Tensor x = rand(4, 64, 14, 14);
            share += module.call(x).mean().ToDouble() / x.mean().ToDouble() / 20;
        }

        return share;
    }

    private static IReadOnlyDictionary<string, double[]> Start(AttentionOptions options, AttentionInitialization initialization, bool reset = false)
    {
        manual_seed(1);
        using Subject subject = new(new Row("start", options, 256).As(initialization));
        if (reset) subject.ResetParameters();
        return subject.State().Entries;
    }

    private static void Uniform(double[] values, double bound)
    {
        Assert.InRange(values.Max(Math.Abs), 0.97 * bound, bound * (1 + 1e-6));
        Spread(values, bound / Math.Sqrt(3));
    }

    private static void Spread(double[] values, double deviation, double tolerance = 0.08)
    {
        double mean = values.Average();
        double actual = Math.Sqrt(values.Average(value => (value - mean) * (value - mean)));
        Assert.InRange(actual / deviation, 1 - tolerance, 1 + tolerance);
        Assert.InRange(mean / deviation, -tolerance, tolerance);
    }
}
