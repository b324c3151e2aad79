using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Channels of a network that stand or fall together, and every tensor that they run through.</summary>
internal sealed class ChannelAxis(string name, int width)
{
    /// <summary>The name that users call it by.</summary>
    public string Name { get; set; } = name;

    public int Width { get; } = width;

    /// <summary>Convolutions whose output channels these are.</summary>
    public List<string> Members { get; } = [];

    /// <summary>Attentions that stand on these channels and can be cut.</summary>
    public List<string> Attentions { get; } = [];

    /// <summary>Why the channels cannot be removed; empty where they can.</summary>
    public List<string> Obstacles { get; } = [];

    /// <summary>What a removal changes beyond the removed channels.</summary>
    public List<string> Caveats { get; } = [];

    /// <summary>Every dimension of a parameter or buffer that runs along these channels.</summary>
    public List<ChannelDimension> Dimensions { get; } = [];

    /// <summary>A convolution whose output channels these are.</summary>
    public ChannelAxis Produced(string convolution)
    {
        Members.Add(convolution);
        return Along($"{convolution}.weight", 0);
    }

    /// <summary>A batch norm over these channels.</summary>
    public ChannelAxis Normed(string norm)
    {
        Dimensions.AddRange(ChannelLayout.Norm(norm).Dimensions);
        return this;
    }

    /// <summary>A convolution or linear layer that reads these channels.</summary>
    public ChannelAxis Read(string layer) => Along($"{layer}.weight", 1);

    /// <summary>What stands here and cannot be cut.</summary>
    public void Blocked(string path, nn.Module module) => Obstacles.Add($"{path} ({module.GetName()}) cannot give channels away");

    /// <summary>An attention on these channels, or several in a sequence; nothing where there is none.</summary>
    public void Attended(string path, nn.Module? module)
    {
        switch (module)
        {
            case null:
                return;
            case Modules.Sequential sequence:
                foreach ((string name, nn.Module child) in sequence.named_children()) Attended($"{path}.{name}", child);
                return;
            case AttentionModule { ChannelLayout: { } layout }:
                Attentions.Add(path);
                Dimensions.AddRange(layout.Within(path).Dimensions);
                if (layout.Caveat is not null) Caveats.Add($"{path} ({module.GetName()}): {layout.Caveat}");
                return;
            default:
                Blocked(path, module);
                return;
        }
    }

    private ChannelAxis Along(string key, int dimension)
    {
        Dimensions.Add(new ChannelDimension(key, dimension));
        return this;
    }
}
