using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <content>Pooling, and a rectifier with a learnt slope.</content>
public sealed partial class OnnxContext
{
    /// <summary>Maximum over windows.</summary>
    /// <param name="x">(N, C, …).</param>
    /// <param name="kernel">The window.</param>
    /// <param name="strides">From one window to the next.</param>
    /// <param name="pads">What is added on both ends of each axis; it never is the maximum.</param>
    /// <param name="dilations">From one value of a window to the next; null for 1.</param>
    /// <param name="ceil">Whether the last window may reach beyond the end. Default false.</param>
    public OnnxValue MaxPool(
        OnnxValue x, IReadOnlyList<long> kernel, IReadOnlyList<long> strides, IReadOnlyList<long> pads,
        IReadOnlyList<long>? dilations = null, bool ceil = false)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        int spatial = Given(x).Rank - 2;
        long[] windows = Each(kernel, spatial), steps = Each(strides, spatial), around = Each(pads, spatial),
            apart = Each(dilations ?? [1], spatial);
        return Node(
            "MaxPool", [x], Pooled(x, windows, steps, around, apart, ceil),
            ("kernel_shape", windows), ("strides", steps), ("pads", (long[])[.. around, .. around]), ("dilations", apart),
            ("ceil_mode", ceil));
    }

    /// <summary>Mean over windows.</summary>
    /// <param name="x">(N, C, …).</param>
    /// <param name="kernel">The window.</param>
    /// <param name="strides">From one window to the next.</param>
    /// <param name="pads">Zeros on both ends of each axis.</param>
    /// <param name="ceil">Whether the last window may reach beyond the end. Default false.</param>
    /// <param name="countPads">Whether those zeros count in the mean. Default true, as in PyTorch.</param>
    public OnnxValue AveragePool(
        OnnxValue x, IReadOnlyList<long> kernel, IReadOnlyList<long> strides, IReadOnlyList<long> pads, bool ceil = false,
        bool countPads = true)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        int spatial = Given(x).Rank - 2;
        long[] windows = Each(kernel, spatial), steps = Each(strides, spatial), around = Each(pads, spatial);
        bool padded = around.Any(pad => pad > 0);
        if (!ceil && !padded && windows.Count(window => window > 1) > 1 && IsLarge([.. windows.Select(OnnxLength.Of)]))
        {
            return Enumerable.Range(
                0,
                spatial).Reverse().Where(i => windows[i] > 1 || steps[i] > 1)
                .Aggregate(
                    x,
                    (map, axis) => AveragePool(
                        map, [.. windows.Select((window, i) => i == axis ? window : 1)],
                        [.. steps.Select((step, i) => i == axis ? step : 1)], [0]));
        }

        // Without pads both ways of counting mean the same, and integer pools of runtimes are wrong for the
        // other where a window reaches over the end.
        countPads &= padded;
        return Node(
            "AveragePool", [x], Pooled(x, windows, steps, around, Each([1L], spatial), ceil),
            ("kernel_shape", windows), ("strides", steps), ("pads", (long[])[.. around, .. around]), ("ceil_mode", ceil),
            ("count_include_pad", countPads));
    }

    /// <summary>
    /// Adaptive pooling: mean or maximum over a given number of windows per axis. The windows divide each axis evenly.
    /// </summary>
    /// <param name="x">(N, C, …).</param>
    /// <param name="sizes">
    /// Number of windows per axis. 1 works with any size; other numbers must divide the size of the axis, which is then fixed.
    /// </param>
    /// <param name="maximum">True for the maximum, false for the mean.</param>
    public OnnxValue AdaptivePool(OnnxValue x, IReadOnlyList<long> sizes, bool maximum)
    {
        int spatial = Given(x).Rank - 2;
        long[] asked = Each(sizes, spatial);
        string reduce = maximum ? "ReduceMax" : "ReduceMean";
        int[] whole = [.. Enumerable.Range(2, spatial).Where(axis => asked[axis - 2] == 1)];
        if (whole.Length > 0) x = Reduce(reduce, x, whole);
        if (whole.Length == spatial) return x;
        long[] windows = new long[spatial];
        for (int i = 0; i < spatial; i++)
        {
            if (asked[i] is -1 or 0 || asked[i] == x[i + 2].Size && !x[i + 2].IsDynamic)
            {
                windows[i] = 1;
                continue;
            }

            long size = RequireStatic(x[i + 2], $"adaptive pooling to {asked[i]} windows");
            if (size % asked[i] != 0)
            {
                throw Unsupported(
                    $"adaptive pooling makes {asked[i]} windows of {size} positions. The number must be 1 or divide the size.");
            }

            windows[i] = size / asked[i];
        }

        if (windows.All(window => window == 1)) return x;
        return maximum ? MaxPool(x, windows, windows, [0]) : AveragePool(x, windows, windows, [0]);
    }

    /// <summary>x where it is positive, slope · x elsewhere.</summary>
    /// <param name="x">(N, C, …).</param>
    /// <param name="slope">One number, or one per channel.</param>
    internal OnnxValue PRelu(OnnxValue x, Tensor slope)
    {
        OnnxValue weight = Parameter(slope, "weight");
        if (weight[0].Size > 1 && x.Rank > 2)
        {
            weight = Reshape(weight, [weight[0], .. Enumerable.Repeat(OnnxLength.Of(1), x.Rank - 2)]);
        }

        return Node("PRelu", [x, weight], x.Shape);
    }

    private static OnnxLength[] Pooled(OnnxValue x, long[] windows, long[] steps, long[] around, long[] apart, bool ceil)
    {
        OnnxLength[] shape = [.. x.Shape];
        for (int i = 0; i < windows.Length; i++)
        {
            long step = steps[i], pad = around[i], reach = apart[i] * (windows[i] - 1) + 1;
            shape[i + 2] = After(
                x[i + 2], size => Windows(size, reach, step, pad, ceil), !ceil && SameSize(windows[i], step, pad, apart[i]));
        }

        return shape;
    }

    private static long Windows(long size, long reach, long step, long pad, bool ceil)
    {
        long room = size + 2 * pad - reach, count = room / step + 1;
        if (!ceil || room % step == 0) return count;
        return count * step >= size + pad ? count : count + 1; // No window starts in the padding.
    }

    /// <summary>A setting of each axis, of which one number says it for all.</summary>
    internal static T[] Each<T>(IReadOnlyList<T> values, int count)
        => values.Count == count ? [.. values] : [.. Enumerable.Repeat(values[0], count)];
}
