// The attention gate of Attention U-Net. Oktay et al.: "Attention U-Net: Learning Where to Look for the Pancreas", 2018,
// arXiv:1804.03999. This is the widely used 2-D form (also MONAI's): each 1×1 convolution normalised, gated at the skip's
// resolution. The paper and its released code gate on the guide's coarser grid: a strided convolution brings the skip
// down to it, no norms, the gate is resized up, and a last 1×1 convolution with batch norm transforms the result, which
// is no gate any more. Not offered here.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Settings of <see cref="AttentionGate"/>.</summary>
[AttentionKind("attention-gate")]
public sealed record AttentionGateOptions : GuidedAttentionOptions
{
    /// <summary>Width of the common space in channels. Default null: half of the refined map's channels, at least 1.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>Whether a batch norm follows each of the three convolutions. Default true.</summary>
    public bool Norm { get; init; } = true;

    /// <inheritdoc/>
    public override void Validate(int channels)
    {
        base.Validate(channels);
        if (ReducedChannels is int reducedChannels) Check.Positive(reducedChannels, nameof(ReducedChannels));
    }

    /// <inheritdoc/>
    public override GuidedAttentionModule Create(int channels, int guideChannels)
        => new AttentionGate(channels, guideChannels, this);
}

/// <summary>
/// Additive attention gate: y = x · σ(ψ(δ(W_x x + W_g g))), three 1×1 convolutions with batch norm, δ = ReLU, g the guide.
/// Gate (N, 1, H, W). Keys <c>W_g.0</c>, <c>W_g.1</c>, <c>W_x.0</c>, <c>W_x.1</c>, <c>psi.0</c>, <c>psi.1</c>.
/// </summary>
/// <remarks>
/// Oktay et al.: "Attention U-Net: Learning Where to Look for the Pancreas", 2018, arXiv:1804.03999. In the form that MONAI has;
/// the paper's own computes the gate on the guide's coarser grid, without norms, and transforms the gated map once more.
/// <see cref="AttentionInitialization.Paper"/> is PyTorch's own start.
/// </remarks>
public sealed class AttentionGate : GuidedAttentionModule
{
    [ComponentName(Name = "W_g")]
    private readonly Projection _guide;

    [ComponentName(Name = "W_x")]
    private readonly Projection _input;

    [ComponentName(Name = "psi")]
    private readonly Projection _psi;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Channels of the map to refine.</param>
    /// <param name="guideChannels">Channels of the map that steers.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">A setting or a number of channels is out of range.</exception>
    public AttentionGate(int channels, int guideChannels, AttentionGateOptions? options = null)
        : base(channels, guideChannels, options ??= new AttentionGateOptions())
    {
        ReducedChannels = options.ReducedChannels ?? Math.Max(1, channels / 2);
        _guide = new Projection(guideChannels, ReducedChannels, options.Norm);
        _input = new Projection(channels, ReducedChannels, options.Norm);
        _psi = new Projection(ReducedChannels, 1, options.Norm);
        Complete();
    }

    /// <summary>Width of the common space in channels.</summary>
    public int ReducedChannels { get; }

    private protected override long CountGate(FunctionCount count, Tensor input)
    {
        long joined = count.Values(_guide), positions = count.Values(_psi);
        count.Combine(joined, joined, joined);
        count.Map(joined);
        count.Map(positions);
        return positions;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeGate(Tensor input, Tensor guide)
        => _psi.call(_guide.call(guide).Plus(_input.call(input)).relu()).sigmoid();

    private sealed class Projection : nn.Module<Tensor, Tensor>
    {
        [ComponentName(Name = "0")]
        private readonly Conv2d _conv;

        [ComponentName(Name = "1")]
        private readonly BatchNorm2d? _bn;

        public Projection(int channels, int width, bool norm)
            : base(nameof(Projection))
        {
            _conv = nn.Conv2d(channels, width, 1);
            if (norm) _bn = nn.BatchNorm2d(width);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor projected = _conv.call(input);
            if (_bn is not null) projected = _bn.CallAnyBatch(projected);
            return projected.MoveToOuterDisposeScope();
        }
    }
}
