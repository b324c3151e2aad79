using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>What the weights of an attention map belong to.</summary>
public enum AttentionMapKind
{
    /// <summary>One weight per channel: (N, C).</summary>
    Channel,

    /// <summary>One weight per position: (N, H, W).</summary>
    Spatial,

    /// <summary>One weight per element: (N, C, H, W).</summary>
    Element,

    /// <summary>One weight per pair of a query and a key: (N, heads, L, S).</summary>
    Pairwise,

    /// <summary>
    /// One weight per branch, or per attention that a router chooses from: (N, M, C), or (N, M, 1) if all channels share a
    /// weight.
    /// </summary>
    Branch,
}

/// <summary>
/// The maps of one attention module in one forward pass, by kind. A map is null if the module does not have this kind. The maps
/// are not part of the autograd graph. They belong to this object, and it belongs to its <see cref="AttentionRecorder"/>: clone a
/// map that you need for longer.
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

    /// <summary>The module that computed the maps.</summary>
    public nn.Module Module { get; }

    /// <summary>Number of samples in the maps: the batch, or all samples so far if a running mean is kept.</summary>
    public long Samples { get; internal set; }

    /// <summary>The kinds of maps that the module has.</summary>
    public IReadOnlyCollection<AttentionMapKind> Kinds => _maps.Keys;

    /// <summary>The map of a kind. Null if the module does not have it.</summary>
    /// <param name="kind">The kind.</param>
    /// <exception cref="ObjectDisposedException">
    /// The maps were disposed: with their recorder, by its <see cref="AttentionRecorder.Clear"/>, or by a
    /// later pass where it keeps the last one.
    /// </exception>
    public Tensor? this[AttentionMapKind kind] => !_disposed ? _maps.GetValueOrDefault(kind) : throw new ObjectDisposedException(
        nameof(AttentionMaps),
        $"The maps of this {Module.GetName()} were disposed, with their recorder or by a later pass; " +
        "clone what shall live longer.");

    /// <summary>
    /// Factor of each channel, (N, C). If <see cref="ElementGate"/> is not null, the mean of that gate over positions.
    /// </summary>
    public Tensor? ChannelGate => this[AttentionMapKind.Channel];

    /// <summary>
    /// Factor of each position, (N, H, W). If <see cref="ElementGate"/> is not null, the mean of that gate over channels.
    /// </summary>
    public Tensor? SpatialGate => this[AttentionMapKind.Spatial];

    /// <summary>
    /// The whole gate, (N, C, H, W), if it is not the product of a channel gate and a spatial gate; otherwise null.
    /// </summary>
    public Tensor? ElementGate => this[AttentionMapKind.Element];

    /// <summary>Weights of pairs of a query and a key, (N, heads, L, S). Positions are counted row by row.</summary>
    public Tensor? PairwiseWeights => this[AttentionMapKind.Pairwise];

    /// <summary>Weights of branches, (N, M, C), or of the attentions of a router, (N, M, 1).</summary>
    public Tensor? BranchWeights => this[AttentionMapKind.Branch];

    /// <summary>
    /// Height and width of the map whose positions are the queries. Null if the queries are not positions of a map, as in
    /// sequences.
    /// </summary>
    public (int Height, int Width)? QueryGrid { get; }

    /// <summary>Height and width of the map whose positions are the keys. Null if the keys are not positions of a map.</summary>
    public (int Height, int Width)? KeyGrid { get; }

    /// <summary>
    /// Computes where the module looks, (N, H, W): its spatial gate, or the weight that each position receives, averaged over
    /// heads and queries. The result is a new tensor, owned by the caller. Null if the module has no weights of positions.
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
