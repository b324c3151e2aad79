using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Statistics of a gate, collected batch by batch in one pass: how its values are distributed, how many are closed or open, which
/// channels are dead, and how classes differ. A unit is a channel of a channel gate or a position of a spatial gate.
/// </summary>
/// <remarks>
/// Sums are kept in float64 by Welford's method: "Note on a Method for Calculating Corrected Sums of Squares and Products", 1962.
/// </remarks>
public sealed class GateStatistics
{
    /// <summary>A gate with a value below this counts as closed.</summary>
    public const double Low = 0.05;

    /// <summary>A gate with a value above this counts as open.</summary>
    public const double High = 0.95;

    private readonly int _classes;
    private readonly double[][] _classSums;
    private readonly long[][] _classCounts;
    private double[] _means = [], _squares = [], _greatest = [];
    private long[] _counts = [];
    private long _low, _high, _measured;
    private double _entropy, _sparsity;

    /// <summary>Creates empty statistics.</summary>
    /// <param name="classes">Number of classes, for means per class; 0 for none.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="classes"/> is negative.</exception>
    public GateStatistics(int classes = 0)
    {
        if (classes < 0)
        {
            throw new ArgumentOutOfRangeException(nameof(classes), classes, $"classes is {classes}; it must be at least 0.");
        }

        _classes = classes;
        _classSums = new double[classes][];
        _classCounts = new long[classes][];
    }

    /// <summary>Number of samples so far.</summary>
    public long Samples { get; private set; }

    /// <summary>Number of values in the gate of one sample.</summary>
    public int Units => _means.Length;

    /// <summary>Number of values that are NaN or infinite. The other statistics leave them out.</summary>
    public long NotFinite { get; private set; }

    /// <summary>Mean of all values.</summary>
    public double Mean => Values == 0 ? 0 : Enumerable.Range(0, Units).Sum(i => _means[i] * _counts[i]) / Values;

    /// <summary>Variance of all values around <see cref="Mean"/>, divided by their number.</summary>
    public double Variance
    {
        get
        {
            double mean = Mean;
            return Values == 0
                ? 0
                : Enumerable.Range(
                    0, Units).Sum(i => _squares[i] + (_counts[i] * (_means[i] - mean) * (_means[i] - mean))) / Values;
        }
    }

    /// <summary>
    /// Variance of each unit over samples, averaged over units: how much the gate depends on its input. It is zero if the gate is
    /// the same for all samples.
    /// </summary>
    public double VarianceOverSamples
        => Units == 0 ? 0 : Enumerable.Range(0, Units).Average(i => _counts[i] == 0 ? 0 : _squares[i] / _counts[i]);

    /// <summary>Share of values below <see cref="Low"/>.</summary>
    public double ClosedShare => Values == 0 ? 0 : (double)_low / Values;

    /// <summary>Share of values above <see cref="High"/>.</summary>
    public double OpenShare => Values == 0 ? 0 : (double)_high / Values;

    /// <summary>
    /// Hoyer's sparsity of the gate of a sample, averaged over samples with a finite value: (√n − Σ|g| / √Σg²) / (√n − 1). It is
    /// 0 if all values are equal, and 1 if only one is not zero.
    /// </summary>
    public double Sparsity => _measured == 0 ? 0 : _sparsity / _measured;

    /// <summary>
    /// Entropy of the gate of a sample, read as shares |g| / Σ|g|, divided by log n and averaged over samples with a finite
    /// value. It is 1 if all values are equal.
    /// </summary>
    public double Entropy => _measured == 0 ? 0 : _entropy / _measured;

    /// <summary>Mean of each unit over samples.</summary>
    public IReadOnlyList<double> UnitMeans => _means;

    /// <summary>Variance of each unit over samples, over their number.</summary>
    public IReadOnlyList<double> UnitVariances
        => [.. Enumerable.Range(0, Units).Select(i => _counts[i] == 0 ? 0 : _squares[i] / _counts[i])];

    /// <summary>Indices of the units that no sample opened beyond <see cref="Low"/>.</summary>
    public IReadOnlyList<int> Dead => [.. Enumerable.Range(0, Units).Where(i => _counts[i] > 0 && _greatest[i] < Low)];

    private long Values => _counts.Sum();

    /// <summary>Mean of each unit over the samples of a class. It is zero if the class has no samples.</summary>
    /// <param name="index">The class, from 0.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such class.</exception>
    public IReadOnlyList<double> ClassMeans(int index)
    {
        if (index < 0 || index >= _classes)
        {
            throw new ArgumentOutOfRangeException(nameof(index), index, $"index is {index}; there are {_classes} classes.");
        }

        return Units == 0 ? [] : [.. _classSums[index].Zip(_classCounts[index], (sum, count) => count == 0 ? 0 : sum / count)];
    }

    /// <summary>Adds the gate of a batch to the statistics.</summary>
    /// <param name="gate">
    /// (N, …): a channel gate (N, C), a spatial gate (N, H, W), or any other; the units must stay as many.
    /// </param>
    /// <param name="labels">Classes of the samples, (N), integers; null for none.</param>
    /// <exception cref="ArgumentException">
    /// The gate has another number of units than before, or the labels do not fit.
    /// </exception>
    public void Add(Tensor gate, Tensor? labels = null)
    {
        Check.Alive(gate, nameof(GateStatistics));
        if (gate.dim() < 2)
        {
            throw new ArgumentException(
                $"gate has shape {Check.Shape(gate)}; it must have the batch and at least one more dimension.", nameof(gate));
        }

        int samples = (int)gate.size(0);
        if (samples == 0) return;
        int units = (int)(gate.numel() / samples);
        if (Samples > 0 && units != Units)
        {
            throw new ArgumentException(
                $"gate has {units} values per sample (shape {Check.Shape(gate)}); before it had {Units}. " +
                "Use one GateStatistics per size.", nameof(gate));
        }

        long[]? classes = Classes(labels, samples);
        double[] values;
        using (NewDisposeScope())
        using (no_grad())
        {
            values = gate.detach().to_type(ScalarType.Float64).cpu().contiguous().data<double>().ToArray();
        }

        if (Samples == 0) Start(units);
        for (int n = 0; n < samples; n++)
        {
            ReadOnlySpan<double> sample = values.AsSpan(n * units, units);
            Include(sample);
            if (classes is not null) Include(sample, (int)classes[n]);
        }
    }

    private void Start(int units)
    {
        (_means, _squares, _greatest, _counts) = (new double[units], new double[units], new double[units], new long[units]);
        Array.Fill(_greatest, double.NegativeInfinity);
        for (int i = 0; i < _classes; i++) (_classSums[i], _classCounts[i]) = (new double[units], new long[units]);
    }

    private void Include(ReadOnlySpan<double> sample)
    {
        Samples++;
        double sum = 0, squares = 0;
        int finite = 0;
        for (int i = 0; i < sample.Length; i++)
        {
            double value = sample[i];
            if (!double.IsFinite(value))
            {
                NotFinite++;
                continue;
            }

            finite++;
            double off = value - _means[i];
            _means[i] += off / ++_counts[i];
            _squares[i] += off * (value - _means[i]);
            _greatest[i] = Math.Max(_greatest[i], value);
            if (value < Low) _low++;
            if (value > High) _high++;
            sum += Math.Abs(value);
            squares += value * value;
        }

        if (finite == 0) return;
        _measured++;

        // A gate of zeros opens nothing: as sparse as can be.
        if (sum == 0)
        {
            _sparsity++;
            return;
        }

        if (finite == 1)
        {
            _entropy++;
            return;
        }

        double root = Math.Sqrt(finite);
        _sparsity += (root - (sum / Math.Sqrt(squares))) / (root - 1);
        double entropy = 0;
        foreach (double value in sample)
        {
            double share = double.IsFinite(value) ? Math.Abs(value) / sum : 0;
            if (share > 0) entropy -= share * Math.Log(share);
        }

        _entropy += entropy / Math.Log(finite);
    }

    private void Include(ReadOnlySpan<double> sample, int index)
    {
        for (int i = 0; i < sample.Length; i++)
        {
            if (!double.IsFinite(sample[i])) continue;
            _classCounts[index][i]++;
            _classSums[index][i] += sample[i];
        }
    }

    private long[]? Classes(Tensor? labels, int samples)
    {
        if (labels is null) return null;
        if (_classes == 0)
        {
            throw new ArgumentException(
                "labels are given, but the statistics were made for 0 classes. Give their number to the constructor.",
                nameof(labels));
        }

        Check.Alive(labels, nameof(GateStatistics));
        if (labels.dim() != 1 || labels.size(0) != samples || labels.is_floating_point())
        {
            throw new ArgumentException(
                $"labels is {labels.dtype} {Check.Shape(labels)}; it must hold integers, ({samples}).", nameof(labels));
        }

        using DisposeScope scope = NewDisposeScope();
        long[] classes = labels.to_type(ScalarType.Int64).cpu().contiguous().data<long>().ToArray();
        int wrong = Array.FindIndex(classes, label => label < 0 || label >= _classes);
        return wrong < 0
            ? classes
            : throw new ArgumentException(
                $"labels[{wrong}] is {classes[wrong]}; it must be from 0 to {_classes - 1}.", nameof(labels));
    }
}
