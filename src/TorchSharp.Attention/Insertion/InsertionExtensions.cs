using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Inserts attention into existing networks, and freezes everything but the attention.</summary>
public static class InsertionExtensions
{
    /// <summary>
    /// Inserts attentions before and after submodules of any network. They start as the identity, so the outputs of the network
    /// stay bit-identical. They are part of its <c>state_dict</c>, <c>parameters</c>, <c>train</c>, <c>eval</c> and <c>to</c>.
    /// </summary>
    /// <param name="model">The network. Its submodules must be registered, and run by <c>call</c>.</param>
    /// <param name="plan">Which attention goes where.</param>
    /// <param name="example">
    /// The network's inputs, one tensor each, for dry passes that find the widths, whether each submodule is called, whether the
    /// outputs stay what they are, and whether a gradient would reach every attention. They run in evaluation mode, and in
    /// training mode only where no gradient arrives in evaluation; modes, running statistics, random state, gradients and the
    /// example itself stay as they are. Without one, widths are read from the submodules' weights, and a <c>call</c> of the
    /// network throws an <see cref="InvalidOperationException"/> as long as one of them has not been called.
    /// </param>
    /// <returns>The way back; it may be forgotten.</returns>
    /// <remarks>
    /// Weights are registered with the nearest module above that is no <see cref="Modules.Sequential"/>, as the path from there
    /// with underscores and <c>_attn</c> or <c>_attn_before</c>: <c>layer3.0.conv2_attn.fc1.weight</c>. A network that is a
    /// Sequential from the top gets a last child <c>attention</c>, which holds them and passes its input on. Several insertions,
    /// at one place too, act in their order. Make optimizers afterwards.
    /// </remarks>
    /// <exception cref="ArgumentException">
    /// A rule matches nothing or what cannot be hooked, a submodule is run by <c>forward</c>, a map is no (N, C, H, W), settings
    /// do not fit, the network does not run on the example, an in-place operation would make the outputs others, or no gradient
    /// would reach an attention. The network is then as it was.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The network has been disposed.</exception>
    public static InsertionHandle InsertAttention(this nn.Module model, InsertionPlan plan, params Tensor[] example)
    {
        using IDisposable? normal = OutsideInferenceMode();
        RandomStateScope before = new();
        try
        {
            using InsertionResolver resolution = new(model, plan, example);
            InsertionHandle handle = new(model, resolution, seen: example.Length > 0, plan.GuardBatchNorms);
            before.Commit();
            return handle;
        }
        finally
        {
            before.Dispose();
        }
    }

    /// <summary>
    /// Parameters that are made in inference mode could never train: the mode is off while this is open. Null where it is off
    /// anyway.
    /// </summary>
    internal static IDisposable? OutsideInferenceMode() => is_inference_mode_enabled() ? inference_mode(false) : null;

    /// <summary>Freezes every parameter except those of the library's attention modules.</summary>
    /// <param name="model">The network, with attention inserted or built in.</param>
    /// <returns>What has been frozen; <see cref="FrozenParameters.Unfreeze"/> lets it train again.</returns>
    /// <exception cref="ArgumentException">The network has no attention, so that nothing would be left to train.</exception>
    /// <exception cref="ObjectDisposedException">The network was disposed.</exception>
    public static FrozenParameters FreezeAllButAttention(this nn.Module model)
    {
        Check.Alive(model);
        nn.Module[] attentions = [.. model.modules().Prepend(model).Where(ISequenceAttention.IsAttention)];
        return attentions.Length > 0
            ? new FrozenParameters(model, attentions)
            : throw new ArgumentException(
                $"{model.GetType().Name} has no attention: nothing would be left to train. " +
                "Insert some first with InsertAttention.", nameof(model));
    }

    /// <summary>
    /// Checks that an optimizer trains all parameters that require a gradient. An optimizer of TorchSharp takes the parameters of
    /// a network when it is created. It does not know what an insertion, a removal or a conversion (<c>to</c>) changes later. Its
    /// <c>step</c> then fails with "The given key '…' was not present in the dictionary", or does not train the attention.
    /// </summary>
    /// <param name="model">The network.</param>
    /// <param name="optimizer">The optimizer; one of several that share the parameters is refused.</param>
    /// <exception cref="InvalidOperationException">
    /// The optimizer lacks a parameter of the network whose <c>requires_grad</c> is true, or holds one that has
    /// been disposed; the message names them.
    /// </exception>
    public static void CheckOptimizer(this nn.Module model, optim.Optimizer optimizer)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(optimizer);
        Check.Alive(model);
        OptimizerParameters.Check(model, optimizer);
    }
}
