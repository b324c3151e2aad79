using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A block of ConvNeXt: y = x + γ · F(x), F a depthwise 7×7 convolution, a layer norm over channels, and two linear layers with a
/// GELU between them. An attention before the addition refines F(x) before the factors γ (<c>layer_scale</c>), so that their
/// small start does not shrink its pooled statistics. Keys as torchvision's CNBlock.
/// </summary>
internal sealed class CnBlock : nn.Module<Tensor, Tensor>, ICountsFunctions
{
    private const int Expansion = 4;

    /// <summary>Where an attention can stand in a block, in order.</summary>
    public static readonly AttentionPosition[] Positions =
        [AttentionPosition.Before, AttentionPosition.AfterDepthwise, AttentionPosition.BeforeAdd, AttentionPosition.After];

    [ComponentName(Name = "block")]
    private readonly LayerGroup _block = new();

    [ComponentName(Name = "layer_scale")]
    private readonly Parameter _scale;

    private readonly Layers _layers;
    private readonly BlockAttentions _attentions;
    private readonly double _dropPath;

    public CnBlock(int channels, double scale, double dropPath, AttentionPlacement placement, int stage, int index)
        : base("CNBlock")
    {
        _dropPath = dropPath;

        // torchvision numbers its permutations and its GELU, too.
        _layers = new Layers(
            Depthwise: _block.Add(0, nn.Conv2d(channels, channels, 7, padding: 3, groups: channels)),
            Norm: _block.Add(2, nn.LayerNorm(channels, ConvNeXt.Epsilon)),
            Expand: _block.Add(3, nn.Linear(channels, Expansion * channels)),
            Project: _block.Add(5, nn.Linear(Expansion * channels, channels)));
        using Scalar start = scale.ToScalar();
        _scale = new Parameter(full(channels, 1, 1, start, dtype: ScalarType.Float32));
        RegisterComponents();
        _attentions = new BlockAttentions(this, placement, stage, index);
    }

    public override Tensor forward(Tensor input)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor x = _attentions.Refine(AttentionPosition.Before, input);
        Tensor y = _attentions.Refine(AttentionPosition.AfterDepthwise, _layers.Depthwise.call(x));
        Tensor rows = _layers.Norm.call(y.permute(0, 2, 3, 1));
        rows = _layers.Project.call(nn.functional.gelu(_layers.Expand.call(rows)));
        y = _attentions.Refine(AttentionPosition.BeforeAdd, rows.permute(0, 3, 1, 2));
        y = DropPath.Apply(y.mul(_scale), _dropPath, training).Plus(x);
        return _attentions.Refine(AttentionPosition.After, y).MoveToOuterDisposeScope();
    }

    public void Count(FunctionCount count, Tensor[] inputs)
    {
        long values = count.Values(_layers.Project);
        count.Map(count.Values(_layers.Expand));
        count.Map(values);
        count.Combine(values, values, values);
    }

    /// <summary>
    /// The layers by their roles. As fields of the block they would be registered a second time, under the fields' names.
    /// </summary>
    private sealed record Layers(Conv2d Depthwise, LayerNorm Norm, Linear Expand, Linear Project);
}
