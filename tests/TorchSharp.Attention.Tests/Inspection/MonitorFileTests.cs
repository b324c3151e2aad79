namespace TorchSharp.Attention.Tests;

/// <summary>The monitor's file on a full disk and between two monitors, attentions that leave, and empty batches.</summary>
public sealed class MonitorFileTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_full_disk_leaves_whole_rows(bool cannotCutOffEither)
    {
        using FullDisk disk = new(_folder.PathOf("gates.csv"));
        using (MonitorCsv csv = new(disk))
        {
            csv.Append([Reading(1)]);
            int thrown = 0;
            for (int step = 2; step <= 60; step++)
            {
                bool full = step is >= 10 and < 35;
                disk.Room = full ? step : long.MaxValue;
                disk.CanCutOff = !(full && cannotCutOffEither);
                try
                {
                    csv.Append([Reading(step), Reading(step)]);
                }
                catch (IOException)
                {
                    thrown++;
                }
            }

            Assert.Equal(25, thrown);
        }

        string[] lines = File.ReadAllText(_folder.PathOf("gates.csv")).Split('\n');
        Assert.Equal("", lines[^1]);
        Assert.All(lines[..^1], line => Assert.Equal(16, line.Split(',').Length));
        Assert.Equal(
            [1, .. Enumerable.Range(2, 59).Where(step => step is < 10 or >= 35).SelectMany(step => new[] { step, step })],
            lines[1..^1].Select(line => int.Parse(line.Split(',')[0], System.Globalization.CultureInfo.InvariantCulture)));

        static GateReading Reading(long step) => new() { Step = step, Module = "cbam", Map = AttentionMapKind.Channel, Mean = 0.5 };
    }

    /// <summary>A training may end after a write that failed: the file holds whole rows then, too.</summary>
    [Fact]
    public void A_write_that_failed_is_cut_off_at_once()
    {
        string path = _folder.PathOf("gates.csv");
        using FullDisk disk = new(path);
        using MonitorCsv csv = new(disk);
        GateReading reading = new() { Step = 1, Module = "cbam", Map = AttentionMapKind.Channel, Mean = 0.5 };
        csv.Append([reading]);
        disk.Room = 5;
        Assert.Throws<IOException>(() => csv.Append([reading with { Step = 2 }]));
        using StreamReader reader = new(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite));
        string[] lines = reader.ReadToEnd().Split('\n');
        Assert.Equal(3, lines.Length);
        Assert.Equal("", lines[^1]);
        Assert.StartsWith("1,cbam,", lines[1], StringComparison.Ordinal);
    }

    /// <summary>What throws at the end of a step takes neither its reading nor its row away, nor the next step's.</summary>
    [Fact]
    public void A_step_that_throws_loses_nothing()
    {
        using DisposeScope scope = NewDisposeScope();
        using SqueezeExcitation module = new(8, new() { Reduction = 2 });
        string path = _folder.PathOf("gates.csv");
        int lines = 0;
        using GateMonitor monitor = GateMonitor.Attach(module, new GateMonitorOptions { Every = 1, Csv = path, Log = Log });
        for (int step = 1; step <= 3; step++)
        {
            module.call(randn(2, 8, 5, 4));
            if (step == 2) Assert.Throws<IOException>(monitor.Step);
            else monitor.Step();
        }

        Assert.Equal([1L, 2, 3], monitor.Readings.Select(reading => reading.Step));
        Assert.Equal(["1", "2", "3"], File.ReadAllLines(path)[1..].Select(line => line.Split(',')[0]));

        void Log(string line)
        {
            if (++lines == 2) throw new IOException("no room for a log");
        }
    }

    [Fact]
    public void A_second_monitor_on_a_file_is_refused_and_readers_are_not()
    {
        using DisposeScope scope = NewDisposeScope();
        using Cbam cbam = Attention();
        string path = _folder.PathOf("gates.csv"), link = _folder.PathOf("link.csv");
        GateMonitor first = GateMonitor.Attach(cbam, new GateMonitorOptions { Every = 1, Csv = path });
        List<string> also = [path];
        if (!OperatingSystem.IsWindows())
        {
            File.CreateSymbolicLink(link, path);
            also.Add(link);
        }

        foreach (string same in also)
        {
            IOException error = Assert.Throws<IOException>(() => GateMonitor.Attach(cbam, new GateMonitorOptions { Every = 1, Csv = same }));
            Assert.Contains("another GateMonitor", error.Message, StringComparison.Ordinal);
        }

        cbam.call(randn(2, 8, 5, 4));
        first.Step();
        using (StreamReader reader = new(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite)))
        {
            Assert.Equal(1 + 2, reader.ReadToEnd().TrimEnd().Split('\n').Length);
        }

        first.Dispose();
        Assert.False(File.Exists(path + ".lock"));
        using (GateMonitor second = GateMonitor.Attach(cbam, new GateMonitorOptions { Every = 1, Csv = path, InitialStep = 1 }))
        {
            cbam.call(randn(2, 8, 5, 4));
            second.Step();
        }

        Assert.Equal(1 + 4, File.ReadAllLines(path).Length);

        // What a killed program leaves is no lock.
        File.WriteAllText(path + ".lock", "");
        GateMonitor.Attach(cbam, new GateMonitorOptions { Every = 1, Csv = path }).Dispose();
        Assert.False(File.Exists(path + ".lock"));
    }

    [Fact]
    public void A_training_goes_on_when_the_attention_is_taken_out()
    {
        using DisposeScope scope = NewDisposeScope();
        using nn.Module<Tensor, Tensor> network = nn.Sequential(("conv", nn.Conv2d(3, 8, 3)), ("relu", nn.ReLU()));
        InsertionPlan plan = InsertionPlan.After("conv", new SqueezeExcitationOptions { Reduction = 2 });
        InsertionHandle handle = network.InsertAttention(plan, randn(1, 3, 8, 8));
        List<string> log = [];
        using GateMonitor monitor = GateMonitor.Attach(network, new GateMonitorOptions { Every = 1, Log = log.Add });
        Step();
        network.call(randn(2, 3, 8, 8));
        handle.Remove();
        monitor.Step();
        Assert.Equal([1L, 2], monitor.Readings.Select(reading => reading.Step));
        Step();
        Step();
        Assert.Empty(monitor.Latest);
        Assert.Equal(2, monitor.Readings.Count);
        Assert.Single(log, line => line.StartsWith("step 3: ", StringComparison.Ordinal) && line.EndsWith(" has no attention left to watch", StringComparison.Ordinal));
        network.InsertAttention(plan, randn(1, 3, 8, 8));
        Step();
        Step();
        Assert.Equal([1L, 2, 6], monitor.Readings.Select(reading => reading.Step));
        Assert.Equal(6, monitor.Steps);

        void Step()
        {
            network.call(randn(2, 3, 8, 8));
            monitor.Step();
        }
    }

    [Fact]
    public void A_monitor_outlives_its_network()
    {
        using DisposeScope scope = NewDisposeScope();
        Cbam cbam = Attention();
        using GateMonitor monitor = GateMonitor.Attach(cbam, new GateMonitorOptions { Every = 1 });
        cbam.call(randn(2, 8, 5, 4));
        cbam.Dispose();
        monitor.Step();
        monitor.Step();
        Assert.Equal(2, monitor.Readings.Count);
    }

    [Fact]
    public void Empty_batches_change_no_mean_and_no_alert()
    {
        using DisposeScope scope = NewDisposeScope();
        using Cbam cbam = Attention();
        cbam.eval();
        Tensor x = randn(2, 8, 5, 4), none = randn(0, 8, 5, 4);
        using (AttentionRecorder recorder = AttentionRecorder.Attach(cbam, new AttentionRecorderOptions { Keep = RecordedMaps.Mean }))
        {
            cbam.call(none);
            Assert.Empty(recorder.All(""));
            cbam.call(x);
            Tensor expected = recorder[""].ChannelGate!.clone();
            cbam.call(none);
            Near.Identical(expected, recorder[""].ChannelGate!);
            Assert.Equal(2, recorder[""].Samples);
            cbam.call(randn(3, 8, 5, 4));
            Assert.Equal(5, recorder[""].Samples);
            Assert.True(recorder[""].ChannelGate!.isfinite().all().item<bool>());
        }

        GateStatistics gates = new();
        gates.Add(ones(2, 3));
        gates.Add(ones(0, 3));
        Assert.Equal((2L, 1.0), (gates.Samples, gates.Mean));
        PairwiseStatistics pairs = new();
        pairs.Add(ones(1, 2, 4, 4));
        pairs.Add(ones(0, 2, 4, 4));
        Assert.All(pairs.Entropy, value => Assert.Equal(1, value, 1e-9));

        // An alert that holds is neither cleared nor begun anew by a batch that shows nothing.
        using SqueezeExcitation identity = new(8, new() { Reduction = 2, Initialization = AttentionInitialization.Identity });
        using GateMonitor monitor = GateMonitor.Attach(identity, new GateMonitorOptions { Every = 1, Patience = 2 });
        foreach (Tensor batch in new[] { x, none, x, none, x })
        {
            identity.call(batch);
            monitor.Step();
        }

        Assert.Equal(GateAlertKind.Identity, Assert.Single(monitor.Alerts).Kind);
        Assert.Equal(3, Assert.Single(monitor.AlertHistory).Step);
        Assert.Equal([1L, 3, 5], monitor.Readings.Select(reading => reading.Step));
    }

    private static Cbam Attention() => new(8, new CbamOptions { Reduction = 2, KernelSize = 3 });

    /// <summary>A file on a disk that has no room at the moment: it takes a part of what is written and throws.</summary>
    private sealed class FullDisk(string path) : Stream
    {
        private readonly FileStream _file = new(path, FileMode.Create, FileAccess.ReadWrite, FileShare.Read, 0);

        public long Room { get; set; } = long.MaxValue;

        public bool CanCutOff { get; set; } = true;

        public override bool CanRead => true;

        public override bool CanSeek => true;

        public override bool CanWrite => true;

        public override long Length => _file.Length;

        public override long Position
        {
            get => _file.Position;
            set => _file.Position = value;
        }

        public override void Flush() => _file.Flush();

        public override int Read(byte[] buffer, int offset, int count) => _file.Read(buffer, offset, count);

        public override long Seek(long offset, SeekOrigin origin) => _file.Seek(offset, origin);

        public override void SetLength(long value)
        {
            if (!CanCutOff) throw new IOException("Input/output error");
            _file.SetLength(value);
        }

        public override void Write(byte[] buffer, int offset, int count)
        {
            _file.Write(buffer, offset, (int)Math.Min(Room, count));
            if (Room < count) throw new IOException("No space left on device");
        }

        protected override void Dispose(bool disposing)
        {
            _file.Dispose();
            base.Dispose(disposing);
        }
    }
}
