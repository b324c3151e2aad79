using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// A <see cref="GateCombination"/> on the kernels: one read of the map for each kind of pooling and one pass that mixes the
/// factors and writes. The layers between stay libtorch's, with libtorch's gradients.
/// </summary>
internal static class CombinedGate
{
    /// <summary>The refined map, or null where the composed operations must do it.</summary>
    public static Tensor? TryRun(ICombinedGate gate, Tensor input, bool overwrite, Tensor? residual)
    {
        GateModule module = gate.Module;
        if (!MapView.TryOf(input, out MapView view) || !FusedGate.KeepsType(module, input))
        {
            return null;
        }

        if (residual is not null
            && (!view.Matches(residual) || (is_grad_enabled() && (residual.requires_grad || FusedGate.Learns(module, input)))))
        {
            return null;
        }

        CombinationPass pass = new(gate.Combination, view, input.size(2), input.size(3));
        if (!FusedGate.Learns(module, input)) return Infer(gate, pass, input, overwrite, residual);
        return view.Elements < FusedGate.SmallestTrained || Hooks.AnyWithin(module) ? null : Train(gate, pass, input);
    }

    private static Tensor? Infer(ICombinedGate gate, CombinationPass pass, Tensor input, bool overwrite, Tensor? residual)
    {
        Tensor? pooled = pass.Mix.ReadsAnything ? pass.Pool(input) : null;
        CombinationFactors factors = gate.ComputeFactors(pass.Read(input, pooled));
        Tensor? alpha = gate.Module.StartScale;
        if (!pass.KeepsType(factors, alpha)) return null;
        (Tensor first, Tensor? second) = pass.Arrange(factors);
        return pass.Apply(input, first, second, alpha?.to_type(ScalarType.Float32).ToSingle(), overwrite, residual);
    }

    private static Tensor Train(ICombinedGate gate, CombinationPass pass, Tensor input)
    {
        NativeTeam.WarnOfSmallerTeams();
        pass.InputNeedsGradient = input.requires_grad;
        try
        {
            if (pass.Mix.ReadsAnything) pass.Pooled = CombinationPoolFunction.apply(input, pass);
            (Tensor first, Tensor? second) = pass.Arrange(gate.ComputeFactors(pass.Read(input, pass.Pooled)));
            Tensor? alpha = gate.Module.StartScale?.to_type(ScalarType.Float32);
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
