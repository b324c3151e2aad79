using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Watches the attentions of a network while it trains: <c>using GateMonitor monitor = GateMonitor.Attach(model);</c>, and
/// <c>monitor.Step();</c> at the end of each training step. At a fixed interval of steps it reads the attention maps and writes
/// log lines, CSV and TensorBoard. It also raises alerts, which name the problem and what usually helps.
/// </summary>
/// <remarks>
/// The network is listened to only in the steps that are looked at: Step() attaches an <see cref="AttentionRecorder"/> at the end
/// of the step before, and takes it away again. What is read are the maps of the last forward pass before Step(); results,
/// gradients, statistics and random numbers stay what they were. An empty batch is not read. Where the attentions have been taken
/// out of the network meanwhile, nothing is read either; the log says so once. Not for several threads.
/// </remarks>
public sealed class GateMonitor : IDisposable
{
    /// <summary>Values of one map that are looked at, at most; where a sample has more, one sample.</summary>
    private const long MostValues = 1 << 20;

    private readonly nn.Module _model;
    private readonly GateMonitorOptions _options;
    private readonly AttentionRecorderOptions _recording;
    private readonly MonitorCsv? _csv;
    private readonly List<GateReading> _readings = [], _latest = [];
    private readonly List<GateAlert> _alerts = [], _history = [];
    private readonly Dictionary<(string, AttentionMapKind, GateAlertKind), int> _rows = [];
    private AttentionRecorder? _recorder;
    private bool _saidNothingIsLeft;
    private bool _disposed;

    private GateMonitor(nn.Module model, GateMonitorOptions options)
    {
        _model = model;
        _options = options;
        _recording = new AttentionRecorderOptions { Modules = options.Modules, Samples = options.Samples };
        Steps = options.InitialStep;

        // Whether there is something to watch, and where to write, is known before the first step.
        using (AttentionRecorder trial = AttentionRecorder.Attach(model, _recording)) Names = trial.Names;
        if (options.Csv is not null) _csv = new MonitorCsv(options.Csv);
        ListenIfDue();
    }

    /// <summary>Occurs when an alert is raised.</summary>
    public event EventHandler<GateAlert>? AlertRaised;

    /// <summary>Names of the attentions that were in the network when the monitor was attached.</summary>
    public IReadOnlyList<string> Names { get; }

    /// <summary>Number of training steps so far, including <see cref="GateMonitorOptions.InitialStep"/>.</summary>
    public long Steps { get; private set; }

    /// <summary>
    /// All readings, oldest first. The readings of one step are in the order in which the network called the attentions.
    /// </summary>
    public IReadOnlyList<GateReading> Readings => _readings;

    /// <summary>The readings of the last step that was read.</summary>
    public IReadOnlyList<GateReading> Latest => _latest;

    /// <summary>The alerts that are active now: raised, and not cleared by a later reading.</summary>
    public IReadOnlyList<GateAlert> Alerts => _alerts;

    /// <summary>Every alert that was ever raised, oldest first.</summary>
    public IReadOnlyList<GateAlert> AlertHistory => _history;

    /// <summary>Starts watching the attentions of a network.</summary>
    /// <param name="model">A network, or an attention alone.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">
    /// A setting is out of range, or the network has no attention that <see cref="GateMonitorOptions.Modules"/> matches.
    /// </exception>
    /// <exception cref="IOException">
    /// The CSV file cannot be opened, is another program's, or another monitor writes it.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The network was disposed.</exception>
    public static GateMonitor Attach(nn.Module model, GateMonitorOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        options ??= new GateMonitorOptions();
        options.Validate();
        return new GateMonitor(model, options);
    }

    /// <summary>Ends a training step. Call it after the forward pass, before or after the optimizer's step.</summary>
    /// <exception cref="ObjectDisposedException">The monitor is disposed.</exception>
    /// <exception cref="IOException">
    /// The CSV or TensorBoard file cannot be written. You can catch it and continue: the CSV file keeps its whole
    /// rows, readings and alerts are complete.
    /// </exception>
    public void Step()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        Steps++;
        try
        {
            if (_recorder is not null) Look(_recorder);
        }
        finally
        {
            StopListening();
            ListenIfDue();
        }
    }

    /// <summary>Stops watching and closes the CSV file. The readings and alerts remain available.</summary>
    public void Dispose()
    {
        _disposed = true;
        StopListening();
        _csv?.Dispose();
    }

    private void ListenIfDue()
    {
        if ((Steps + 1) % _options.Every != 0) return;
        _recorder = AttentionRecorder.TryAttach(_model, _recording, out _);
        bool left = _recorder.Names.Count > 0;
        if (!left && !_saidNothingIsLeft)
        {
            _options.Log?.Invoke($"step {Steps + 1}: {_model.GetName()} has no attention left to watch");
        }

        _saidNothingIsLeft = !left;
    }

    private void StopListening()
    {
        _recorder?.Dispose();
        _recorder = null;
    }

    private void Look(AttentionRecorder recorder)
    {
        _latest.Clear();
        List<GateAlert> seen = [];
        foreach (string name in recorder.CallOrder)
        {
            AttentionMaps maps = recorder[name];
            if (maps.Samples == 0) continue;
            foreach (AttentionMapKind kind in Kinds(maps))
            {
                using DisposeScope scope = NewDisposeScope();
                using IDisposable quiet = no_grad();
                Tensor map = Few(maps[kind]!.detach());
                GateReading reading = GateReadingFactory.Of(Steps, name, kind, map, maps);
                _latest.Add(reading);
                seen.AddRange(GateAlertRules.Of(reading, maps.Module, _options));
                if (_options.TensorBoard is { } board) TensorBoardWriter.Write(board, reading, map);
            }
        }

        _readings.AddRange(_latest);
        try
        {
            _csv?.Append(_latest);
        }
        finally
        {
            Tell(seen);
        }
    }

    private void Tell(List<GateAlert> seen)
    {
        if (_options.Log is { } log)
        {
            foreach (GateReading reading in _latest) log(reading.ToString());
        }

        Raise(seen);
    }

    /// <summary>
    /// An alert is raised once its condition has held often enough, and cleared by the first look that does not show it.
    /// </summary>
    private void Raise(List<GateAlert> seen)
    {
        Dictionary<(string, AttentionMapKind, GateAlertKind), GateAlert> now = [];
        foreach (GateAlert alert in seen) now[Key(alert)] = alert;
        HashSet<(string, AttentionMapKind)> looked = [.. _latest.Select(reading => (reading.Module, reading.Map))];
        _alerts.RemoveAll(alert => looked.Contains((alert.Module, alert.Map)) && !now.ContainsKey(Key(alert)));
        foreach ((string Module, AttentionMapKind Map, GateAlertKind Kind) key in _rows.Keys.ToArray())
        {
            if (looked.Contains((key.Module, key.Map)) && !now.ContainsKey(key)) _rows.Remove(key);
        }

        foreach (GateAlert alert in seen)
        {
            int row = _rows[Key(alert)] = _rows.GetValueOrDefault(Key(alert)) + 1;
            if (row != (alert.Kind == GateAlertKind.NotFinite ? 1 : _options.Patience)) continue;
            _alerts.Add(alert);
            _history.Add(alert);
            _options.Log?.Invoke(alert.ToString());
            AlertRaised?.Invoke(this, alert);
        }

        static (string, AttentionMapKind, GateAlertKind) Key(GateAlert alert) => (alert.Module, alert.Map, alert.Kind);
    }

    /// <summary>A whole gate says more than its means.</summary>
    private static IEnumerable<AttentionMapKind> Kinds(AttentionMaps maps)
        => maps.ElementGate is null ? maps.Kinds : [AttentionMapKind.Element];

    private static Tensor Few(Tensor map)
    {
        long samples = map.size(0), values = samples == 0 ? 1 : map.numel() / samples;
        return map.narrow(0, 0, Math.Min(samples, Math.Max(1, MostValues / Math.Max(values, 1))));
    }
}
