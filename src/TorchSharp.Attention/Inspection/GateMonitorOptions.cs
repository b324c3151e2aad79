namespace TorchSharp.Attention;

/// <summary>Settings of a <see cref="GateMonitor"/>: how often, where to, and from which values on it warns.</summary>
public sealed record GateMonitorOptions
{
    /// <summary>Every how many steps the attentions are looked at. Default 50. Steps between them cost nothing.</summary>
    public int Every { get; init; } = 50;

    /// <summary>Steps that went before, where a training goes on from a checkpoint. Default 0.</summary>
    public long InitialStep { get; init; }

    /// <summary>Which attentions, by name, as <see cref="AttentionRecorderOptions.Modules"/>. Default all.</summary>
    public string Modules { get; init; } = "*";

    /// <summary>
    /// How many samples of a batch are looked at, the first ones. Default 16. Weights of pairs take Samples · heads · L · S
    /// values while they are read: leave modules on large maps out by <see cref="Modules"/>, or lower this.
    /// </summary>
    public int Samples { get; init; } = 16;

    /// <summary>Receives a line for each map and each alert, such as <c>Console.WriteLine</c>. Default none.</summary>
    public Action<string>? Log { get; init; }

    /// <summary>
    /// File of comma-separated values, one row per map and looked-at step. Rows are added at the end, so that an interrupted
    /// training goes on in the same file; a row that an interruption or a full disk left half-written is cut off first. One
    /// monitor writes a file at a time: <c>….lock</c> beside it says so while it is open. Default none.
    /// </summary>
    public string? Csv { get; init; }

    /// <summary>
    /// Receives scalars and a histogram for each gate, such as
    /// <c>torch.utils.tensorboard.SummaryWriter("runs/cbam")</c>. Default none.
    /// </summary>
    public Modules.SummaryWriter? TensorBoard { get; init; }

    /// <summary>How many looked-at steps in a row must show the same before an alert is raised. Default 3.</summary>
    public int Patience { get; init; } = 3;

    /// <summary>
    /// Saturated: share of values below <see cref="GateStatistics.Low"/>, above <see cref="GateStatistics.High"/>, or both
    /// together, from which on. Default 0.9. Told of gates whose values lie from 0 to 1.
    /// </summary>
    public double SaturatedShare { get; init; } = 0.9;

    /// <summary>
    /// Uniform: standard deviation of a gate's values over channels, positions and samples up to which. Default 0.01. Up to the
    /// same distance from 1 a gate counts as the identity.
    /// </summary>
    public double UniformDeviation { get; init; } = 0.01;

    /// <summary>
    /// Sparse: share of channels that no looked-at sample opens beyond
    /// <see cref="GateStatistics.Low"/>, from which on. Default 0.5.
    /// </summary>
    public double DeadShare { get; init; } = 0.5;

    /// <summary>Uniform weights of pairs: entropy over its maximum, mean over heads, from which on. Default 0.99.</summary>
    public double UniformEntropy { get; init; } = 0.99;

    /// <summary>Collapsed weights of pairs: entropy over its maximum, mean over heads, up to which. Default 0.05.</summary>
    public double CollapsedEntropy { get; init; } = 0.05;

    /// <summary>Collapsed branches: mean weight of one branch from which on. Default 0.95.</summary>
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
