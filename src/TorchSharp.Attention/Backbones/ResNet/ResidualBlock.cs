using TorchSharp.Attention.Kernels;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A residual block: δ(F(x) + S(x)), F two 3×3 convolutions or a 1×1–3×3–1×1 bottleneck, S the identity or a strided 1×1
/// convolution. It asks the placement for an attention at each of its positions and knows none by name. A branch module in place
/// of a convolution has that convolution's key, and its norm is not there. Fused, convolutions have biases and no norms.
/// </summary>
internal sealed class ResidualBlock : nn.Module<Tensor, Tensor>, ICountsFunctions, IKeepsNorms
{
    [ComponentName(Name = "conv1")]
    private readonly nn.Module<Tensor, Tensor> _conv1;

    [ComponentName(Name = "bn1")]
    private BatchNorm2d? _bn1;

    [ComponentName(Name = "conv2")]
    private readonly nn.Module<Tensor, Tensor> _conv2;

    [ComponentName(Name = "bn2")]
    private BatchNorm2d? _bn2;

    [ComponentName(Name = "conv3")]
    private readonly Conv2d? _conv3;

    [ComponentName(Name = "bn3")]
    private BatchNorm2d? _bn3;

    [ComponentName(Name = "downsample")]
    private readonly Sequential? _downsample;

    private readonly BlockAttentions _attentions;
    private readonly double _dropPath;

    // Whether the map before the addition is a convolution's and nobody else's, to be written over.
    private readonly bool _addsOver;

    public ResidualBlock(ResNetBlockShape shape, double dropPath, AttentionPlacement placement, bool fused)
        : base(shape.Kind == ResNetBlock.Basic ? "BasicBlock" : "Bottleneck")
    {
        (int input, int output, int stride) = (shape.Input, shape.Output, shape.Stride);
        _dropPath = dropPath;
        Stride = stride;
        BranchModule? replacement = placement.CreateBranch(shape.Stage, shape.Index);
        if (shape.Kind == ResNetBlock.Basic)
        {
            _conv1 = replacement
                ?? (nn.Module<Tensor, Tensor>)nn.Conv2d(input, shape.Inner1, 3, stride: stride, padding: 1, bias: fused);
            _conv2 = nn.Conv2d(shape.Inner1, output, 3, padding: 1, bias: fused);
        }
        else
        {
            _conv1 = nn.Conv2d(input, shape.Inner1, 1, bias: fused);
            _conv2 = replacement
                ?? (nn.Module<Tensor, Tensor>)nn.Conv2d(shape.Inner1, shape.Inner2, 3, stride: stride, padding: 1, bias: fused);
            _conv3 = nn.Conv2d(shape.Inner2, output, 1, bias: fused);
            if (!fused) _bn3 = nn.BatchNorm2d(output);
        }

        // A branch module has the norm and activation of the convolution that it replaces.
        if (!fused && _conv1 is not BranchModule) _bn1 = nn.BatchNorm2d(shape.Inner1);
        if (!fused && _conv2 is not BranchModule) _bn2 = nn.BatchNorm2d(shape.Inner2);
        if (shape.HasProjection)
        {
            Conv2d projection = nn.Conv2d(input, output, 1, stride: stride, bias: fused);
            _downsample = fused ? nn.Sequential(projection) : nn.Sequential(projection, nn.BatchNorm2d(output));
        }

        RegisterComponents();
        _attentions = new BlockAttentions(this, placement, shape.Stage, shape.Index);
        _addsOver = fused && !_attentions.Has(AttentionPosition.AfterConv2) && !_attentions.Has(AttentionPosition.BeforeAdd);
    }

    /// <summary>The norm at the end of the residual branch.</summary>
    public BatchNorm2d LastNorm => _bn3 ?? _bn2!;

    /// <summary>How many times smaller than its input the block's output is.</summary>
    public int Stride { get; }

    /// <summary>The block's norms, and whether the map before them has the output's size already.</summary>
    public IEnumerable<(BatchNorm2d? Norm, bool Strided)> Norms
        => [(_bn1, _conv3 is null), (_bn2, true), (_bn3, true), (ProjectionNorm, true)];

    /// <summary>The norm of the strided shortcut.</summary>
    private BatchNorm2d? ProjectionNorm => _downsample?.children().OfType<BatchNorm2d>().FirstOrDefault();

    /// <summary>Output channels for each plane.</summary>
    public static int Expansion(ResNetBlock kind) => kind == ResNetBlock.Basic ? 1 : 4;

    public override Tensor forward(Tensor input)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor x = _attentions.Refine(AttentionPosition.Before, input);

        Tensor y = _conv1.call(x);
        if (_conv1 is not BranchModule) y = _bn1.Norm(y).relu_();
        y = _conv2.call(_attentions.Refine(AttentionPosition.AfterConv1, y));

        // The last norm waits for the block's end, which may be able to do without its output.
        BatchNorm2d? last = _bn3;
        if (_conv3 is not null)
        {
            if (_conv2 is not BranchModule) y = _bn2.Norm(y).relu_();
            y = _conv3.call(_attentions.Refine(AttentionPosition.AfterConv2, y));
        }
        else if (_attentions.Has(AttentionPosition.AfterConv2))
        {
            y = _attentions.Refine(AttentionPosition.AfterConv2, _bn2.Norm(y));
        }
        else
        {
            last = _bn2;
        }

        Tensor shortcut = _attentions.Refine(AttentionPosition.Shortcut, _downsample is null ? x : Project(x, y));
        bool drops = training && _dropPath > 0;
        Tensor end = (drops || last is null ? null : _attentions.TryGateAddRelu(last, y, shortcut))
            ?? End(last.Norm(y), shortcut, drops);
        return _attentions.Refine(AttentionPosition.After, end).MoveToOuterDisposeScope();
    }

    public void Keep(string key, BatchNorm2d norm)
    {
        register_module(key, norm);
        if (key == "bn1") _bn1 = norm;
        else if (key == "bn2") _bn2 = norm;
        else _bn3 = norm;
    }

    public void Count(FunctionCount count, Tensor[] inputs)
    {
        if (_conv1 is not BranchModule) count.Map(count.Values(_conv1), inPlace: true);
        if (_conv2 is not BranchModule && _conv3 is not null) count.Map(count.Values(_conv2), inPlace: true);
        long end = count.Values(_conv3 ?? _conv2);
        if (_addsOver) count.CombineInPlace(end, end);
        else count.Combine(end, end, end);
        count.Map(end, inPlace: true);
    }

    /// <summary>
    /// The strided shortcut. A Sequential calls its norm itself, so that a single value per channel is refused here, by the other
    /// branch's map of the same size.
    /// </summary>
    private Tensor Project(Tensor input, Tensor branch)
    {
        if (branch.size(0) * branch.size(2) * branch.size(3) == 1 && ProjectionNorm is { } norm)
        {
            NormCalls.RefuseSingle(norm, branch);
        }

        return _downsample!.call(input);
    }

    /// <summary>max(attention(map) + shortcut, 0).</summary>
    private Tensor End(Tensor map, Tensor shortcut, bool drops)
        => (drops ? null : _attentions.TryGateAddRelu(map, shortcut))
            ?? (_addsOver ? AddRectified(map, shortcut) : null)
            ?? DropPath.Apply(_attentions.Refine(AttentionPosition.BeforeAdd, map), _dropPath, training).Plus(shortcut).relu_();

    /// <summary>max(map + shortcut, 0), written over the map: one pass over memory where the kernels can.</summary>
    private static Tensor AddRectified(Tensor map, Tensor shortcut)
    {
        bool tracked = is_grad_enabled() && (map.requires_grad || shortcut.requires_grad);
        return !tracked && AttentionKernels.Enabled && MapView.TryOf(map, out MapView view) && view.Matches(shortcut)
            ? new GatePass(default, view).Apply(map, null, null, overwrite: true, shortcut)
            : map.Plus_(shortcut).relu_();
    }
}
