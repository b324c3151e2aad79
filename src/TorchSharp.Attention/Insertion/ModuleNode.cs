using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>A submodule at one of its paths in a network.</summary>
internal sealed record ModuleNode(string Path, nn.Module Module, ModuleNode? Parent)
{
    /// <summary>Whether the parent passes on each map to the next child and disposes it.</summary>
    public bool InSequence => Parent?.Module is Sequential;

    /// <summary>A module's name: the name of the class for TorchSharp's own ones, which call themselves after C++.</summary>
    public static string NameOf(nn.Module module)
    {
        string name = module.GetName();
        return string.IsNullOrEmpty(name) || name.StartsWith("torch::", StringComparison.Ordinal) ? module.GetType().Name : name;
    }

    public string Describe() => $"'{Path}' ({Module.GetType().Name})";

    /// <summary>Every submodule below a network in the network's order, but for attentions and what is in them.</summary>
    public static IEnumerable<ModuleNode> Below(nn.Module model) => Below(new ModuleNode("", model, null));

    /// <summary>
    /// The nearest module above that can own an attention; null where there is none but a Sequential at the top.
    /// </summary>
    public ModuleNode? Host()
    {
        ModuleNode? host = Parent;
        while (host is not null && !Owns(host.Module)) host = host.Parent;
        return host;
    }

    private static IEnumerable<ModuleNode> Below(ModuleNode parent)
    {
        foreach ((string name, nn.Module child) in parent.Module.named_children())
        {
            if (child is IAttentionModule or AttentionContainer) continue;
            ModuleNode node = new(parent.Path.Length == 0 ? name : $"{parent.Path}.{name}", child, parent);
            yield return node;
            foreach (ModuleNode below in Below(node)) yield return below;
        }
    }

    /// <summary>
    /// TorchSharp's sequences and scripts list children of their own and do not see what is registered with them.
    /// </summary>
    private static bool Owns(nn.Module module)
    {
        Type? declaring = module.GetType().GetMethod(nameof(nn.Module.named_modules))?.DeclaringType;
        return declaring == typeof(nn.Module) || declaring?.Assembly != typeof(nn.Module).Assembly;
    }
}
