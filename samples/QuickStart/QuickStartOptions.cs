namespace QuickStart;

/// <summary>What the command line asks for.</summary>
internal sealed record QuickStartOptions
{
    public const int DefaultEpochs = 4;

    /// <summary>Passes over the training images; null for the default, or for one with <see cref="Quick"/>.</summary>
    public int? Epochs { get; init; }

    /// <summary>Folder of another data set; null for the one that ships with the program.</summary>
    public string? Data { get; init; }

    /// <summary>Plans in their short form; empty for the default variants.</summary>
    public IReadOnlyList<string> Attention { get; init; } = [];

    public int Seed { get; init; } = 1;

    public string Out { get; init; } = "quickstart-out";

    /// <summary>A small part of the images and one epoch: shows that everything works, not how well.</summary>
    public bool Quick { get; init; }

    public int EpochCount => Epochs ?? (Quick ? 1 : DefaultEpochs);
}
