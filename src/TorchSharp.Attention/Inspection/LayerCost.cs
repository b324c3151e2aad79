using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// What one call of a layer of TorchSharp costs in each convention; the table of docs/cost.md as code. Verified against the
/// sources of thop 0.1.1 (basic_hooks.py, calc_func.py) and fvcore 0.1.6 (jit_handles.py, flop_count.py).
/// </summary>
/// <param name="Strict">Multiply-accumulates.</param>
/// <param name="Elementwise">Operations on single values.</param>
/// <param name="Thop">What thop says.</param>
/// <param name="Fvcore">What fvcore says.</param>
/// <param name="IsView">The output is the input seen otherwise: nothing moves.</param>
internal readonly record struct LayerCost(
    long Strict = 0, long Elementwise = 0, long Thop = 0, long Fvcore = 0, bool IsView = false)
{
    private static readonly LayerCost View = new(IsView: true);

    /// <summary>The cost of a call, or null where the layer has no formula.</summary>
    /// <param name="layer">The layer.</param>
    /// <param name="x">Its input.</param>
    /// <param name="y">Its output.</param>
    public static LayerCost? Of(nn.Module layer, Tensor x, Tensor y)
    {
        long inputs = x.numel(), outputs = y.numel();
        switch (layer)
        {
            case Conv1d or Conv2d or Conv3d:
                {
                    (Tensor weight, bool hasBias) = Weight((Convolution)layer);
                    long products = outputs * (weight.numel() / weight.size(0));
                    return new(products, hasBias ? outputs : 0, products, products);
                }

            case ConvTranspose1d or ConvTranspose2d or ConvTranspose3d:
                {
                    // Weight (in, out / groups, kernel): each input value meets all of its row. thop
                    // takes the output and in / groups instead.
                    (Tensor weight, bool hasBias) = Weight((Convolution)layer);
                    long products = inputs * (weight.numel() / weight.size(0)), groups = y.size(1) / weight.size(1);
                    long kernel = weight.numel() / (weight.size(0) * weight.size(1));
                    return new(products, hasBias ? outputs : 0, outputs * (weight.size(0) / groups) * kernel, products);
                }

            case Linear linear:
                {
                    long products = outputs * linear.weight!.size(1);
                    return new(products, linear.bias is null ? 0 : outputs, products, products);
                }

            // Running statistics make a norm one scale and one shift for each value; without them it
            // takes the batch's own, also in evaluation.
            case BatchNorm { track_running_stats: false } norm:
                return Norm(norm.affine, thop: true);
            case BatchNorm norm:
                return new(0, 2 * inputs, (norm.affine ? 4 : 2) * inputs, (norm.affine ? 2 : 1) * inputs);
            case InstanceNorm norm:
                return Norm(
                    norm.affine,
                    thop: true) with
                {
                    Elementwise = norm.track_running_stats ? 2 * inputs : Norm(norm.affine, true).Elementwise,
                };
            case LayerNorm norm:
                return Norm(norm.elementwise_affine, thop: true);
            case GroupNorm norm:
                return Norm(norm.affine, thop: false);

            case Softmax softmax:
                {
                    long values = x.size((int)softmax.dim);
                    return new(0, 3 * inputs, inputs / values * ((3 * values) - 1));
                }

            case LogSoftmax or Softmin or Softmax2d:
                return new(0, 3 * inputs);
            case PReLU:
                return new(0, inputs, inputs);
            case CELU or ELU or GELU or GLU or Hardshrink or Hardsigmoid or Hardswish or Hardtanh or LeakyReLU or LogSigmoid
                or Mish or ReLU or ReLU6
                or RReLU or SELU or Sigmoid or SiLU or Softplus or Softshrink or Softsign or Tanh or Tanhshrink or Threshold:
                return new(0, inputs);

            case MaxPool1d pool:
                return new(0, pool.kernel_size * outputs);
            case MaxPool2d pool:
                return new(0, Area(pool.kernel_size, 2) * outputs);
            case MaxPool3d pool:
                return new(0, Area(pool.kernel_size, 3) * outputs);
            case AvgPool1d pool:
                return new(0, pool.kernel_size * outputs, outputs);
            case AvgPool2d pool:
                return new(0, Area(pool.kernel_size, 2) * outputs, outputs);
            case AvgPool3d pool:
                return new(0, Area(pool.kernel_size, 3) * outputs, outputs);
            case AdaptiveMaxPool1d or AdaptiveMaxPool2d or AdaptiveMaxPool3d:
                return new(0, inputs);
            case AdaptiveAvgPool1d or AdaptiveAvgPool3d:
                return new(0, inputs, Adaptive());
            case AdaptiveAvgPool2d:
                return new(0, inputs, Adaptive(), inputs);

            case Upsample up:
                return up.mode switch
                {
                    UpsampleMode.Nearest => new(0, 0, outputs, x.dim() == 4 ? outputs : 0),
                    UpsampleMode.Linear => new(0, 3 * outputs, 5 * outputs),
                    UpsampleMode.Bilinear => new(0, 7 * outputs, 11 * outputs, 4 * outputs),
                    UpsampleMode.Trilinear => new(0, 15 * outputs),
                    UpsampleMode.Bicubic => new(0, 31 * outputs, 259 * outputs),
                    _ => null,
                };

            case Identity or Flatten or Unflatten or Dropout or Dropout1d or Dropout2d or Dropout3d or AlphaDropout
                or FeatureAlphaDropout:
                return View;
            case PadBase or ZeroPad2d or PixelShuffle or PixelUnshuffle or ChannelShuffle or Embedding:
                return default(LayerCost);
            default:
                return null;
        }

        LayerCost Norm(bool affine, bool thop) => new(
            0, (affine ? 7 : 5) * inputs, !thop ? 0 : (affine ? 4 : 2) * inputs, (affine ? 5 : 4) * inputs);

        // thop divides the sizes, adds one and rounds down the whole.
        long Adaptive()
        {
            double window = 1;
            for (int dim = 2; dim < x.dim(); dim++) window *= (double)x.size(dim) / y.size(dim);
            return (long)((window + 1) * outputs);
        }
    }

    private static (Tensor Weight, bool HasBias) Weight(Convolution layer) => (layer.weight!, layer.bias is not null);

    /// <summary>Positions of a window; one number stands for all sides.</summary>
    private static long Area(long[] kernel, int dimensions)
        => kernel.Length == 1 ? (long)Math.Pow(kernel[0], dimensions) : kernel.Aggregate(1L, (area, side) => area * side);
}
