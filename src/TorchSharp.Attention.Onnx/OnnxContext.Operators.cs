namespace TorchSharp.Attention.Onnx;

/// <content>Operators that work out the shape of their output.</content>
public sealed partial class OnnxContext
{
    /// <summary>max(x, 0).</summary>
    /// <param name="x">The input.</param>
    public OnnxValue Relu(OnnxValue x) => Elementwise("Relu", x);

    /// <summary>1 / (1 + e^−x).</summary>
    /// <param name="x">The input.</param>
    public OnnxValue Sigmoid(OnnxValue x) => Elementwise("Sigmoid", x);

    /// <summary>An operator that keeps its input's shape.</summary>
    /// <param name="op">The operator, of operator set 17.</param>
    /// <param name="x">The input.</param>
    /// <param name="attributes">Settings.</param>
    public OnnxValue Elementwise(string op, OnnxValue x, params (string Name, object Value)[] attributes)
        => Node(op, [x], [(Given(x).Shape, x.ElementType)], attributes)[0];

    /// <summary>An operator with broadcasting: Add, Sub, Mul, Div, Pow, Max, Min.</summary>
    /// <param name="op">The operator.</param>
    /// <param name="left">One input.</param>
    /// <param name="right">The other.</param>
    public OnnxValue Broadcasting(string op, OnnxValue left, OnnxValue right)
        => Node(op, [left, right], [(Broadcast(Given(left).Shape, Given(right).Shape), left.ElementType)])[0];

    /// <summary>Sum, with broadcasting.</summary>
    /// <param name="left">One input.</param>
    /// <param name="right">The other.</param>
    public OnnxValue Add(OnnxValue left, OnnxValue right) => Broadcasting("Add", left, right);

    /// <summary>Adds a number to every element.</summary>
    /// <param name="x">The input.</param>
    /// <param name="number">The number.</param>
    public OnnxValue Add(OnnxValue x, double number) => Add(x, Scalar(number));

    /// <summary>Difference, with broadcasting.</summary>
    /// <param name="left">From what is taken.</param>
    /// <param name="right">What is taken.</param>
    public OnnxValue Sub(OnnxValue left, OnnxValue right) => Broadcasting("Sub", left, right);

    /// <summary>Product, with broadcasting.</summary>
    /// <param name="left">One input.</param>
    /// <param name="right">The other.</param>
    public OnnxValue Mul(OnnxValue left, OnnxValue right) => Broadcasting("Mul", left, right);

    /// <summary>Multiplies every element by a number. If the number is 1, the result is the input itself.</summary>
    /// <param name="x">The input.</param>
    /// <param name="number">The number.</param>
    public OnnxValue Mul(OnnxValue x, double number) => number == 1 ? x : Mul(x, Scalar(number));

    /// <summary>Quotient, with broadcasting.</summary>
    /// <param name="left">What is divided.</param>
    /// <param name="right">By what.</param>
    public OnnxValue Div(OnnxValue left, OnnxValue right) => Broadcasting("Div", left, right);

    /// <summary>Limits every element to the range between two bounds.</summary>
    /// <param name="x">The input.</param>
    /// <param name="least">The lower bound.</param>
    /// <param name="most">The upper bound; null for none.</param>
    public OnnxValue Clip(OnnxValue x, double least, double? most = null)
        => Node("Clip", [x, Scalar(least), most is { } bound ? Scalar(bound) : null], Given(x).Shape);

    /// <summary>Softmax along an axis.</summary>
    /// <param name="x">The input.</param>
    /// <param name="axis">The axis; negative ones count from the end.</param>
    public OnnxValue Softmax(OnnxValue x, int axis) => Elementwise("Softmax", x, ("axis", (long)axis));

    /// <summary>
    /// Reduces axes with ReduceMean, ReduceMax, ReduceMin, ReduceSum, ReduceL1, ReduceL2 or ReduceSumSquare. Sums and means over
    /// large maps are written in stages, one axis after the other, to limit the rounding error.
    /// </summary>
    /// <param name="op">The operator.</param>
    /// <param name="x">The input.</param>
    /// <param name="axes">The axes; negative ones count from the end.</param>
    /// <param name="keep">Whether the axes stay, with length 1. Default true.</param>
    public OnnxValue Reduce(string op, OnnxValue x, IReadOnlyList<int> axes, bool keep = true)
    {
        int[] own = [.. axes.Select(axis => axis < 0 ? axis + Given(x).Rank : axis)];
        if (own.Length > 1 && _stages.TryGetValue(op, out string? rest) && IsLarge([.. own.Select(axis => x[axis])]))
        {
            int[] order = [.. own.OrderDescending()];
            OnnxValue reduced = order.Skip(
                1)
                .Aggregate(
                    ReduceAtOnce(op, x, [order[0]], keep: true), (rows, axis) => ReduceAtOnce(rest, rows, [axis], keep: true));
            return keep ? reduced : Squeeze(reduced, own);
        }

        return ReduceAtOnce(op, x, own, keep);
    }

    /// <summary>What reduces the results of a reduction along one axis further, along the next.</summary>
    private static readonly Dictionary<string, string> _stages = new()
    {
        ["ReduceMean"] = "ReduceMean",
        ["ReduceSum"] = "ReduceSum",
        ["ReduceL1"] = "ReduceSum",
        ["ReduceL2"] = "ReduceL2",
        ["ReduceSumSquare"] = "ReduceSum",
    };

    /// <summary>
    /// Whether so many numbers are added that rounding shows: runtimes add them up in float32 one after the other, and
    /// over an even area the roundings go the same way, 0.1 % for a mean of 1024 · 1024. In two stages, along one axis
    /// and then along the other, they do not.
    /// </summary>
    private static bool IsLarge(IReadOnlyList<OnnxLength> lengths)
        => lengths.Any(length => length.IsDynamic)
            || lengths.Aggregate(1L, (product, length) => product * length.Size) > LargestAtOnce;

    /// <summary>How many numbers are added at once where axes can be taken one after the other.</summary>
    internal const long LargestAtOnce = 64 * 64;

    private OnnxValue ReduceAtOnce(string op, OnnxValue x, int[] own, bool keep)
    {
        List<OnnxLength> shape = [];
        for (int i = 0; i < x.Rank; i++)
        {
            if (!own.Contains(i)) shape.Add(x[i]);
            else if (keep) shape.Add(1);
        }

        // Its axes became an input one operator set earlier than the others'.
        return op == "ReduceSum"
            ? Node(op, [x, Constant([.. own.Select(axis => (long)axis)], own.Length)], shape, ("keepdims", keep))
            : Node(op, [x], shape, ("axes", own), ("keepdims", keep));
    }

    /// <summary>
    /// Mean over axes, which are kept with length 1. TorchSharp's <c>mean</c> removes them by default: use the overload with
    /// keepDims for that.
    /// </summary>
    /// <param name="x">The input.</param>
    /// <param name="axes">The axes; negative ones count from the end.</param>
    public OnnxValue Mean(OnnxValue x, params IReadOnlyList<int> axes) => Reduce("ReduceMean", x, axes);

    /// <summary>Mean over axes.</summary>
    /// <param name="x">The input.</param>
    /// <param name="axes">The axes; negative ones count from the end.</param>
    /// <param name="keepDims">
    /// Whether the axes stay, with length 1; false drops them, as TorchSharp's <c>mean</c> does unless told otherwise.
    /// </param>
    public OnnxValue Mean(OnnxValue x, IReadOnlyList<int> axes, bool keepDims) => Reduce("ReduceMean", x, axes, keepDims);

    /// <summary>
    /// Maximum over axes, which are kept with length 1. TorchSharp's <c>amax</c> removes them by default: use the overload with
    /// keepDims for that.
    /// </summary>
    /// <param name="x">The input.</param>
    /// <param name="axes">The axes; negative ones count from the end.</param>
    public OnnxValue Max(OnnxValue x, params IReadOnlyList<int> axes) => Reduce("ReduceMax", x, axes);

    /// <summary>Maximum over axes.</summary>
    /// <param name="x">The input.</param>
    /// <param name="axes">The axes; negative ones count from the end.</param>
    /// <param name="keepDims">
    /// Whether the axes stay, with length 1; false drops them, as TorchSharp's <c>amax</c> does unless told otherwise.
    /// </param>
    public OnnxValue Max(OnnxValue x, IReadOnlyList<int> axes, bool keepDims) => Reduce("ReduceMax", x, axes, keepDims);

    /// <summary>
    /// Sum over axes, which are kept with length 1. TorchSharp's <c>sum</c> removes them by default: use the overload with
    /// keepDims for that.
    /// </summary>
    /// <param name="x">The input.</param>
    /// <param name="axes">The axes; negative ones count from the end.</param>
    public OnnxValue Sum(OnnxValue x, params IReadOnlyList<int> axes) => Reduce("ReduceSum", x, axes);

    /// <summary>Sum over axes.</summary>
    /// <param name="x">The input.</param>
    /// <param name="axes">The axes; negative ones count from the end.</param>
    /// <param name="keepDims">
    /// Whether the axes stay, with length 1; false drops them, as TorchSharp's <c>sum</c> does unless told otherwise.
    /// </param>
    public OnnxValue Sum(OnnxValue x, IReadOnlyList<int> axes, bool keepDims) => Reduce("ReduceSum", x, axes, keepDims);

    /// <summary>A convolution over any number of axes.</summary>
    /// <param name="x">(N, C, …).</param>
    /// <param name="weight">(C′, C / groups, …).</param>
    /// <param name="bias">(C′); null for none.</param>
    /// <param name="strides">One number per spatial axis; null for 1.</param>
    /// <param name="pads">Zeros on both ends of each spatial axis; null for none.</param>
    /// <param name="dilations">One number per spatial axis; null for 1.</param>
    /// <param name="groups">Groups. Default 1.</param>
    public OnnxValue Conv(
        OnnxValue x, OnnxValue weight, OnnxValue? bias = null, IReadOnlyList<long>? strides = null,
        IReadOnlyList<long>? pads = null,
        IReadOnlyList<long>? dilations = null, long groups = 1)
    {
        int spatial = Given(x).Rank - 2;
        long[] kernel = [.. weight.Shape.Skip(2).Select(length => length.Size)];
        strides ??= Repeat(1, spatial);
        pads ??= Repeat(0, spatial);
        dilations ??= Repeat(1, spatial);
        OnnxLength[] shape = [
            x[0], weight[0],
            .. Enumerable.Range(
                0,
                spatial)
                .Select(
                    i => After(
                        x[i + 2], size => (size + 2 * pads[i] - dilations[i] * (kernel[i] - 1) - 1) / strides[i] + 1,
                        SameSize(kernel[i], strides[i], pads[i], dilations[i])))];
        return Node(
            "Conv", [x, weight, bias], shape,
            ("kernel_shape", kernel), ("strides", strides), ("pads", (long[])[.. pads, .. pads]), ("dilations", dilations),
            ("group", groups));
    }

    /// <summary>Matrix product over the last two axes, with broadcasting over the others.</summary>
    /// <param name="left">(…, L, K).</param>
    /// <param name="right">(…, K, S).</param>
    /// <exception cref="ArgumentException">The lengths that have to be the same differ.</exception>
    public OnnxValue MatMul(OnnxValue left, OnnxValue right)
    {
        if (Given(left)[-1].Size != Given(right)[-2].Size)
        {
            throw new ArgumentException(
                $"right is {right}, whose second axis from the end must be as long as the last axis of {left}.", nameof(right));
        }

        OnnxLength[] batch = Broadcast([.. Given(left).Shape.SkipLast(2)], [.. Given(right).Shape.SkipLast(2)]);
        return Node("MatMul", [left, right], [.. batch, left[-2], right[-1]]);
    }

    /// <summary>Reshapes a value. Lengths may be dynamic; −1 is not needed.</summary>
    /// <param name="x">The input.</param>
    /// <param name="shape">Length of each axis.</param>
    public OnnxValue Reshape(OnnxValue x, params IReadOnlyList<OnnxLength> shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        long values = Given(x).Shape.Aggregate(1L, (product, length) => product * length.Size), asked = shape.Aggregate(
            1L, (product, length) => product * length.Size);
        if (values != asked)
        {
            throw new ArgumentException(
                $"shape is ({string.Join(", ", shape)}), which does not hold the values of {x}.", nameof(shape));
        }

        // 0 keeps the length of the same axis, −1 is what the rest leaves; whatever else is dynamic must be computed.
        long[] constant = new long[shape.Count];
        List<int> open = [];
        for (int i = 0; i < constant.Length; i++)
        {
            if (!shape[i].IsDynamic) constant[i] = shape[i].Size;
            else if (i < x.Rank && shape[i].Equals(x[i])) constant[i] = 0;
            else open.Add(i);
        }

        if (open.Count == 1) constant[open[0]] = -1;
        OnnxValue target = open.Count <= 1 ? Constant(constant, constant.Length) : Lengths(shape);
        return Node("Reshape", [x, target], [(shape, x.ElementType)])[0];
    }

    /// <summary>Makes a 1-D int64 value of lengths, one element per length.</summary>
    /// <param name="lengths">The lengths; dynamic ones are read while the file runs.</param>
    public OnnxValue Lengths(params IReadOnlyList<OnnxLength> lengths)
    {
        ArgumentNullException.ThrowIfNull(lengths);
        if (lengths.All(length => !length.IsDynamic)) return Constant([.. lengths.Select(length => length.Size)], lengths.Count);
        OnnxValue[] parts = [.. lengths.Select(Length)];
        return parts.Length == 1 ? parts[0] : Node("Concat", parts, [([parts.Length], OnnxElementType.Int64)], ("axis", 0L))[0];
    }

    /// <summary>Permutes the axes.</summary>
    /// <param name="x">The input.</param>
    /// <param name="order">For each axis of the output, which of the input's it is.</param>
    public OnnxValue Transpose(OnnxValue x, params IReadOnlyList<int> order)
        => Node("Transpose", [x], [([.. order.Select(axis => Given(x)[axis])], x.ElementType)], ("perm", order))[0];

    /// <summary>Merges consecutive axes into one.</summary>
    /// <param name="x">The input.</param>
    /// <param name="from">The first of them. Default 1.</param>
    /// <param name="to">The last of them. Default the last of all.</param>
    public OnnxValue Flatten(OnnxValue x, int from = 1, int to = -1)
    {
        from = from < 0 ? from + Given(x).Rank : from;
        to = to < 0 ? to + x.Rank : to;
        if (from >= to) return x;
        OnnxLength product = x.Shape.Skip(from).Take(to - from + 1).Aggregate((a, b) => a * b);
        return Reshape(x, [.. x.Shape.Take(from), product, .. x.Shape.Skip(to + 1)]);
    }

    /// <summary>Inserts axes of length 1.</summary>
    /// <param name="x">The input.</param>
    /// <param name="axes">Their places in the output.</param>
    public OnnxValue Unsqueeze(OnnxValue x, params IReadOnlyList<int> axes)
    {
        List<OnnxLength> shape = [.. Given(x).Shape];
        foreach (int axis in axes.Order()) shape.Insert(axis, 1);
        return Node(
            "Unsqueeze", [x, Constant([.. axes.Order().Select(axis => (long)axis)], axes.Count)], [(shape, x.ElementType)])[0];
    }

    /// <summary>Removes axes of length 1.</summary>
    /// <param name="x">The input.</param>
    /// <param name="axes">The axes; negative ones count from the end.</param>
    public OnnxValue Squeeze(OnnxValue x, params IReadOnlyList<int> axes)
    {
        long[] own = [.. axes.Select(axis => (long)(axis < 0 ? axis + Given(x).Rank : axis)).Order()];
        return Node(
            "Squeeze", [x, Constant(own, own.Length)], [([.. x.Shape.Where((_, i) => !own.Contains(i))], x.ElementType)])[0];
    }

    /// <summary>Repeats axes of length 1.</summary>
    /// <param name="x">The input.</param>
    /// <param name="shape">The shape that it broadcasts to.</param>
    public OnnxValue Expand(OnnxValue x, params IReadOnlyList<OnnxLength> shape) => Given(x).Shape.SequenceEqual(shape)
        ? x
        : Node("Expand", [x, Lengths(shape)], [(shape, x.ElementType)])[0];

    /// <summary>Concatenates values along an axis.</summary>
    /// <param name="axis">The axis; negative ones count from the end.</param>
    /// <param name="values">The values.</param>
    public OnnxValue Concat(int axis, params IReadOnlyList<OnnxValue> values)
    {
        ArgumentNullException.ThrowIfNull(values);
        if (values.Count == 1) return values[0];
        axis = axis < 0 ? axis + values[0].Rank : axis;
        long size = values.Sum(value => value[axis].Size);
        ulong axes = values.Aggregate(0UL, (all, value) => all | value[axis].Axes);
        OnnxLength[] shape = [.. values[0].Shape];
        shape[axis] = Unknown(size, axes);
        return Node("Concat", values, [(shape, values[0].ElementType)], ("axis", (long)axis))[0];
    }

    /// <summary>Splits a value into parts along an axis.</summary>
    /// <param name="x">The input.</param>
    /// <param name="axis">The axis; negative ones count from the end.</param>
    /// <param name="sizes">The length of each part.</param>
    public IReadOnlyList<OnnxValue> Split(OnnxValue x, int axis, params long[] sizes)
    {
        ArgumentNullException.ThrowIfNull(sizes);
        if (sizes.Length == 1) return [Given(x)];
        axis = axis < 0 ? axis + Given(x).Rank : axis;
        return Node(
            "Split", [x, Constant(sizes, sizes.Length)],
            [.. sizes.Select(
                size => ((IReadOnlyList<OnnxLength>)[
                    .. x.Shape.Select((length, i) => i == axis ? size : length)], x.ElementType))], ("axis", (long)axis));
    }

    /// <summary>Takes a range of positions of an axis.</summary>
    /// <param name="x">The input.</param>
    /// <param name="axis">The axis; negative ones count from the end.</param>
    /// <param name="start">The first position; negative ones count from the end.</param>
    /// <param name="end">
    /// The position after the last; negative ones count from the end; <see cref="long.MaxValue"/> for the end.
    /// </param>
    /// <param name="step">From one position to the next. Default 1.</param>
    public OnnxValue Slice(OnnxValue x, int axis, long start, long end, long step = 1)
    {
        axis = axis < 0 ? axis + Given(x).Rank : axis;
        long size = x[axis].Size;
        long first = Math.Clamp(start < 0 ? start + size : start, 0, size),
            last = Math.Clamp(end < 0 ? end + size : end, 0, size);
        OnnxLength[] shape = [.. x.Shape];
        shape[axis] = Unknown((last - first + step - 1) / step, x[axis].Axes);
        return Node(
            "Slice",
            [x, Constant([start], 1), Constant([end], 1), Constant([(long)axis], 1), step == 1 ? null : Constant([step], 1)],
            [(shape, x.ElementType)])[0];
    }

    /// <summary>Adds a float32 scalar to the graph as a constant.</summary>
    /// <param name="number">The number; it is rounded to float32.</param>
    public OnnxValue Scalar(double number) => Constant([(float)number]);

    /// <summary>Applies an activation of the library.</summary>
    /// <param name="activation">The activation.</param>
    /// <param name="x">The input.</param>
    public OnnxValue Activate(GateActivation activation, OnnxValue x) => activation switch
    {
        GateActivation.ReLU => Relu(x),
        GateActivation.ReLU6 => Clip(x, 0, 6),
        GateActivation.SiLU => Mul(x, Sigmoid(x)),
        GateActivation.HardSwish => HardSwish(x),
        GateActivation.GELU => Gelu(x),
        _ => throw Unsupported($"no operators are known for the activation {activation}."),
    };

    /// <summary>Applies the function at the end of a gate.</summary>
    /// <param name="gate">The function.</param>
    /// <param name="x">The input.</param>
    public OnnxValue Activate(GateFunction gate, OnnxValue x) => gate switch
    {
        GateFunction.Sigmoid => Sigmoid(x),
        GateFunction.HardSigmoid => HardSigmoid(x),
        _ => throw Unsupported($"no operators are known for the gate function {gate}."),
    };

    /// <summary>GELU: x · Φ(x), where Φ is the distribution function of the standard normal distribution.</summary>
    /// <param name="x">The input.</param>
    public OnnxValue Gelu(OnnxValue x) => Mul(Mul(x, 0.5), Add(Elementwise("Erf", Mul(x, Math.Sqrt(0.5))), 1));

    /// <summary>Hard sigmoid: x / 6 + 1 / 2, limited to the range from 0 to 1.</summary>
    /// <param name="x">The input.</param>
    public OnnxValue HardSigmoid(OnnxValue x) => Elementwise("HardSigmoid", x, ("alpha", 1f / 6), ("beta", 0.5f));

    /// <summary>Hard swish: x · hardsigmoid(x).</summary>
    /// <param name="x">The input.</param>
    public OnnxValue HardSwish(OnnxValue x) => Elementwise("HardSwish", x);

    /// <summary>A length as a value of one whole number.</summary>
    private OnnxValue Length(OnnxLength length)
    {
        if (!length.IsDynamic) return Constant([length.Size], 1);
        if (length.Source is (string name, int axis))
        {
            string key = $"{name}:{axis}";
            if (!_lengths.TryGetValue(key, out OnnxValue? value))
            {
                OnnxValue source = new(name, [], OnnxElementType.Float);
                _lengths.Add(
                    key, value = Node(
                        "Shape", [source], [([1], OnnxElementType.Int64)], ("start", (long)axis), ("end", axis + 1L))[0]);
            }

            return value;
        }

        return length.Factors.Select(Length).Aggregate((a, b) => Node("Mul", [a, b], [([1], OnnxElementType.Int64)])[0]);
    }

    private static OnnxLength[] Broadcast(IReadOnlyList<OnnxLength> left, IReadOnlyList<OnnxLength> right)
    {
        int rank = Math.Max(left.Count, right.Count);
        OnnxLength[] shape = new OnnxLength[rank];
        for (int i = 1; i <= rank; i++)
        {
            OnnxLength? a = i <= left.Count ? left[^i] : null, b = i <= right.Count ? right[^i] : null;
            shape[^i] = a is null || a is { IsDynamic: false, Size: 1 }
                ? b ?? a!
                : b is null || b is { IsDynamic: false, Size: 1 } || a.IsDynamic || !b.IsDynamic ? a : b;
            if (a is not null && b is not null && a.Size != b.Size && a.Size != 1 && b.Size != 1)
            {
                throw new ArgumentException(
                    $"({string.Join(", ", left)}) and ({string.Join(", ", right)}) do not broadcast.", nameof(right));
            }
        }

        return shape;
    }

    /// <summary>A length that an operator computes from another; the same length where the operator keeps every length.</summary>
    internal static OnnxLength After(OnnxLength length, Func<long, long> size, bool same = false)
        => same ? length : Unknown(size(length.Size), length.Axes);

    private static bool SameSize(long kernel, long stride, long pad, long dilation)
        => stride == 1 && 2 * pad == dilation * (kernel - 1);

    private static OnnxLength Unknown(long size, ulong axes) => OnnxLength.Computed(size, axes);

    private static long[] Repeat(long value, int count) => [.. Enumerable.Repeat(value, count)];

    private static OnnxValue Given(OnnxValue x)
    {
        ArgumentNullException.ThrowIfNull(x);
        return x;
    }
}
