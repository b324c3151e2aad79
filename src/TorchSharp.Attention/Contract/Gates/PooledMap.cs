using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// What a mixing gate reads of a map: by libtorch's operations when it is asked for, or pooled before by kernels.
/// </summary>
internal sealed class PooledMap
{
    private readonly GateCombination _mix;
    private readonly ChannelSummary? _pooledChannels;
    private readonly Tensor? _pooledStrips;
    private readonly Tensor? _pooledPositions;
    private Tensor? _rows;
    private Tensor? _columns;

    public PooledMap(Tensor map, GateCombination mix)
    {
        Map = map;
        _mix = mix;
    }

    /// <summary>Of pooled values: channels, strips as (1 or 2, N, C, H + W, 1), positions as (N, 2, H, W).</summary>
    public PooledMap(Tensor map, GateCombination mix, ChannelSummary? channels, Tensor? strips, Tensor? positions)
        : this(map, mix)
    {
        _pooledChannels = channels;
        _pooledStrips = strips;
        _pooledPositions = positions;
    }

    public Tensor Map { get; }

    public long Height => Map.size(2);

    public long Width => Map.size(3);

    public ChannelSummary Channels => _pooledChannels ?? ChannelSummary.Of(Map, _mix.Channels);

    /// <summary>Mean and maximum over channels, (N, 2, H, W).</summary>
    public Tensor Positions => _pooledPositions ?? SpatialPooling.Of(Map);

    /// <summary>The means of rows, (N, C, H, 1).</summary>
    public Tensor Rows => _rows ??= _pooledStrips is null ? Map.mean([3], keepdim: true) : RowsOf(_pooledStrips.select(0, 0));

    /// <summary>The means of columns, (N, C, 1, W).</summary>
    public Tensor Columns
        => _columns ??= _pooledStrips is null ? Map.mean([2], keepdim: true) : ColumnsOf(_pooledStrips.select(0, 0));

    /// <summary>The means of rows, then those of columns, (N, C, H + W, 1).</summary>
    public Tensor Strips => _pooledStrips is null ? cat([Rows, Columns.transpose(2, 3)], 2) : _pooledStrips.select(0, 0);

    /// <summary>The maxima of rows, (N, C, H, 1).</summary>
    public Tensor RowMaxima => _pooledStrips is null ? Map.amax([3], keepdim: true) : RowsOf(_pooledStrips.select(0, 1));

    /// <summary>The maxima of columns, (N, C, 1, W).</summary>
    public Tensor ColumnMaxima => _pooledStrips is null ? Map.amax([2], keepdim: true) : ColumnsOf(_pooledStrips.select(0, 1));

    private Tensor RowsOf(Tensor strips) => strips.narrow(2, 0, Height);

    private Tensor ColumnsOf(Tensor strips) => strips.narrow(2, Height, Width).transpose(2, 3);
}
