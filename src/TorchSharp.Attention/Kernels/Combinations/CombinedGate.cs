using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A <see cref="GateCombination"/> on the kernels: one read of the map for each kind of pooling and one pass that mixes the
/// factors and writes. The layers between stay libtorch's, with libtorch's gradients.
/// </summary>
internal static class CombinedGate
{
    /// <summary>The refined map, or null where the composed operations must do it.</summary>
    public static Tensor? TryRun(GateModule module, Tensor input, bool overwrite, Tensor? residual)
    {
        if (module.Combination is not { } mix || !MapView.TryOf(input, out MapView view) || !FusedGate.KeepsType(module, input))
        {
            return null;
        }

        if (residual is not null && (!view.Matches(residual) || (is_grad_enabled() && (residual.requires_grad || FusedGate.Learns(module, input))))) return null;
        CombinationPass pass = new(mix, view, input.size(2), input.size(3));
        if (!FusedGate.Learns(module, input)) return Infer(module, pass, input, overwrite, residual);
        return view.Elements < FusedGate.SmallestTrained || Hooks.AnyWithin(module) ? null : Train(module, pass, input);
    }

    private static Tensor? Infer(GateModule module, CombinationPass pass, Tensor input, bool overwrite, Tensor? residual)
    {
        Tensor? pooled = pass.Mix.ReadsAnything ? pass.Pool(input) : null;
        CombinationFactors factors = module.ComputeFactors(pass.Read(input, pooled));
        if (!pass.KeepsType(factors, module.StartScale)) return null;
        (Tensor first, Tensor? second) = pass.Arrange(factors);
        return pass.Apply(input, first, second, module.StartScale?.to_type(ScalarType.Float32).ToSingle(), overwrite, residual);
    }

    private static Tensor Train(GateModule module, CombinationPass pass, Tensor input)
    {
        NativeTeam.WarnOfSmallerTeams();
        pass.InputNeedsGradient = input.requires_grad;
        try
        {
            if (pass.Mix.ReadsAnything) pass.Pooled = CombinationPoolFunction.apply(input, pass);
            (Tensor first, Tensor? second) = pass.Arrange(module.ComputeFactors(pass.Read(input, pass.Pooled)));
            Tensor? alpha = module.StartScale?.to_type(ScalarType.Float32);
            return (second, alpha) switch
            {
                ({ } s, { } a) => CombineFunction.apply(input, first, s, a, pass),
                ({ } s, null) => CombineFunction.apply(input, first, s, pass),
                (null, { } a) => CombineFunction.apply(input, first, a, pass),
                _ => CombineFunction.apply(input, first, pass),
            };
        }
        finally
        {
            pass.Pooled = null;
        }
    }
}
