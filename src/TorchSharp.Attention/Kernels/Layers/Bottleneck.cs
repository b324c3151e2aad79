using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>The kernels of <see cref="BottleneckGate"/>.</summary>
internal static unsafe class Bottleneck<TVector>
    where TVector : unmanaged, ISimd<TVector>
{
    public static void Forward(BottleneckGate.Layers* a)
    {
        NativeTeam.Run(&Squeeze, a, a->Reduced, a->WeightBytes);
        if (a->Sums != a->Hidden) SumBranches(a);
        NativeTeam.Run(&Excite, a, a->Channels, a->WeightBytes);
    }

    public static void Backward(BottleneckGate.Layers* a)
    {
        if (a->Sums != a->Hidden) SumBranches(a);
        NativeTeam.Run(&Second, a, a->Channels, a->WeightBytes);
        NativeTeam.Run(&Sums, a, a->Reduced, a->WeightBytes);
        int count = a->Samples * a->Reduced;
        for (int i = 0; i < a->Rows * a->Reduced; i++) a->HiddenGradient[i] = a->Hidden[i] <= 0 ? 0 : a->SumsGradient[i % count];
        if (a->FirstGradient is not null) NativeTeam.Run(&First, a, a->Reduced, a->WeightBytes);
        if (a->PooledGradient is not null) NativeTeam.Run(&Pooled, a, a->Channels, a->WeightBytes);
    }

    private static void SumBranches(BottleneckGate.Layers* a)
    {
        int count = a->Samples * a->Reduced;
        for (int i = 0; i < count; i++) a->Sums[i] = a->Hidden[i] + a->Hidden[count + i];
    }

    /// <summary>h = ReLU(W₁ p + b₁) for some of its outputs.</summary>
    private static void Squeeze(BottleneckGate.Layers* a, int from, int to)
    {
        DenseRows<TVector>.Run(a->Pooled, a->Rows, a->First, a->Channels, a->Hidden, a->Reduced, from, to);
        for (int row = 0; row < a->Rows; row++)
        {
            float* hidden = a->Hidden + (row * a->Reduced);
            for (int i = from; a->FirstBias is not null && i < to; i++) hidden[i] += a->FirstBias[i];
            ElementFunctions<TVector>.Apply(ElementFunction.ReLU, null, hidden + from, to - from);
        }
    }

    /// <summary>σ(W₂ h + k b₂) for some channels.</summary>
    private static void Excite(BottleneckGate.Layers* a, int from, int to)
    {
        DenseRows<TVector>.Run(a->Sums, a->Samples, a->Second, a->Reduced, a->Gate, a->Channels, from, to);
        for (int sample = 0; sample < a->Samples; sample++)
        {
            float* gate = a->Gate + (sample * a->Channels);
            for (int i = from; a->SecondBias is not null && i < to; i++) gate[i] += a->Branches * a->SecondBias[i];
            ElementFunctions<TVector>.Apply(ElementFunction.Sigmoid, null, gate + from, to - from);
        }
    }

    /// <summary>The logits' gradient and W₂'s and b₂'s, for some channels.</summary>
    private static void Second(BottleneckGate.Layers* a, int from, int to)
    {
        for (int channel = from; channel < to; channel++)
        {
            float sum = 0;
            for (int i = channel; i < a->Samples * a->Channels; i += a->Channels)
            {
                float gate = a->Gate[i], logit = a->GateGradient[i] * gate * (1 - gate);
                a->Logits[i] = logit;
                sum += logit;
            }

            if (a->SecondBiasGradient is not null) a->SecondBiasGradient[channel] = a->Branches * sum;
            if (a->SecondGradient is not null)
            {
                Combine(
                    a->SecondGradient + ((nint)channel * a->Reduced), a->Reduced, a->Logits + channel, a->Channels, a->Samples,
                    a->Sums, a->Reduced);
            }
        }
    }

    /// <summary>The gradient of h summed over branches, for some of its values: a combination of W₂'s rows.</summary>
    private static void Sums(BottleneckGate.Layers* a, int from, int to)
    {
        for (int sample = 0; sample < a->Samples; sample++)
        {
            Combine(
                a->SumsGradient + (sample * a->Reduced) + from, to - from, a->Logits + (sample * a->Channels), 1, a->Channels,
                a->Second + from, a->Reduced);
        }
    }

    /// <summary>W₁'s and b₁'s gradient, for some of their rows.</summary>
    private static void First(BottleneckGate.Layers* a, int from, int to)
    {
        for (int hidden = from; hidden < to; hidden++)
        {
            Combine(
                a->FirstGradient + ((nint)hidden * a->Channels), a->Channels, a->HiddenGradient + hidden, a->Reduced, a->Rows,
                a->Pooled, a->Channels);
            if (a->FirstBiasGradient is null) continue;
            float sum = 0;
            for (int i = hidden; i < a->Rows * a->Reduced; i += a->Reduced) sum += a->HiddenGradient[i];
            a->FirstBiasGradient[hidden] = sum;
        }
    }

    /// <summary>The pooled channels' gradient, for some channels: a combination of W₁'s rows.</summary>
    private static void Pooled(BottleneckGate.Layers* a, int from, int to)
    {
        for (int row = 0; row < a->Rows; row++)
        {
            Combine(
                a->PooledGradient + (row * a->Channels) + from, to - from, a->HiddenGradient + (row * a->Reduced), 1, a->Reduced,
                a->First + from, a->Channels);
        }
    }

    /// <summary>
    /// Σ factor · row, (length) values: factors lie <paramref name="stride"/> apart and rows <paramref name="pitch"/>.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Combine(float* result, int length, float* factors, nint stride, int count, float* rows, nint pitch)
    {
        nint lanes = TVector.Lanes, i = 0;
        for (; i <= length - (4 * lanes); i += 4 * lanes)
        {
            TVector sum0 = TVector.All(0), sum1 = sum0, sum2 = sum0, sum3 = sum0;
            for (nint k = 0; k < count; k++)
            {
                TVector factor = TVector.All(factors[k * stride]);
                float* row = rows + (k * pitch) + i;
                sum0 = TVector.MultiplyAdd(factor, TVector.Load(row), sum0);
                sum1 = TVector.MultiplyAdd(factor, TVector.Load(row + lanes), sum1);
                sum2 = TVector.MultiplyAdd(factor, TVector.Load(row + (2 * lanes)), sum2);
                sum3 = TVector.MultiplyAdd(factor, TVector.Load(row + (3 * lanes)), sum3);
            }

            sum0.Store(result + i);
            sum1.Store(result + i + lanes);
            sum2.Store(result + i + (2 * lanes));
            sum3.Store(result + i + (3 * lanes));
        }

        for (; i <= length - lanes; i += lanes)
        {
            TVector sum = TVector.All(0);
            for (nint k = 0; k < count; k++)
            {
                sum = TVector.MultiplyAdd(TVector.All(factors[k * stride]), TVector.Load(rows + (k * pitch) + i), sum);
            }

            sum.Store(result + i);
        }

        for (; i < length; i++)
        {
            float sum = 0;
            for (nint k = 0; k < count; k++) sum += factors[k * stride] * rows[(k * pitch) + i];
            result[i] = sum;
        }
    }
}
