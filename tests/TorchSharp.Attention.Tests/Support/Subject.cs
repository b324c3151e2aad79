namespace TorchSharp.Attention.Tests;

/// <summary>A module under test, with one way to call gates, contexts and guided gates.</summary>
internal sealed class Subject : IDisposable
{
    public Subject(Row row, ScalarType dtype = ScalarType.Float64)
    {
        Row = row;
        Module = row.Options is GuidedAttentionOptions guided
            ? guided.Create(row.Channels, row.GuideChannels)
            : row.Options.Create(row.Channels);
        if (dtype != ScalarType.Float32) Module.to(dtype);
    }

    public Row Row { get; }

    public nn.Module Module { get; }

    public bool HasNorm => Module.named_buffers().Any();

    /// <summary>A module with seeded random weights and running statistics, in evaluation or training.</summary>
    public static Subject Random(Row row, int seed, bool training = false, ScalarType dtype = ScalarType.Float64)
    {
        Subject subject = new(row, dtype);
        subject.Randomize(seed);
        return subject.Mode(training);
    }

    public Subject Mode(bool training)
    {
        Module.train(training);
        return this;
    }

    public Tensor Forward(Tensor x, Tensor? guide) => Module switch
    {
        AttentionModule module => module.call(x),
        _ => ((GuidedAttentionModule)Module).call(x, guide!),
    };

    /// <summary>The gate, or null for a context.</summary>
    public Tensor? Gate(Tensor x, Tensor? guide) => Module switch
    {
        GateModule module => module.Gate(x),
        GuidedAttentionModule module => module.Gate(x, guide!),
        _ => null,
    };

    public void ResetParameters() => ((IAttentionModule)Module).ResetParameters();

    public void Randomize(int seed) => Randomize(Module, seed);

    /// <summary>Seeded random weights and running statistics.</summary>
    public static void Randomize(nn.Module module, int seed)
    {
        System.Random random = new(seed);
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        foreach ((string key, Tensor entry) in module.state_dict())
        {
            if (key.EndsWith("num_batches_tracked", StringComparison.Ordinal)) continue;
            double[] values = [.. Enumerable.Range(0, (int)entry.numel()).Select(_ => Draw(random, key, entry))];
            entry.copy_(tensor(values, entry.shape));
        }
    }

    public void Set(string key, double value)
    {
        using IDisposable quiet = no_grad();
        using Scalar scalar = value.ToScalar();
        Module.state_dict()[key].fill_(scalar);
    }

    /// <summary>Copies of all weights and statistics.</summary>
    public OracleState State() => new(Module.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.Doubles()));

    public DenseMap Oracle(DenseMap x, DenseMap? guide, OracleState state)
        => Tests.Oracle.Forward(Row.Options, x, guide, state, Module.training);

    public void Dispose() => Module.Dispose();

    private static double Draw(System.Random random, string key, Tensor entry)
    {
        if (key.EndsWith("running_var", StringComparison.Ordinal)) return 0.5 + (1.5 * random.NextDouble());
        if (key.EndsWith("alpha", StringComparison.Ordinal)) return 0.3;
        double normal = random.Normal();
        if (entry.dim() > 1) return 1.2 * normal / Math.Sqrt(entry.numel() / (double)entry.size(0));
        return key.EndsWith(".weight", StringComparison.Ordinal) || key == "gamma" ? 1 + (0.3 * normal) : 0.3 * normal;
    }
}
