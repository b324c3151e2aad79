using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>The groups of channels of a network under construction.</summary>
internal sealed class NetworkChannels(FeatureNetwork network)
{
    private readonly Dictionary<string, nn.Module> _modules =
        network.named_modules().ToDictionary(entry => entry.name, entry => entry.module);

    /// <summary>The groups so far.</summary>
    public List<ChannelAxis> Axes { get; } = [];

    /// <summary>A new group.</summary>
    public ChannelAxis Axis(string name, int width)
    {
        ChannelAxis axis = new(name, width);
        Axes.Add(axis);
        return axis;
    }

    /// <summary>The module of a name; null where there is none.</summary>
    public nn.Module? Module(string path) => _modules.GetValueOrDefault(path);

    /// <summary>The attention of a block at a position, if any, stands on an axis.</summary>
    public void Attention(ChannelAxis axis, string block, AttentionPosition position)
    {
        string path = $"{block}.{BlockAttentions.KeyOf(position)}";
        axis.Attended(path, Module(path));
    }

    /// <summary>A convolution from one axis to another with its norm, or what replaces it.</summary>
    public void Convolution(ChannelAxis input, string path, string norm, ChannelAxis output)
    {
        if (Module(path) is BranchModule branch)
        {
            input.Blocked(path, branch);
            output.Members.Add(path);
            output.Blocked(path, branch);
            return;
        }

        input.Read(path);
        output.Produced(path).Normed(norm);
    }
}
