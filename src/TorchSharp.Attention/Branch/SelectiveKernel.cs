// Selective kernel. Xiang Li, Wenhai Wang, Xiaolin Hu, Jian Yang: "Selective Kernel Networks", 2019, arXiv:1903.06586. The
// paper's bottleneck has max(C / r, 32) channels; timm rounds C / r to a multiple of 8 and divides the input among the paths,
// which keeps the parameters of ungrouped convolutions in check. Both replace the 5×5 kernel by a 3×3 one of dilation 2.
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Settings of <see cref="SelectiveKernel"/>. The defaults are those of the paper, except for its 32 groups (see
/// <see cref="Paper"/>).
/// </summary>
[AttentionKind("selective-kernel")]
public sealed record SelectiveKernelOptions : BranchAttentionOptions
{
    /// <summary>The paper's SK[2, 32, 16]: 32 groups, for a ResNeXt-50 or any width that 32 divides.</summary>
    public static SelectiveKernelOptions Paper { get; } = new() { Groups = 32 };

    /// <summary>timm's: the input is divided among the paths; C / 16 rounded to a multiple of 8, at least 8.</summary>
    public static SelectiveKernelOptions Timm { get; } =
        new() { SplitInput = true, RoundingDivisor = 8, MinimumReducedChannels = 8 };

    /// <summary>Kernel size of each path, odd and at least 3. Default [3, 5].</summary>
    public ValueList<int> KernelSizes { get; init; } = [3, 5];

    /// <summary>
    /// Whether every kernel is a dilated 3×3 kernel that covers the size in <see cref="KernelSizes"/>. Default true.
    /// </summary>
    public bool DilatedKernels { get; init; } = true;

    /// <summary>
    /// Whether the channels of the input are divided among the paths. Default false: every path reads all channels.
    /// </summary>
    public bool SplitInput { get; init; }

    /// <summary>Reduction r of the selection: its bottleneck has C′ / r channels. Default 16.</summary>
    public int Reduction { get; init; } = 16;

    /// <summary>Width of the selection's bottleneck in channels, instead of C′ / r. Default null.</summary>
    public int? ReducedChannels { get; init; }

    /// <summary>
    /// Least width of the selection's bottleneck, unless <see cref="ReducedChannels"/> is set. Default 32, the paper's L.
    /// </summary>
    public int MinimumReducedChannels { get; init; } = 32;

    /// <summary>Rounds C′ / r to a multiple of this, never more than 10 % down. Default null: ⌊C′ / r⌋.</summary>
    public int? RoundingDivisor { get; init; }

    /// <inheritdoc/>
    public override void Validate(ConvolutionSpec convolution)
    {
        base.Validate(convolution);
        (int channels, int outputChannels, _) = convolution;
        ArgumentNullException.ThrowIfNull(KernelSizes);
        if (KernelSizes.Count is < 2 or > 16)
        {
            throw new ArgumentException(
                $"KernelSizes is {KernelSizes}; give the kernel sizes of 2 to 16 paths.", nameof(KernelSizes));
        }

        foreach (int size in KernelSizes)
        {
            if (Check.OddKernel(size, nameof(KernelSizes)) < 3)
            {
                throw new ArgumentOutOfRangeException(
                    nameof(KernelSizes), size, $"KernelSizes is {KernelSizes}; each must be at least 3.");
            }
        }

        if (SplitInput && channels % KernelSizes.Count != 0)
        {
            throw new ArgumentException(
                $"SplitInput divides {channels} channels among {KernelSizes.Count} paths, which does not come out even. " +
                "Set it to false, or change KernelSizes.",
                nameof(SplitInput));
        }

        CheckGroups(PathGroups(convolution), PathChannels(channels), "input channels of a path");
        CheckGroups(PathGroups(convolution), outputChannels, "output channels");
        ReducedWidth(outputChannels);
    }

    /// <inheritdoc/>
    public override SelectiveKernel Create(int channels, int? outputChannels = null, int stride = 1)
        => new(channels, this, outputChannels, stride);

    /// <inheritdoc/>
    public override SelectiveKernel Create(ConvolutionSpec convolution) => new(convolution, this);

    internal int PathChannels(int channels) => SplitInput ? channels / KernelSizes.Count : channels;

    /// <summary>
    /// Groups of a path. Without <see cref="BranchAttentionOptions.Groups"/>, a group has as many input
    /// channels as the replaced convolution's.
    /// </summary>
    internal int PathGroups(ConvolutionSpec convolution) =>
        Groups ?? (SplitInput ? Math.Max(1, convolution.Groups / KernelSizes.Count) : convolution.Groups);

    internal int ReducedWidth(int outputChannels) => ChannelReduction.WidthOfSelection(
        outputChannels, Reduction, ReducedChannels, MinimumReducedChannels, RoundingDivisor);
}

/// <summary>
/// Selective kernel: y = Σ_m w_m · U_m, U_m = δ(BN(conv_m(x))) with kernels of several sizes, δ the replaced convolution's
/// activation, w = softmax over m of W₂ ReLU(BN(W₁ z)), z = mean over positions of Σ_m U_m. (N, C, H, W) to (N, C′, ⌈H / stride⌉,
/// ⌈W / stride⌉), weights (N, M, C′, 1, 1). Keys as timm: <c>paths.0.conv</c>, <c>paths.0.bn</c>, …, <c>attn.fc_reduce</c>,
/// <c>attn.bn</c>, <c>attn.fc_select</c>.
/// </summary>
/// <remarks>
/// Li, Wang, Hu, Yang: "Selective Kernel Networks", 2019, arXiv:1903.06586. It contains norm and activation δ of the convolution
/// that it replaces (ReLU, if not said otherwise); in place of a depthwise convolution its paths are depthwise.
/// <see cref="AttentionInitialization.Paper"/>: Kaiming normal convolutions.
/// </remarks>
public sealed class SelectiveKernel : BranchModule
{
    [ComponentName(Name = "paths")]
    private readonly ModuleList<KernelPath> _paths;

    [ComponentName(Name = "attn")]
    private readonly Selection _attn;

    private readonly SelectiveKernelOptions _options;

    /// <summary>Builds the module.</summary>
    /// <param name="channels">Channels of the input.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <param name="outputChannels">Channels of the output; null for as many as the input has.</param>
    /// <param name="stride">Stride. Default 1.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with the channels.</exception>
    public SelectiveKernel(int channels, SelectiveKernelOptions? options = null, int? outputChannels = null, int stride = 1)
        : this(new ConvolutionSpec(channels, outputChannels ?? channels, stride), options ?? new SelectiveKernelOptions())
    {
    }

    /// <summary>Builds the module in place of a convolution.</summary>
    /// <param name="convolution">The convolution that it replaces.</param>
    /// <param name="options">Settings.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with the convolution.</exception>
    public SelectiveKernel(ConvolutionSpec convolution, SelectiveKernelOptions options)
        : base(convolution, options)
    {
        _options = options;
        ReducedChannels = options.ReducedWidth(OutputChannels);
        _paths = nn.ModuleList([.. options.KernelSizes.Select(size => new KernelPath(options, size, convolution))]);
        _attn = new Selection(OutputChannels, ReducedChannels, options.KernelSizes.Count);
        Complete();
    }

    /// <summary>Width of the selection's bottleneck in channels.</summary>
    public int ReducedChannels { get; }

    private protected override long CountBranches(FunctionCount count, long output)
    {
        count.Copy(_paths.Count * output);
        return _paths.Count * output;
    }

    /// <inheritdoc/>
    protected override Tensor ComputeBranches(Tensor input)
    {
        int share = _options.PathChannels(Channels);
        return stack(
            [.. _paths.Select((path, i) => path.call(_options.SplitInput ? input.narrow(1, i * share, share) : input))], 1);
    }

    /// <inheritdoc/>
    protected override Tensor ComputeWeights(Tensor branches) => _attn.call(branches);

    /// <summary>A convolution that keeps the size (or divides it by the stride), its norm and its activation.</summary>
    private sealed class KernelPath : nn.Module<Tensor, Tensor>, ICountsFunctions
    {
        [ComponentName(Name = "conv")]
        private readonly Conv2d _conv;

        [ComponentName(Name = "bn")]
        private readonly BatchNorm2d _bn;

        private readonly ConvolutionSpec _replaced;

        public KernelPath(SelectiveKernelOptions options, int size, ConvolutionSpec replaced)
            : base(nameof(KernelPath))
        {
            _replaced = replaced;
            int kernel = options.DilatedKernels ? 3 : size;
            int dilation = options.DilatedKernels ? options.Dilation * (size - 1) / 2 : options.Dilation;
            _conv = nn.Conv2d(
                options.PathChannels(replaced.Channels), replaced.OutputChannels, kernel, stride: replaced.Stride,
                padding: dilation * (kernel - 1) / 2, dilation: dilation, groups: options.PathGroups(replaced), bias: false);
            _bn = nn.BatchNorm2d(replaced.OutputChannels);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            return _replaced.Activate(_bn.CallAnyBatch(_conv.call(input))).MoveToOuterDisposeScope();
        }

        public void Count(FunctionCount count, Tensor[] inputs) => count.Map(count.Values(_conv), _replaced.ActivatesInPlace);
    }

    /// <summary>From the paths, (N, M, C, H, W), to their weights, (N, M, C, 1, 1).</summary>
    private sealed class Selection : nn.Module<Tensor, Tensor>, ICountsFunctions
    {
        [ComponentName(Name = "fc_reduce")]
        private readonly Conv2d _reduce;

        [ComponentName(Name = "bn")]
        private readonly BatchNorm2d _bn;

        [ComponentName(Name = "fc_select")]
        private readonly Conv2d _select;

        private readonly int _channels;
        private readonly int _paths;

        public Selection(int channels, int width, int paths)
            : base(nameof(Selection))
        {
            _channels = channels;
            _paths = paths;
            _reduce = nn.Conv2d(channels, width, 1, bias: false);
            _bn = nn.BatchNorm2d(width);
            _select = nn.Conv2d(width, channels * paths, 1, bias: false);
            RegisterComponents();
        }

        public override Tensor forward(Tensor paths)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor squeezed = paths.sum(1).mean([2, 3], keepdim: true);
            Tensor logits = _select.call(_bn.CallAnyBatch(_reduce.call(squeezed)).relu_());
            return logits.view(logits.size(0), _paths, _channels, 1, 1).softmax(1).MoveToOuterDisposeScope();
        }

        public void Count(FunctionCount count, Tensor[] inputs)
        {
            long values = inputs[0].numel(), channels = inputs[0].size(0) * _channels;
            count.Reduce(values, values / _paths);
            count.Reduce(values / _paths, channels);
            count.Map(count.Values(_reduce), inPlace: true);
            count.Softmax(channels * _paths);
        }
    }
}
