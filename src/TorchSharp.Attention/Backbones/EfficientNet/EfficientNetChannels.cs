namespace TorchSharp.Attention;

/// <summary>
/// The channels of an EfficientNet: the hidden ones of each block, and those of the maps that its blocks add to.
/// </summary>
internal static class EfficientNetChannels
{
    public static ChannelMap Of(EfficientNet network)
    {
        EfficientNetOptions options = network.Options;
        NetworkChannels channels = new(network);
        EfficientNetWidths widths = EfficientNetWidths.Of(options);
        ChannelAxis stem = channels.Axis("stem", widths.Stem).Produced("features.0.0").Normed("features.0.1"), stream = stem;
        List<ChannelAxis> stages = [], hidden = [];
        foreach (EfficientNetBlock block in EfficientNetBlock.All(options))
        {
            string path = $"features.{block.Stage}.{block.Index}", stage = $"stage{block.Stage}";
            ChannelAxis input = stream, inner = block.Expands ? channels.Axis(path, block.Hidden) : input;
            if (!block.HasShortcut) stream = channels.Axis(stage, block.Output);
            else if (block.Index == 0) stream.Name = stage;
            hidden.Add(inner);
            if (block.Index == 0) stages.Add(stream);

            channels.Attention(input, path, AttentionPosition.Before);
            int key = 0;
            if (block.Expands || block.Fused)
            {
                channels.Convolution(input, $"{path}.block.0.0", $"{path}.block.0.1", block.Expands ? inner : stream);
                key++;
            }

            if (block.Expands) channels.Attention(inner, path, AttentionPosition.AfterExpand);
            if (!block.Fused)
            {
                inner.Produced($"{path}.block.{key}.0").Normed($"{path}.block.{key}.1");
                inner.Attended($"{path}.block.{key + 1}", channels.Module($"{path}.block.{key + 1}"));
                key += 2;
            }

            if (block.Expands || !block.Fused)
            {
                channels.Convolution(inner, $"{path}.block.{key}.0", $"{path}.block.{key}.1", stream);
            }

            channels.Attention(stream, path, AttentionPosition.BeforeAdd);
            channels.Attention(stream, path, AttentionPosition.Shortcut);
            channels.Attention(stream, path, AttentionPosition.After);
            if (block.Index == block.InStage - 1) stream.Attended($"{stage}_attn", channels.Module($"{stage}_attn"));
        }

        string end = $"features.{options.Stages.Count + 1}";
        ChannelAxis last = channels.Axis(end, widths.Last);
        channels.Convolution(stream, $"{end}.0", $"{end}.1", last);
        last.Read("classifier.1");
        return new ChannelMap(options, channels.Axes, Narrow);

        BackboneOptions Narrow(Func<ChannelAxis, int> kept) => options with
        {
            Attention = AttentionPlan.None,
            Widths = new EfficientNetWidths
            {
                Stem = kept(stem),
                Hidden = ValueList.Create<int>([.. hidden.Select(kept)]),
                Squeezed = widths.Squeezed,
                Stages = ValueList.Create<int>([.. stages.Select(kept)]),
                Last = kept(last),
            },
        };
    }
}
