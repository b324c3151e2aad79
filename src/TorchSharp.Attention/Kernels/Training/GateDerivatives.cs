using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// The derivatives of the three steps of a gate by libtorch's operations, which can be differentiated again. A maximum's gradient
/// is split evenly among the elements that share it, as libtorch's <c>amax</c>.
/// </summary>
internal static class GateDerivatives
{
    private static readonly Scalar _two = 2.0.ToScalar();

    private static readonly Scalar _zero = 0.0.ToScalar();

    public static Tensor PooledChannels(Tensor input, Tensor pooled, Tensor gradient, ChannelStatistics reads)
    {
        using Scalar share = (1.0 / (input.size(2) * input.size(3))).ToScalar();
        Tensor dx = gradient[0].mul(share).expand_as(input);
        if (reads.HasFlag(ChannelStatistics.Maximum)) dx = dx.Plus(gradient[1].mul(Share(input, pooled[1], [2, 3])));
        if (reads.HasFlag(ChannelStatistics.Squares)) dx = dx.Plus(input.mul(gradient[1]).mul(_two));
        if (reads.HasFlag(ChannelStatistics.Magnitudes)) dx = dx.Plus(input.sign().mul(gradient[1]));
        if (reads.HasFlag(ChannelStatistics.SquaredDeviations)) dx = dx.Plus(input.sub(pooled[0]).mul(gradient[1]).mul(_two));
        return dx.to_type(input.dtype);
    }

    public static (Tensor Input, Tensor? Channel) PooledPositions(Tensor input, Tensor? channel, Tensor pooled, Tensor gradient)
    {
        using Scalar share = (1.0 / input.size(1)).ToScalar();
        Tensor gated = channel is null ? input : input.mul(channel);
        Tensor mean = gradient.narrow(1, 0, 1), maximum = gradient.narrow(1, 1, 1);
        Tensor du = mean.mul(share).Plus(maximum.mul(Share(gated, pooled.narrow(1, 1, 1), [1])));
        return channel is null
            ? (du.to_type(input.dtype), null)
            : (du.mul(channel).to_type(input.dtype), du.mul(input).sum([2, 3], keepdim: true).to_type(ScalarType.Float32));
    }

    public static (Tensor Input, Tensor? Channel, Tensor? Spatial) Applied(
        Tensor input, Tensor? channel, Tensor? spatial, Tensor gradient)
    {
        Tensor gate = channel is null ? spatial! : spatial is null ? channel : channel.mul(spatial);
        Tensor product = gradient.mul(input);
        Tensor? dc = channel is null ? null : (spatial is null ? product : product.mul(spatial)).sum([2, 3], keepdim: true);
        Tensor? ds = spatial is null ? null : (channel is null ? product : product.mul(channel)).sum([1], keepdim: true);
        return (gradient.mul(gate).to_type(input.dtype), dc?.to_type(ScalarType.Float32), ds?.to_type(ScalarType.Float32));
    }

    /// <summary>The gradient before the ReLU at the end of a residual block.</summary>
    public static Tensor BehindEnd(Tensor end, Tensor gradient)
    {
        Tensor off;
        using (no_grad()) off = end.le(_zero);
        return gradient.masked_fill(off, _zero);
    }

    /// <summary>One over the number of elements that share a maximum where an element is one, else zero.</summary>
    private static Tensor Share(Tensor values, Tensor maximum, long[] dimensions)
    {
        using IDisposable constant = no_grad();
        Tensor peaks = values.eq(maximum).to_type(ScalarType.Float32);
        return peaks.div(peaks.sum(dimensions, keepdim: true));
    }
}
