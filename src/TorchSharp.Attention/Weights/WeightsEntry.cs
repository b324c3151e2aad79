using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Name, type and shape of one tensor in a file, without its values.</summary>
/// <param name="Name">Its name in the file.</param>
/// <param name="Type">The type of its values.</param>
/// <param name="Shape">Its sizes; empty for a single value.</param>
public sealed record WeightsEntry(string Name, ScalarType Type, ValueList<long> Shape)
{
    /// <summary>
    /// Name of the tensor's type in the file, if TorchSharp lacks it, such as <c>F8_E4M3</c>. <see cref="Type"/> is then the
    /// wider type that loading gives. Null if the type in the file is <see cref="Type"/>.
    /// </summary>
    public string? ForeignType { get; init; }
}
