// Bilinear attentional transform of rows and columns. Chi, Yuan, Mu, Mei: "Non-Local Neural Networks with Grouped Bilinear
// Attentional Transforms", CVPR 2020 (no arXiv version is known to us). As timm's "bat"; maps that the block does not divide are
// padded with zeros behind the reduction.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="BatAttention"/>. Defaults: timm's without its dropout of channels.</summary>
[AttentionKind("bat")]
public sealed record BatAttentionOptions : AttentionOptions
{
    /// <summary>timm's: a channel of the context is dropped with a probability of 0.2 in training.</summary>
    public static BatAttentionOptions Timm { get; } = new() { ChannelDropout = 0.2 };

    /// <summary>Number of blocks b along each axis. Default 7.</summary>
    public int BlockSize { get; init; } = 7;

    /// <summary>Number of groups of channels that share a transform; must divide the reduced width. Default 2.</summary>
    public int Groups { get; init; } = 2;

    /// <summary>Reduction r: the transform works on C / r channels. Default 4.</summary>
    public int Reduction { get; init; } = 4;

    /// <summary>Width of the transform in channels, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Rounds C / r to the nearest multiple of this, at least this; null for ⌊C / r⌋. Default 8.</summary>
    public int? RoundingDivisor { get; init; } = 8;

    /// <summary>
    /// Probability, in [0, 1), of zeroing a whole channel of the context in training; survivors are scaled by 1 / (1 − p).
    /// Default 0.
    /// </summary>
    public double ChannelDropout { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        Check.Positive(BlockSize);
        Check.Positive(Groups);
        Check.Probability(ChannelDropout, oneAllowed: false);
        int width = ChannelReduction.Width(channels, Reduction, ReducedChannels, RoundingDivisor);
        if (width % Groups != 0)
        {
            throw new ArgumentOutOfRangeException(
                nameof(Groups), Groups,
                $"Groups is {Groups}, which does not divide the reduced width {width}. " +
                "Choose a divisor, or set ReducedChannels.");
        }
    }

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new BatAttention(channels, this);
}

/// <summary>
/// Grouped bilinear attentional transform: y = x + f₂(g(P X Q)), X = f₁(x), f and g 1×1 convolution, batch norm and ReLU. P and Q
/// are b × b and computed from maxima over the rows' and columns' blocks. Each row of P and each column of Q sums to 1. P X Q
/// mixes positions that have the same place in their blocks. Weights (N, groups, L, L) are the products P[y, y′] · Q[x′, x]. Keys
/// as timm: <c>conv1</c>, <c>ba.conv1</c>, <c>ba.conv_p</c>, <c>ba.conv_q</c>, <c>ba.conv2</c>, <c>conv2</c>, with <c>conv</c>
/// and <c>bn</c>.
/// </summary>
/// <remarks>
/// Chi et al.: "Non-Local Neural Networks with Grouped Bilinear Attentional Transforms", CVPR 2020. Where b does not divide the
/// map, zeros are added at its bottom and right, and rows of the weights may sum to less than 1. A maximum that several positions
/// share splits its gradient. <see cref="AttentionInitialization.Paper"/>: as <see cref="AttentionInitialization.Default"/>.
/// </remarks>
public sealed class BatAttention : ContextModule, IFunctionalCost
{
    [ComponentName(Name = "conv1")]
    private readonly ConvNormReLU _reduce;

    [ComponentName(Name = "ba")]
    private readonly Transform _transform;

    [ComponentName(Name = "conv2")]
    private readonly ConvNormReLU _expand;

    private readonly int _width;
    private readonly double _channelDropout;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the groups do not divide the reduced width.</exception>
    public BatAttention(int channels, BatAttentionOptions? options = null)
        : base(channels, options ??= new BatAttentionOptions(), residual: true)
    {
        _width = ChannelReduction.Width(channels, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        _channelDropout = options.ChannelDropout;
        _reduce = new ConvNormReLU(channels, _width);
        _transform = new Transform(_width, options);
        _expand = new ConvNormReLU(_width, channels);
        Complete();
    }

    private protected override long CountContext(FunctionCount count, Tensor input)
    {
        return input.numel();
    }

    /// <inheritdoc/>
    protected override Tensor ComputeContext(Tensor input)
    {
        Tensor context = _expand.call(_transform.call(_reduce.call(input)));
        return training && _channelDropout > 0 ? nn.functional.dropout2d(context, _channelDropout, training: true) : context;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeWeights(Tensor input) => _transform.Weights(_reduce.call(input));

    long IFunctionalCost.MultiplyAccumulates(Tensor input)
    {
        (long height, long width) = _transform.Padded(input);
        return input.size(0) * 2 * _transform.Blocks * _width * height * width;
    }

    private sealed class ConvNormReLU : nn.Module<Tensor, Tensor>, ICountsFunctions
    {
        [ComponentName(Name = "conv")]
        private readonly Conv2d _conv;

        [ComponentName(Name = "bn")]
        private readonly BatchNorm2d _norm;

        public ConvNormReLU(int inputs, int outputs)
            : base(nameof(ConvNormReLU))
        {
            _conv = nn.Conv2d(inputs, outputs, 1, bias: false);
            _norm = nn.BatchNorm2d(outputs);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            return _norm.CallAnyBatch(_conv.call(input)).relu().MoveToOuterDisposeScope();
        }

        public void Count(FunctionCount count, Tensor[] inputs) => count.Map(count.Values(_conv));
    }

    private sealed class Transform : nn.Module<Tensor, Tensor>, ICountsFunctions
    {
        [ComponentName(Name = "conv1")]
        private readonly ConvNormReLU _groups;

        [ComponentName(Name = "conv_p")]
        private readonly Conv2d _rows;

        [ComponentName(Name = "conv_q")]
        private readonly Conv2d _columns;

        [ComponentName(Name = "conv2")]
        private readonly ConvNormReLU _out;

        private readonly int _count;

        public Transform(int width, BatAttentionOptions options)
            : base(nameof(Transform))
        {
            Blocks = options.BlockSize;
            _count = options.Groups;
            _groups = new ConvNormReLU(width, _count);
            _rows = nn.Conv2d(_count, Blocks * Blocks * _count, (Blocks, 1));
            _columns = nn.Conv2d(_count, Blocks * Blocks * _count, (1, Blocks));
            _out = new ConvNormReLU(width, width);
            RegisterComponents();
        }

        public int Blocks { get; }

        public (long Height, long Width) Padded(Tensor map)
            => ((map.size(2) + Blocks - 1) / Blocks * Blocks, (map.size(3) + Blocks - 1) / Blocks * Blocks);

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            long n = input.size(0), channels = input.size(1), share = channels / _count;
            (long height, long width) = Padded(input);
            (Tensor p, Tensor q) = Matrices(input);
            Tensor rows = p.unsqueeze(2).expand(n, _count, share, Blocks, Blocks).reshape(n, channels, Blocks, Blocks);
            Tensor columns = q.unsqueeze(2).expand(n, _count, share, Blocks, Blocks).reshape(n, channels, 1, Blocks, Blocks);
            Tensor y = rows.matmul(Pad(input).reshape(n, channels, Blocks, height / Blocks * width));
            y = columns.transpose(
                3, 4).matmul(y.view(n, channels, height, Blocks, width / Blocks)).view(n, channels, height, width);
            return _out.call(y.narrow(2, 0, input.size(2)).narrow(3, 0, input.size(3))).MoveToOuterDisposeScope();
        }

        /// <summary>(N, groups, L, L).</summary>
        public void Count(FunctionCount count, Tensor[] inputs)
        {
            Tensor input = inputs[0];
            (long height, long width) = Padded(input);
            long samples = input.size(0), channels = input.size(1), values = samples * channels * height * width,
                groups = samples * _count * height * width;
            long matrix = samples * _count * Blocks * Blocks, rows = matrix / Blocks,
                spread = samples * channels * Blocks * Blocks;
            bool padded = height != input.size(2) || width != input.size(3);
            if (padded) count.Pad(count.Values(_groups), groups);
            count.Reduce(groups, rows);
            count.Reduce(groups, groups / height);
            count.Reduce(groups / height, rows);
            for (int side = 0; side < 2; side++)
            {
                count.Map(matrix);
                count.Reduce(matrix, rows);
                count.Combine(matrix, matrix, rows);
                if (channels > _count) count.Copy(spread);
            }

            if (padded) count.Pad(input.numel(), values);
            count.Product(values, spread, values);
            count.Product(values, spread, values);
        }

        public Tensor Weights(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            (long height, long width) = Padded(input);
            (Tensor p, Tensor q) = Matrices(input);
            Tensor down = Spread(p, height / Blocks).narrow(2, 0, input.size(2)).narrow(3, 0, input.size(2));
            Tensor across = Spread(q.transpose(2, 3), width / Blocks).narrow(2, 0, input.size(3)).narrow(3, 0, input.size(3));
            long positions = input.size(2) * input.size(3);
            return down.unsqueeze(3).unsqueeze(5).mul(across.unsqueeze(2).unsqueeze(4))
                .reshape(input.size(0), _count, positions, positions).MoveToOuterDisposeScope();
        }

        /// <summary>(N, groups, b, b) to (N, groups, b · t, b · t): the Kronecker product with the identity.</summary>
        private static Tensor Spread(Tensor matrix, long times)
        {
            Tensor same = eye(times, dtype: matrix.dtype, device: matrix.device).view(1, 1, 1, times, 1, times);
            long size = matrix.size(2) * times;
            return matrix.unsqueeze(3).unsqueeze(5).mul(same).reshape(matrix.size(0), matrix.size(1), size, size);
        }

        /// <summary>P, whose rows sum to 1, and Q, whose columns do: each (N, groups, b, b).</summary>
        private (Tensor P, Tensor Q) Matrices(Tensor input)
        {
            (long height, long width) = Padded(input);
            Tensor map = Pad(_groups.call(input)); // Not negative, so that zeros change no maximum but an empty block's.
            Tensor rowMax = map.reshape(input.size(0), _count, Blocks, height / Blocks * width).amax([3], keepdim: true);
            Tensor columnMax = map.amax([2]).view(input.size(0), _count, Blocks, width / Blocks).amax([3]).unsqueeze(2);
            Tensor p = _rows.call(rowMax).view(input.size(0), _count, Blocks, Blocks).sigmoid();
            Tensor q = _columns.call(columnMax).view(input.size(0), _count, Blocks, Blocks).sigmoid();
            return (p.div(p.sum(3, keepdim: true)), q.div(q.sum(2, keepdim: true)));
        }

        private Tensor Pad(Tensor map)
        {
            (long height, long width) = Padded(map);
            return height == map.size(2) && width == map.size(3)
                ? map
                : nn.functional.pad(map, [0, width - map.size(3), 0, height - map.size(2)]);
        }
    }
}
