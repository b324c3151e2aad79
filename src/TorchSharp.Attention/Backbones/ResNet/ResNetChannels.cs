namespace TorchSharp.Attention;

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
        return new ChannelMap(options, channels.Axes, Narrow);

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
