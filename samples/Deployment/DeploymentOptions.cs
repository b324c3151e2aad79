namespace Deployment;

/// <summary>What the command line asks for.</summary>
internal sealed record DeploymentOptions
{
    public string Out { get; init; } = "deployment-out";

    public int Epochs { get; init; } = 3;

    /// <summary>Only networks whose name contains this.</summary>
    public string Only { get; init; } = "";

    public int Rounds { get; init; } = 25;

    public int Threads { get; init; } = Math.Min(2, Environment.ProcessorCount);

    /// <summary>Two networks, few images, one thread: shows that everything works.</summary>
    public bool Quick { get; init; }

    /// <summary>What is trained and timed in fact: --quick goes before the numbers.</summary>
    public int EpochsRun => Quick ? 1 : Epochs;

    public int RoundsRun => Quick ? 3 : Rounds;
}
