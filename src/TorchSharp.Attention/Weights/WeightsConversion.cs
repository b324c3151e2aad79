using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>A tensor whose values were changed by the conversion to the model's type, which the options allow.</summary>
/// <param name="Name">The model's name.</param>
/// <param name="FileType">The file's type.</param>
/// <param name="ModelType">The model's type.</param>
/// <param name="Rounded">How many values were rounded, to zero among others.</param>
/// <param name="Overflowed">How many finite values became infinite.</param>
public sealed record WeightsConversion(string Name, ScalarType FileType, ScalarType ModelType, long Rounded, long Overflowed)
{
    /// <summary>One line: the name, both types and the counts.</summary>
    public override string ToString() =>
        FormattableString.Invariant(
            $"{Listing.Short(Name)} from {FileType} to {ModelType}: {Rounded} values rounded, {Overflowed} infinite");
}
