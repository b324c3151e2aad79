namespace TorchSharp.Attention;

/// <summary>
/// Which dimensions of an attention's weights run along the channels, so that pruning can remove channels. The removal must
/// satisfy a condition. On a map whose removed channels are zero, the module returns zero in them, and in the other channels what
/// the smaller module returns.
/// </summary>
/// <param name="Dimensions">
/// Every dimension of a parameter or buffer that runs along the channels; what is not named stays whole.
/// </param>
public sealed record ChannelLayout(ValueList<ChannelDimension> Dimensions)
{
    /// <summary>
    /// Description of the cases in which the condition of <see cref="ChannelLayout"/> does not hold. Default null: it always
    /// holds.
    /// </summary>
    public string? Caveat { get; init; }

    /// <summary>A layout of the named dimensions.</summary>
    /// <param name="dimensions">Keys and dimensions; a key twice for a square matrix.</param>
    public static ChannelLayout Of(params (string Name, int Dimension)[] dimensions)
        => new(
            ValueList.Create<ChannelDimension>(
                [.. dimensions.Select(entry => new ChannelDimension(entry.Name, entry.Dimension))]));

    /// <summary>Returns the layout of a module that has this layout's module as a child.</summary>
    /// <param name="child">The child's key.</param>
    public ChannelLayout Within(string child)
        => this with
        {
            Dimensions = ValueList.Create<ChannelDimension>(
                [.. Dimensions.Select(entry => entry with { Name = $"{child}.{entry.Name}" })]),
        };

    /// <summary>Combines this layout with another one of the same module.</summary>
    /// <param name="other">The other one.</param>
    public ChannelLayout And(ChannelLayout other)
    {
        ArgumentNullException.ThrowIfNull(other);
        return new(ValueList.Create<ChannelDimension>([.. Dimensions, .. other.Dimensions])) { Caveat = Caveat ?? other.Caveat };
    }

    /// <summary>Two layers over pooled channels: the first one's columns, the second one's rows and bias.</summary>
    internal static ChannelLayout Bottleneck(string first, bool bias, params string[] seconds)
        => new(ValueList.Create<ChannelDimension>(
    [
        new($"{first}.weight", 1),
        .. seconds.Select(second => new ChannelDimension($"{second}.weight", 0)),
        .. bias ? seconds.Select(second => new ChannelDimension($"{second}.bias", 0)) : [],
    ]));

    /// <summary>A batch norm.</summary>
    internal static ChannelLayout Norm(string name)
        => Of(($"{name}.weight", 0), ($"{name}.bias", 0), ($"{name}.running_mean", 0), ($"{name}.running_var", 0));
}
