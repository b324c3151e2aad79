using System.Globalization;

namespace TorchSharp.Attention.Onnx;

/// <summary>How far one output of a model is from the float model's: as a whole, and by channels of like size.</summary>
internal sealed class OutputErrors(string name)
{
    // Channels of one group differ in size by this at most.
    private const double Alike = 64;

    // What is smaller, against the largest channel, is float32's rounding.
    private const double Noise = 1e-6;

    private readonly Dictionary<int, Sums[]> _axes = [];

    private Sums _whole;

    /// <summary>Squares of the float model's numbers and of the differences, summed.</summary>
    public (double Signal, double Noise) Whole => (_whole.Signal, _whole.Noise);

    /// <summary>Takes in a batch.</summary>
    public void Add(float[] expected, float[] found, long[] shape)
    {
        for (int i = 0; i < expected.Length; i++) _whole.Add(expected[i], found[i]);
        if (shape.Length < 2 || expected.Length == 0) return;
        foreach (int axis in new[] { 1, shape.Length - 1 }.Distinct())
        {
            int channels = (int)shape[axis],
                inner = (int)shape.Skip(axis + 1).Aggregate(1L, (product, length) => product * length);
            if (!_axes.TryGetValue(axis, out Sums[]? sums) || sums.Length < channels)
            {
                Sums[] more = new Sums[channels];
                sums?.CopyTo(more, 0);
                _axes[axis] = sums = more;
            }

            for (int i = 0; i < expected.Length; i++) sums[i / inner % channels].Add(expected[i], found[i]);
        }
    }

    /// <summary>The error of the whole and of every group of channels, with its name.</summary>
    public IEnumerable<(double Error, string Part)> Parts()
    {
        yield return (_whole.Error, $"'{name}'");
        foreach ((int axis, Sums[] sums) in _axes)
        {
            int[] order = [.. Enumerable.Range(0, sums.Length).Where(i => sums[i].Size > 0).OrderByDescending(i => sums[i].Size)];
            for (int from = 0, to; from < order.Length && sums[order[from]].Size >= Noise * sums[order[0]].Size; from = to)
            {
                double largest = sums[order[from]].Size;
                Sums group = default;
                for (to = from; to < order.Length && sums[order[to]].Size * Alike >= largest; to++) group.Add(sums[order[to]]);
                int[] channels = [.. order[from..to].Order()];
                if (channels.Length == sums.Length) continue;
                string which = string.Join(
                    ", ", channels.Take(8).Select(channel => channel.ToString(CultureInfo.InvariantCulture)));
                yield return (group.Error, $"'{name}', entries {which}{(channels.Length > 8 ? ", …" : "")} of axis {axis}");
            }
        }
    }

    private record struct Sums
    {
        public double Signal, Noise;

        public long Count;

        public readonly double Error => ErrorOf(Signal, Noise);

        /// <summary>Root mean square of the float model's numbers.</summary>
        public readonly double Size => Count == 0 ? 0 : Math.Sqrt(Signal / Count);

        public void Add(double expected, double found)
        {
            double difference = expected - found;
            Signal += expected * expected;
            Noise += difference * difference;
            Count++;
        }

        public void Add(Sums other) => (Signal, Noise, Count) = (Signal + other.Signal, Noise + other.Noise, Count + other.Count);
    }

    /// <summary>The square root of noise over signal; infinite where something differs from nothing, or is no number.</summary>
    public static double ErrorOf(double signal, double noise)
        => noise == 0 ? 0 : signal > 0 && double.IsFinite(noise) ? Math.Sqrt(noise / signal) : double.PositiveInfinity;
}
