using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>What a file says of one tensor, before its values are read.</summary>
/// <param name="Name">Its name in the file.</param>
/// <param name="Type">The type of its values.</param>
/// <param name="Shape">Its sizes; empty for a single value.</param>
public sealed record WeightsEntry(string Name, ScalarType Type, ValueList<long> Shape)
{
    /// <summary>
    /// The file's name of a type that TorchSharp lacks, such as <c>F8_E4M3</c>; <see cref="Type"/> is then the wider type that
    /// loading gives. Null where the file's type is <see cref="Type"/>.
    /// </summary>
    public string? ForeignType { get; init; }
}
