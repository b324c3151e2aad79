using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>1×1 expansion, 3×3 depthwise, linear 1×1 projection, and the shortcut where the shape allows it.</summary>
internal sealed class InvertedResidual : nn.Module<Tensor, Tensor>, ICountsFunctions
{
    // torchvision keeps the layers in one sequence, conv.0, conv.1, …; the same modules under their roles:
    [ComponentName(Name = "conv")]
    private readonly ModuleList<nn.Module<Tensor, Tensor>> _layers = [];

    private readonly BlockAttentions _attentions;
    private readonly int _depthwise;

    public InvertedResidual(MobileNetV2Block block, AttentionPlacement placement, bool fused)
        : base(nameof(InvertedResidual))
    {
        Shape = block;
        if (block.Expands) _layers.Add(new ConvNormActivation(block.Input, block.Hidden, 1, 1, GateActivation.ReLU6, fused));
        _depthwise = _layers.Count;

        // A branch has the norm and activation of the convolution that it replaces, and that convolution's key.
        _layers.Add(placement.CreateBranch(block.Stage, block.Index) is { } branch
            ? nn.Sequential(branch)
            : new ConvNormActivation(
                block.Hidden, block.Hidden, 3, block.Stride, GateActivation.ReLU6, fused, groups: block.Hidden));
        _layers.Add(nn.Conv2d(block.Hidden, block.Output, 1, bias: fused));
        if (!fused) _layers.Add(nn.BatchNorm2d(block.Output));
        RegisterComponents();
        _attentions = new BlockAttentions(this, placement, block.Stage, block.Index);
    }

    /// <summary>The block in numbers.</summary>
    public MobileNetV2Block Shape { get; }

    /// <summary>The block's norms, and whether the map before them has the output's size already.</summary>
    public IEnumerable<(BatchNorm2d? Norm, bool Strided)> Norms
        => _layers.Select((layer, i) => (layer is ConvNormActivation own ? own.Norm : layer as BatchNorm2d, i >= _depthwise));

    public override Tensor forward(Tensor input)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor x = _attentions.Refine(AttentionPosition.Before, input), y = x;
        if (_depthwise > 0) y = _attentions.Refine(AttentionPosition.AfterExpand, _layers[0].call(y));
        y = _attentions.Refine(AttentionPosition.AfterDepthwise, _layers[_depthwise].call(y));
        y = _attentions.Refine(_layers[^1] as BatchNorm2d, _layers[_depthwise + 1].call(y));
        if (Shape.HasShortcut) y = y.Plus(_attentions.Refine(AttentionPosition.Shortcut, x));
        return _attentions.Refine(AttentionPosition.After, y).MoveToOuterDisposeScope();
    }

    public void Count(FunctionCount count, Tensor[] inputs)
    {
        long values = count.Values(_layers[^1]);
        if (Shape.HasShortcut) count.Combine(values, values, values);
    }
}
