namespace TorchSharp.Attention.Kernels;

/// <summary>The kernels of one kind of mix; in strips or not.</summary>
internal abstract class CombinationKernels
{
    private static readonly CombinationKernels[] _kinds =
    [
        new Of<ProductCombination>(),
        new Of<SumCombination>(),
        new Of<SumOfThreeCombination>(),
        new Of<SigmoidOfSumCombination>(),
        new Of<SigmoidOfProductCombination>(),
        new Of<LargerCombination>(),
        new Of<EnergyCombination>(),
    ];

    public static CombinationKernels For(CombinationKind kind) => _kinds[(int)kind];

    /// <summary>y = x · g, or max(x · g + residual, 0).</summary>
    public abstract void Apply(in MapView map, MapArguments arguments, bool strips, bool endsBlock);

    /// <summary>The gradients of both factors: of rows and columns in strips, of channels otherwise.</summary>
    public abstract void Factors(in MapView map, MapArguments arguments, bool strips);

    /// <summary>The gradient of the channels' factor, and how many positions share each channel's maximum.</summary>
    public abstract void First(in MapView map, MapArguments arguments);

    /// <summary>The gradient of the positions' factor, and how many channels share each position's maximum.</summary>
    public abstract void Second(in MapView map, MapArguments arguments);

    /// <summary>The sums of dy · x · m and of dy · x: of rows and columns in strips, of channels otherwise.</summary>
    public abstract void Totals(in MapView map, MapArguments arguments, bool strips);

    /// <summary>The input's gradient.</summary>
    public abstract void Input(in MapView map, MapArguments arguments, GateCombination mix);

    private sealed class Of<TMix> : CombinationKernels
        where TMix : struct, ICombination
    {
        public override void Apply(in MapView map, MapArguments arguments, bool strips, bool endsBlock)
        {
            if (endsBlock) Write<AddRectified<Combined<TMix>>>(map, arguments, strips, 3);
            else Write<Combined<TMix>>(map, arguments, strips, 2);
        }

        public override void Factors(in MapView map, MapArguments arguments, bool strips)
            => Reduce<FactorGradients<TMix>>(map, arguments, strips);

        public override void First(in MapView map, MapArguments arguments)
            => MapKernels.OverPositions<FirstGradient<TMix>>(map, arguments, maps: 2);

        public override void Second(in MapView map, MapArguments arguments)
            => MapKernels.OverChannels<SecondGradient<TMix>>(map, arguments, maps: 2);

        public override void Totals(in MapView map, MapArguments arguments, bool strips)
            => Reduce<CombinationTotals<TMix>>(map, arguments, strips);

        public override void Input(in MapView map, MapArguments arguments, GateCombination mix)
        {
            bool peaks = mix.Channels.HasFlag(ChannelStatistics.Maximum) || mix.Strips == StripReads.MeansAndMaxima;
            if (TMix.HasThird) Input<PeaksOfThree>(map, arguments, strips: true);
            else if (peaks) Input<PeaksOfBoth>(map, arguments, mix.HasStrips);
            else if (mix.HasStrips) Input<MeansOfBoth>(map, arguments, strips: true);
            else if (mix.Channels.HasFlag(ChannelStatistics.SquaredDeviations))
            {
                Input<ChannelMoments>(map, arguments, strips: false);
            }
            else if (mix.Channels != ChannelStatistics.Nothing) Input<ChannelMeans>(map, arguments, strips: false);
            else Input<NothingPooled>(map, arguments, strips: false);
        }

        private static void Input<TPooled>(in MapView map, MapArguments arguments, bool strips)
            where TPooled : struct, IPooled
            => Write<CombinedInputGradient<TMix, TPooled>>(map, arguments, strips, 3);

        private static void Write<TMap>(in MapView map, MapArguments arguments, bool strips, int maps)
            where TMap : struct, IElementwise
        {
            if (strips) StripKernels.Write<TMap>(map, arguments, maps);
            else MapKernels.Write<TMap>(map, arguments, maps);
        }

        private static void Reduce<TReduction>(in MapView map, MapArguments arguments, bool strips)
            where TReduction : struct, IReduction
        {
            if (strips) StripKernels.Reduce<TReduction>(map, arguments, maps: 2);
            else MapKernels.OverPositions<TReduction>(map, arguments, maps: 2);
        }
    }
}
