using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>Moves a reference's tensors under our names: every one exactly once, every one of ours filled, shapes equal.</summary>
internal static class StateLoader
{
    private const string Counter = "num_batches_tracked";

    /// <summary>Copies a reference's state into a module.</summary>
    /// <exception cref="InvalidDataException">A name or a shape does not fit.</exception>
    public static void Load(nn.Module module, IReadOnlyDictionary<string, Tensor> reference, KeyMap keys)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        Dictionary<string, Tensor> ours = module.state_dict();
        foreach ((string name, Tensor value) in Pair("state", reference, keys, ours, IsCounter)) ours[name].copy_(value);
    }

    /// <summary>A reference's tensors by our names, in our shapes. The values belong to the caller's dispose scope.</summary>
    /// <param name="what">What they are, for messages.</param>
    /// <param name="reference">The reference's tensors by its names.</param>
    /// <param name="keys">Its names as ours.</param>
    /// <param name="ours">Our tensors by our names.</param>
    /// <param name="isOptional">Which of ours need no counterpart.</param>
    /// <exception cref="InvalidDataException">A name or a shape does not fit.</exception>
    public static Dictionary<string, Tensor> Pair(
        string what, IReadOnlyDictionary<string, Tensor> reference, KeyMap keys, IReadOnlyDictionary<string, Tensor> ours, Func<string, bool> isOptional)
    {
        Dictionary<string, Tensor> paired = new(StringComparer.Ordinal);
        foreach ((string theirs, Tensor tensor) in reference)
        {
            string name = keys.Map(theirs) ?? throw new InvalidDataException($"{what}: the key map drops '{theirs}'");
            if (!ours.TryGetValue(name, out Tensor? own))
            {
                throw new InvalidDataException($"{what}: nothing here takes '{theirs}' (as '{name}')");
            }

            Tensor value = tensor.reshape([.. keys.MapShape(theirs, ValueList.Create<long>(tensor.shape))]);
            if (!value.shape.AsSpan().SequenceEqual(own.shape))
            {
                throw new InvalidDataException($"{what}: '{theirs}' has shape {Shape(tensor)}; the arguments make '{name}' of shape {Shape(own)}");
            }

            if (!paired.TryAdd(name, value))
            {
                throw new InvalidDataException($"{what}: two tensors go to '{name}', one of them '{theirs}'");
            }
        }

        string[] missing = [.. ours.Keys.Where(name => !paired.ContainsKey(name) && !isOptional(name)).Order(StringComparer.Ordinal)];
        return missing.Length == 0
            ? paired
            : throw new InvalidDataException($"{what}: the file has nothing for {string.Join(", ", missing.Select(name => $"'{name}'"))}");
    }

    /// <summary>Whether a buffer only counts batches.</summary>
    public static bool IsCounter(string name) => name.EndsWith(Counter, StringComparison.Ordinal);

    /// <summary>A shape in brackets.</summary>
    public static string Shape(Tensor tensor) => $"[{string.Join(", ", tensor.shape)}]";
}
