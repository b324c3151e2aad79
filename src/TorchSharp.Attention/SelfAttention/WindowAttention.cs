// Window attention. Liu, Lin, Cao, Hu, Wei, Zhang, Lin, Guo: "Swin Transformer: Hierarchical Vision Transformer using Shifted
// Windows", 2021, arXiv:2103.14030. Where the window does not divide the map, the released code and timm pad with zeros that then
// take part as keys (WindowAttentionOptions.Official); by default padded keys are masked out here, so that a border window sees
// the map alone. What the shift wraps around is masked by −∞, where they add −100. They shrink a window that is larger than the
// map, and with it the table of offsets; here such a map is padded and masked, which is the same for the table's inner part.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="WindowAttention"/>. Defaults: windows of 7 × 7 as the paper, not shifted.</summary>
[AttentionKind("window")]
public sealed record WindowAttentionOptions : AttentionOptions
{
    /// <summary>The released code and timm: keys of the padding take part. All other settings are the defaults.</summary>
    public static WindowAttentionOptions Official { get; } = new() { MaskPadding = false };

    /// <summary>Number of heads; must divide the channels. Default 4.</summary>
    public int Heads { get; init; } = 4;

    /// <summary>Height and width of a window in positions. Default 7.</summary>
    public int WindowSize { get; init; } = 7;

    /// <summary>
    /// Shift of the windows in positions, below the window's size; the paper alternates 0 and half a window. An axis with a
    /// single window is not shifted. Default 0.
    /// </summary>
    public int Shift { get; init; }

    /// <summary>
    /// Whether the keys of the padding that fills the last windows are masked. False: the padding takes part, with zeros as its
    /// inputs, so that its keys and values are the biases. Default true.
    /// </summary>
    public bool MaskPadding { get; init; } = true;

    /// <summary>Whether queries, keys and values have biases. Default true.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>True: y = x + context; false: y = context. Default true.</summary>
    public bool Residual { get; init; } = true;

    /// <summary>Probability, in [0, 1), of dropping an attention weight in training. Default 0.</summary>
    public double AttentionDropout { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.Positive(WindowSize);
        Check.Heads(Heads, channels);
        Check.Probability(AttentionDropout, oneAllowed: false);
        if (Shift < 0 || Shift >= WindowSize)
        {
            throw new ArgumentOutOfRangeException(
                nameof(Shift), Shift, $"Shift is {Shift}; it must lie in [0, {WindowSize}), for example {WindowSize / 2}.");
        }
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new WindowAttention(channels, this);
}

/// <summary>
/// Multi-head self-attention within windows of M × M positions, shifted cyclically by s: c = W_o · concat over heads of softmax(q
/// kᵀ / √d + b) v, b a learnt table of the (2M − 1)² offsets; y = x + c or y = c. Any map size: the map is padded to whole
/// windows, and neither padding (unless <see cref="WindowAttentionOptions.MaskPadding"/> is false) nor what the cyclic shift
/// brings across the border is attended to. Weights (N, heads, L, L), zero outside a position's window; what falls on padding is
/// missing in a row. Keys as timm: <c>qkv</c>, <c>proj</c>, <c>relative_position_bias_table</c>.
/// </summary>
/// <remarks>
/// Liu et al.: "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", 2021,
/// arXiv:2103.14030. <see cref="AttentionInitialization.Paper"/>: normal weights with σ = 0.02, zero biases.
/// The table starts normal with σ = 0.02 always.
/// </remarks>
public sealed class WindowAttention : ContextModule, IFunctionalCost
{
    private const double Deviation = 0.02;
    private static readonly Scalar Masked = double.NegativeInfinity.ToScalar();
    private static readonly Scalar Zero = 0L.ToScalar();

    [ComponentName(Name = "qkv")]
    private readonly Linear _qkv;

    [ComponentName(Name = "proj")]
    private readonly Linear _proj;

    [ComponentName(Name = "relative_position_bias_table")]
    private readonly Parameter _table;

    private readonly WindowAttentionOptions _options;
    private readonly long[] _offsets;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the heads do not divide the channels.</exception>
    public WindowAttention(int channels, WindowAttentionOptions? options = null)
        : base(channels, options ??= new WindowAttentionOptions(), options.Residual)
    {
        _options = options;
        int window = options.WindowSize, span = (2 * window) - 1;
        _qkv = nn.Linear(channels, 3 * channels, hasBias: options.Bias);
        _proj = nn.Linear(channels, channels);
        _table = new Parameter(empty(span * span, options.Heads));
        nn.init.normal_(_table, 0, Deviation);
        _offsets = new long[window * window * window * window];
        for (int i = 0; i < _offsets.Length; i++)
        {
            (int query, int key) = Math.DivRem(i, window * window);
            int down = (query / window) - (key / window) + window - 1;
            int across = (query % window) - (key % window) + window - 1;
            _offsets[i] = (down * span) + across;
        }

        Complete();
    }

    private int Window => _options.WindowSize;

    private int Slots => Window * Window;

    /// <summary>
    /// Computes the attention on windows that were already cut out, as in Swin's own module: without padding, shift or residual.
    /// </summary>
    /// <param name="windows">(windows, M², C), positions row by row.</param>
    /// <returns>The context, of the same shape, owned by the caller.</returns>
    /// <exception cref="ArgumentException">The shape is another.</exception>
    public Tensor AttendWindows(Tensor windows)
    {
        ArgumentNullException.ThrowIfNull(windows);
        if (windows.dim() != 3 || windows.size(1) != Slots || windows.size(2) != Channels)
        {
            throw new ArgumentException(
                $"{GetName()} takes windows of shape (windows, {Slots}, {Channels}); " +
                $"{nameof(windows)} has shape {Check.Shape(windows)}.", nameof(windows));
        }

        using DisposeScope scope = NewDisposeScope();
        return Attend(windows, Bias()).MoveToOuterDisposeScope();
    }

    private protected override long CountContext(FunctionCount count, Tensor input)
    {
        Grid grid = new(input.size(2), input.size(3), _options);
        long samples = input.size(
            0), heads = _options.Heads, pairs = Slots * Slots * heads, blocks = grid.IsPlain ? 1 : grid.Windows;
        grid.CountCut(count, input);
        count.Copy(pairs);
        if (!grid.IsPlain) count.Map(blocks * pairs);
        long rows = samples * grid.Windows * heads, cut = rows * Slots * (Channels / heads);
        if (blocks > 1 && heads > 1) count.Copy(3 * cut);
        DotProduct.CountContext(count, rows, Slots, Slots, Channels / heads, Channels / heads, bias: blocks * pairs, dense: true);
        if (blocks > 1) DotProduct.CountMap(count, cut, heads); // Otherwise what is gathered lies as the queries do.
        grid.CountJoin(count, cut);
        return input.numel();
    }

    /// <inheritdoc/>
    protected override Tensor ComputeContext(Tensor input)
    {
        Grid grid = new(input.size(2), input.size(3), _options);
        Tensor y = Attend(grid.Cut(input.permute(0, 2, 3, 1)), Logits(grid, input));
        return grid.Join(y).permute(0, 3, 1, 2);
    }

    /// <inheritdoc/>
    protected override Tensor ComputeWeights(Tensor input)
    {
        Grid grid = new(input.size(2), input.size(3), _options);
        Tensor bias = Logits(grid, input);
        (Tensor query, Tensor key, _) = Project(grid.Cut(input.permute(0, 2, 3, 1)), bias.size(0));
        Tensor weights = DotProduct.Weights(query, key, Merged(bias));
        Tensor places = Places(grid, input);
        return BlockWeights.Dense(
            weights.reshape(-1, _options.Heads, Slots, Slots), places, places, input.size(2) * input.size(3));
    }

    /// <inheritdoc/>
    protected override void InitializeAsPaper()
    {
        foreach (Linear layer in new[] { _qkv, _proj })
        {
            nn.init.normal_(layer.weight!, 0, Deviation);
            AttentionWeightsInitializer.Zero(layer.bias);
        }
    }

    /// <inheritdoc/>
    protected override void ResetScales()
    {
        base.ResetScales();
        nn.init.normal_(_table, 0, Deviation);
    }

    long IFunctionalCost.MultiplyAccumulates(Tensor input)
    {
        Grid grid = new(input.size(2), input.size(3), _options);
        return 2 * input.size(0) * grid.Windows * Slots * Slots * Channels;
    }

    /// <summary>The context of windows (N · B, M², C) under a bias of (1 or B, heads, M², M²).</summary>
    private Tensor Attend(Tensor windows, Tensor bias)
    {
        (Tensor query, Tensor key, Tensor value) = Project(windows, bias.size(0));
        Tensor gathered = DotProduct.Context(query, key, value, Merged(bias), dropout: training ? _options.AttentionDropout : 0);
        return _proj.call(
            gathered.view(
                windows.size(0), _options.Heads, Slots, Channels / _options.Heads).transpose(1, 2).reshape(windows.shape));
    }

    /// <summary>Queries, keys and values, each (N, B · heads, M², d), so that a bias of a window serves all samples.</summary>
    private (Tensor Query, Tensor Key, Tensor Value) Project(Tensor windows, long blocks)
    {
        long width = Channels / _options.Heads;
        Tensor[] parts = _qkv.call(windows).view(windows.size(0), Slots, 3, _options.Heads, width).permute(2, 0, 3, 1, 4)
            .reshape(3, windows.size(0) / blocks, blocks * _options.Heads, Slots, width).unbind(0);
        return (parts[0], parts[1], parts[2]);
    }

    internal Tensor Merged(Tensor bias) => bias.reshape(1, bias.size(0) * _options.Heads, Slots, Slots);

    /// <summary>(1, heads, M², M²): the learnt bias of the offsets.</summary>
    private Tensor Bias()
        => _table.index_select(0, tensor(_offsets, device: _table.device)).view(Slots, Slots, -1).permute(2, 0, 1).unsqueeze(0);

    /// <summary>The bias, for each window apart where a shift or padding masks keys: (1 or B, heads, M², M²).</summary>
    internal Tensor Logits(Grid grid, Tensor input)
    {
        Tensor bias = Bias();
        if (grid.IsPlain) return bias;
        Tensor places = Places(grid, input);
        Tensor regions = grid.Cut(tensor(grid.Regions(), [1, grid.Height, grid.Width, 1], device: input.device)).squeeze(-1);

        // A padded query may see padded keys: its row must not be empty, and nobody reads it.
        Tensor visible = regions.unsqueeze(2).eq(regions.unsqueeze(1));
        if (_options.MaskPadding)
        {
            visible = visible.logical_and(places.unsqueeze(1).ge(Zero).logical_or(places.unsqueeze(2).lt(Zero)));
        }

        return bias.expand(grid.Windows, -1, -1, -1).masked_fill(visible.logical_not().unsqueeze(1), Masked);
    }

    /// <summary>(B, M²): which position stands in each slot; −1 beyond the map.</summary>
    internal static Tensor Places(Grid grid, Tensor input)
    {
        long height = input.size(2), width = input.size(3);
        Tensor places = TensorCalls.Range(height * width, ScalarType.Int64, input.device);
        return grid.Cut(places.view(1, height, width, 1), padding: -1).squeeze(-1);
    }

    /// <summary>How a map is cut into windows.</summary>
    internal sealed class Grid
    {
        private readonly long _mapHeight, _mapWidth, _window;
        private readonly bool _maskPadding;

        public Grid(long height, long width, WindowAttentionOptions options)
        {
            (_window, _maskPadding) = (options.WindowSize, options.MaskPadding);
            (_mapHeight, _mapWidth) = (height, width);
            Height = (_mapHeight + _window - 1) / _window * _window;
            Width = (_mapWidth + _window - 1) / _window * _window;
            Down = Height > _window ? options.Shift : 0;
            Across = Width > _window ? options.Shift : 0;
        }

        public long Height { get; }

        public long Width { get; }

        /// <summary>By how many positions the windows are shifted.</summary>
        public long Down { get; }

        public long Across { get; }

        public long Windows => Height / _window * (Width / _window);

        /// <summary>Whether every window sees all of itself.</summary>
        public bool IsPlain => Down == 0 && Across == 0 && (!_maskPadding || (Height == _mapHeight && Width == _mapWidth));

        /// <summary>(N, H, W, C) to (N · B, M², C): padded, shifted, cut.</summary>
        public Tensor Cut(Tensor map, double padding = 0)
        {
            long down = Height - map.size(1), across = Width - map.size(2);
            if (down > 0 || across > 0) map = nn.functional.pad(map, [0, 0, 0, across, 0, down], value: padding);
            if (Down > 0 || Across > 0) map = map.roll([-Down, -Across], [1, 2]);
            long n = map.size(0), channels = map.size(3);
            return map.reshape(n, Height / _window, _window, Width / _window, _window, channels).transpose(2, 3)
                .reshape(n * Windows, _window * _window, channels);
        }

        /// <summary>The way back.</summary>
        /// <summary>The functions of <see cref="Cut"/> on a map with its channels last.</summary>
        public void CountCut(FunctionCount count, Tensor input)
        {
            long channels = input.size(0) * input.size(1), cut = channels * Height * Width;
            bool pads = Height > _mapHeight || Width > _mapWidth, rolls = Down > 0 || Across > 0;
            if (pads) count.Pad(input.numel(), cut);
            if (rolls) count.Copy(cut);
            bool view = Width == _window && (pads || rolls || input.size(0) == 1 || Height == _window);
            if (!view) count.Copy(cut);
        }

        /// <summary>The functions of <see cref="Join"/>.</summary>
        public void CountJoin(FunctionCount count, long values)
        {
            if (Width > _window) count.Copy(values);
            if (Down > 0 || Across > 0) count.Copy(values);
        }

        public Tensor Join(Tensor windows)
        {
            long n = windows.size(0) / Windows, channels = windows.size(2);
            Tensor map = windows.view(n, Height / _window, Width / _window, _window, _window, channels).transpose(2, 3)
                .reshape(n, Height, Width, channels);
            if (Down > 0 || Across > 0) map = map.roll([Down, Across], [1, 2]);
            return map.narrow(1, 0, _mapHeight).narrow(2, 0, _mapWidth);
        }

        /// <summary>A number for what the shift wraps around: nothing, the columns, the rows, or both. Row by row.</summary>
        public long[] Regions()
        {
            long[] regions = new long[Height * Width];
            for (long i = 0; i < regions.Length; i++) regions[i] = (i / Width < Down ? 2 : 0) + (i % Width < Across ? 1 : 0);
            return regions;
        }
    }
}
