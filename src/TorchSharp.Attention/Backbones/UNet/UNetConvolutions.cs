using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Twice: convolution, norm, ReLU.</summary>
internal sealed class DoubleConvolution : nn.Module<Tensor, Tensor>, ICountsFunctions, IKeepsNorms
{
    [ComponentName(Name = "conv1")]
    private readonly Conv2d _conv1;

    [ComponentName(Name = "norm1")]
    private nn.Module<Tensor, Tensor>? _norm1;

    [ComponentName(Name = "conv2")]
    private readonly Conv2d _conv2;

    [ComponentName(Name = "norm2")]
    private nn.Module<Tensor, Tensor>? _norm2;

    private readonly double _dropout;

    public DoubleConvolution(int input, int width, int stride, UNetOptions options, bool fused)
        : base(nameof(DoubleConvolution))
    {
        bool bias = UNetNorms.HasBias(options, fused);
        int padding = options.KernelSize / 2;
        _dropout = options.Dropout;
        _conv1 = nn.Conv2d(input, width, options.KernelSize, stride: stride, padding: padding, bias: bias);
        _norm1 = UNetNorms.Create(width, options, fused);
        _conv2 = nn.Conv2d(width, width, options.KernelSize, padding: padding, bias: bias);
        _norm2 = UNetNorms.Create(width, options, fused);
        RegisterComponents();
    }

    public override Tensor forward(Tensor input)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor map = Drop(UNetNorms.Apply(_norm1, _conv1.call(input))).relu_();
        return Drop(UNetNorms.Apply(_norm2, _conv2.call(map))).relu_().MoveToOuterDisposeScope();
    }

    public void Keep(string key, BatchNorm2d norm)
    {
        register_module(key, norm);
        if (key == "norm1") _norm1 = norm;
        else _norm2 = norm;
    }

    public void Count(FunctionCount count, Tensor[] inputs)
    {
        count.Map(count.Values(_conv1), inPlace: true);
        count.Map(count.Values(_conv2), inPlace: true);
    }

    private Tensor Drop(Tensor map) => training && _dropout > 0 ? nn.functional.dropout(map, _dropout, training: true) : map;
}

/// <summary>What MONAI makes of a concatenated map: 3×3 convolution, instance norm without parameters, PReLU.</summary>
internal sealed class MergeConvolution : nn.Module<Tensor, Tensor>, ICountsFunctions
{
    [ComponentName(Name = "conv")]
    private readonly Conv2d _conv;

    [ComponentName(Name = "act")]
    private readonly PReLU _act;

    private readonly double _dropout;

    public MergeConvolution(int input, int width, double dropout)
        : base("Merge")
    {
        _dropout = dropout;
        _conv = nn.Conv2d(input, width, 3, padding: 1);
#pragma warning disable RS0030 // TorchSharp has no other way to make one; the scalar is that of its start.
        _act = nn.PReLU(1);
#pragma warning restore RS0030
        RegisterComponents();
    }

    public override Tensor forward(Tensor input)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor map = nn.functional.instance_norm(_conv.call(input));
        if (training && _dropout > 0) map = nn.functional.dropout(map, _dropout, training: true);
        return _act.call(map).MoveToOuterDisposeScope();
    }

    public void Count(FunctionCount count, Tensor[] inputs) => count.Normalise(count.Values(_conv));
}

/// <summary>The norms of a <see cref="UNet"/>.</summary>
internal static class UNetNorms
{
    /// <summary>
    /// Whether a convolution that the options' norm follows has a bias: chosen, or because nothing else shifts its output.
    /// </summary>
    public static bool HasBias(UNetOptions options, bool fused)
        => options.ConvolutionBias || options.Norm == UNetNorm.None || (fused && options.Norm == UNetNorm.Batch);

    /// <summary>The norm that the options name; null for none, and where it is folded into the convolution before it.</summary>
    public static nn.Module<Tensor, Tensor>? Create(int width, UNetOptions options, bool fused) => options.Norm switch
    {
        UNetNorm.Batch when fused => null,
        UNetNorm.Batch => nn.BatchNorm2d(width),
        UNetNorm.Instance => nn.InstanceNorm2d(width, affine: true),
        UNetNorm.Group => NormCalls.Group(options.NormGroups, width),
        _ => null,
    };

    /// <summary>The normed map, or the map itself where there is no norm.</summary>
    public static Tensor Apply(nn.Module<Tensor, Tensor>? norm, Tensor map) => norm switch
    {
        null => map,
        BatchNorm2d batch => batch.CallAnyBatch(map),
        _ => norm.call(map),
    };
}
