using System.Numerics;
using System.Runtime.InteropServices;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// What calibration keeps of a value: its extremes, and how often values fell into bins of equal width around zero. Bins have a
/// power of two as width; a value out of reach doubles it, which joins bins in pairs. So nothing is ever moved into a wrong bin,
/// and the order of the batches does not matter.
/// </summary>
internal sealed class ActivationHistogram(bool bins)
{
    /// <summary>Bins on each side of zero. The longer side uses more than half of its own.</summary>
    internal const int Side = 2048;

    private readonly long[] _counts = bins ? new long[2 * Side] : [];

    /// <summary>The smallest value seen.</summary>
    public float Min { get; private set; } = float.PositiveInfinity;

    /// <summary>The largest value seen.</summary>
    public float Max { get; private set; } = float.NegativeInfinity;

    /// <summary>How many values were seen.</summary>
    public long Count { get; private set; }

    /// <summary>How many were exactly zero; counted with the bins.</summary>
    public long Zeros { get; private set; }

    /// <summary>
    /// How many were infinite. They are in no bin, and neither in the extremes nor in the count: no range could hold them.
    /// </summary>
    public long Infinities { get; private set; }

    /// <summary>Width of a bin; 0 while nothing but zeros was seen.</summary>
    public double Width { get; private set; }

    /// <summary>Bin i holds the values from (i − <see cref="Side"/>) · width up to the next bin's.</summary>
    public ReadOnlySpan<long> Counts => _counts;

    /// <summary>Takes values in.</summary>
    /// <returns>False when one of them is NaN: then nothing was taken in.</returns>
    public bool Add(ReadOnlySpan<float> values)
    {
        if (values.IsEmpty) return true;
        (float min, float max, bool finite) = Extremes(values);
        if (!finite) return AddFinite(values);
        (Min, Max) = (Math.Min(Min, min), Math.Max(Max, max));
        Count += values.Length;
        if (_counts.Length > 0) Fill(values, Math.Max(Math.Abs(min), Math.Abs(max)));
        return true;
    }

    private bool AddFinite(ReadOnlySpan<float> values)
    {
        List<float> finite = [];
        foreach (float value in values)
        {
            if (float.IsNaN(value)) return false;
            if (float.IsFinite(value)) finite.Add(value);
        }

        Infinities += values.Length - finite.Count;
        return Add(CollectionsMarshal.AsSpan(finite));
    }

    private void Fill(ReadOnlySpan<float> values, float reach)
    {
        if (reach == 0 && Width == 0)
        {
            _counts[Side] += values.Length;
            Zeros += values.Length;
            return;
        }

        if (Width == 0) Width = Math.ScaleB(1, Math.ILogB(reach) + 1) / Side;
        while (reach >= Width * Side) Double();
        double scale = 1 / Width;
        foreach (float value in values)
        {
            if (value == 0) Zeros++;
            // Below −width · side only by rounding, and that cannot be: both are powers of two.
            _counts[(int)Math.Floor(value * scale) + Side]++;
        }
    }

    private void Double()
    {
        Width *= 2;
        long[] joined = new long[2 * Side];
        for (int i = 0; i < joined.Length; i++) joined[(i + Side) / 2] += _counts[i];
        joined.CopyTo(_counts, 0);
    }

    private static (float Min, float Max, bool Finite) Extremes(ReadOnlySpan<float> values)
    {
        float min = float.PositiveInfinity, max = float.NegativeInfinity;
        // x − x is zero for every finite x and NaN otherwise.
        float wrong = 0;
        ReadOnlySpan<Vector<float>> vectors = MemoryMarshal.Cast<float, Vector<float>>(values);
        if (!vectors.IsEmpty)
        {
            Vector<float> least = vectors[0], most = vectors[0], off = default;
            foreach (Vector<float> vector in vectors)
            {
                least = Vector.Min(least, vector);
                most = Vector.Max(most, vector);
                off += vector - vector;
            }

            for (int i = 0; i < Vector<float>.Count; i++)
            {
                (min, max, wrong) = (Math.Min(min, least[i]), Math.Max(max, most[i]), wrong + off[i]);
            }
        }

        foreach (float value in values[(vectors.Length * Vector<float>.Count)..])
        {
            (min, max, wrong) = (Math.Min(min, value), Math.Max(max, value), wrong + (value - value));
        }

        return (min, max, wrong == 0);
    }
}
