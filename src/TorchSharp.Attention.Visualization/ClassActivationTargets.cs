using static TorchSharp.torch;

namespace TorchSharp.Attention.Visualization;

/// <summary>
/// Score functions for <see cref="ClassActivationOptions.Target"/>. They define the score to explain if the output of the network
/// is not (N, classes).
/// </summary>
public static class ClassActivationTargets
{
    /// <summary>
    /// Segmentation: the sum of one class's logits over a set of pixels. Seg-Grad-CAM: Vinogradova, Dibrov, Myers, "Towards
    /// Interpretable Semantic Segmentation via Gradient-weighted Class Activation Mapping", 2020, arXiv:2002.11434.
    /// </summary>
    /// <param name="class">The class, an index of the second dimension of the output (N, K, H, W).</param>
    /// <param name="mask">
    /// The pixels that count: (H, W) for all samples, or (N, H, W); booleans or weights. Default null: all
    /// pixels. The function keeps the tensor.
    /// </param>
    /// <exception cref="ArgumentException">
    /// The mask has another rank. While the map is computed: the output has another rank, no such
    /// class, or another size than the mask.
    /// </exception>
    public static Func<Tensor, int, Tensor> Pixels(long @class, Tensor? mask = null)
    {
        if (mask is not null && mask.dim() is not (2 or 3))
        {
            throw new ArgumentException($"mask has shape ({Shape(mask)}); it must be (H, W) or (N, H, W).", nameof(mask));
        }

        return (output, sample) =>
        {
            Tensor logits = Select(output, 4, @class, "(N, K, H, W)");
            if (mask is null) return logits.sum([1, 2]);
            if (mask.dim() == 3 && sample >= mask.size(0))
            {
                throw new ArgumentException(
                    $"mask has shape ({Shape(mask)}) and no row for sample {sample} of the batch.", nameof(mask));
            }

            Tensor own = mask.dim() == 3 ? mask[sample] : mask;
            if (!own.shape.AsSpan().SequenceEqual(logits.shape.AsSpan(1)))
            {
                throw new ArgumentException(
                    $"mask has shape ({Shape(mask)}); the output has {logits.size(1)} rows and {logits.size(2)} columns.",
                    nameof(mask));
            }

            return logits.mul(own.to_type(logits.dtype).to(logits.device)).sum([1, 2]);
        };
    }

    /// <summary>Tokens: the mean over tokens of one class's logits, output (N, L, K).</summary>
    /// <param name="class">The class, an index of the last dimension.</param>
    /// <exception cref="ArgumentException">While the map is computed: the output has another rank or no such class.</exception>
    public static Func<Tensor, int, Tensor> Tokens(long @class)
        => (output, _) => Select(output.dim() == 3 ? output.transpose(1, 2) : output, 3, @class, "(N, L, K)").mean([1]);

    /// <summary>
    /// Two classes with one logit, output (N, 1) or (N). The score of the positive class is the logit, and that of the other
    /// class is its negative.
    /// </summary>
    /// <param name="positive">Whether to explain the positive class. Default true.</param>
    /// <exception cref="ArgumentException">While the map is computed: the output has more than one value per sample.</exception>
    public static Func<Tensor, int, Tensor> OneLogit(bool positive = true) => (output, _) =>
    {
        if (output.numel() != output.size(0))
        {
            throw new ArgumentException(
                $"The network makes ({Shape(output)}); one logit per sample is (N, 1) or (N).", nameof(output));
        }

        return positive ? output.flatten() : output.flatten().neg();
    };

    private static Tensor Select(Tensor output, int rank, long @class, string expected)
    {
        if (output.dim() != rank)
        {
            throw new ArgumentException($"The network makes ({Shape(output)}); this target needs {expected}.", nameof(output));
        }

        if (@class < 0 || @class >= output.size(1))
        {
            throw new ArgumentException($"class is {@class}; the network has classes 0 to {output.size(1) - 1}.", nameof(@class));
        }

        return output.select(1, @class);
    }

    private static string Shape(Tensor tensor) => string.Join(", ", tensor.shape);
}
