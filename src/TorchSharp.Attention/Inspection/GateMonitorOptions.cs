namespace TorchSharp.Attention;

/// <summary>Settings of a <see cref="GateMonitor"/>: how often it reads, where it writes, and at which values it warns.</summary>
public sealed record GateMonitorOptions
{
    /// <summary>
    /// Number of training steps from one reading of the attentions to the next. The steps between have no overhead. Default 50.
    /// </summary>
    public int Every { get; init; } = 50;

    /// <summary>
    /// Number of training steps before the monitor was attached, if the training continues from a checkpoint. Default 0.
    /// </summary>
    public long InitialStep { get; init; }

    /// <summary>
    /// Which attentions are watched, by name, as in <see cref="AttentionRecorderOptions.Modules"/>. Default all.
    /// </summary>
    public string Modules { get; init; } = "*";

    /// <summary>
    /// How many samples of a batch are read, counted from the first. Default 16. Reading pairwise weights needs Samples · heads ·
    /// L · S values in memory. If that is too much, exclude modules on large maps with <see cref="Modules"/>, or use fewer
    /// samples.
    /// </summary>
    public int Samples { get; init; } = 16;

    /// <summary>Receives a line for each map and each alert, such as <c>Console.WriteLine</c>. Default none.</summary>
    public Action<string>? Log { get; init; }

    /// <summary>
    /// Path of a CSV file with one row per reading of a map. Rows are appended, so a resumed training continues in the same file.
    /// A row that was written incompletely, after a crash or a full disk, is removed first. Only one monitor can write a file at
    /// a time; the file <c>….lock</c> beside it marks it as in use. Default none.
    /// </summary>
    public string? Csv { get; init; }

    /// <summary>
    /// Receives scalars and a histogram for each gate, such as
    /// <c>torch.utils.tensorboard.SummaryWriter("runs/cbam")</c>. Default none.
    /// </summary>
    public Modules.SummaryWriter? TensorBoard { get; init; }

    /// <summary>How many readings in a row must show the same problem before an alert is raised. Default 3.</summary>
    public int Patience { get; init; } = 3;

    /// <summary>
    /// Threshold of the alerts for saturated gates: the share of values below <see cref="GateStatistics.Low"/>, above
    /// <see cref="GateStatistics.High"/>, or both together, from which on a gate counts as saturated. It applies to gates with
    /// values from 0 to 1. Default 0.9.
    /// </summary>
    public double SaturatedShare { get; init; } = 0.9;

    /// <summary>
    /// Threshold of the alert for uniform gates and branch weights: a standard deviation over channels, positions and samples
    /// that is at most this counts as uniform. Also the largest distance from 1 up to which a gate counts as the identity.
    /// Default 0.01.
    /// </summary>
    public double UniformDeviation { get; init; } = 0.01;

    /// <summary>
    /// Threshold of the alert for sparse gates: the share of channels that no sample opens beyond
    /// <see cref="GateStatistics.Low"/>, from which on a gate counts as sparse. Default 0.5.
    /// </summary>
    public double DeadShare { get; init; } = 0.5;

    /// <summary>
    /// Threshold of the alert for uniform pairwise weights: their entropy divided by its maximum, averaged over heads, from which
    /// on they count as uniform. Default 0.99.
    /// </summary>
    public double UniformEntropy { get; init; } = 0.99;

    /// <summary>
    /// Threshold of the alert for collapsed pairwise weights: their entropy divided by its maximum, averaged over heads, up to
    /// which they count as collapsed. Default 0.05.
    /// </summary>
    public double CollapsedEntropy { get; init; } = 0.05;

    /// <summary>
    /// Threshold of the alert for collapsed branches: the largest mean weight of a branch, from which on the branches count as
    /// collapsed. Default 0.95.
    /// </summary>
    public double CollapsedBranch { get; init; } = 0.95;

    internal void Validate()
    {
        Check.Positive(Every);
        Check.Positive(Samples);
        Check.Positive(Patience);
        if (InitialStep < 0)
        {
            throw new ArgumentOutOfRangeException(
                nameof(InitialStep), InitialStep, $"InitialStep is {InitialStep}; it must be at least 0.");
        }

        if (Csv is not null) ArgumentException.ThrowIfNullOrWhiteSpace(Csv);
        Share(SaturatedShare, nameof(SaturatedShare));
        Share(UniformDeviation, nameof(UniformDeviation));
        Share(DeadShare, nameof(DeadShare));
        Share(UniformEntropy, nameof(UniformEntropy));
        Share(CollapsedEntropy, nameof(CollapsedEntropy));
        Share(CollapsedBranch, nameof(CollapsedBranch));
    }

    private static void Share(double value, string name)
    {
        if (!(value is >= 0 and <= 1))
        {
            throw new ArgumentOutOfRangeException(name, value, $"{name} is {value}; it must lie in [0, 1].");
        }
    }
}
