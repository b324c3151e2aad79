namespace TorchSharp.Attention.Onnx;

/// <summary>
/// A layer's weights in levels around zero, and its bias as int32 in steps of input scale · weight scale, so that a
/// kernel adds it to its sums as it is.
/// </summary>
internal sealed record QuantizedWeights
{
    /// <summary>Half of what 32 bits hold, so that the sum of products has the other half.</summary>
    private const double LargestBias = 1 << 30;

    /// <summary>The weights as numbers of steps, in the order of the float ones.</summary>
    public required int[] Levels { get; init; }

    /// <summary>One scale, or one for each output.</summary>
    public required float[] Scales { get; init; }

    /// <summary>Shape of the scales: none for one, their number for several.</summary>
    public required long[] ScaleDims { get; init; }

    /// <summary>The bias; null where the layer has none.</summary>
    public int[]? Bias { get; init; }

    /// <summary>Scales of the bias.</summary>
    public float[] BiasScales { get; init; } = [];

    /// <summary>Quantizes a layer.</summary>
    /// <param name="weights">The weights.</param>
    /// <param name="dims">Their shape.</param>
    /// <param name="axis">The axis that counts the outputs.</param>
    /// <param name="bias">The bias; null without.</param>
    /// <param name="inputScale">Scale of the layer's input.</param>
    /// <param name="perChannel">Whether each output has a scale of its own.</param>
    /// <param name="form">In which eight bits they are stored.</param>
    public static QuantizedWeights Of(
        float[] weights, IReadOnlyList<long> dims, int axis, float[]? bias, float inputScale, bool perChannel, WeightForm form)
    {
        int outputs = (int)dims[axis];
        int inner = (int)dims.Skip(axis + 1).Aggregate(1L, (product, length) => product * length);
        IEnumerable<WeightReach> reaches = Enumerable.Range(
            0, outputs).Select(output => WeightReach.Of(OfOutput(weights, outputs, inner, output)));
        float[] scales = [
            .. (perChannel ? reaches : [reaches.Aggregate((all, own) => all.With(own))]).Select(
                reach => (float)form.Scale(reach))];
        // A channel of tiny weights makes tiny steps, in which its bias would not fit: its weights then take coarser ones.
        // Without weights the bias alone sets them.
        for (int i = 0; i < (bias?.Length ?? 0); i++)
        {
            int own = perChannel ? i : 0;
            scales[own] = Math.Max(scales[own], (float)(Math.Abs((double)bias![i]) / LargestBias / inputScale));
        }

        for (int i = 0; i < scales.Length; i++)
        {
            // Noise, whose reciprocal overflows; a scale must not be zero.
            if (scales[i] < AffineParameters.SmallestScale) scales[i] = 1;
        }

        int[] levels = new int[weights.Length];
        for (int i = 0; i < levels.Length; i++)
        {
            levels[i] = WeightForm.Level(weights[i], scales[perChannel ? i / inner % outputs : 0]);
        }

        float[] biasScales = bias is null ? [] : [.. scales.Select(scale => scale * inputScale)];
        return new QuantizedWeights
        {
            Levels = levels,
            Scales = scales,
            ScaleDims = perChannel ? [outputs] : [],
            Bias = bias?.Select(
                (value, i) => (int)Math.Clamp(
                    Math.Round((double)value / biasScales[perChannel ? i : 0]), -LargestBias, LargestBias)).ToArray(),
            BiasScales = biasScales,
        };
    }

    private static IEnumerable<float> OfOutput(float[] weights, int outputs, int inner, int output)
    {
        for (int start = output * inner; start < weights.Length; start += outputs * inner)
        {
            for (int i = start; i < start + inner; i++) yield return weights[i];
        }
    }
}
