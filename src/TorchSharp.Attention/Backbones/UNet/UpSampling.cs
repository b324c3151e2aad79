using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Doubles the resolution (or as the level's stride says) and changes the channels; the result has exactly the size that is asked
/// for.
/// </summary>
internal sealed class UpSampling : nn.Module<Tensor, Tensor, Tensor>, ICountsFunctions, IKeepsNorms
{
    [ComponentName(Name = "conv")]
    private readonly nn.Module<Tensor, Tensor> _conv;

    [ComponentName(Name = "norm")]
    private nn.Module<Tensor, Tensor>? _norm;

    private readonly UNetUpSampling _kind;

    public UpSampling(int input, UNetLevel level, UNetOptions options, bool fused)
        : base(nameof(UpSampling))
    {
        _kind = options.UpSampling;
        (IsFitted, Stride) = (level.IsFitted, level.Stride);
        switch (_kind)
        {
            case UNetUpSampling.Bilinear:
                _conv = nn.Conv2d(input, level.Width, 1);
                break;
            case UNetUpSampling.TransposedBlock:
                _conv = nn.ConvTranspose2d(
                    input, level.Width, options.UpKernelSize, stride: level.Stride, padding: options.UpKernelSize / 2,
                    output_padding: level.Stride - 1,
                    bias: UNetNorms.HasBias(options, fused));
                _norm = UNetNorms.Create(level.Width, options, fused);
                break;
            default:
                _conv = nn.ConvTranspose2d(input, level.Width, level.Stride, stride: level.Stride);
                break;
        }

        RegisterComponents();
    }

    public void Keep(string key, Modules.BatchNorm2d norm) => register_module(key, _norm = norm);

    /// <summary>How it comes to more positions.</summary>
    public UNetUpSampling Kind => _kind;

    /// <summary>Whether the result takes another map's size; otherwise it is <see cref="Stride"/> times the input's.</summary>
    public bool IsFitted { get; }

    /// <summary>How many times larger than its input the result is.</summary>
    public int Stride { get; }

    /// <summary>
    /// Sizes that are not divisible by two lose a row or column on the way down; here it comes back. Bilinear: interpolation to
    /// the size. Transposed: the last row and column are repeated, or cut where there is one too many.
    /// </summary>
    /// <param name="map">The map.</param>
    /// <param name="like">A map of the size that is asked for.</param>
    public override Tensor forward(Tensor map, Tensor like)
    {
        using DisposeScope scope = NewDisposeScope();
        (long height, long width) = Size(map, like);
        if (_kind == UNetUpSampling.Bilinear)
        {
            // The 1×1 convolution commutes with interpolation; before it, it has a quarter of the work.
            Tensor mixed = _conv.call(map);
            return nn.functional.interpolate(mixed, size: [height, width], mode: InterpolationMode.Bilinear, align_corners: false)
                .MoveToOuterDisposeScope();
        }

        Tensor doubled = _conv.call(map);
        if (_kind == UNetUpSampling.TransposedBlock) doubled = UNetNorms.Apply(_norm, doubled).relu_();
        if (doubled.size(2) > height) doubled = doubled.narrow(2, 0, height);
        if (doubled.size(3) > width) doubled = doubled.narrow(3, 0, width);
        long missingRows = height - doubled.size(2), missingColumns = width - doubled.size(3);
        if (missingRows > 0 || missingColumns > 0)
        {
            doubled = nn.functional.pad(doubled, [0, missingColumns, 0, missingRows], PaddingModes.Replicate);
        }

        return doubled.MoveToOuterDisposeScope();
    }

    public void Count(FunctionCount count, Tensor[] inputs)
    {
        ValueList<long> shape = count.Shape(_conv);
        (long height, long width) = Size(inputs[0], inputs[1]);
        long channels = shape[0] * shape[1], values = count.Values(_conv);
        if (_kind == UNetUpSampling.Bilinear)
        {
            count.Resize(values, channels * height * width, 7);
            return;
        }

        if (_kind == UNetUpSampling.TransposedBlock) count.Map(values, inPlace: true);
        if (shape[2] < height || shape[3] < width)
        {
            count.Pad(channels * Math.Min(shape[2], height) * Math.Min(shape[3], width), channels * height * width);
        }
    }

    private (long Height, long Width) Size(Tensor map, Tensor like)
        => IsFitted ? (like.size(2), like.size(3)) : (Stride * map.size(2), Stride * map.size(3));
}
