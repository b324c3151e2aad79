using TorchSharp.Attention.Kernels;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Which names of a network stand for one tensor, such as the weight of an embedding that is also the classifier's.
/// </summary>
internal sealed class TiedNames
{
    private readonly Dictionary<string, string[]> _groups = new(StringComparer.Ordinal);

    /// <param name="state">The tensors by name.</param>
    public TiedNames(IEnumerable<KeyValuePair<string, Tensor>> state)
    {
        foreach (IGrouping<(nint, string), string> group in state.GroupBy(pair => Key(pair.Value), pair => pair.Key))
        {
            string[] names = [.. group.Order(StringComparer.Ordinal)];
            if (names.Length == 1) continue;
            foreach (string name in names) _groups.Add(name, names);
        }
    }

    /// <summary>All names of the tensor that a name stands for, that name among them.</summary>
    public IReadOnlyList<string> Of(string name) => _groups.TryGetValue(name, out string[]? names) ? names : [name];

    /// <summary>Same memory, seen the same way. Views of parts of one tensor are different ones.</summary>
    private static unsafe (nint Memory, string View) Key(Tensor tensor) => tensor.numel() == 0
        ? (tensor.Handle, "")
        : ((nint)MapView.Pointer(
            tensor), $"{tensor.dtype} {tensor.device} {string.Join(',', tensor.shape)}/{string.Join(',', tensor.stride())}");
}
