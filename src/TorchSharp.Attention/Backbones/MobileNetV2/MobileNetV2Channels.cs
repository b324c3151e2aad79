namespace TorchSharp.Attention;

/// <summary>
/// The channels of a MobileNetV2: the expanded ones of each block, and those of the maps that its blocks add to.
/// </summary>
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
            if (channels.Module($"{path}.conv.{depthwise}.0") is BranchModule branch) hidden.Blocked(
                $"{path}.conv.{depthwise}.0", branch);
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
        return new ChannelMap(options, channels.Axes, Narrow);

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
