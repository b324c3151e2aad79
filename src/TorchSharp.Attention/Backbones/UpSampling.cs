using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Doubles the resolution (or as the level's stride says) and changes the channels; the result has exactly the size that is asked for.</summary>
internal sealed class UpSampling : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "conv")]
    private readonly nn.Module<Tensor, Tensor> _conv;

    [ComponentName(Name = "norm")]
    private readonly nn.Module<Tensor, Tensor>? _norm;

    private readonly UNetUpSampling _kind;
    private readonly int _stride;

    public UpSampling(int input, UNetLevel level, UNetOptions options, bool fused)
        : base(nameof(UpSampling))
    {
        _kind = options.UpSampling;
        _stride = level.Stride;
        switch (_kind)
        {
            case UNetUpSampling.Bilinear:
                _conv = nn.Conv2d(input, level.Width, 1);
                break;
            case UNetUpSampling.TransposedBlock:
                _conv = nn.ConvTranspose2d(
                    input, level.Width, options.UpKernelSize, stride: _stride, padding: options.UpKernelSize / 2, output_padding: _stride - 1,
                    bias: UNetNorms.HasBias(options, fused));
                _norm = UNetNorms.Create(level.Width, options, fused);
                break;
            default:
                _conv = nn.ConvTranspose2d(input, level.Width, _stride, stride: _stride);
                break;
        }

        RegisterComponents();
    }

    public override Tensor forward(Tensor input) => To(input, _stride * input.size(2), _stride * input.size(3));

    /// <summary>
    /// Sizes that are not divisible by two lose a row or column on the way down; here it comes back. Bilinear: interpolation to
    /// the size. Transposed: the last row and column are repeated, or cut where there is one too many.
    /// </summary>
    public Tensor To(Tensor map, long height, long width)
    {
        using DisposeScope scope = NewDisposeScope();
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
}
