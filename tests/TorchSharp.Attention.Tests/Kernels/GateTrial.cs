namespace TorchSharp.Attention.Tests;

/// <summary>How the values of a feature map lie in memory.</summary>
internal enum TrialLayout
{
    Planes,
    Pixels,
    PlanesWithOffset,
    PixelsWithOffset,
    Strided,
}

/// <summary>One gate with seeded weights, and the feature maps that go through it. A failing property prints it, which is all it takes to repeat it.</summary>
internal sealed record GateTrial(FusableGate Gate, int Batch, int Channels, int Height, int Width, int Seed)
{
    public TrialLayout Layout { get; init; }

    public bool Training { get; init; }

    /// <summary>The gate with random weights and running statistics.</summary>
    public GateModule Build(ScalarType type = ScalarType.Float32)
    {
        manual_seed(Seed);
        GateModule module = Gate.Create(Channels);
        Subject.Randomize(module, Seed);
        module.to(type);
        module.train(Training);
        return module;
    }

    /// <summary>The feature map that the seed makes. With ties its values are whole numbers, so that maxima are shared.</summary>
    public Tensor Map(ScalarType type = ScalarType.Float32, bool ties = false)
    {
        manual_seed(Seed);
        return NextMap(type, ties);
    }

    /// <summary>A feature map of the next random numbers.</summary>
    public Tensor NextMap(ScalarType type = ScalarType.Float32, bool ties = false)
    {
        Tensor values = randn(Batch + 1, Channels, Height, Width);
        if (ties) values = values.round();
        values = values.to_type(type);
        Tensor pixels = values.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2);
        return Layout switch
        {
            TrialLayout.Planes => values.narrow(0, 0, Batch).contiguous(),
            TrialLayout.Pixels => pixels.narrow(0, 0, Batch),
            TrialLayout.PlanesWithOffset => values.narrow(0, 1, Batch),
            TrialLayout.PixelsWithOffset => pixels.narrow(0, 1, Batch),
            _ => values.repeat(1, 1, 1, 2).slice(3, 0, 2 * Width, 2).narrow(0, 0, Batch),
        };
    }
}
