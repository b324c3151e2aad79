using System.Numerics;
using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// The inputs for one run of a model, as float32, for calibration or measurement. To measure accuracy, a batch also needs labels.
/// </summary>
public sealed class OnnxBatch
{
    /// <summary>Creates a batch for a model with one input.</summary>
    /// <param name="values">The numbers, row by row; normalised as in training.</param>
    /// <param name="shape">Length of each axis, such as 16, 3, 224, 224.</param>
    /// <exception cref="ArgumentException">The shape does not hold as many numbers as there are.</exception>
    public OnnxBatch(float[] values, params long[] shape) => Inputs = [Checked("", values, shape)];

    private OnnxBatch(IReadOnlyList<(string Name, float[] Values, long[] Shape)> inputs) => Inputs = inputs;

    /// <summary>
    /// Class of each row of the batch, which is needed to measure accuracy. Null: the accuracy is not measured.
    /// </summary>
    public IReadOnlyList<long>? Labels { get; init; }

    /// <summary>The inputs; "" is the name of the only one.</summary>
    internal IReadOnlyList<(string Name, float[] Values, long[] Shape)> Inputs { get; }

    /// <summary>Creates a batch by copying a tensor and, optionally, its labels.</summary>
    /// <param name="input">The input; any floating-point type, rounded to float32.</param>
    /// <param name="labels">Class of each row, int64 (N); null without.</param>
    /// <exception cref="ArgumentException">
    /// The input is no floating-point tensor, or the labels are no row of whole numbers.
    /// </exception>
    public static OnnxBatch From(Tensor input, Tensor? labels = null)
    {
        ArgumentNullException.ThrowIfNull(input);
        if (!input.is_floating_point())
        {
            throw new ArgumentException($"input is {input.dtype}; give floating-point values.", nameof(input));
        }

        if (labels is not null && (labels.dim() != 1 || labels.is_floating_point()))
        {
            throw new ArgumentException(
                $"labels is {labels.dtype} {Check.Shape(labels)}; give the class of each row as a vector of int64.",
                nameof(labels));
        }

        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        float[] values = MemoryMarshal.Cast<byte, float>(input.cpu().to_type(ScalarType.Float32).contiguous().bytes).ToArray();
        return new OnnxBatch(values, input.shape)
        {
            Labels = labels is null
                ? null
                : MemoryMarshal.Cast<byte, long>(labels.cpu().to_type(ScalarType.Int64).contiguous().bytes).ToArray(),
        };
    }

    /// <summary>Creates a batch for a model with several inputs.</summary>
    /// <param name="inputs">Name, numbers and shape of each.</param>
    /// <exception cref="ArgumentException">There is none, or a shape does not hold as many numbers as there are.</exception>
    public static OnnxBatch Of(params (string Name, float[] Values, long[] Shape)[] inputs)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        if (inputs.Length == 0) throw new ArgumentException("inputs is empty; give at least one.", nameof(inputs));
        return new OnnxBatch([.. inputs.Select(input => Checked(input.Name, input.Values, input.Shape))]);
    }

    /// <summary>A batch of this batch's inputs, which are not copied, without labels.</summary>
    internal OnnxBatch WithoutLabels() => Labels is null ? this : new OnnxBatch(Inputs);

    private static (string Name, float[] Values, long[] Shape) Checked(string name, float[] values, long[] shape)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(values);
        ArgumentNullException.ThrowIfNull(shape);
        if (shape.Any(length => length < 1))
        {
            throw new ArgumentException(
                $"shape is ({string.Join(", ", shape)}); no axis may be shorter than 1, since a batch without values shows " +
                "nothing. Give at least one sample.", nameof(shape));
        }

        if (shape.Aggregate(BigInteger.One, (product, length) => product * length) != values.Length)
        {
            bool empty = values.Length == 0;
            throw new ArgumentException(
                empty ? "values is empty; give at least one sample and its shape, such as 1, 3, 224, 224."
                    : $"shape is ({string.Join(", ", shape)}) for {values.Length} numbers; its product must be their number.",
                empty ? nameof(values) : nameof(shape));
        }

        return (name, values, shape);
    }
}
