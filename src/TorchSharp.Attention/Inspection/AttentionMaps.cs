using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>What an attention map weighs.</summary>
public enum AttentionMapKind
{
    /// <summary>Channels: (N, C).</summary>
    Channel,

    /// <summary>Positions: (N, H, W).</summary>
    Spatial,

    /// <summary>Every element: (N, C, H, W).</summary>
    Element,

    /// <summary>Pairs of a query and a key: (N, heads, L, S).</summary>
    Pairwise,

    /// <summary>
    /// Branches, or the attentions that a router chooses from: (N, M, C), or (N, M, 1) where all channels share a weight.
    /// </summary>
    Branch,
}

/// <summary>
/// The maps of one attention module in one forward pass, by kind; null for kinds that it does not have. Nothing here is part of a
/// graph. The tensors belong to this object, and it belongs to its <see cref="AttentionRecorder"/>: clone what shall live longer.
/// </summary>
public sealed class AttentionMaps : IDisposable
{
    private readonly SortedDictionary<AttentionMapKind, Tensor> _maps;
    private bool _disposed;

    /// <summary>Takes maps into its keeping.</summary>
    internal AttentionMaps(
        nn.Module module, long samples, SortedDictionary<AttentionMapKind, Tensor> maps,
        (int Height, int Width)? queryGrid = null, (int Height, int Width)? keyGrid = null)
    {
        _maps = maps;
        (Module, Samples, QueryGrid, KeyGrid) = (module, samples, queryGrid, keyGrid);
        foreach (Tensor map in maps.Values) map.DetachFromDisposeScope();
    }

    /// <summary>The module that computed them.</summary>
    public nn.Module Module { get; }

    /// <summary>How many samples the maps stand for: the batch, or all samples so far where a running mean is kept.</summary>
    public long Samples { get; internal set; }

    /// <summary>The kinds that the module has.</summary>
    public IReadOnlyCollection<AttentionMapKind> Kinds => _maps.Keys;

    /// <summary>The map of a kind, or null.</summary>
    /// <param name="kind">The kind.</param>
    /// <exception cref="ObjectDisposedException">
    /// The maps were disposed: with their recorder, by its <see cref="AttentionRecorder.Clear"/>, or by a
    /// later pass where it keeps the last one.
    /// </exception>
    public Tensor? this[AttentionMapKind kind] => !_disposed ? _maps.GetValueOrDefault(kind) : throw new ObjectDisposedException(
        nameof(AttentionMaps),
        $"The maps of this {Module.GetName()} were disposed, with their recorder or by a later pass; " +
        "clone what shall live longer.");

    /// <summary>Factor of each channel, (N, C). Where <see cref="ElementGate"/> is not null, its mean over positions.</summary>
    public Tensor? ChannelGate => this[AttentionMapKind.Channel];

    /// <summary>
    /// Factor of each position, (N, H, W). Where <see cref="ElementGate"/> is not null, its mean over channels.
    /// </summary>
    public Tensor? SpatialGate => this[AttentionMapKind.Spatial];

    /// <summary>The whole gate, (N, C, H, W), where it is no product of a channel gate and a spatial gate.</summary>
    public Tensor? ElementGate => this[AttentionMapKind.Element];

    /// <summary>Weights of pairs, (N, heads, L, S), queries before keys, positions row by row.</summary>
    public Tensor? PairwiseWeights => this[AttentionMapKind.Pairwise];

    /// <summary>Weights of branches, (N, M, C), or of a router's attentions, (N, M, 1).</summary>
    public Tensor? BranchWeights => this[AttentionMapKind.Branch];

    /// <summary>The map whose positions the queries are; null where they are none, as in sequences.</summary>
    public (int Height, int Width)? QueryGrid { get; }

    /// <summary>The map whose positions the keys are; null where they are none.</summary>
    public (int Height, int Width)? KeyGrid { get; }

    /// <summary>
    /// Where the module looks, (N, H, W): its spatial gate, or the weight that each position receives, as mean over heads and
    /// queries. A new tensor, owned by the caller; null for a module that knows no positions.
    /// </summary>
    public Tensor? ToSpatialMap()
    {
        using DisposeScope scope = NewDisposeScope();
        if (SpatialGate is { } gate) return gate.clone().MoveToOuterDisposeScope();
        if (PairwiseWeights is not { } weights || KeyGrid is not { } grid) return null;
        return weights.mean([1, 2]).view(-1, grid.Height, grid.Width).MoveToOuterDisposeScope();
    }

    /// <summary>Disposes the maps.</summary>
    public void Dispose()
    {
        _disposed = true;
        foreach (Tensor map in _maps.Values) map.Dispose();
        _maps.Clear();
    }

    /// <summary>Moves the maps to the CPU.</summary>
    internal void ToCpu()
    {
        foreach ((AttentionMapKind kind, Tensor map) in _maps.ToArray())
        {
            if (map.device.type == DeviceType.CPU) continue;
            _maps[kind] = map.cpu().DetachFromDisposeScope();
            map.Dispose();
        }
    }

    /// <summary>The maps averaged over samples, as a batch of one.</summary>
    internal AttentionMaps Mean()
    {
        using DisposeScope scope = NewDisposeScope();
        SortedDictionary<AttentionMapKind, Tensor> means = [];
        foreach ((AttentionMapKind kind, Tensor map) in _maps)
        {
            Tensor wide = map.dtype == ScalarType.Float64 ? map : map.to_type(ScalarType.Float32);
            means[kind] = wide.mean([0], keepdim: true);
        }

        return new AttentionMaps(Module, Samples, means, QueryGrid, KeyGrid);
    }

    /// <summary>Takes another mean into this one, each counting by its samples.</summary>
    internal void Include(AttentionMaps other)
    {
        using DisposeScope scope = NewDisposeScope();
        foreach ((AttentionMapKind kind, Tensor map) in _maps)
        {
            Tensor added = other._maps[kind];
            if (!map.shape.AsSpan().SequenceEqual(added.shape))
            {
                throw new InvalidOperationException(
                    $"The running mean of {Module.GetName()} holds a {kind} map {Check.Shape(map)}, and this pass has " +
                    $"{Check.Shape(added)}. " +
                    "A mean needs maps of one size: feed images of one size, or keep the last or all maps.");
            }
        }

        using Scalar share = ((double)other.Samples / (Samples + other.Samples)).ToScalar();
        foreach ((AttentionMapKind kind, Tensor map) in _maps) map.Plus_(other._maps[kind].sub(map).mul(share));
        Samples += other.Samples;
    }
}
