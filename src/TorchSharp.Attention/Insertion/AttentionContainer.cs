using System.Collections;
using System.Reflection;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Holds inserted attentions where the whole network is a <see cref="Sequential"/>, whose children are its sequence and nothing
/// else. It is the last of them and passes its input on.
/// </summary>
internal sealed class AttentionContainer : nn.Module<Tensor, Tensor>
{
    private const string Key = "attention";

    // A Sequential can append but not remove.
    private static readonly FieldInfo? Members = typeof(Sequential).GetField(
        "_modules", BindingFlags.Instance | BindingFlags.NonPublic);
    private static readonly FieldInfo? Names = typeof(Sequential).GetField(
        "_names", BindingFlags.Instance | BindingFlags.NonPublic);

    private AttentionContainer()
        : base(nameof(AttentionContainer)) => RegisterComponents();

    /// <summary>Whether shelves can be taken away again with this version of TorchSharp.</summary>
    public static bool Removable(Sequential sequence)
        => Members?.GetValue(sequence) is IList && Names?.GetValue(sequence) is IList;

    /// <summary>The shelf of a sequence, or null, and the key that it has or would have.</summary>
    public static (AttentionContainer? Shelf, string Key) Of(Sequential sequence)
    {
        HashSet<string> taken = [];
        foreach ((string name, nn.Module module) in sequence.named_children())
        {
            if (module is AttentionContainer shelf) return (shelf, name);
            taken.Add(name);
        }

        string key = Key;
        for (int i = 2; taken.Contains(key); i++) key = $"{Key}{i}";
        return (null, key);
    }

    public static AttentionContainer Add(Sequential sequence)
    {
        (AttentionContainer? shelf, string key) = Of(sequence);
        if (shelf is not null) return shelf;
        shelf = new AttentionContainer();
        shelf.train(sequence.training);
        sequence.append(key, shelf);
        return shelf;
    }

    /// <summary>Takes an empty shelf away.</summary>
    public static void RemoveEmpty(Sequential sequence)
    {
        if (Members?.GetValue(sequence) is not IList members || Names?.GetValue(sequence) is not IList names) return;
        for (int i = members.Count - 1; i >= 0; i--)
        {
            if (members[i] is not AttentionContainer shelf || shelf.named_children().Any()) continue;
            members.RemoveAt(i);
            names.RemoveAt(i);
            shelf.Dispose();
        }
    }

    public override Tensor forward(Tensor input) => input.alias();
}
