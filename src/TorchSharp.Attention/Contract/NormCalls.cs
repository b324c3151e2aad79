using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Batch norm that also works where a channel has a single value, and group norm that starts as it should.</summary>
internal static class NormCalls
{
    /// <summary>
    /// Calls the norm. In training, a batch that leaves one value per channel has no variance: PyTorch throws. A last batch of
    /// one sample should not end a training, so this normalises such a batch with the running statistics and leaves them alone.
    /// </summary>
    public static Tensor CallAnyBatch(this BatchNorm2d norm, Tensor input)
    {
        if (!IsSingle(norm, input)) return Flat(Counted(norm, input));
        return nn.functional.batch_norm(
            input, norm.running_mean!, norm.running_var!, norm.weight, norm.bias, training: false, eps: norm.eps);
    }

    /// <summary>The normed map; the map itself where the norm is folded into the convolution before it.</summary>
    /// <exception cref="ArgumentException">The norm is in training mode and would see a single value per channel.</exception>
    public static Tensor Norm(this BatchNorm2d? norm, Tensor map)
    {
        if (norm is null) return map;
        RefuseSingle(norm, map);
        return Counted(norm, map);
    }

    /// <summary>Throws where the norm is in training mode and a map would give it a single value per channel.</summary>
    public static void RefuseSingle(BatchNorm2d norm, Tensor map)
    {
        if (IsSingle(norm, map)) throw SingleValue("a batch norm", $"its map has shape {Check.Shape(map)}", nameof(map));
    }

    /// <summary>The exception for a batch norm in training that would see a single value per channel.</summary>
    /// <param name="norm">The norm, in words.</param>
    /// <param name="shape">What has which shape.</param>
    /// <param name="parameter">The parameter that is wrong.</param>
    public static ArgumentException SingleValue(string norm, string shape, string parameter) => new(
        $"Expected more than 1 value per channel when training: {norm} would see a single one ({shape}), which has no variance " +
        "and would make its running variance NaN. " +
        "Give more than one image a batch (leave out a last batch of one) or larger images, or set the norm to evaluation mode " +
        "with eval().", parameter);

    private static bool IsSingle(BatchNorm2d norm, Tensor map)
        => norm.training && map.size(0) == 1 && map.size(2) == 1 && map.size(3) == 1;

    /// <summary>
    /// The norm's forward. In training TorchSharp's own counts the batch with an implicit scalar, which the finaliser may free
    /// during the call: rarely, but then a training ends.
    /// </summary>
    private static Tensor Counted(BatchNorm2d norm, Tensor input)
    {
        if (!norm.training || !norm.track_running_stats || norm.momentum is not { } momentum || norm.num_batches_tracked is null
            || Hooks.Any(norm))
        {
            return norm.call(input);
        }

        norm.num_batches_tracked.Plus_(Scalars.Once);
        return nn.functional.batch_norm(
            input, norm.running_mean!, norm.running_var!, norm.weight, norm.bias, training: true, momentum: momentum,
            eps: norm.eps);
    }

    /// <summary>
    /// The same map, whose gradient arrives contiguous. libtorch 2.10 computes wrong gradients where a batch norm took
    /// a contiguous batch of one and the gradient that comes back has its channels side by side and another stride of
    /// the batch than such a map would have.
    /// </summary>
    public static Tensor Flat(Tensor map) => map.size(0) == 1 && map.is_contiguous() ? map.view(-1).view(map.shape) : map;

    /// <summary>A group norm that starts at scale one and shift zero: TorchSharp leaves both uninitialised.</summary>
    public static GroupNorm Group(int groups, int channels)
    {
#pragma warning disable RS0030 // Start sets what it leaves uninitialized.
        GroupNorm norm = nn.GroupNorm(groups, channels);
#pragma warning restore RS0030
        using IDisposable quiet = no_grad();
        Start(norm);
        return norm;
    }

    /// <summary>Scale one, shift zero.</summary>
    public static void Start(GroupNorm norm)
    {
        nn.init.ones_(norm.weight);
        AttentionWeightsInitializer.Zero(norm.bias);
    }

    public static double CheckMomentum(
        double value, [System.Runtime.CompilerServices.CallerArgumentExpression(nameof(value))] string name = "")
        => value > 0 && value <= 1 ? value : throw new ArgumentOutOfRangeException(
            name, value, $"{name} is {value}; the share of a new batch in the running statistics must lie in (0, 1].");
}
