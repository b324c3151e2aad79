using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Layer norm over the channels of each spatial position: y = γ (x − mean) / √(var + ε) + β for a feature map (N, C, H, W). Keys
/// <c>weight</c> and <c>bias</c>, as torchvision's module of this name.
/// </summary>
internal sealed class LayerNorm2d : nn.Module<Tensor, Tensor>, ICountsFunctions
{
    [ComponentName(Name = "weight")]
    private readonly Parameter _weight;

    [ComponentName(Name = "bias")]
    private readonly Parameter _bias;

    private readonly long[] _shape;

    public LayerNorm2d(int channels, double epsilon)
        : base(nameof(LayerNorm2d))
    {
        (_shape, Epsilon) = ([channels], epsilon);
        _weight = new Parameter(ones(channels));
        _bias = new Parameter(zeros(channels));
        RegisterComponents();
    }

    /// <summary>ε, which is added to the variance.</summary>
    public double Epsilon { get; }

    public override Tensor forward(Tensor input)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor rows = nn.functional.layer_norm(input.permute(0, 2, 3, 1), _shape, _weight, _bias, Epsilon);
        return rows.permute(0, 3, 1, 2).MoveToOuterDisposeScope();
    }

    public void Count(FunctionCount count, Tensor[] inputs) => count.Normalise(inputs[0].numel());
}
