using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A convolution, its batch norm and its activation: δ(norm(conv(x))). Keys <c>0</c> and <c>1</c>,
/// as torchvision. Fused, it has no norm.
/// </summary>
internal sealed class ConvNormActivation : nn.Module<Tensor, Tensor>, ICountsFunctions, IKeepsNorms
{
    [ComponentName(Name = "0")]
    private readonly Conv2d _conv;

    [ComponentName(Name = "1")]
    private BatchNorm2d? _bn;

    private readonly GateActivation? _activation;

    /// <summary>Builds the layers.</summary>
    /// <param name="input">Channels of the input.</param>
    /// <param name="output">Channels of the output.</param>
    /// <param name="kernel">Size of the kernel; odd.</param>
    /// <param name="stride">Stride of the convolution.</param>
    /// <param name="activation">The activation; null for none.</param>
    /// <param name="fused">Whether the convolution has a bias in place of the norm.</param>
    /// <param name="groups">Groups of the convolution.</param>
    /// <param name="epsilon">Epsilon of the norm.</param>
    public ConvNormActivation(
        int input, int output, int kernel, int stride, GateActivation? activation, bool fused, int groups = 1,
        double epsilon = 1e-5)
        : base($"ConvNorm{activation}")
    {
        _activation = activation;
        _conv = nn.Conv2d(input, output, kernel, stride: stride, padding: kernel / 2, groups: groups, bias: fused);
        if (!fused) _bn = nn.BatchNorm2d(output, eps: epsilon);
        Stride = stride;
        RegisterComponents();
    }

    /// <summary>The norm; null where it is folded into the convolution.</summary>
    public BatchNorm2d? Norm => _bn;

    /// <summary>How many times smaller than its input the output is.</summary>
    public int Stride { get; }

    /// <summary>The activation; null for none.</summary>
    public GateActivation? Activation => _activation;

    public void Keep(string key, BatchNorm2d norm) => register_module(key, _bn = norm);

    public override Tensor forward(Tensor input)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor map = _bn.Norm(_conv.call(input));
        return (_activation switch
        {
            null => map,
            GateActivation.ReLU6 => nn.functional.relu6(map, inplace: true),

            // Autograd would keep a copy of the map that is written over.
            GateActivation.SiLU => nn.functional.silu(map, inplace: !map.requires_grad),
            GateActivation other => other.Apply(map),
        }).MoveToOuterDisposeScope();
    }

    public void Count(FunctionCount count, Tensor[] inputs)
    {
        if (_activation is not null) count.Map(count.Values(_conv), inPlace: true);
    }
}
