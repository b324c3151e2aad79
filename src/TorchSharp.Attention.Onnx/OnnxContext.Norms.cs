using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <content>Norms, padding, resizing, and what attentions share.</content>
public sealed partial class OnnxContext
{
    /// <summary>A norm by running statistics.</summary>
    internal OnnxValue Norm(NormBase norm, OnnxValue x)
    {
        if (norm.running_mean is null || norm.running_var is null)
        {
            throw Unsupported(
                "it has no running statistics, so its output depends on the whole batch. Build it with track_running_stats: " +
                "true.");
        }

        OnnxValue? scale = norm.weight is null ? null : Parameter(norm.weight), shift = norm.bias is null
            ? null
            : Parameter(norm.bias);
        int channels = (int)norm.running_mean.size(0);
        return Node(
            "BatchNormalization",
            [x, scale ?? Ones(channels), shift ?? Constant(new float[channels], channels), Parameter(
                norm.running_mean), Parameter(norm.running_var)],
            x.Shape, ("epsilon", norm.eps));
    }

    /// <summary>Each channel of each sample to mean 0 and variance 1, then scale and shift.</summary>
    internal OnnxValue InstanceNorm(OnnxValue x, Tensor? scale, Tensor? shift, double eps)
    {
        int channels = (int)x[1].Size;
        if (x.Rank > 3 && IsLarge([.. x.Shape.Skip(2)]))
        {
            // The operator adds up all positions one after the other, see IsLarge.
            int[] axes = [.. Enumerable.Range(2, x.Rank - 2)];
            OnnxValue centred = Sub(x, Mean(x, axes)), variance = Mean(Mul(centred, centred), axes);
            return ScaleAndShift(Div(centred, Elementwise("Sqrt", Add(variance, eps))), scale, shift, 1);
        }

        return Node(
            "InstanceNormalization",
            [x, scale is null ? Ones(channels) : Parameter(scale, "weight"), shift is null
                ? Constant(new float[channels], channels)
                : Parameter(shift, "bias")],
            x.Shape, ("epsilon", eps));
    }

    /// <summary>x · scale + shift, along an axis.</summary>
    internal OnnxValue ScaleAndShift(OnnxValue x, Tensor? scale, Tensor? shift, int axis)
    {
        if (scale is not null) x = Mul(x, Along(Parameter(scale, "weight")));
        return shift is null ? x : Add(x, Along(Parameter(shift, "bias")));

        OnnxValue Along(OnnxValue values)
            => x.Rank - axis == 1
                ? values
                : Reshape(values, [values[0], .. Enumerable.Repeat(OnnxLength.Of(1), x.Rank - axis - 1)]);
    }

    /// <summary>Pads axes at both ends, with a constant or with values of the input.</summary>
    /// <param name="x">The input.</param>
    /// <param name="mode">constant, reflect, edge, or wrap.</param>
    /// <param name="first">How many before each axis.</param>
    /// <param name="last">How many after each axis.</param>
    /// <param name="value">The constant. Default 0.</param>
    /// <exception cref="ArgumentException">
    /// <paramref name="first"/> or <paramref name="last"/> has another number of entries than the input axes.
    /// </exception>
    public OnnxValue Pad(OnnxValue x, string mode, IReadOnlyList<long> first, IReadOnlyList<long> last, double value = 0)
    {
        ArgumentNullException.ThrowIfNull(first);
        ArgumentNullException.ThrowIfNull(last);
        if (first.Count != Given(x).Rank || last.Count != x.Rank)
        {
            throw new ArgumentException(
                $"first and last have {first.Count} and {last.Count} numbers; give one for each of the {x.Rank} axes of {x}.",
                nameof(first));
        }

        if (first.Concat(last).All(count => count == 0)) return x;
        if (mode == "wrap")
        {
            // No operator of set 17 wraps.
            for (int i = 0; i < x.Rank; i++)
            {
                OnnxValue[] parts =
                [
                    .. first[i] > 0 ? [Slice(x, i, -first[i], long.MaxValue)] : Array.Empty<OnnxValue>(), x,
                    .. last[i] > 0 ? [Slice(x, i, 0, last[i])] : Array.Empty<OnnxValue>(),
                ];
                x = Concat(i, parts);
            }

            return x;
        }

        OnnxLength[] shape = [
            .. x.Shape.Select((length, i) => After(length, size => size + first[i] + last[i], first[i] + last[i] == 0))];
        return Node(
            "Pad", [x, Constant([.. first, .. last], 2 * x.Rank), value == 0 ? null : Scalar(value)], [(shape, x.ElementType)],
            ("mode", mode))[0];
    }

    /// <summary>Resizes a map (N, C, H, W) to another height and width.</summary>
    /// <param name="x">The map.</param>
    /// <param name="height">The height.</param>
    /// <param name="width">The width.</param>
    /// <param name="bilinear">True for bilinear (corners not aligned), false for the nearest value.</param>
    public OnnxValue Resize(OnnxValue x, OnnxLength height, OnnxLength width, bool bilinear)
    {
        ArgumentNullException.ThrowIfNull(height);
        ArgumentNullException.ThrowIfNull(width);
        OnnxLength[] shape = [Given(x)[0], x[1], height, width];
        (string, object)[] attributes = bilinear
            ? [("mode", "linear"), ("coordinate_transformation_mode", "half_pixel")]
            : [("mode", "nearest"), ("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor")];
        return Node("Resize", [x, null, null, Lengths(shape)], shape, attributes);
    }

    /// <summary>A constant of ones.</summary>
    internal OnnxValue Ones(params long[] shape)
    {
        float[] ones = new float[shape.Aggregate(1L, (a, b) => a * b)];
        Array.Fill(ones, 1);
        return Constant(ones, shape);
    }

    /// <summary>A map times its gate, after the identity start's blend; the factor is the module's map.</summary>
    internal OnnxValue Refine(OnnxValue x, OnnxValue gate, Tensor? alpha)
    {
        OnnxValue factor = Blend(gate, alpha);
        MapFactor(x, factor);
        return Mul(x, factor);
    }

    /// <summary>1 + alpha · (gate − 1): the identity start of a gate.</summary>
    internal OnnxValue Blend(OnnxValue gate, Tensor? alpha)
        => alpha is null ? gate : Add(Mul(Add(gate, -1), Parameter(alpha, "alpha")), 1);

    /// <summary>
    /// A factor of a map as the outputs that a recorder would have: of channels, of positions, or of every element.
    /// </summary>
    internal void MapFactor(OnnxValue x, OnnxValue factor)
    {
        if (!WantsMaps) return;
        if (IsOne(factor[1]) && (!IsOne(x[1]) || !IsOne(factor[2]) || !IsOne(factor[3])))
        {
            Map(AttentionMapKind.Spatial, Squeeze(Expand(factor, x[0], 1, x[2], x[3]), 1));
        }
        else if (IsOne(factor[2]) && IsOne(factor[3]))
        {
            Map(AttentionMapKind.Channel, Flatten(Expand(factor, x[0], factor[1], 1, 1)));
        }
        else
        {
            OnnxValue whole = Expand(factor, x.Shape);
            Map(AttentionMapKind.Element, whole);
            Map(AttentionMapKind.Channel, Reduce("ReduceMean", whole, [2, 3], keep: false));
            Map(AttentionMapKind.Spatial, Reduce("ReduceMean", whole, [1], keep: false));
        }
    }

    /// <summary>Mean over positions, or the average of mean and maximum: (N, C, 1, 1).</summary>
    internal OnnxValue Squeezed(OnnxValue x, bool maximum)
        => maximum ? Mul(Add(Mean(x, 2, 3), Max(x, 2, 3)), 0.5) : Mean(x, 2, 3);

    /// <summary>H · W − 1, at least 1, as a number.</summary>
    internal OnnxValue PositionsLessOne(OnnxValue x)
    {
        OnnxLength positions = x[2] * x[3];
        return positions.IsDynamic
            ? Broadcasting("Max", Add(Number(positions), -1), Scalar(1))
            : Scalar(Math.Max(1, positions.Size - 1));
    }

    /// <summary>Converts a length to a float32 value of the graph, which operators can compute with.</summary>
    /// <param name="length">The length.</param>
    public OnnxValue Number(OnnxLength length)
    {
        ArgumentNullException.ThrowIfNull(length);
        return length.IsDynamic ? Node("Cast", [Lengths(length)], [1], ("to", (long)OnnxElementType.Float)) : Scalar(length.Size);
    }

    /// <summary>A map cut to the height and width of another, or its last row and column repeated.</summary>
    internal OnnxValue FittedTo(OnnxValue map, OnnxValue like)
    {
        for (int axis = 2; axis <= 3; axis++)
        {
            OnnxLength wanted = like[axis];
            if (map[axis].Equals(wanted)) continue;
            if (!map[axis].IsDynamic && !wanted.IsDynamic)
            {
                long missing = wanted.Size - map[axis].Size;
                if (missing < 0) map = Slice(map, axis, 0, wanted.Size);
                if (missing > 0) map = Pad(map, "edge", new long[4], axis == 2 ? [0, 0, missing, 0] : [0, 0, 0, missing]);
                continue;
            }

            // Only the run knows which of the two it takes; the other then does nothing.
            OnnxLength[] cut = [.. map.Shape], shape = [.. map.Shape];
            cut[axis] = Unknown(Math.Min(map[axis].Size, wanted.Size), map[axis].Axes | wanted.Axes);
            map = Node("Slice", [map, Constant([0L], 1), Lengths(wanted), Constant([(long)axis], 1)], cut);
            OnnxValue rest = Node("Sub", [Lengths(wanted), Lengths(map[axis])], [([1], OnnxElementType.Int64)])[0];
            OnnxValue none = Constant(new long[4 + axis], 4 + axis);
            OnnxValue[] pads = axis == 2 ? [none, rest, Constant([0L], 1)] : [none, rest];
            shape[axis] = wanted;
            map = Node(
                "Pad", [map, Node("Concat", pads, [([8], OnnxElementType.Int64)], ("axis", 0L))[0]], shape, ("mode", "edge"));
        }

        return map;
    }

    private static bool IsOne(OnnxLength length) => length is { IsDynamic: false, Size: 1 };
}
