// The fused CPU kernels. A feature map is a matrix: in NCHW a row is a channel of a sample and a column a spatial position; in
// channels-last a row is a position and a column a channel. Three loops cover everything: reduce along rows, reduce down columns,
// write element by element.
//
// Six paths lead here; docs/architecture.md has the table.
//   inference, one parallel region        FusedGate.Infer, InferenceGateKernel         Inference/
//   inference, pool, layers, apply        FusedGate.Infer, GatePass                    Layers/
//   training                              FusedGate.Train, GateAutograd, GateBackward  Training/
//   training after a deferred batch norm  FusedGate.TryRunAfterNorm, DeferredBatchNorm Training/
//   element-wise combinations             CombinedGate                                 Combinations/
//   add and ReLU without attention        ResidualBlock.AddRectified, GatePass
// Engine/ has the loops, vectors, memory and threads; Formulas/ has one method At per formula.

using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// A gate on the kernels: the map is read once for each pooling and written once. Tiny tensors between the passes (the layers
/// that turn pooled values into a gate) stay libtorch's, with libtorch's gradients.
/// </summary>
internal static class FusedGate
{
    /// <summary>
    /// Training uses the kernels for maps of at least this many values: for smaller ones the autograd functions cost more than
    /// they save. Tests set it to 0.
    /// </summary>
    internal static long SmallestTrained { get; set; } = 16 * 1024;

    /// <summary>Inference by separate passes uses the kernels for maps of at least this many values. Tests set it to 0.</summary>
    internal static long SmallestInferred { get; set; } = 12 * 1024;

    /// <summary>
    /// The refined map, or null where the composed operations must do it. With a norm, in training, the refined map is that of
    /// norm(input), whose output is not written. With a residual, the result is max(refined + residual, 0).
    /// </summary>
    public static Tensor? TryRun(
        GateModule module, Tensor input, bool overwrite, Tensor? residual = null, Modules.BatchNorm2d? norm = null)
    {
        if (!AttentionKernels.Enabled || module is not IFusableGate) return null;
        if (norm is not null) return TryRunAfterNorm(module, norm, input, residual);
        return AttentionKernels.Checked
            ? RunChecked(module, input, overwrite, residual)
            : Run(module, input, overwrite, residual);
    }

    private static Tensor? RunChecked(GateModule module, Tensor input, bool overwrite, Tensor? residual)
        => KernelCheck.Refined(module, null, input, residual, () => Run(module, input, overwrite, residual));

    private static Tensor? Run(GateModule module, Tensor input, bool overwrite, Tensor? residual)
    {
        if (GateParts.Of(module) is not { } parts)
        {
            return module is ICombinedGate { IsCombined: true } combined
                ? CombinedGate.TryRun(combined, input, overwrite, residual)
                : null;
        }

        if (!Fits(module, parts) || !MapView.TryOf(input, out MapView view) || !KeepsType(module, input)) return null;
        if (residual is not null && !view.Matches(residual)) return null;
        GatePass pass = new(parts, view);
        bool learns = Learns(module, input);
        if (!learns && !(is_grad_enabled() && residual is { requires_grad: true }))
        {
            return Infer(pass, input, overwrite, residual);
        }

        return learns && view.Elements >= SmallestTrained && !Hooks.AnyWithin(module) ? Train(pass, input, residual) : null;
    }

    private static Tensor? TryRunAfterNorm(GateModule module, Modules.BatchNorm2d norm, Tensor input, Tensor? residual)
    {
        if (!is_grad_enabled() || GateParts.Of(module) is not { Channel: { } channel } parts) return null;
        if ((channel.Statistics & ~(ChannelStatistics.Mean | ChannelStatistics.Maximum)) != 0 || !Fits(module, parts))
        {
            return null;
        }

        if (!MapView.TryOf(input, out MapView view) || !KeepsType(module, input)) return null;
        if (view.Elements < SmallestTrained || (residual is not null && !view.Matches(residual))) return null;
        if (!DeferredBatchNorm.Fits(norm, view) || !DeferredBatchNorm.Learns(norm, input) || Hooks.AnyWithin(module)) return null;
        return AttentionKernels.Checked
            ? CheckedAfterNorm(module, parts, view, norm, input, residual)
            : TrainAfterNorm(parts, view, norm, input, residual);
    }

    private static Tensor? CheckedAfterNorm(
        GateModule module, GateParts parts, MapView view, Modules.BatchNorm2d norm, Tensor input, Tensor? residual)
        => KernelCheck.Refined(module, norm, input, residual, () => TrainAfterNorm(parts, view, norm, input, residual));

    private static Tensor TrainAfterNorm(GateParts parts, MapView view, Modules.BatchNorm2d norm, Tensor input, Tensor? residual)
    {
        GatePass pass = new(parts, view);
        try
        {
            pass.Await(norm);
            return TrainSteps(pass, DeferredBatchNormFunction.apply(input, norm.weight!, norm.bias!, pass), residual);
        }
        finally
        {
            pass.PooledChannels = pass.PooledPositions = pass.NormValues = null;
        }
    }

    /// <summary>Whether a backward pass may follow.</summary>
    public static bool Learns(GateModule module, Tensor input)
        => is_grad_enabled() && (input.requires_grad || HasGradients(module));

    /// <summary>Hooks on a half, and drops of its own, need its own forward.</summary>
    private static bool Fits(GateModule module, GateParts parts)
        => FitsHalf(module, parts.Channel?.Module) && FitsHalf(module, parts.Spatial?.Module);

    private static bool FitsHalf(GateModule module, GateModule? half)
        => half is null || ReferenceEquals(half, module)
            || (!half.HasHooks && half.Options is { Dropout: 0, AttentionDropPath: 0 });

    /// <summary>
    /// Whether the refined map has the type of the map. Parameters of a wider type make libtorch's product wider, which the
    /// kernels leave to it. In inference of float32 the walk over all parameters would take longer than a small gate; there
    /// whoever makes the gate looks at its type.
    /// </summary>
    public static bool KeepsType(GateModule module, Tensor input)
    {
        ScalarType type = input.dtype;
        if (type == ScalarType.Float32 && !module.training && !is_grad_enabled()) return true;
        foreach (Modules.Parameter parameter in module.parameters())
        {
            if (parameter.dtype != type) return false;
        }

        return true;
    }

    private static bool HasGradients(GateModule module)
    {
        foreach (Modules.Parameter parameter in module.parameters())
        {
            if (parameter.requires_grad) return true;
        }

        return false;
    }

    private static Tensor? Infer(GatePass pass, Tensor input, bool overwrite, Tensor? residual)
    {
        if (InferenceGateKernel.TryRun(pass.Parts, pass.View, input, overwrite, residual) is { } output) return output;
        if (pass.View.Elements < SmallestInferred) return null;
        Tensor? channel = null, spatial = null;
        if (pass.Parts.Channel is { } first && (channel = ChannelGate(first, pass.PoolChannels(input), pass.View)) is null)
        {
            return null;
        }

        if (pass.Parts.Spatial is { } second
            && (spatial = SpatialGate(
                second, pass.PoolPositions(input, channel, input.size(2), input.size(3)), pass.View)) is null)
        {
            return null;
        }

        return pass.Apply(input, channel, spatial, overwrite, residual);
    }

    private static Tensor Train(GatePass pass, Tensor input, Tensor? residual)
    {
        try
        {
            // A leaf would copy a gradient that somebody else holds, as TorchSharp does; a view hands on one that nobody does.
            return TrainSteps(pass, input.is_leaf && input.requires_grad ? input.view(input.shape) : input, residual);
        }
        finally
        {
            pass.PooledChannels = pass.PooledPositions = null;
        }
    }

    /// <summary>
    /// Parameters have the map's type, so the gate has it; a gate that does not must not pass for one that does.
    /// </summary>
    private static InvalidOperationException NotKept(GateModule half)
        => new(
            $"{half.GetName()} made a gate of another type than its map's and its parameters'. " +
            "Set AttentionKernels.Enabled to false, and report this.");

    private static Tensor TrainSteps(GatePass pass, Tensor input, Tensor? residual)
    {
        NativeTeam.WarnOfSmallerTeams();
        pass.InputNeedsGradient = input.requires_grad;
        pass.ResidualNeedsGradient = residual is { requires_grad: true };
        Tensor? channel = null, spatial = null;
        if (pass.Parts.Channel is { } first)
        {
            pass.PooledChannels = PoolChannelsFunction.apply(input, pass);
            if ((channel = ChannelGate(first, pass.PooledChannels, pass.View)) is null) throw NotKept(first.Module);
        }

        if (pass.Parts.Spatial is { } second)
        {
            pass.PooledPositions = PoolPositionsFunction.apply(input, channel!, pass);
            pass.PooledNeedsGradient = pass.PooledPositions.requires_grad;
            if ((spatial = SpatialGate(second, pass.PooledPositions, pass.View)) is null) throw NotKept(second.Module);
        }

        return ApplyFunction.apply(input, channel!, spatial!, residual!, pass);
    }

    /// <summary>(N, C, 1, 1) in float32; null where the gate has another type than the map.</summary>
    private static Tensor? ChannelGate(IChannelGate half, Tensor stacked, MapView view)
        => Plain(GateParts.Excite(half, PooledLayers.Summarize(stacked, view)), view);

    /// <summary>(N, 1, H, W) in float32; null where the gate has another type than the map.</summary>
    private static Tensor? SpatialGate(ISpatialGate half, Tensor pooled, MapView view)
        => Plain(GateParts.Excite(half, view.IsBFloat16 ? pooled.to_type(ScalarType.BFloat16) : pooled), view);

    private static Tensor? Plain(Tensor gate, MapView view)
        => gate.dtype == view.Type ? gate.to_type(ScalarType.Float32).contiguous() : null;
}
