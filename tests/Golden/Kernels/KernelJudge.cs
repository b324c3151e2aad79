using System.Globalization;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>What came of a trial.</summary>
internal enum KernelOutcome
{
    Pass,

    /// <summary>Right, as far as the pass knows its own result: float64 itself moves as far when weights and values are off by what float32 cannot hold.</summary>
    PassWithinCondition,

    Fail,
    Skip,
}

/// <summary>The result of a trial, with a reason unless it passed.</summary>
internal sealed record KernelResult(KernelOutcome Outcome, string? Reason = null);

/// <summary>
/// Runs a trial and compares. The measure is the composed operations in float64. A tensor may be off by a tolerance of its largest value, and
/// beyond that by ten times what the composed operations in the trial's own type are off: they lose as much where a sum cancels. Where a value
/// is still farther off, float64 is asked how well it is known at all: weights and inputs are moved by shares that float32 cannot hold, and
/// four times what moves with them is allowed. Next to the edge of a ReLU, between two maxima that nearly agree, or behind a norm of values
/// that nearly agree that is much; elsewhere it is as little as the shares themselves.
/// </summary>
internal static class KernelJudge
{
    private const double ComposedFactor = 10, ShakenFactor = 4, Vanishing = 1e-3, CancelledShare = 5e-5;
    private const int Rounds = 6;
    private static readonly double[] Shares = [3e-7, 1e-6, 4e-6];

    /// <summary>Runs a trial; whatever happens is its result. Tensors that it leaves behind are a failure.</summary>
    public static KernelResult Run(KernelTrial trial)
    {
        long before = Live();
        KernelResult result = Attempt(trial);
        long after = Live();
        return after <= before || result.Outcome == KernelOutcome.Fail ? result : new KernelResult(KernelOutcome.Fail, $"{after - before} tensors are left behind");
    }

    private static long Live()
    {
        GateAutograd.Drop();
        return DisposeScopeManager.Statistics.ThreadTotalLiveCount;
    }

    private static KernelResult Attempt(KernelTrial trial)
    {
        bool enabled = AttentionKernels.Enabled;
        int threads = get_num_threads();
        set_num_threads(1);
        using DisposeScope scope = NewDisposeScope();
        try
        {
            trial.Thresholds.Use();
            using IKernelSubject subject = trial.Build();
            return Compare(trial, subject);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            return new KernelResult(KernelOutcome.Fail, $"{e.GetType().Name}: {e.Message.ReplaceLineEndings(" ")}");
        }
        finally
        {
            KernelThresholds.Restore();
            AttentionKernels.Enabled = enabled;
            set_num_threads(threads);
        }
    }

    private static KernelResult Compare(KernelTrial trial, IKernelSubject subject)
    {
        IReadOnlyList<KernelValue> exact = subject.Exact(0, 0), composed = subject.Run(fused: false);
        bool network = trial is NetworkTrial;
        Measure measure = new(exact, composed, subject.Half, network);
        IReadOnlyList<KernelValue>? first = null;
        bool conditioned = false;
        for (int repeat = 0; repeat < trial.Repeats; repeat++)
        {
            using DisposeScope scope = NewDisposeScope();
            IReadOnlyList<KernelValue> actual = null!;
            Teams.Run(trial.Team, trial.Threads, () => actual = subject.Run(fused: true));
            if (first is not null && AreIdentical(first, actual)) continue;
            if (measure.Worst(actual) is { } offence)
            {
                if (!measure.Widens || !IsWithinCondition(subject, measure, actual))
                {
                    return IsLibtorchs(trial, subject, measure)
                        ? new KernelResult(KernelOutcome.Skip, "libtorch's own operations are wrong on such a team")
                        : new KernelResult(KernelOutcome.Fail, $"{offence}{(repeat == 0 ? "" : $", in repetition {repeat + 1}")}");
                }

                conditioned = true;
            }

            if (first is not null) continue;
            foreach (KernelValue value in actual) value.Tensor.MoveToOuterDisposeScope();
            first = actual;
        }

        return new KernelResult(conditioned ? KernelOutcome.PassWithinCondition : KernelOutcome.Pass);
    }

    /// <summary>
    /// On a team that is smaller than asked for, some of libtorch's own convolutions are wrong, too. They are asked twice: without the kernels, and with
    /// kernels that leave the team alone and run on the .NET pool, since these may hand a convolution another layout.
    /// </summary>
    private static bool IsLibtorchs(KernelTrial trial, IKernelSubject subject, Measure measure)
    {
        if (trial.Team is not (TeamKind.Dynamic or TeamKind.Limited)) return false;
        for (int repeat = 0; repeat < 6; repeat++)
        {
            bool kernels = repeat % 2 == 1;
            IReadOnlyList<KernelValue> values = null!;
            Teams.Run(trial.Team, trial.Threads, () => values = subject.Run(kernels), onPool: kernels);
            if (measure.Worst(values) is not null) return true;
        }

        return false;
    }

    private static bool IsWithinCondition(IKernelSubject subject, Measure measure, IReadOnlyList<KernelValue> actual)
    {
        foreach (double share in Shares)
        {
            for (int round = 0; round < Rounds; round++)
            {
                using DisposeScope scope = NewDisposeScope();
                measure.Widen(subject.Exact(share, round));
                if (measure.Worst(actual) is null) return true;
            }
        }

        return false;
    }

    private static bool AreIdentical(IReadOnlyList<KernelValue> first, IReadOnlyList<KernelValue> other)
    {
        using DisposeScope scope = NewDisposeScope();
        for (int i = 0; i < first.Count; i++)
        {
            if (!first[i].Tensor.Equals(other[i].Tensor)) return false;
        }

        return true;
    }

    /// <summary>The exact values of a trial and how far each may be missed.</summary>
    private sealed class Measure
    {
        private readonly IReadOnlyList<KernelValue> _exact;
        private readonly double[] _allowed;
        private readonly double[] _scales;
        private readonly double[] _shaken;
        private readonly bool _half;

        public Measure(IReadOnlyList<KernelValue> exact, IReadOnlyList<KernelValue> composed, bool half, bool network)
        {
            _exact = exact;
            _half = half;
            _allowed = new double[exact.Count];
            _shaken = new double[exact.Count];
            _scales = [.. exact.Select(value => Size(value.Tensor))];
            double largest = exact.Zip(_scales).Where(pair => pair.First.Kind == KernelValueKind.Gradient).Select(pair => pair.Second).DefaultIfEmpty().Max();
            for (int i = 0; i < exact.Count; i++)
            {
                // What is nothing but cancelled terms, as the gradient of a bias before a batch norm, is measured by the largest gradient. Behind a
                // norm of one or two values each of the terms is as large as the largest gradient, times one through the root of the norm's epsilon.
                bool cancels = exact[i].Kind == KernelValueKind.Gradient && _scales[i] < Vanishing * largest;
                if (cancels) _scales[i] = Vanishing * largest;
                _scales[i] = Math.Max(_scales[i], 1e-30);
                double lost = Distance(i, composed[i].Tensor);
                _allowed[i] = (Tolerance(exact[i].Kind, half, network) * _scales[i]) + (ComposedFactor * (double.IsFinite(lost) ? lost : 0));
                if (cancels) _allowed[i] += CancelledShare * largest;
            }
        }

        /// <summary>Whether what float64 itself does not know may be allowed.</summary>
        public bool Widens => !_half;

        /// <summary>Takes another run in float64, of weights and inputs that are off by little.</summary>
        public void Widen(IReadOnlyList<KernelValue> shaken)
        {
            for (int i = 0; i < _exact.Count; i++)
            {
                double moved = Distance(i, shaken[i].Tensor);
                if (double.IsFinite(moved)) _shaken[i] = Math.Max(_shaken[i], moved);
            }
        }

        /// <summary>In words, the tensor that is farthest beyond what is allowed; null where none is.</summary>
        public string? Worst(IReadOnlyList<KernelValue> actual)
        {
            if (actual.Count != _exact.Count) return $"{actual.Count} tensors instead of {_exact.Count}";
            (string? Words, double Excess) worst = default;
            for (int i = 0; i < _exact.Count; i++)
            {
                if (actual[i].Name != _exact[i].Name) return $"{actual[i].Name} instead of {_exact[i].Name}";
                if (!actual[i].Tensor.shape.AsSpan().SequenceEqual(_exact[i].Tensor.shape)) return $"{_exact[i].Name} has another shape";
                double distance = Distance(i, actual[i].Tensor), allowed = _allowed[i] + (ShakenFactor * _shaken[i]);
                if (distance <= allowed) continue;
                double excess = double.IsNaN(distance) ? double.PositiveInfinity : distance / allowed;
                if (worst.Words is not null && excess <= worst.Excess) continue;
                string size = double.IsNaN(distance) ? "not finite" : $"off by {Show(distance / _scales[i])} of its size, {Show(allowed / _scales[i])} allowed";
                worst = ($"{_exact[i].Name} is {size}", excess);
            }

            return worst.Words;
        }

        private static double Tolerance(KernelValueKind kind, bool half, bool network) => (kind, half) switch
        {
            (KernelValueKind.Output, false) => network ? 1e-4 : 3e-5,
            (KernelValueKind.Gradient, false) => network ? 2e-3 : 3e-4,
            (_, false) => 1e-4,
            (KernelValueKind.Gradient, true) => 0.1,
            _ => 0.06,
        };

        private static string Show(double value) => value.ToString("0.0e0", CultureInfo.InvariantCulture);

        private static double Size(Tensor tensor)
        {
            using DisposeScope scope = NewDisposeScope();
            if (tensor.numel() == 0) return 0;
            Tensor values = tensor.to_type(ScalarType.Float64).abs();
            return values.masked_fill(values.isfinite().logical_not(), Scalars.Zero).max().item<double>();
        }

        /// <summary>The largest difference; NaN where one side is finite and the other is not. In bfloat16, gradients by the mean difference.</summary>
        private double Distance(int i, Tensor other)
        {
            Tensor exact = _exact[i].Tensor;
            if (exact.numel() == 0) return 0;
            using DisposeScope scope = NewDisposeScope();
            Tensor value = other.to_type(ScalarType.Float64), wanted = exact.to_type(ScalarType.Float64), difference = value.sub(wanted).abs();
            if (!difference.isfinite().all().item<bool>())
            {
                // Where both are infinite or no number, they agree.
                Tensor neither = value.isfinite().logical_or(wanted.isfinite()).logical_not();
                difference = difference.masked_fill(neither, Scalars.Zero);
            }

            Tensor size = _half && _exact[i].Kind == KernelValueKind.Gradient ? difference.mean() : difference.max();
            return size.item<double>();
        }
    }
}
