using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>The groups of channels of a network under construction.</summary>
internal sealed class NetworkChannels(FeatureNetwork network)
{
    private readonly Dictionary<string, nn.Module> _modules = network.named_modules().ToDictionary(entry => entry.name, entry => entry.module);

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

/// <summary>The channels of a ResNet: of each block's inside, and of the maps that its blocks add to.</summary>
internal static class ResNetChannels
{
    public static ChannelMap Of(ResNet network)
    {
        ResNetOptions options = network.Options;
        NetworkChannels channels = new(network);
        ResNetBlockShape[] blocks = [.. ResNetBlockShape.All(options)];
        ChannelAxis stem = channels.Axis("stem", blocks[0].Input).Produced("conv1").Normed("bn1"), stream = stem;
        List<ChannelAxis> stages = [], first = [], second = [];
        foreach (ResNetBlockShape block in blocks)
        {
            string path = $"layer{block.Stage}.{block.Index}", stage = $"layer{block.Stage}";
            ChannelAxis input = stream, inner = channels.Axis($"{path}.conv1", block.Inner1);
            ChannelAxis? middle = block.Kind == ResNetBlock.Bottleneck ? channels.Axis($"{path}.conv2", block.Inner2) : null;
            if (block.HasProjection) stream = channels.Axis(stage, block.Output);
            else if (block.Index == 0) stream.Name = stage;
            first.Add(inner);
            if (middle is not null) second.Add(middle);
            if (block.Index == 0) stages.Add(stream);

            channels.Attention(input, path, AttentionPosition.Before);
            channels.Convolution(input, $"{path}.conv1", $"{path}.bn1", inner);
            channels.Attention(inner, path, AttentionPosition.AfterConv1);
            channels.Convolution(inner, $"{path}.conv2", $"{path}.bn2", middle ?? stream);
            channels.Attention(middle ?? stream, path, AttentionPosition.AfterConv2);
            if (middle is not null) channels.Convolution(middle, $"{path}.conv3", $"{path}.bn3", stream);
            if (block.HasProjection) channels.Convolution(input, $"{path}.downsample.0", $"{path}.downsample.1", stream);
            channels.Attention(stream, path, AttentionPosition.BeforeAdd);
            channels.Attention(stream, path, AttentionPosition.Shortcut);
            channels.Attention(stream, path, AttentionPosition.After);
            if (block.Index == block.InStage - 1) stream.Attended($"{stage}_attn", channels.Module($"{stage}_attn"));
        }

        stream.Read("fc");
        return new ChannelMap(options, channels.Axes, Narrow, result => ResNet.Sites((ResNetOptions)result));

        BackboneOptions Narrow(Func<ChannelAxis, int> kept) => options with
        {
            Attention = AttentionPlan.None,
            Widths = new ResNetWidths
            {
                Stem = kept(stem),
                Stages = ValueList.Create<int>([.. stages.Select(kept)]),
                Conv1 = ValueList.Create<int>([.. first.Select(kept)]),
                Conv2 = second.Count == 0 ? null : ValueList.Create<int>([.. second.Select(kept)]),
            },
        };
    }
}

/// <summary>The channels of a MobileNetV2: the expanded ones of each block, and those of the maps that its blocks add to.</summary>
internal static class MobileNetV2Channels
{
    public static ChannelMap Of(MobileNetV2 network)
    {
        MobileNetV2Options options = network.Options;
        NetworkChannels channels = new(network);
        MobileNetV2Widths widths = MobileNetV2Block.WidthsOf(options);
        ChannelAxis stem = channels.Axis("stem", widths.Stem).Produced("features.0.0").Normed("features.0.1"), stream = stem;
        List<ChannelAxis> stages = [], expanded = [];
        int feature = 1;
        foreach (MobileNetV2Block block in MobileNetV2Block.All(options))
        {
            string path = $"features.{feature++}", stage = $"stage{block.Stage}";
            ChannelAxis input = stream, hidden = block.Expands ? channels.Axis(path, block.Hidden) : input;
            if (!block.HasShortcut) stream = channels.Axis(stage, block.Output);
            else if (block.Index == 0) stream.Name = stage;
            expanded.Add(hidden);
            if (block.Index == 0) stages.Add(stream);

            channels.Attention(input, path, AttentionPosition.Before);
            if (block.Expands) channels.Convolution(input, $"{path}.conv.0.0", $"{path}.conv.0.1", hidden);
            channels.Attention(hidden, path, AttentionPosition.AfterExpand);
            int depthwise = block.Expands ? 1 : 0;
            if (channels.Module($"{path}.conv.{depthwise}.0") is BranchModule branch) hidden.Blocked($"{path}.conv.{depthwise}.0", branch);
            else hidden.Produced($"{path}.conv.{depthwise}.0").Normed($"{path}.conv.{depthwise}.1");
            channels.Attention(hidden, path, AttentionPosition.AfterDepthwise);
            channels.Convolution(hidden, $"{path}.conv.{depthwise + 1}", $"{path}.conv.{depthwise + 2}", stream);
            channels.Attention(stream, path, AttentionPosition.BeforeAdd);
            channels.Attention(stream, path, AttentionPosition.Shortcut);
            channels.Attention(stream, path, AttentionPosition.After);
            if (block.Index == block.InStage - 1) stream.Attended($"{stage}_attn", channels.Module($"{stage}_attn"));
        }

        string end = $"features.{feature}";
        ChannelAxis last = channels.Axis(end, widths.Last);
        channels.Convolution(stream, $"{end}.0", $"{end}.1", last);
        last.Read("classifier.1");
        return new ChannelMap(options, channels.Axes, Narrow, result => MobileNetV2.Sites((MobileNetV2Options)result));

        BackboneOptions Narrow(Func<ChannelAxis, int> kept) => options with
        {
            Attention = AttentionPlan.None,
            Widths = new MobileNetV2Widths
            {
                Stem = kept(stem),
                Expanded = ValueList.Create<int>([.. expanded.Select(kept)]),
                Stages = ValueList.Create<int>([.. stages.Select(kept)]),
                Last = kept(last),
            },
        };
    }
}
