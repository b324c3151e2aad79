namespace TorchSharp.Attention.Tests;

/// <summary>Weights and running statistics by state-dict key, as plain arrays. A training step changes the statistics in place.</summary>
internal sealed class OracleState
{
    private readonly Dictionary<string, double[]> _entries;
    private readonly string _prefix;

    public OracleState(Dictionary<string, double[]> entries, string prefix = "")
    {
        _entries = entries;
        _prefix = prefix;
    }

    public IReadOnlyDictionary<string, double[]> Entries => _entries;

    /// <summary>The entries below a key, sharing their arrays with this state.</summary>
    public OracleState Child(string name) => new(_entries, $"{_prefix}{name}.");

    /// <summary>An entry that must be there with exactly this many values: the formula says how many.</summary>
    public double[] Get(string key, int length)
    {
        double[] values = _entries[_prefix + key];
        return values.Length == length
            ? values
            : throw new InvalidOperationException($"{_prefix}{key} has {values.Length} values; the formula has {length}.");
    }

    public double[]? Find(string key, int length) => _entries.ContainsKey(_prefix + key) ? Get(key, length) : null;

    public OracleState Copy() => new(_entries.ToDictionary(e => e.Key, e => (double[])e.Value.Clone()), _prefix);
}
