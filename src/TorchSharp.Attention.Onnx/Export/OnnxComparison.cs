using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>Makes the inputs on which a file and its network are compared, and measures how far their outputs differ.</summary>
internal static class OnnxComparison
{
    /// <summary>How many steps of a 16-bit type the roundings of all layers may add up to.</summary>
    public const double Steps = 8;

    /// <summary>From 1 to the next number of a type.</summary>
    public static double StepOf(ScalarType type) => type switch
    {
        ScalarType.BFloat16 => 1.0 / 128,
        ScalarType.Float16 => 1.0 / 1024,
        _ => 1.0 / (1 << 23),
    };

    /// <summary>Normally distributed numbers of a type and on a device as another tensor's.</summary>
    public static Tensor Noise(Random random, long[] shape, Tensor like, float magnitude)
    {
        float[] values = new float[shape.Aggregate(1L, (a, b) => a * b)];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = magnitude
                * (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));
        }

        return tensor(values, shape).to(like.dtype, like.device);
    }

    /// <summary>The input with the smallest changes that its type knows, a few steps of the largest number.</summary>
    public static Tensor Nudged(Random random, Tensor input)
    {
        double step = Steps * StepOf(input.dtype) * Magnitude(input);
        double[] values = input.cpu().to_type(ScalarType.Float64).contiguous().data<double>().ToArray();
        for (int i = 0; i < values.Length; i++) values[i] += step * ((2 * random.NextDouble()) - 1);
        return tensor(values, input.shape).to(input.dtype, input.device);
    }

    /// <summary>The greatest magnitude in a tensor; 0 for an empty one.</summary>
    public static double Magnitude(Tensor value)
    {
        using DisposeScope scope = NewDisposeScope();
        return value.numel() == 0 ? 0 : value.detach().to_type(ScalarType.Float64).abs().max().item<double>();
    }

    /// <summary>Whether a tensor holds neither NaN nor infinity.</summary>
    public static bool IsFinite(Tensor value) => !(value.is_floating_point() && !double.IsFinite(Magnitude(value)));

    /// <summary>The greatest difference between two outputs, and its share of the greatest magnitude expected.</summary>
    public static OnnxCheck Difference(ValueList<ValueList<long>> shapes, string output, Tensor expected, Tensor found)
    {
        using DisposeScope scope = NewDisposeScope();
        if (!expected.shape.AsSpan().SequenceEqual(found.shape))
        {
            return new OnnxCheck(shapes, output, double.PositiveInfinity, double.PositiveInfinity)
            {
                Shapes = $"has the shape {Check.Shape(found)} in the file, and {Check.Shape(expected)} in the network",
            };
        }

        if (expected.numel() == 0) return new OnnxCheck(shapes, output, 0, 0);

        // Not by operations of tensors: their sum and difference make a scalar each, which the
        // finaliser may free before it is read.
        double[] exact = expected.cpu().to_type(ScalarType.Float64).contiguous().data<double>().ToArray();
        double[] other = found.to_type(ScalarType.Float64).contiguous().data<double>().ToArray();
        double difference = 0, scale = 0;
        for (int i = 0; i < exact.Length; i++)
        {
            difference = Math.Max(difference, Math.Abs(exact[i] - other[i])); // Max of anything and no number is no number.
            scale = Math.Max(scale, Math.Abs(exact[i]));
        }

        return double.IsFinite(difference) && double.IsFinite(scale)
            ? new OnnxCheck(shapes, output, difference, difference == 0 ? 0 : difference / scale)
            : new OnnxCheck(shapes, output, double.PositiveInfinity, double.PositiveInfinity);
    }
}
