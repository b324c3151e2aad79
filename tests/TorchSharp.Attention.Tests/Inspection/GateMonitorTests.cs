using Tensorboard;

namespace TorchSharp.Attention.Tests;

/// <summary>The monitor reads what the attentions do, writes it down, warns once, and leaves the training alone.</summary>
public sealed class GateMonitorTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void It_reads_every_so_many_steps_what_the_statistics_say()
    {
        using DisposeScope scope = NewDisposeScope();
        using nn.Module<Tensor, Tensor> network = Network();
        using GateMonitor monitor = GateMonitor.Attach(network, new GateMonitorOptions { Every = 3, Samples = 2 });
        Assert.Equal(["cbam", "bam", "self", "branch"], monitor.Names);
        for (int step = 1; step <= 7; step++)
        {
            Tensor x = randn(4, 8, 5, 4);
            Assert.Equal(step % 3 == 0, ((Cbam)network.named_children().First().module).HasHooks);
            network.call(x);
            monitor.Step();
            if (step != 6) continue;

            using AttentionRecorder maps = AttentionRecorder.Attach(network);
            network.call(x);
            GateStatistics channel = new();
            channel.Add(maps["cbam"].ChannelGate!.narrow(0, 0, 2));
            GateReading reading = monitor.Latest.Single(r => r is { Module: "cbam", Map: AttentionMapKind.Channel });
            Assert.Equal(6, reading.Step);
            Assert.Equal(channel.Mean, reading.Mean!.Value, 1e-5);
            Assert.Equal(Math.Sqrt(channel.Variance), reading.StandardDeviation!.Value, 1e-5);
            Assert.Equal(channel.ClosedShare, reading.ClosedShare!.Value, 1e-5);
            Assert.Equal(maps["cbam"].ChannelGate!.narrow(0, 0, 2).max().item<float>(), reading.Maximum!.Value, 1e-5);
            PairwiseStatistics pairs = new();
            pairs.Add(maps["self"].PairwiseWeights!.narrow(0, 0, 2), (5, 4));
            GateReading self = monitor.Latest.Single(r => r.Module == "self");
            Assert.Equal(pairs.Entropy.Average(), self.Entropy!.Value, 1e-5);
            Assert.Equal(pairs.Distance!.Average(), self.Distance!.Value, 1e-5);
            Assert.Null(self.Mean);
        }

        Assert.Equal(7, monitor.Steps);
        Assert.Equal([3L, 6], monitor.Readings.Select(reading => reading.Step).Distinct());
        Assert.Equal(
            [("cbam", AttentionMapKind.Channel), ("cbam", AttentionMapKind.Spatial), ("bam", AttentionMapKind.Element), ("self", AttentionMapKind.Pairwise), ("branch", AttentionMapKind.Branch)],
            monitor.Latest.Select(reading => (reading.Module, reading.Map)));
    }

    [Fact]
    public void Training_gives_the_same_numbers_while_it_is_recorded()
    {
        double[] plain = Train(null), watched = Train(new GateMonitorOptions { Every = 2 });
        Near.Equal(plain, watched, 1e-5, "weights");
    }

    [Fact]
    public void A_saturated_gate_is_told_once_until_it_clears()
    {
        using DisposeScope scope = NewDisposeScope();
        using Channels gate = new(4);
        List<string> log = [];
        List<GateAlert> told = [];
        using GateMonitor monitor = GateMonitor.Attach(gate, new GateMonitorOptions { Every = 1, Patience = 2, Log = log.Add });
        monitor.AlertRaised += (_, alert) => told.Add(alert);
        Show(0.5f, 0.2f, 0.7f, 0.9f);
        Assert.Empty(monitor.Alerts);
        Show(0.01f, 0.02f, 0.03f, 0.0f);
        Assert.Empty(monitor.Alerts);
        Show(0.01f, 0.02f, 0.03f, 0.0f);
        Show(0.01f, 0.02f, 0.03f, 0.0f);
        GateAlert alert = Assert.Single(monitor.Alerts);
        Assert.Equal((3L, "", AttentionMapKind.Channel, GateAlertKind.Closed, 1.0, 0.9), (alert.Step, alert.Module, alert.Map, alert.Kind, alert.Value, alert.Threshold));
        Assert.Contains("clip gradients", alert.Advice, StringComparison.Ordinal);
        Assert.Equal([alert], told);
        Assert.Contains("step 3: ALERT attention channel: share of values below 0.05 is 1 (threshold 0.9). Saturated", log.Single(line => line.Contains("ALERT", StringComparison.Ordinal)), StringComparison.Ordinal);
        Assert.Contains("step 4: attention channel, mean 0.015, deviation 0.011, over samples 0.000, shut 100.0 %, open 0.0 %, dead 100.0 %", log);

        Show(0.5f, 0.2f, 0.7f, 0.9f);
        Assert.Empty(monitor.Alerts);
        Show(0.99f, 0.96f, 1.0f, 0.97f);
        Show(0.99f, 0.96f, 1.0f, 0.97f);
        Assert.Equal(GateAlertKind.Open, Assert.Single(monitor.Alerts).Kind);
        Show(0.5f, 0.501f, 0.499f, 0.5f);
        Show(0.5f, 0.501f, 0.499f, 0.5f);
        Assert.Equal(GateAlertKind.Uniform, Assert.Single(monitor.Alerts).Kind);
        Assert.Contains("another place", monitor.Alerts[0].Advice, StringComparison.Ordinal);
        Show(0.0f, 0.01f, 0.7f, 0.9f);
        Show(0.0f, 0.01f, 0.7f, 0.9f);
        Assert.Equal((GateAlertKind.Sparse, 0.5), (Assert.Single(monitor.Alerts).Kind, monitor.Alerts[0].Value));
        Assert.Contains("reduction", monitor.Alerts[0].Advice, StringComparison.Ordinal);
        Show(float.NaN, 0.01f, 0.7f, 0.9f);
        Assert.Contains(monitor.Alerts, held => held.Kind == GateAlertKind.NotFinite);
        Assert.Equal([GateAlertKind.Closed, GateAlertKind.Open, GateAlertKind.Uniform, GateAlertKind.Sparse, GateAlertKind.NotFinite], monitor.AlertHistory.Select(held => held.Kind));
        Assert.Equal(monitor.AlertHistory, told);

        // Beyond 0 and 1 a gate is no sigmoid, and its ends are no saturation.
        Show(0.99f, 1.5f, 2.0f, 1.97f);
        Show(0.99f, 1.5f, 2.0f, 1.97f);
        Assert.Empty(monitor.Alerts);

        void Show(params float[] values)
        {
            gate.Values = values;
            gate.call(ones(2, 4, 3, 3)).Dispose();
            monitor.Step();
        }
    }

    [Fact]
    public void Thresholds_are_settings()
    {
        using DisposeScope scope = NewDisposeScope();
        using Channels gate = new(4) { Values = [0.01f, 0.02f, 0.6f, 0.9f] };
        GateMonitorOptions options = new() { Every = 1, Patience = 1 };
        Assert.Equal([GateAlertKind.Sparse], Kinds(options));
        Assert.Empty(Kinds(options with { DeadShare = 0.6 }));
        Assert.Equal([GateAlertKind.Closed], Kinds(options with { SaturatedShare = 0.5 }));
        Assert.Equal([GateAlertKind.Uniform, GateAlertKind.Sparse], Kinds(options with { UniformDeviation = 0.5 }));
        gate.Values = [0.01f, 0.99f, 0.98f, 0.6f];
        Assert.Empty(Kinds(options));
        Assert.Equal([GateAlertKind.Saturated], Kinds(options with { SaturatedShare = 0.75 }));

        GateAlertKind[] Kinds(GateMonitorOptions settings)
        {
            using GateMonitor monitor = GateMonitor.Attach(gate, settings);
            gate.call(ones(2, 4, 3, 3)).Dispose();
            monitor.Step();
            return [.. monitor.Alerts.Select(alert => alert.Kind)];
        }
    }

    [Fact]
    public void Identities_averages_and_collapses_are_told()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        GateMonitorOptions options = new() { Every = 1, Patience = 1 };
        using Cbam identity = new(8, new CbamOptions { Reduction = 2, KernelSize = 3, Initialization = AttentionInitialization.Identity });
        Assert.Equal([GateAlertKind.Identity, GateAlertKind.Identity], Kinds(identity, randn(2, 8, 4, 4)));

        // On its way from there it is not saturated, however near to 1 it still is.
        using SqueezeExcitation leaving = new(8, new SqueezeExcitationOptions { Reduction = 2, Initialization = AttentionInitialization.Identity });
        foreach ((string name, Modules.Parameter parameter) in leaving.named_parameters())
        {
            if (name == "alpha") parameter.fill_(0.05);
            else parameter.normal_();
        }

        Assert.DoesNotContain(GateAlertKind.Open, Kinds(leaving, randn(2, 8, 4, 4)));

        using SelfAttention2d self = new(8, new SelfAttention2dOptions { Heads = 2 });
        foreach ((string _, Modules.Parameter parameter) in self.named_parameters()) parameter.zero_();
        Assert.Equal([GateAlertKind.UniformWeights], Kinds(self, randn(2, 8, 4, 4)));
        foreach ((string _, Modules.Parameter parameter) in self.named_parameters()) parameter.normal_(0, 20);
        Assert.Equal([GateAlertKind.CollapsedWeights], Kinds(self, randn(2, 8, 4, 4)));

        using SelectiveKernel branches = new SelectiveKernelOptions().Create(8);
        foreach ((string name, Modules.Parameter parameter) in branches.named_parameters())
        {
            if (name.StartsWith("attn", StringComparison.Ordinal)) parameter.zero_();
        }

        Assert.Equal([GateAlertKind.UniformWeights], Kinds(branches, randn(2, 8, 6, 6)));

        GateAlertKind[] Kinds(nn.Module<Tensor, Tensor> module, Tensor input)
        {
            using GateMonitor monitor = GateMonitor.Attach(module, options);
            module.call(input).Dispose();
            monitor.Step();
            return [.. monitor.Alerts.Select(alert => alert.Kind)];
        }
    }

    [Fact]
    public void The_file_goes_on_after_an_interruption()
    {
        using DisposeScope scope = NewDisposeScope();
        using nn.Module<Tensor, Tensor> network = Network();
        string path = Path.Combine(_folder.Root, "deep", "gates.csv");
        Tensor x = randn(2, 8, 5, 4);
        Watch(0, 2);
        string first = File.ReadAllText(path);
        string[] lines = first.Split('\n');
        Assert.Equal("step,module,map,mean,deviation,deviationOverSamples,minimum,maximum,shut,open,dead,sparsity,entropy,peak,distance,notFinite", lines[0]);
        Assert.StartsWith("1,cbam,Channel,0.", lines[1], StringComparison.Ordinal);
        Assert.Equal(1 + (2 * 5) + 1, lines.Length);
        Assert.All(lines[1..^1], line => Assert.Equal(16, line.Split(',').Length));

        // As a power cut leaves it: the last row lacks its end.
        File.WriteAllText(path, first[..^20]);
        Watch(2, 1);
        string[] again = File.ReadAllText(path).Split('\n');
        Assert.Equal(lines[..^2], again[..(lines.Length - 2)]);
        Assert.StartsWith("3,cbam,Channel,", again[lines.Length - 2], StringComparison.Ordinal);
        Assert.Equal(1 + (2 * 5) - 1 + 5 + 1, again.Length);

        File.WriteAllText(path, "step,loss\n1,2\n");
        IOException other = Assert.Throws<IOException>(() => Watch(0, 1));
        Assert.Contains("Name another file", other.Message, StringComparison.Ordinal);
        Assert.Equal("step,loss\n1,2\n", File.ReadAllText(path));

        void Watch(long before, int steps)
        {
            using GateMonitor monitor = GateMonitor.Attach(network, new GateMonitorOptions { Every = 1, InitialStep = before, Csv = path });
            for (int i = 0; i < steps; i++)
            {
                network.call(x);
                monitor.Step();
            }
        }
    }

    [Fact]
    public void TensorBoard_gets_scalars_and_histograms()
    {
        using DisposeScope scope = NewDisposeScope();
        using nn.Module<Tensor, Tensor> network = nn.Sequential(
            ("cbam", new Cbam(8, new CbamOptions { Reduction = 2, KernelSize = 3 })), ("self", new SelfAttention2d(8, new SelfAttention2dOptions { Heads = 2 })),
            ("identity", new SqueezeExcitation(8, new SqueezeExcitationOptions { Reduction = 2, Initialization = AttentionInitialization.Identity })));
        using (GateMonitor monitor = GateMonitor.Attach(network, new GateMonitorOptions { Every = 2, TensorBoard = utils.tensorboard.SummaryWriter(_folder.Root) }))
        {
            for (int i = 0; i < 4; i++)
            {
                network.call(randn(3, 8, 5, 4));
                monitor.Step();
            }

            List<Event> events = Events(Assert.Single(Directory.GetFiles(_folder.Root)));
            GateReading reading = monitor.Latest.Single(r => r is { Module: "cbam", Map: AttentionMapKind.Spatial });
            Assert.Equal((float)reading.Mean!.Value, Value("cbam.spatial/mean", 4).SimpleValue);
            Assert.Equal((float)monitor.Latest.Single(r => r.Module == "self").Entropy!.Value, Value("self.pairwise/entropy", 4).SimpleValue);
            HistogramProto histogram = Value("cbam.spatial/values", 4).Histo;
            Assert.Equal(3 * 20, histogram.Num);
            Assert.Equal(3 * 20, histogram.Bucket.Sum());
            Assert.Equal(reading.Minimum!.Value, histogram.Min, 1e-6);

            // All values alike: the gate of an identity start.
            Assert.Equal(3 * 8, Value("identity.channel/values", 2).Histo.Bucket.Sum());
            Assert.Equal([0L, 2, 4], events.Select(one => one.Step).Distinct());
            long now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
            Assert.All(events.Skip(1), one => Assert.InRange(one.WallTime, now - 600, now + 5));

            Summary.Types.Value Value(string tag, long step)
                => events.Where(one => one.Step == step && one.Summary is not null).SelectMany(one => one.Summary.Value).Single(value => value.Tag == tag);
        }
    }

    [Fact]
    public void A_thousand_watched_steps_leave_nothing_behind()
    {
        using nn.Module<Tensor, Tensor> network = Network();
        using Tensor x = randn(2, 8, 4, 4, requires_grad: true);
        using GateMonitor monitor = GateMonitor.Attach(network, new GateMonitorOptions { Every = 10, TensorBoard = utils.tensorboard.SummaryWriter(_folder.Root) });
        for (int i = 0; i < 10; i++) Step();
        long before = LiveTensors.OfThread;
        for (int i = 0; i < 1000; i++) Step();
        Assert.Equal(before, LiveTensors.OfThread);
        monitor.Dispose();
        Assert.All(network.modules().OfType<AttentionModule>(), module => Assert.False(module.HasHooks));
        Assert.Throws<ObjectDisposedException>(monitor.Step);

        void Step()
        {
            using (NewDisposeScope()) network.call(x).sum().backward();
            monitor.Step();
        }
    }

    [Fact]
    public void What_cannot_be_watched_is_an_error_at_the_door()
    {
        using nn.Module<Tensor, Tensor> plain = nn.Sequential(nn.Conv2d(3, 4, 3)), network = Network();
        Assert.Contains("no attention", Assert.Throws<ArgumentException>(() => GateMonitor.Attach(plain)).Message, StringComparison.Ordinal);
        Assert.Contains("There are: cbam", Assert.Throws<ArgumentException>(() => GateMonitor.Attach(network, new GateMonitorOptions { Modules = "x" })).Message, StringComparison.Ordinal);
        Assert.Contains("Every is 0", Assert.Throws<ArgumentOutOfRangeException>(() => GateMonitor.Attach(network, new GateMonitorOptions { Every = 0 })).Message, StringComparison.Ordinal);
        Assert.Contains("DeadShare is 2", Assert.Throws<ArgumentOutOfRangeException>(() => GateMonitor.Attach(network, new GateMonitorOptions { DeadShare = 2 })).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => GateMonitor.Attach(network, new GateMonitorOptions { InitialStep = -1 }));
        Assert.All(network.modules().OfType<AttentionModule>(), module => Assert.False(module.HasHooks));
    }

    private static nn.Module<Tensor, Tensor> Network() => nn.Sequential(
        ("cbam", new Cbam(8, new CbamOptions { Reduction = 2, KernelSize = 3 })), ("bam", new Bam(8, new BamOptions { Reduction = 2 })),
        ("self", new SelfAttention2d(8, new SelfAttention2dOptions { Heads = 2 })), ("branch", new SelectiveKernelOptions().Create(8)));

    private static double[] Train(GateMonitorOptions? options)
    {
        using DisposeScope scope = NewDisposeScope();
        manual_seed(7);
        using nn.Module<Tensor, Tensor> network = Network();
        using optim.Optimizer optimizer = optim.SGD(network.parameters(), 0.05);
        using GateMonitor? monitor = options is null ? null : GateMonitor.Attach(network, options);
        for (int i = 0; i < 6; i++)
        {
            optimizer.zero_grad();
            network.call(randn(4, 8, 5, 4)).square().mean().backward();
            optimizer.step();
            monitor?.Step();
        }

        return [.. network.state_dict().Values.SelectMany(value => value.Doubles())];
    }

    private static List<Event> Events(string path)
    {
        using BinaryReader file = new(File.OpenRead(path));
        List<Event> events = [];
        while (file.BaseStream.Position < file.BaseStream.Length)
        {
            int length = (int)file.ReadInt64();
            file.ReadUInt32();
            events.Add(Event.Parser.ParseFrom(file.ReadBytes(length)));
            file.ReadUInt32();
        }

        return events;
    }

    /// <summary>A channel gate that somebody else wrote, whose values the test says.</summary>
    private sealed class Channels(int channels) : GateModule(channels, new SimAmOptions())
    {
        public float[] Values { get; set; } = [];

        protected override Tensor ComputeGate(Tensor input) => tensor(Values, [1, Values.Length, 1, 1]);
    }
}
