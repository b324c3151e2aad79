namespace TorchSharp.Attention.Tests;

/// <summary>
/// What every module should compute, from the papers' formulas: plain loops over doubles, nothing of torch. Dropouts are left out.
/// </summary>
internal static class Oracle
{
    public static DenseMap Forward(AttentionOptions options, DenseMap x, DenseMap? guide, OracleState state, bool training)
        => options switch
        {
            SelfAttention2dOptions self => SelfAttentionOracle.Forward(self, x, state),
            DynamicAttentionOptions dynamic => DynamicAttentionOracle.Forward(dynamic, x, state, training),
            _ => ContextOracle.Forward(options, x, state, training) ?? x.Times(Gate(options, x, guide, state, training)),
        };

    public static DenseMap Gate(AttentionOptions options, DenseMap x, DenseMap? guide, OracleState state, bool training)
    {
        // CBAM, light or not, has an alpha in each half and blends there.
        if (options is CbamOptions cbam) return CbamOracle.Gate(cbam, x, state, training);
        if (options is LightCbamOptions light) return LightCbamOracle.Gate(light, x, state, training);
        DenseMap gate = options switch
        {
            SqueezeExcitationOptions se => SqueezeExcitationOracle.Gate(se, x, state, training),
            EfficientChannelAttentionOptions eca => EfficientChannelAttentionOracle.Gate(eca, x, state),
            ChannelAttentionOptions channel => ChannelAttentionOracle.Gate(channel, x, state),
            SpatialAttentionOptions spatial => SpatialAttentionOracle.Gate(spatial, x, state, training),
            BamOptions bam => BamOracle.Gate(bam, x, state, training),
            AttentionGateOptions attentionGate => AttentionGateOracle.Gate(attentionGate, x, guide!, state, training),
            EffectiveSqueezeExcitationOptions ese => EffectiveSqueezeExcitationOracle.Gate(ese, x, state),
            SimAmOptions simam => SimAmOracle.Gate(simam, x),
            CoordinateAttentionOptions coordinate => CoordinateAttentionOracle.Gate(coordinate, x, state, training),
            SimpleCoordinateAttentionOptions simple => SimpleCoordinateAttentionOracle.Gate(simple, x, state),
            EfficientLocalAttentionOptions local => EfficientLocalAttentionOracle.Gate(local, x, state),
            StripAttentionOptions strip => StripAttentionOracle.Gate(strip, x, state),
            GatherExciteOptions gather => GatherExciteOracle.Gate(gather, x, state, training),
            ConcurrentSqueezeExcitationOptions scse => ConcurrentSqueezeExcitationOracle.Gate(scse, x, state),
            GatedChannelTransformationOptions gct => GatedChannelTransformationOracle.Gate(gct, x, state),
            StyleRecalibrationOptions style => StyleRecalibrationOracle.Gate(style, x, state, training),
            TripletAttentionOptions triplet => TripletAttentionOracle.Gate(triplet, x, state, training),
            LargeKernelAttentionOptions large => LargeKernelAttentionOracle.Gate(large, x, state),
            ShuffleAttentionOptions shuffle => ShuffleAttentionOracle.Gate(shuffle, x, state),
            SeparableSpatialAttentionOptions separable => SeparableSpatialAttentionOracle.Gate(separable, x, state, training),
            MultiScaleSpatialAttentionOptions scales => MultiScaleSpatialAttentionOracle.Gate(scales, x, state, training),
            PolarizedSelfAttentionOptions polarized => PolarizedSelfAttentionOracle.Gate(polarized, x, state),
            _ => throw new NotSupportedException($"No oracle for {options.GetType().Name}."),
        };
        return Blend(gate, state);
    }

    /// <summary>1 + alpha · (g − 1) where the state has an alpha.</summary>
    public static DenseMap Blend(DenseMap gate, OracleState state)
        => state.Find("alpha", 1) is [double alpha] ? gate.Select(g => 1 + (alpha * (g - 1))) : gate;
}
