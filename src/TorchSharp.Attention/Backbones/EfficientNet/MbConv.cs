using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// An inverted residual block of EfficientNet, y = x + F(x) where the shape allows the addition. F is an expansion, a depthwise
/// convolution, squeeze-and-excitation and a projection (MBConv), or one convolution that expands and a projection
/// (Fused-MBConv). Keys as torchvision.
/// </summary>
internal sealed class MbConv : nn.Module<Tensor, Tensor>, ICountsFunctions
{
    [ComponentName(Name = "block")]
    private readonly LayerGroup _block = new();

    private readonly Layers _layers;
    private readonly BlockAttentions _attentions;
    private readonly double _dropPath;

    public MbConv(EfficientNetBlock shape, EfficientNetOptions options, double dropPath, AttentionPlacement placement, bool fused)
        : base(shape.Fused ? "FusedMBConv" : "MBConv")
    {
        (Shape, _dropPath) = (shape, dropPath);
        ConvNormActivation? expand = null, depthwise = null, project = null;
        nn.Module<Tensor, Tensor>? excitation = null;
        int key = 0;
        if (shape.Fused)
        {
            // Without an expansion this is the block's only convolution.
            expand = _block.Add(
                key++, Convolution(
                    shape.Input, shape.Expands ? shape.Hidden : shape.Output, shape.Kernel, shape.Stride, GateActivation.SiLU));
        }
        else
        {
            if (shape.Expands) expand = _block.Add(key++, Convolution(shape.Input, shape.Hidden, 1, 1, GateActivation.SiLU));
            depthwise = _block.Add(
                key++, Convolution(shape.Hidden, shape.Hidden, shape.Kernel, shape.Stride, GateActivation.SiLU, shape.Hidden));
            excitation = placement.Create(AttentionPosition.AfterDepthwise, shape.Stage, shape.Index)
                ?? OwnExcitation(shape, options);
            if (excitation is not null) _block.Add(key, excitation);
            key++;
        }

        if (shape.Expands || !shape.Fused)
        {
            project = _block.Add(key, Convolution(shape.Expands ? shape.Hidden : shape.Input, shape.Output, 1, 1, null));
        }

        _layers = new Layers(expand, depthwise, excitation, project);
        RegisterComponents();
        _attentions = new BlockAttentions(this, placement, shape.Stage, shape.Index, except: AttentionPosition.AfterDepthwise);

        ConvNormActivation Convolution(int input, int output, int kernel, int stride, GateActivation? activation, int groups = 1)
            => new(input, output, kernel, stride, activation, fused, groups, options.NormEpsilon);
    }

    /// <summary>The block in numbers.</summary>
    public EfficientNetBlock Shape { get; }

    /// <summary>The block's norms, and whether the map before them has the output's size already.</summary>
    public IEnumerable<(BatchNorm2d? Norm, bool Strided)> Norms
        => [(_layers.Expand?.Norm, Shape.Fused), (_layers.Depthwise?.Norm, true), (_layers.Project?.Norm, true)];

    public override Tensor forward(Tensor input)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor x = _attentions.Refine(AttentionPosition.Before, input), y = x;
        if (_layers.Expand is not null) y = _layers.Expand.call(y);
        if (Shape.Expands) y = _attentions.Refine(AttentionPosition.AfterExpand, y);
        if (_layers.Depthwise is not null) y = _layers.Depthwise.call(y);
        if (_layers.Excitation is not null) y = BlockAttentions.RefineOwned(_layers.Excitation, y);
        if (_layers.Project is not null) y = _layers.Project.call(y);
        y = _attentions.Refine(AttentionPosition.BeforeAdd, y);
        if (Shape.HasShortcut) y = DropPath.Apply(y, _dropPath, training).Plus(_attentions.Refine(AttentionPosition.Shortcut, x));
        return _attentions.Refine(AttentionPosition.After, y).MoveToOuterDisposeScope();
    }

    public void Count(FunctionCount count, Tensor[] inputs)
    {
        long values = count.Values(_layers.Project ?? _layers.Expand!);
        if (Shape.HasShortcut) count.Combine(values, values, values);
    }

    /// <summary>torchvision's squeeze-and-excitation: SiLU inside, Kaiming normal weights, biases zero.</summary>
    private static SqueezeExcitation? OwnExcitation(EfficientNetBlock shape, EfficientNetOptions options)
        => !options.SqueezeExcitation ? null : new SqueezeExcitation(shape.Hidden, new SqueezeExcitationOptions
        {
            ReducedChannels = shape.Squeezed,
            Activation = GateActivation.SiLU,
            Initialization = AttentionInitialization.Kaiming,
        });

    /// <summary>
    /// The layers by their roles. As fields of the block they would be registered a second time, under the fields' names.
    /// </summary>
    private sealed record Layers(
        ConvNormActivation? Expand, ConvNormActivation? Depthwise, nn.Module<Tensor, Tensor>? Excitation,
        ConvNormActivation? Project);
}
