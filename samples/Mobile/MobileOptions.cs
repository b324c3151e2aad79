namespace Mobile;

/// <summary>What the command line asks for.</summary>
internal sealed record MobileOptions
{
    public string Out { get; init; } = "mobile-out";

    /// <summary>Passes over the training images.</summary>
    public int Epochs { get; init; } = 3;

    /// <summary>Training images.</summary>
    public int Images { get; init; } = 10_000;

    public int TestImages { get; init; } = 2_000;

    /// <summary>Share of the gated channels to remove.</summary>
    public double Fraction { get; init; } = 0.3;

    /// <summary>Passes over the training images after pruning.</summary>
    public int Tune { get; init; } = 2;

    /// <summary>Threads for training; latency is always that of one.</summary>
    public int Threads { get; init; } = Math.Min(2, Environment.ProcessorCount);

    /// <summary>Rounds of every measurement of time.</summary>
    public int Rounds { get; init; } = 25;

    /// <summary>Shares of the curve.</summary>
    public IReadOnlyList<double> Fractions { get; init; } = [0, 0.2, 0.4, 0.6];

    /// <summary>Few images, one epoch, one thread: shows that everything works.</summary>
    public static MobileOptions Quick { get; } = new()
    {
        Epochs = 1,
        Images = 1920,
        TestImages = 250,
        Tune = 1,
        Threads = 1,
        Rounds = 3,
        Fractions = [0, 0.4],
    };
}
