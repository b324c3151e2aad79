namespace TorchSharp.Attention.Tests;

/// <summary>Gates by the kernels beside gates by libtorch's operations: running both, and how far apart they may be.</summary>
internal static class KernelComparison
{
    private static readonly Scalar Rounding = 1e-12.ToScalar(), SinglePrecision = 5e-6.ToScalar(), SeventhDigit = 3e-7.ToScalar();

    public static List<Tensor> Gradients(GateModule module, Tensor x, Tensor weights, bool fused, bool inputLearns = true)
    {
        module.zero_grad();
        Dictionary<string, Tensor> buffers = module.named_buffers().ToDictionary(entry => entry.name, entry => entry.buffer.clone());
        Tensor input = x.detach().requires_grad_(inputLearns);
        Tensor y = Run(module, input, fused);
        y.mul(weights).sum().backward();
        List<Tensor> all = [y.detach(), inputLearns ? input.grad!.clone() : x, .. module.parameters().Select(p => p.grad is null ? zeros_like(p) : p.grad.clone())];
        using IDisposable quiet = no_grad();
        foreach ((string name, Tensor buffer) in module.named_buffers()) buffer.copy_(buffers[name]);
        return all;
    }

    public static Tensor Run(GateModule module, Tensor x, bool fused)
    {
        AttentionKernels.Enabled = fused;
        return module.call(x);
    }

    /// <summary>A batch norm of two values has gradients that no float32 knows well: then composed operations set the measure.</summary>
    public static void NearOrAsGood(Tensor exact, Tensor composed, Tensor actual, double tolerance)
    {
        if (exact.numel() == 0) return;
        double scale = Math.Max(1, exact.abs().max().ToDouble()), composedError = exact.sub(composed).abs().max().ToDouble();
        Near(exact, actual, Math.Max(tolerance, 10 * composedError / scale));
    }

    /// <summary>
    /// Compares all gradients of a step. Where one is farther off, what the exact one changes by itself when the map changes in its seventh digit is allowed ten times: next to
    /// the edge of a hidden ReLU no float32 knows on which side it is. What is nothing but cancelled terms, as the gradient of a bias before a batch norm, is measured by the
    /// largest gradient.
    /// </summary>
    public static void NearOrAsGood(List<Tensor> exact, List<Tensor> composed, List<Tensor> actual, double tolerance, Func<List<Tensor>> shaken)
    {
        List<Tensor>? others = null;
        double largest = exact.Where(one => one.numel() > 0).Select(one => one.abs().max().ToDouble()).DefaultIfEmpty().Max();
        for (int i = 0; i < exact.Count; i++)
        {
            if (exact[i].numel() == 0) continue;
            double own = exact[i].abs().max().ToDouble(), scale = Math.Max(1, own), allowed = own < 1e-9 * largest ? tolerance * largest : tolerance;
            if (exact[i].sub(actual[i]).abs().max().ToDouble() > tolerance * scale)
            {
                others ??= shaken();
                allowed += 10 * exact[i].sub(others[i]).abs().max().ToDouble() / scale;
            }

            NearOrAsGood(exact[i], composed[i], actual[i], allowed);
        }
    }

    /// <summary>A map with other seventh digits.</summary>
    public static Tensor Shaken(Tensor x) => x.mul(randn_like(x).mul(SeventhDigit).Plus(Scalars.One));

    public static void Near(Tensor expected, Tensor actual, double tolerance)
    {
        if (expected.numel() == 0) return;
        double scale = Math.Max(1, expected.abs().max().to_type(ScalarType.Float64).ToDouble());
        double error = expected.sub(actual).abs().max().to_type(ScalarType.Float64).ToDouble();
        Assert.True(error <= tolerance * scale, $"error {error} at scale {scale}");
    }

    /// <summary>
    /// Whether float32 takes what float64 takes where the larger of computed values is wanted, of x · c over channels or of x · c and x · s: candidates
    /// that nearly agree have gradients of their own. Maxima of the map itself are the same in both.
    /// </summary>
    public static bool MaximaAreClear(GateModule exact, Tensor x)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        AttentionKernels.Enabled = false;
        if (exact is ICombinedGate { IsCombined: true, Combination: { Kind: CombinationKind.Larger } mix } combined)
        {
            CombinationFactors factors = combined.ComputeFactors(new PooledMap(x, mix));
            return IsClear(factors.First, factors.Second);
        }

        if (GateParts.Of(exact) is not { Channel: { } channels, Spatial: not null }) return true;
        Tensor gated = x.mul(channels.Module.EffectiveGate(x));
        return IsClear(gated.amax([1], keepdim: true), gated);
    }

    /// <summary>Whether other candidates for a maximum are the same as the largest or well apart from it.</summary>
    public static bool IsClear(Tensor largest, Tensor others)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor gap = largest.sub(others).abs(), size = largest.abs().Plus(Scalars.One);
        return !gap.gt(size.mul(Rounding)).logical_and(gap.lt(size.mul(SinglePrecision))).any().ToBoolean();
    }
}
