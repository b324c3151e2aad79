// BAM. Park, Woo, Lee, Kweon: "BAM: Bottleneck Attention Module", 2018, arXiv:1807.06514. The paper adds the two logits and
// normalises each branch's output; the released code multiplies them and normalises the hidden layers. The released code pools
// square windows of the map's height; this pools the whole map, which is the same for square maps.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>How BAM combines the logits of its two branches.</summary>
public enum BamMerge
{
    /// <summary>c + s, as the paper.</summary>
    Add,

    /// <summary>c · s, as the released code.</summary>
    Multiply,
}

/// <summary>Where BAM has its batch norms.</summary>
public enum BamNorm
{
    /// <summary>One at the end of each branch, as the paper's equations.</summary>
    Output,

    /// <summary>One after every hidden layer, as the released code.</summary>
    Hidden,
}

/// <summary>Settings of <see cref="Bam"/>. Defaults: the paper's.</summary>
[AttentionKind("bam")]
public sealed record BamOptions : AttentionOptions
{
    /// <summary>The paper: logits added, norms at the branches' ends, r = 16, dilation 4.</summary>
    public static BamOptions Paper { get; } = new();

    /// <summary>The released code: logits multiplied, norms after the hidden layers, r = 16, dilation 4.</summary>
    public static BamOptions Official { get; } = new() { Merge = BamMerge.Multiply, Norm = BamNorm.Hidden };

    /// <summary>Reduction r of both branches: C / r channels. Default 16.</summary>
    public int Reduction { get; init; } = 16;

    /// <summary>Width of both branches in channels, instead of C / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Rounds C / r to the nearest multiple of this, at least this. Default null: ⌊C / r⌋.</summary>
    public int? RoundingDivisor { get; init; }

    /// <summary>Dilation of the spatial branch's 3×3 convolutions. Default 4.</summary>
    public int Dilation { get; init; } = 4;

    /// <summary>Number of dilated 3×3 convolutions. Default 2.</summary>
    public int DilatedConvolutions { get; init; } = 2;

    /// <summary>How the two logits are combined. Default added.</summary>
    public BamMerge Merge { get; init; }

    /// <summary>Where the batch norms are. Default at the ends of the branches.</summary>
    public BamNorm Norm { get; init; }

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        ChannelReduction.Width(channels, Reduction, ReducedChannels, RoundingDivisor);
        Check.Positive(Dilation);
        Check.NotNegative(DilatedConvolutions);
        Check.Defined(Merge);
        Check.Defined(Norm);
    }

    /// <inheritdoc/>
    public override AttentionOptions WithWidthsOf(int channels)
        => this with { ReducedChannels = ChannelReduction.Width(channels, Reduction, ReducedChannels, RoundingDivisor) };

    /// <inheritdoc/>
    public override AttentionModule Create(int channels) => new Bam(channels, this);
}

/// <summary>
/// BAM: y = x · (1 + σ(c(x) ∘ s(x))), ∘ addition or multiplication; c: mean over positions, W₁, ReLU, W₂; s: 1×1 to C / r,
/// dilated 3×3 convolutions, 1×1 to one map. Gate (N, C, H, W) in (1, 2). Keys <c>channel.fc1</c>, <c>channel.bn</c>,
/// <c>channel.fc2</c>, <c>spatial.reduce</c>, <c>spatial.dilated.0</c>, <c>spatial.final</c>, and their norms <c>….bn</c>.
/// </summary>
/// <remarks>
/// Park, Woo, Lee, Kweon: "BAM: Bottleneck Attention Module", 2018, arXiv:1807.06514. Meant for the end of stages 1 to 3
/// (<see cref="AttentionPosition.StageEnd"/>). A training batch of one sample has no variance in the channel branch; its
/// norms then use the running statistics. <see cref="AttentionInitialization.Paper"/>: as the released code, Kaiming
/// normal convolutions of the spatial branch.
/// </remarks>
public sealed class Bam : GateModule, ICombinedGate
{
    [ComponentName(Name = "channel")]
    private readonly ChannelBranch _channel;

    [ComponentName(Name = "spatial")]
    private readonly SpatialBranch _spatial;

    private readonly GateCombination _mix;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or the reduced width would be below 1.</exception>
    public Bam(int channels, BamOptions? options = null)
        : base(channels, options ??= BamOptions.Paper)
    {
        _mix = new(
            options.Merge == BamMerge.Multiply
                ? CombinationKind.SigmoidOfProduct
                : CombinationKind.SigmoidOfSum, ChannelStatistics.Mean, PlusOne: true);
        ReducedChannels = ChannelReduction.Width(channels, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
        _channel = new ChannelBranch(channels, ReducedChannels, options);
        _spatial = new SpatialBranch(channels, ReducedChannels, options);
        Complete();
    }

    /// <summary>Width of both branches in channels.</summary>
    public int ReducedChannels { get; }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long values = input.numel();
        count.Reduce(values, input.size(0) * Channels);
        count.Combine(values, count.Values(_channel), count.Values(_spatial));
        count.Map(values);
        count.Map(values);
        return values;
    }

    /// <inheritdoc/>
    public override ChannelLayout? ChannelLayout => ChannelLayout.Bottleneck("channel.fc1", bias: true, "channel.fc2")
        .And(ChannelLayout.Of(("spatial.reduce.conv.weight", 1)))
        .And(((BamOptions)Options).Norm == BamNorm.Output ? ChannelLayout.Norm("channel.bn_out") : ChannelLayout.Of());

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input) => GateCombination.Compose(this, input);

    GateCombination ICombinedGate.Combination => _mix;

    CombinationFactors ICombinedGate.ComputeFactors(PooledMap pooled)
        => new(_channel.call(pooled.Channels.Mean), _spatial.call(pooled.Map));

    /// <inheritdoc/>
    protected override void InitializeAsPaper() => _spatial.InitializeAsReleased();

    private static BatchNorm2d? NormIf(bool present, int channels) => present ? nn.BatchNorm2d(channels) : null;

    private sealed class ChannelBranch : nn.Module<Tensor, Tensor>, ICountsFunctions
    {
        [ComponentName(Name = "fc1")]
        private readonly Conv2d _fc1;

        [ComponentName(Name = "bn")]
        private readonly BatchNorm2d? _hidden;

        [ComponentName(Name = "fc2")]
        private readonly Conv2d _fc2;

        [ComponentName(Name = "bn_out")]
        private readonly BatchNorm2d? _output;

        public ChannelBranch(int channels, int width, BamOptions options)
            : base(nameof(ChannelBranch))
        {
            _fc1 = nn.Conv2d(channels, width, 1);
            _hidden = NormIf(options.Norm == BamNorm.Hidden, width);
            _fc2 = nn.Conv2d(width, channels, 1);
            _output = NormIf(options.Norm == BamNorm.Output, channels);
            RegisterComponents();
        }

        /// <summary>Logits, (N, C, 1, 1), of each channel's mean.</summary>
        public override Tensor forward(Tensor mean)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor logits = _fc1.call(mean);
            if (_hidden is not null) logits = _hidden.CallAnyBatch(logits);
            logits = _fc2.call(logits.relu());
            if (_output is not null) logits = _output.CallAnyBatch(logits);
            return logits.MoveToOuterDisposeScope();
        }

        public void Count(FunctionCount count, Tensor[] inputs) => count.Map(count.Values(_fc1));
    }

    private sealed class SpatialBranch : nn.Module<Tensor, Tensor>
    {
        [ComponentName(Name = "reduce")]
        private readonly Hidden _reduce;

        [ComponentName(Name = "dilated")]
        private readonly ModuleList<Hidden> _dilated = [];

        [ComponentName(Name = "final")]
        private readonly Conv2d _final;

        [ComponentName(Name = "bn_out")]
        private readonly BatchNorm2d? _output;

        public SpatialBranch(int channels, int width, BamOptions options)
            : base(nameof(SpatialBranch))
        {
            bool hidden = options.Norm == BamNorm.Hidden;
            _reduce = new Hidden(nn.Conv2d(channels, width, 1), NormIf(hidden, width));
            for (int i = 0; i < options.DilatedConvolutions; i++)
            {
                _dilated.Add(new Hidden(
                    nn.Conv2d(width, width, 3, padding: options.Dilation, dilation: options.Dilation), NormIf(hidden, width)));
            }

            _final = nn.Conv2d(width, 1, 1);
            _output = NormIf(!hidden, 1);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor map = _reduce.call(input);
            foreach (Hidden layer in _dilated) map = layer.call(map);
            Tensor logits = _final.call(map);
            if (_output is not null) logits = _output.CallAnyBatch(logits);
            return logits.MoveToOuterDisposeScope();
        }

        public void InitializeAsReleased()
        {
            foreach ((string _, nn.Module module) in named_modules())
            {
                if (module is Conv2d conv)
                {
                    AttentionWeightsInitializer.Kaiming(conv.weight!);
                    AttentionWeightsInitializer.Zero(conv.bias);
                }
            }
        }

        /// <summary>A convolution, its norm if any, and ReLU.</summary>
        private sealed class Hidden : nn.Module<Tensor, Tensor>, ICountsFunctions
        {
            [ComponentName(Name = "conv")]
            private readonly Conv2d _conv;

            [ComponentName(Name = "bn")]
            private readonly BatchNorm2d? _bn;

            public Hidden(Conv2d conv, BatchNorm2d? bn)
                : base(nameof(Hidden))
            {
                _conv = conv;
                _bn = bn;
                RegisterComponents();
            }

            public override Tensor forward(Tensor input)
            {
                using DisposeScope scope = NewDisposeScope();
                Tensor map = _conv.call(input);
                if (_bn is not null) map = _bn.CallAnyBatch(map);
                return map.relu().MoveToOuterDisposeScope();
            }

            public void Count(FunctionCount count, Tensor[] inputs) => count.Map(count.Values(_conv));
        }
    }
}
