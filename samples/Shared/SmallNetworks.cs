using Samples.Data;
using TorchSharp.Attention;

namespace Samples;

/// <summary>Networks for small images, narrow enough to train on a processor.</summary>
public static class SmallNetworks
{
    public static ResNetOptions ResNet(DataSet data, AttentionPlan plan) => new()
    {
        Stem = ResNetStem.Small,
        StemWidth = 16,
        StagePlanes = [16, 32, 64, 128],
        Layers = [1, 1, 1, 1],
        InputChannels = data.Train.Shape.Channels,
        Classes = data.Classes.Count,
        Attention = plan,
    };

    public static MobileNetV2Options MobileNetV2(DataSet data, AttentionPlan plan) => new()
    {
        SmallImages = true,
        WidthMultiplier = 0.35,
        Dropout = 0,
        InputChannels = data.Train.Shape.Channels,
        Classes = data.Classes.Count,
        Attention = plan,
    };
}
