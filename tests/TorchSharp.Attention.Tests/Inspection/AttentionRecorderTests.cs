namespace TorchSharp.Attention.Tests;

/// <summary>Recorded maps are the modules' own, and nobody notices the recording.</summary>
public sealed class AttentionRecorderTests
{
    /// <summary>10⁻¹⁶ for each of some hundred terms, relative to a thousandth of the largest.</summary>
    private const double Tolerance = 1e-11;

    public static TheoryData<string> Names => Row.Names;

    [Theory]
    [MemberData(nameof(Names))]
    public void Maps_are_the_modules_own(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        using Subject subject = Subject.Random(Row.Named(name), 3);
        Tensor x = randn(3, subject.Row.Channels, 5, 4, dtype: ScalarType.Float64);
        Tensor? guide = subject.Row.GuideChannels == 0 ? null : randn(3, subject.Row.GuideChannels, 3, 2, dtype: ScalarType.Float64);
        Tensor plain = subject.Forward(x, guide);

        using AttentionRecorder recorder = AttentionRecorder.Attach(subject.Module);
        Tensor recorded = subject.Forward(x, guide);
        AttentionMaps maps = recorder[""];
        Near.Equal(plain, recorded, Tolerance, "output");
        Assert.Equal(3, maps.Samples);
        Assert.All(maps.Kinds, kind => Assert.False(maps[kind]!.requires_grad));
        if (subject.Gate(x, guide) is { } gate)
        {
            Near.Equal(gate.expand(x.shape), Whole(maps, x), Tolerance, "gate");
            if (maps.ElementGate is { } whole)
            {
                Near.Equal(whole.mean([2, 3]), maps.ChannelGate!, Tolerance, "channel means");
                Near.Equal(whole.mean([1]), maps.SpatialGate!, Tolerance, "position means");
            }
        }
        else if (subject.Module is ContextModule context)
        {
            Near.Equal(context.Weights(x), maps.PairwiseWeights!, Tolerance, "weights");
        }
        else
        {
            Near.Equal(((DynamicAttention)subject.Module).Weights(x).unsqueeze(2), maps.BranchWeights!, Tolerance, "router");
        }
    }

    /// <summary>In training: outputs, gradients, running statistics and random numbers with and without a recorder.</summary>
    [Theory]
    [MemberData(nameof(Names))]
    public void Training_gives_the_same_numbers_while_it_is_recorded(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        Row row = Row.Named(name);
        Tensor x = randn(3, row.Channels, 5, 4, dtype: ScalarType.Float64);
        Tensor? guide = row.GuideChannels == 0 ? null : randn(3, row.GuideChannels, 3, 2, dtype: ScalarType.Float64);
        Dictionary<string, double[]> plain = Train(row, x, guide, record: false), recorded = Train(row, x, guide, record: true);
        Assert.Equal(plain.Keys, recorded.Keys);
        Assert.All(plain.Keys, key => Near.Equal(plain[key], recorded[key], key.Contains("running", StringComparison.Ordinal) || key == "random" ? 0 : 1e-9, key));
    }

    [Fact]
    public void Halves_multiply_to_the_gate_in_any_order()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor x = randn(2, 8, 5, 4);
        foreach (CbamOrder order in Enum.GetValues<CbamOrder>())
        {
            using Cbam cbam = new(8, new CbamOptions { Reduction = 2, KernelSize = 3, Order = order });
            using AttentionRecorder maps = AttentionRecorder.Attach(cbam);
            Tensor y = cbam.call(x);
            Assert.Equal([2, 8], maps[""].ChannelGate!.shape);
            Assert.Equal([2, 5, 4], maps[""].SpatialGate!.shape);
            Assert.Null(maps[""].ElementGate);
            Near.Equal(y, x.mul(Whole(maps[""], x)), 1e-5, order.ToString());
            Assert.Equal([""], maps.Names);
        }
    }

    [Fact]
    public void A_network_is_recorded_by_name_and_restored()
    {
        manual_seed(7);
        using DisposeScope scope = NewDisposeScope();
        using FeatureNetwork network = Cases.Networks["resnet bottleneck, attention everywhere"]();
        network.eval();
        Tensor x = randn(2, 3, 16, 16);
        using IDisposable quiet = no_grad();
        Tensor plain = network.call(x), after;
        Tensor gate;
        using (AttentionRecorder maps = AttentionRecorder.Attach(network))
        {
            Near.Equal(plain.Doubles(), network.call(x).Doubles(), 1e-4, "recorded output", ofLargest: 1);
            gate = maps["layer1.0.attn"].ChannelGate!;
            Assert.Equal([2, 16], gate.shape);
            Assert.Equal([2, 4, 4], maps["layer1.0.attn_after"].SpatialGate!.shape);
            AttentionMaps self = maps[maps.Names.Single(name => network.named_modules().Single(pair => pair.name == name).module is SelfAttention2d && name.Contains('1', StringComparison.Ordinal))];
            Assert.Equal([2, 2, 16, 16], self.PairwiseWeights!.shape);
            Assert.Equal(((4, 4), (4, 4)), (self.QueryGrid!.Value, self.KeyGrid!.Value));
            Near.Equal(ones(2), self.ToSpatialMap()!.sum([1, 2]), 1e-5, "received weights sum to one");
        }

        Assert.True(gate.IsInvalid);
        Assert.All(network.modules().OfType<AttentionModule>(), module => Assert.False(module.HasHooks));
        after = network.call(x);
        Near.Equal(plain, after, 0, "after detaching");
    }

    [Fact]
    public void Branches_sequences_and_crossed_maps_are_recorded()
    {
        using DisposeScope scope = NewDisposeScope();
        using FeatureNetwork network = Cases.Networks["resnet of branches"]();
        using AttentionRecorder branches = AttentionRecorder.Attach(network, new AttentionRecorderOptions { Modules = "layer1.*, layer3.*" });
        network.call(randn(2, 3, 16, 16));
        Near.Equal(ones(2, 4), branches["layer1.0.conv2"].BranchWeights!.sum([1]), 1e-5, "two kernels share");
        Assert.DoesNotContain(branches.Names, name => name.StartsWith("layer2", StringComparison.Ordinal));

        using MultiHeadAttention heads = new(8, new MultiHeadAttentionOptions { Heads = 2 });
        using AttentionRecorder sequences = AttentionRecorder.Attach(heads);
        Tensor sequence = randn(3, 5, 8);
        heads.call(sequence);
        Assert.Equal([3, 2, 5, 5], sequences[""].PairwiseWeights!.shape);
        double[] x = sequence.Doubles(), w = heads.get_parameter("in_proj_weight")!.Doubles(), weights = sequences[""].PairwiseWeights!.Doubles();
        for (int row = 0; row < 3 * 2 * 5; row++)
        {
            // softmax over keys of the product of a head's four numbers of query and key, over 2; biases start at zero.
            (int sample, int head, int query) = (row / 10, row / 5 % 2, row % 5);
            double[] logits = [.. Enumerable.Range(0, 5).Select(key => Enumerable.Range(0, 4).Sum(d => Projected(sample, query, (head * 4) + d) * Projected(sample, key, 8 + (head * 4) + d)) / 2)];
            for (int key = 0; key < 5; key++) Assert.Equal(Math.Exp(logits[key]) / logits.Sum(Math.Exp), weights[(row * 5) + key], 1e-5);
        }

        Assert.Null(sequences[""].ToSpatialMap());

        // With a mask, which the weights must know.
        Tensor mask = ones(5, 5, dtype: ScalarType.Bool).triu(1);
        heads.call(sequence, sequence, sequence, null, mask);
        Assert.Equal(0, sequences[""].PairwiseWeights!.masked_select(mask).abs().max().item<float>());

        using CrossAttention cross = new(8, 6, new CrossAttentionOptions { Heads = 2 });
        using AttentionRecorder crossed = AttentionRecorder.Attach(cross);
        Tensor map = randn(2, 8, 3, 4), context = randn(2, 6, 5, 2);
        cross.call(map, context);
        Assert.Equal([2, 2, 12, 10], crossed[""].PairwiseWeights!.shape);
        Near.Equal(cross.Weights(map, context), crossed[""].PairwiseWeights!, 1e-5, "weights of the crossed maps");
        Assert.Equal((5, 2), crossed[""].KeyGrid);
        Assert.Equal([2, 5, 2], crossed[""].ToSpatialMap()!.shape);

        double Projected(int sample, int position, int row) => Enumerable.Range(0, 8).Sum(i => w[(row * 8) + i] * x[(((sample * 5) + position) * 8) + i]);
    }

    [Fact]
    public void A_mean_is_that_of_all_samples()
    {
        using DisposeScope scope = NewDisposeScope();
        using Cbam cbam = new(8, new CbamOptions { Reduction = 2, KernelSize = 3 });
        using AttentionRecorder all = AttentionRecorder.Attach(cbam, new AttentionRecorderOptions { Keep = RecordedMaps.All });
        using AttentionRecorder mean = AttentionRecorder.Attach(cbam, new AttentionRecorderOptions { Keep = RecordedMaps.Mean, CopyToCpu = true });
        foreach (int samples in (int[])[3, 1, 4]) cbam.call(randn(samples, 8, 5, 4));
        Assert.Equal([3, 1, 4], all.All("").Select(maps => maps.Samples));
        Assert.Equal(8, mean[""].Samples);
        foreach (AttentionMapKind kind in mean[""].Kinds)
        {
            Near.Equal(cat([.. all.All("").Select(maps => maps[kind]!)]).mean([0], keepdim: true), mean[""][kind]!, 1e-5, kind.ToString());
        }

        Assert.Contains("one size", Assert.Throws<InvalidOperationException>(() => cbam.call(randn(1, 8, 6, 4))).Message, StringComparison.Ordinal);
        mean.Clear();
        all.Clear();
        Assert.Empty(all.All(""));
        cbam.call(randn(1, 8, 6, 4));
        Assert.Equal([1, 6, 4], mean[""].SpatialGate!.shape);
    }

    [Theory]
    [InlineData(RecordedMaps.Last)]
    [InlineData(RecordedMaps.Mean)]
    public void A_thousand_recorded_passes_leave_nothing_behind(RecordedMaps keep)
    {
        using nn.Module<Tensor, Tensor> network = nn.Sequential(
            new Cbam(8, new CbamOptions { Reduction = 2, KernelSize = 3, SpatialNorm = true }), new SelfAttention2d(8, new SelfAttention2dOptions { Heads = 2 }), new SimAm(8));
        using Tensor x = randn(2, 8, 4, 4, requires_grad: true);
        using AttentionRecorder recorder = AttentionRecorder.Attach(network, new AttentionRecorderOptions { Keep = keep });
        Step();
        long before = LiveTensors.OfThread;
        for (int i = 0; i < 1000; i++) Step();
        Assert.Equal(before, LiveTensors.OfThread);
        recorder.Dispose();
        Assert.Empty(recorder.All("0"));

        void Step()
        {
            using DisposeScope scope = NewDisposeScope();
            network.call(x).sum().backward();
        }
    }

    [Fact]
    public void What_cannot_be_recorded_is_an_error_that_helps()
    {
        using nn.Module<Tensor, Tensor> plain = nn.Sequential(nn.Conv2d(3, 4, 3));
        Assert.Contains("no attention", Assert.Throws<ArgumentException>(() => AttentionRecorder.Attach(plain)).Message, StringComparison.Ordinal);
        using Cbam cbam = new(8, new CbamOptions { Reduction = 2 });
        using nn.Module<Tensor, Tensor> network = nn.Sequential(cbam);
        ArgumentException none = Assert.Throws<ArgumentException>(() => AttentionRecorder.Attach(network, new AttentionRecorderOptions { Modules = "layer*" }));
        Assert.Contains("There are: 0.", none.Message, StringComparison.Ordinal);
        Assert.False(cbam.HasHooks);
        using AttentionRecorder recorder = AttentionRecorder.Attach(network);
        Assert.Contains("Recorded are: 0.", Assert.Throws<KeyNotFoundException>(() => recorder["x"]).Message, StringComparison.Ordinal);
        Assert.Contains("no call has reached it", Assert.Throws<KeyNotFoundException>(() => recorder["0"]).Message, StringComparison.Ordinal);
        recorder.Dispose();
        Assert.Contains("detached", Assert.Throws<ObjectDisposedException>(() => recorder["0"]).Message, StringComparison.Ordinal);
    }

    private static Dictionary<string, double[]> Train(Row row, Tensor x, Tensor? guide, bool record)
    {
        using Subject subject = Subject.Random(row, 4, training: true);
        using AttentionRecorder? recorder = record ? AttentionRecorder.Attach(subject.Module) : null;
        Tensor leaf = x.clone().requires_grad_();
        manual_seed(5);
        Tensor y = subject.Forward(leaf, guide);
        y.square().sum().backward();
        Dictionary<string, double[]> values = new() { ["output"] = y.Doubles(), ["gradient"] = leaf.grad!.Doubles(), ["random"] = rand(3, dtype: ScalarType.Float64).Doubles() };
        foreach ((string key, Tensor entry) in subject.Module.state_dict()) values[key] = entry.Doubles();
        foreach ((string key, Modules.Parameter parameter) in subject.Module.named_parameters())
        {
            if (parameter.grad is { } gradient) values[$"gradient of {key}"] = gradient.Doubles();
        }

        return values;
    }

    private static Tensor Whole(AttentionMaps maps, Tensor x)
    {
        if (maps.ElementGate is { } whole) return whole;
        Tensor gate = ones_like(x);
        if (maps.ChannelGate is { } channel) gate = gate.mul(channel.unsqueeze(2).unsqueeze(3));
        return maps.SpatialGate is { } spatial ? gate.mul(spatial.unsqueeze(1)) : gate;
    }
}
