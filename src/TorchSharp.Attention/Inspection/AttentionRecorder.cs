using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Which maps an <see cref="AttentionRecorder"/> keeps.</summary>
public enum RecordedMaps
{
    /// <summary>The maps of the last forward pass.</summary>
    Last,

    /// <summary>The maps of every forward pass since the recorder was attached or cleared.</summary>
    All,

    /// <summary>
    /// The mean of the maps over all samples since the recorder was attached or cleared. All maps must have the same size. An
    /// empty batch changes nothing.
    /// </summary>
    Mean,
}

/// <summary>Settings of an <see cref="AttentionRecorder"/>.</summary>
public sealed record AttentionRecorderOptions
{
    /// <summary>
    /// Which attentions are recorded, by name. <c>*</c> matches any characters, also dots. Commas separate several patterns:
    /// <c>layer3.*, layer4.1.attn</c>. Default: all.
    /// </summary>
    public string Modules { get; init; } = "*";

    /// <summary>Which maps are kept. Default: those of the last forward pass.</summary>
    public RecordedMaps Keep { get; init; } = RecordedMaps.Last;

    /// <summary>Whether maps on another device are copied to the CPU. Default false.</summary>
    public bool CopyToCpu { get; init; }

    /// <summary>
    /// How many samples of a batch are recorded, counted from the first. Null, the default, records all. It limits time and
    /// memory, because pairwise weights grow with the square of the number of positions. It applies only to gates and contexts.
    /// Modules whose norms use the statistics of the batch are always recorded whole.
    /// </summary>
    public int? Samples { get; init; }
}

/// <summary>
/// Records what the attentions of a network compute, until it is disposed:
/// <c>using var maps = AttentionRecorder.Attach(model);</c>, then a forward pass, then <c>maps["layer3.0.attn"].ChannelGate</c>.
/// Works on every network that contains modules of the library and reaches them by <c>call</c>.
/// </summary>
/// <remarks>
/// A recorded module computes its maps a second time, after its forward pass, from the same input and in the same mode: results
/// stay what they were, but for the rounding between fused and composed operations, which may part where a module is listened to.
/// Neither running statistics nor random numbers nor gradients notice. In training, maps are those of the batch's own statistics.
/// Weights of pairs are held only while they are recorded. Dropout and stochastic drop do not show. An attention inside a gate,
/// such as CBAM's halves, is part of that gate's maps.
/// </remarks>
public sealed class AttentionRecorder : IDisposable
{
    private readonly AttentionRecorderOptions _options;
    private readonly List<Action> _removals = [];
    private readonly Dictionary<string, List<AttentionMaps>> _maps = [];
    private readonly List<string> _names = [];
    private readonly Dictionary<string, long> _calls = [];
    private long _call;
    private bool _reading;

    private AttentionRecorder(AttentionRecorderOptions options) => _options = options;

    /// <summary>Names of the recorded modules, as in <c>named_modules</c>; "" is the network itself.</summary>
    public IReadOnlyList<string> Names => _names;

    /// <summary>
    /// Names of the modules that were called since the recorder was attached or cleared, in the order of their last calls. After
    /// one forward pass this is the order in which the network ran them, which can differ from the order of registration.
    /// </summary>
    public IReadOnlyList<string> CallOrder => [.. _calls.OrderBy(call => call.Value).Select(call => call.Key)];

    /// <summary>The maps of the last forward pass of a module, or the mean with <see cref="RecordedMaps.Mean"/>.</summary>
    /// <param name="name">The module's name, one of <see cref="Names"/>.</param>
    /// <exception cref="KeyNotFoundException">
    /// No such module is recorded, or no call has reached it yet; the message says which.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The recorder has been detached, and its maps with it.</exception>
    public AttentionMaps this[string name] => All(name) is [.., { } last] ? last : _removals.Count == 0
        ? throw new ObjectDisposedException(
            nameof(AttentionRecorder), "The recorder was detached, which disposed its maps; clone what shall live longer.")
        : throw new KeyNotFoundException(
        $"'{name}' is recorded, but no call has reached it yet, or none with a sample where means are kept. Run the network; " +
        "a parent that runs it by forward() instead of call() hides it from hooks.");

    /// <summary>All kept sets of maps of a module, oldest first. Empty before its first call.</summary>
    /// <param name="name">The module's name, one of <see cref="Names"/>.</param>
    /// <exception cref="KeyNotFoundException">No such module is recorded.</exception>
    public IReadOnlyList<AttentionMaps> All(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return _maps.TryGetValue(name, out List<AttentionMaps>? kept) ? kept : throw new KeyNotFoundException(
            $"No attention '{name}' is recorded. Recorded are: {string.Join(", ", _names)}.");
    }

    /// <summary>Starts recording the attentions of a network.</summary>
    /// <param name="model">A network, or an attention alone.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">
    /// The network has no attention, or none that the pattern matches; the message lists what there is.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The network was disposed.</exception>
    public static AttentionRecorder Attach(nn.Module model, AttentionRecorderOptions? options = null)
    {
        Check.Alive(model);
        options ??= new AttentionRecorderOptions();
        AttentionRecorder recorder = TryAttach(model, options, out List<string> present);
        if (recorder._names.Count > 0) return recorder;
        throw present.Count == 0
            ? new ArgumentException(
                $"{model.GetName()} contains no attention of this library, so there is nothing to record.", nameof(model))
            : new ArgumentException(
                $"Modules is '{options.Modules}', which matches no attention. There are: {string.Join(", ", present)}.",
                nameof(options));
    }

    /// <summary>Starts to record what there is, which may be nothing.</summary>
    /// <param name="model">A network, or an attention alone.</param>
    /// <param name="options">Settings.</param>
    /// <param name="present">Names of all attentions.</param>
    internal static AttentionRecorder TryAttach(nn.Module model, AttentionRecorderOptions options, out List<string> present)
    {
        Check.Defined(options.Keep);
        if (options.Samples is int samples) Check.Positive(samples, nameof(options.Samples));
        NamePatterns patterns = NamePatterns.Of(options.Modules);
        AttentionRecorder recorder = new(options);
        present = [];
        foreach ((string name, nn.Module module) in Attentions(model))
        {
            present.Add(name);
            if (!patterns.Match(name)) continue;
            List<AttentionMaps> kept = [];
            if (MapReading.Listen(module, options.Samples, read => recorder.Receive(name, kept, read)) is not { } removal)
            {
                continue;
            }

            recorder._removals.Add(removal);
            recorder._maps.Add(name, kept);
            recorder._names.Add(name);
        }

        return recorder;
    }

    /// <summary>Discards all recorded maps and continues recording.</summary>
    public void Clear()
    {
        foreach (List<AttentionMaps> kept in _maps.Values) Forget(kept);
        _calls.Clear();
    }

    /// <summary>Stops recording and disposes all maps; the network is as it was before.</summary>
    public void Dispose()
    {
        foreach (Action removal in _removals) removal();
        _removals.Clear();
        Clear();
    }

    /// <summary>The attentions of a network that no gate contains, in the network's order.</summary>
    internal static IEnumerable<(string Name, nn.Module Module)> Attentions(nn.Module model)
    {
        HashSet<nn.Module> parts = [], seen = [];
        foreach ((string name, nn.Module module) in model.named_modules().Prepend(("", model)))
        {
            if (!ISequenceAttention.IsAttention(module) || !seen.Add(module) || parts.Contains(module)) continue;
            if (module is GateModule) parts.UnionWith(module.modules());
            yield return (name, module);
        }
    }

    private static void Forget(List<AttentionMaps> kept)
    {
        foreach (AttentionMaps maps in kept) maps.Dispose();
        kept.Clear();
    }

    /// <summary>Reading a module calls modules inside it; those calls are no forward passes.</summary>
    private void Receive(string name, List<AttentionMaps> kept, Func<AttentionMaps> read)
    {
        if (_reading) return;
        _reading = true;
        try
        {
            AttentionMaps maps = read();
            if (_options.CopyToCpu) maps.ToCpu();
            Keep(kept, maps);
            _calls[name] = _call++;
        }
        finally
        {
            _reading = false;
        }
    }

    private void Keep(List<AttentionMaps> kept, AttentionMaps maps)
    {
        switch (_options.Keep)
        {
            case RecordedMaps.Mean:
                using (maps)
                {
                    if (maps.Samples == 0) break;
                    AttentionMaps mean = maps.Mean();
                    if (kept.Count == 0)
                    {
                        kept.Add(mean);
                        break;
                    }

                    using (mean) kept[0].Include(mean);
                }

                break;
            case RecordedMaps.Last:
                Forget(kept);
                kept.Add(maps);
                break;
            default:
                kept.Add(maps);
                break;
        }
    }
}
