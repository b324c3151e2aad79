using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>A tensor of the file that does not fit its tensor in the model, by its shape, type or values.</summary>
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
    /// <summary>
    /// Name of the tensor's type in the file, if TorchSharp lacks it. Null if the type in the file is <see cref="FileType"/>.
    /// </summary>
    public string? ForeignType { get; init; }

    /// <summary>
    /// The problem and its remedy, if shapes and types do not explain it, such as values that the type of the model cannot
    /// represent; otherwise null.
    /// </summary>
    public string? Problem { get; init; }

    /// <summary>Formats one line with both names, shapes and types, and the problem.</summary>
    public override string ToString() =>
        $"the file's {Listing.Short(FileName)} is {ForeignType ?? FileType.ToString()} {FileShape}; " +
        $"the network's {Listing.Short(Name)} is {ModelType} {ModelShape}" +
        (Problem is null ? "" : $" ({Problem})");
}
