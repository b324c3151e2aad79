using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>A tensor whose shape or type in the file does not go into the model's.</summary>
/// <param name="Name">The model's name.</param>
/// <param name="FileName">The file's name.</param>
/// <param name="FileShape">The file's shape, after the key map.</param>
/// <param name="ModelShape">The model's shape.</param>
/// <param name="FileType">The file's type.</param>
/// <param name="ModelType">The model's type.</param>
public sealed record WeightsMismatch(
    string Name, string FileName, ValueList<long> FileShape, ValueList<long> ModelShape, ScalarType FileType,
    ScalarType ModelType)
{
    /// <summary>The file's name of a type that TorchSharp lacks; null where the file's type is <see cref="FileType"/>.</summary>
    public string? ForeignType { get; init; }

    /// <summary>
    /// What is wrong where shapes and types alone do not say it, such as values that the model's type
    /// lacks, and what would do; else null.
    /// </summary>
    public string? Problem { get; init; }

    /// <summary>One line: both names, shapes and types, and the problem.</summary>
    public override string ToString() =>
        $"the file's {Listing.Short(FileName)} is {ForeignType ?? FileType.ToString()} {FileShape}; " +
        $"the network's {Listing.Short(Name)} is {ModelType} {ModelShape}" +
        (Problem is null ? "" : $" ({Problem})");
}
