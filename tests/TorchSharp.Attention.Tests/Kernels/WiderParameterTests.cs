namespace TorchSharp.Attention.Tests;

/// <summary>Where libtorch's product of map and gate has a wider type than the map, the kernels leave the gate to libtorch.</summary>
public sealed class WiderParameterTests : IDisposable
{
    private readonly KernelSettings _kernels = KernelSettings.ForAnySize();

    public void Dispose() => _kernels.Dispose();

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    public void Parameters_of_a_wider_type_are_refused(bool training, bool learns)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable mode = learns ? enable_grad() : no_grad();
        Tensor x = randn(2, 8, 6, 5), half = x.to_type(ScalarType.BFloat16);
        foreach (Func<GateModule> create in (Func<GateModule>[])
            [
                () => new GatedChannelTransformation(8), () => new GatedChannelTransformation(8, new() { Norm = GctNorm.L1 }), () => new StyleRecalibration(8),
                () => new SimAm(8, new() { Initialization = AttentionInitialization.Identity }),
            ])
        {
            using GateModule module = create();
            module.train(training);
            Assert.Equal(ScalarType.Float32, FusedGate.TryRun(module, x, overwrite: false)!.dtype);
            Assert.Null(FusedGate.TryRun(module, half, overwrite: false));
            module.to(ScalarType.Float64);
            Tensor before = x.clone();
            Assert.Null(FusedGate.TryRun(module, x, overwrite: !learns));
            Near.Identical(before, x);
            if (module is not StyleRecalibration) Assert.Equal(ScalarType.Float64, module.Composed(x).dtype);
        }
    }

    [Fact]
    public void A_map_of_bfloat16_and_parameters_of_bfloat16_keep_their_type()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        Tensor x = randn(2, 8, 6, 5).to_type(ScalarType.BFloat16);
        foreach (Func<GateModule> create in (Func<GateModule>[])
            [
                () => new GatedChannelTransformation(8), () => new SimAm(8), () => new SimAm(8, new() { Initialization = AttentionInitialization.Identity }), () => new CoordinateAttention(8, new() { ReducedChannels = 4 }),
                () => new Cbam(8, new() { ReducedChannels = 4 }), () => new Bam(8, new() { ReducedChannels = 4 }), () => new TripletAttention(8),
            ])
        {
            using GateModule module = create();
            module.eval();
            module.to(ScalarType.BFloat16);
            Assert.Equal(ScalarType.BFloat16, FusedGate.TryRun(module, x, overwrite: false)!.dtype);
        }
    }
}
