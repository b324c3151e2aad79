using System.Collections.Concurrent;
using System.Globalization;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>What a trial runs.</summary>
internal enum KernelPath
{
    /// <summary>A call in inference.</summary>
    Inference,

    /// <summary>Inference that may write over its input.</summary>
    OverInput,

    /// <summary>Inference at the end of a residual block, which writes over its input.</summary>
    EndOfBlock,

    /// <summary>Forward and backward pass.</summary>
    Training,

    /// <summary>Forward and backward pass of the end of a residual block.</summary>
    TrainingEnd,

    /// <summary>Forward and backward pass behind a batch norm that is never written.</summary>
    BehindNorm,

    /// <summary>Forward and backward pass behind such a norm, with the end of a residual block.</summary>
    BehindNormEnd,
}

/// <summary>What decides which way the kernels go; the library's own values and small ones that bring every way to small maps.</summary>
/// <param name="GroupBytes">Bytes of a group of samples.</param>
/// <param name="BytesWorthAThread">Bytes that are worth a further thread.</param>
/// <param name="Smallest">Values of the smallest map that goes to the kernels; null for the library's own two numbers.</param>
internal sealed record KernelThresholds(long GroupBytes, long BytesWorthAThread, long? Smallest)
{
    private static readonly (long Group, long Thread, long Trained, long Inferred) _own =
        (InferenceGateKernel.GroupBytes, NativeTeam.BytesWorthAThread, FusedGate.SmallestTrained, FusedGate.SmallestInferred);

    /// <summary>Draws thresholds.</summary>
    public static KernelThresholds Draw(Random random) => new(
        random.NextDouble() < 0.4 ? _own.Group : random.Pick<long>(1, 4096, 16 * 1024, 64 * 1024, 256 * 1024, 1 << 20),
        random.NextDouble() < 0.4 ? _own.Thread : 1,
        random.NextDouble() < 0.3 ? null : 0);

    /// <summary>Makes them those of the library.</summary>
    public void Use()
    {
        InferenceGateKernel.GroupBytes = GroupBytes;
        NativeTeam.BytesWorthAThread = BytesWorthAThread;
        FusedGate.SmallestTrained = Smallest ?? _own.Trained;
        FusedGate.SmallestInferred = Smallest ?? _own.Inferred;
    }

    /// <summary>Gives the library its own back.</summary>
    public static void Restore() => new KernelThresholds(_own.Group, _own.Thread, null).Use();

    public override string ToString() => $"groups of {GroupBytes} bytes, {BytesWorthAThread} bytes a thread, smallest map {Smallest?.ToString(CultureInfo.InvariantCulture) ?? "own"}";
}

/// <summary>One random comparison, all of it drawn from a seed and a number.</summary>
internal abstract record KernelTrial(int Seed, int Number, int Threads, TeamKind Team, KernelThresholds Thresholds, int Draw)
{
    private const double NetworkShare = 0.06;

    /// <summary>Largest number of values of a map.</summary>
    protected const int MostValues = 1_700_000;

    /// <summary>Times that the kernels run the same input: races show only sometimes.</summary>
    public abstract int Repeats { get; }

    /// <summary>Draws a trial. What is drawn depends on the seed, the number and whether the process has a limit of threads.</summary>
    public static KernelTrial Of(int seed, int number, bool limited)
    {
        Random random = Draws.Generator(seed, number);
        TeamKind team = random.NextDouble() switch
        {
            < 0.64 => TeamKind.Whole,
            < 0.76 => TeamKind.Pool,
            < 0.88 => TeamKind.Nested,
            _ => TeamKind.Dynamic,
        };
        int threads = random.NextDouble() < 0.5 ? 2 : random.Next(1, 9);
        if (limited) (team, threads) = (TeamKind.Limited, Math.Max(2, threads));
        if (team is TeamKind.Nested) threads = Math.Max(2, threads);
        KernelThresholds thresholds = KernelThresholds.Draw(random);
        int draw = random.Next();
        return random.NextDouble() < NetworkShare
            ? NetworkTrial.Of(random, seed, number, threads, team, thresholds, draw)
            : ModuleTrial.Of(random, seed, number, threads, team, thresholds, draw);
    }

    /// <summary>Builds what is compared, in float32 or bfloat16. It belongs to the caller.</summary>
    public abstract IKernelSubject Build();

    /// <summary>Threads, team and thresholds in words.</summary>
    protected string Where => $"{Threads} {(Threads == 1 ? "thread" : "threads")} ({Team}), {Thresholds}";
}

/// <summary>Something that runs with kernels, without them, and in float64.</summary>
internal interface IKernelSubject : IDisposable
{
    /// <summary>Runs the same pass from the same state: named outputs, gradients and running statistics.</summary>
    IReadOnlyList<KernelValue> Run(bool fused);

    /// <summary>
    /// The composed operations in float64; with a <paramref name="shake"/> above 0, of weights and inputs that are off by about that share.
    /// </summary>
    IReadOnlyList<KernelValue> Exact(double shake, int round);

    /// <summary>Whether gradients in bfloat16 are compared by their mean: one hidden value beyond a ReLU on one path alone moves single ones.</summary>
    bool Half { get; }
}

/// <summary>What kind of number a tensor holds, which decides what it is measured by.</summary>
internal enum KernelValueKind
{
    Output,
    Gradient,
    Statistic,
}

/// <summary>One named tensor of a run.</summary>
internal sealed record KernelValue(string Name, Tensor Tensor, KernelValueKind Kind);

/// <summary>One attention on one map.</summary>
internal sealed record ModuleTrial(
    int Seed, int Number, int Threads, TeamKind Team, KernelThresholds Thresholds, int Draw, AttentionOptions Options, KernelPath Path, int Batch, int Channels, int Height, int Width,
    MapPlace Place, MapPlace ShortcutPlace, bool Half, bool Training, bool Ties, double Offset, (bool Input, bool Parameters, bool Shortcut) Learns)
    : KernelTrial(Seed, Number, Threads, Team, Thresholds, Draw)
{
    private static readonly ConcurrentDictionary<string, bool> _gates = new(StringComparer.Ordinal);

    private static readonly int[] Primes = [1, 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67];

    /// <inheritdoc/>
    public override int Repeats => Path <= KernelPath.EndOfBlock ? Place is (MapPlace.Pixels or MapPlace.LaterPixels) && Threads > 1 ? 16 : 5 : 3;

    public static ModuleTrial Of(Random random, int seed, int number, int threads, TeamKind team, KernelThresholds thresholds, int draw)
    {
        string kind = OptionDraw.Kind(random);
        AttentionOptions defaults = AttentionCatalog.Create(kind);
        bool isPlain = defaults is GuidedAttentionOptions or BranchAttentionOptions || !IsGate(defaults);
        KernelPath path = DrawPath(random, isPlain);
        bool trains = path >= KernelPath.Training;
        (int n, int c, int h, int w) = DrawShape(random, thresholds, threads, isPlain, trains);
        if (defaults is ShuffleAttentionOptions) c = Math.Max(2, c / 2 * 2);
        AttentionOptions options = OptionDraw.Draw(random, kind, [c], h, w) ?? new SqueezeExcitationOptions { ReducedChannels = 3 };
        bool half = !trains ? random.NextDouble() < 0.15 : path < KernelPath.BehindNorm && random.NextDouble() < 0.1;
        MapPlace place = MapLayouts.Draw(random, path is KernelPath.OverInput or KernelPath.EndOfBlock);
        if (path >= KernelPath.BehindNorm && random.NextDouble() < 0.8) place = MapPlace.Planes;
        MapPlace shortcut = random.NextDouble() < 0.85 ? place : MapLayouts.Draw(random, writable: false);
        bool all = random.NextDouble() < 0.8;
        (bool, bool, bool) learns = all ? (true, true, true) : (random.Next(2) == 0, random.Next(2) == 0, true);
        if (learns is (false, false, _)) learns = (true, false, learns.Item3);
        return new ModuleTrial(
            seed, number, threads, team, thresholds, draw, options, path, n, c, h, w, place, shortcut, half, trains && random.NextDouble() < 0.6,
            random.NextDouble() < 0.12, random.NextDouble() < 0.1 ? 5 : 0, learns);
    }

    public override IKernelSubject Build() => new ModuleSubject(this);

    public override string ToString() =>
        $"{Options.ToJson()} {Path}{(Path >= KernelPath.Training ? Training ? " in training mode" : " in evaluation mode" : "")}, {Batch}x{Channels}x{Height}x{Width} {Place}" +
        $"{(ShortcutPlace == Place ? "" : $" (shortcut {ShortcutPlace})")} {(Half ? "bfloat16" : "float32")}{(Ties ? ", whole numbers" : "")}" +
        $"{(Learns == (true, true, true) || Path < KernelPath.Training ? "" : $", learns {Learns}")}, {Where}";

    /// <summary>Whether a kind multiplies its map by a gate, which has kernels and can end a block.</summary>
    private static bool IsGate(AttentionOptions options) => _gates.GetOrAdd(options.Kind(), _ =>
    {
        using AttentionModule module = options.Create(256);
        return module is GateModule;
    });

    private static KernelPath DrawPath(Random random, bool isPlain) => random.NextDouble() switch
    {
        < 0.48 => KernelPath.Inference,
        < 0.58 => isPlain ? KernelPath.Inference : KernelPath.OverInput,
        < 0.68 => isPlain ? KernelPath.Inference : KernelPath.EndOfBlock,
        < 0.81 => KernelPath.Training,
        < 0.87 => isPlain ? KernelPath.Training : KernelPath.TrainingEnd,
        < 0.92 => isPlain ? KernelPath.Training : KernelPath.BehindNorm,
        _ => isPlain ? KernelPath.Training : KernelPath.BehindNormEnd,
    };

    /// <summary>A shape: anything, odd batches, maps whose groups just fit or just do not, single rows and columns, many channels.</summary>
    private static (int N, int C, int H, int W) DrawShape(Random random, KernelThresholds thresholds, int threads, bool isPlain, bool trains)
    {
        int most = isPlain ? 60_000 : trains ? 300_000 : MostValues;
        double region = random.NextDouble();
        if (region >= 0.26 && region < 0.66 && (isPlain || trains)) region *= 0.4;
        (int n, int c, int h, int w) = region switch
        {
            < 0.18 => (random.Size(9), random.Size(70), random.Size(33), random.Size(33)),
            < 0.26 => (random.Pick(Primes), random.Size(130), random.Size(29), random.Size(29)),
            < 0.66 => AtGroups(random, thresholds.GroupBytes, threads, most),
            < 0.74 => random.Next(2) == 0 ? (random.Size(67), random.Size(300), 1, random.Size(600)) : (random.Size(67), random.Size(300), random.Size(600), 1),
            < 0.82 => (random.Size(9), random.Next(2) == 0 ? random.Size(4096) : random.Pick(509, 512, 1021, 1024, 2048, 4093, 4096), random.Size(8), random.Size(8)),
            < 0.90 => (random.Next(1, 5), random.Size(64), random.Pick(31, 37, 41, 53, 61, 67, 97), random.Pick(31, 37, 41, 53, 61, 67, 97)),
            _ => (random.Size(5), random.Size(40), random.Next(1, 5), random.Next(1, 5)),
        };
        if (isPlain) (c, h, w) = (Math.Clamp(c, 8, 64) / 8 * 8, Math.Min(h, 20), Math.Min(w, 20));
        while ((long)n * c * h * w > most)
        {
            if (n > 1 && (long)n * c * h * w > 4L * most) n = Math.Max(1, n / 2);
            else if (h >= w && h > 1) h = Math.Max(1, h * 3 / 4);
            else if (w > 1) w = Math.Max(1, w * 3 / 4);
            else c = Math.Max(1, c / 2);
        }

        return (n, c, h, w);
    }

    /// <summary>
    /// A batch whose groups of samples come out uneven: so many samples fit a group of a thread, or of all threads together, as divide the thread's
    /// share of the batch but for a rest.
    /// </summary>
    private static (int N, int C, int H, int W) AtGroups(Random random, long groupBytes, int threads, int most)
    {
        bool apart = random.Next(2) == 0 && threads > 1;
        int n = apart ? (threads * random.Next(4, Math.Max(5, 67 / threads))) + random.Next(1, threads) : (random.Next(1, Math.Min(34, 2 * Math.Max(2, threads))) * 2) + 1;
        int share = apart ? n / threads : n, fits = Math.Max(1, share / random.Next(1, apart ? 4 : Math.Max(2, share)));
        long room = groupBytes / (apart ? threads : 1), largest = Math.Clamp(room / fits, 64, 4L * most / n), smallest = Math.Min(largest, (room / (fits + 1)) + 4);
        int values = (int)(random.NextInt64(smallest, largest + 1) / 4), c = random.Pick(1, 3, 8, 16, 31, 32, 37, 64, 64, 128, 256);
        int positions = Math.Max(1, values / c), h = Math.Max(1, (int)Math.Sqrt(positions));
        return (n, c, h, Math.Max(1, positions / h));
    }
}
