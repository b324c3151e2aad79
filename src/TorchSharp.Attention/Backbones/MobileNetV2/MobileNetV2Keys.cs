namespace TorchSharp.Attention;

/// <summary>Names that other libraries use for the weights of a <see cref="MobileNetV2"/>.</summary>
internal static class MobileNetV2Keys
{
    /// <summary>The names of timm's <c>mobilenetv2_100</c>.</summary>
    public static KeyMap Timm()
    {
        List<KeyRule> rules =
        [
            new(@"^conv_stem\.", "features.0.0."),
            new(@"^bn1\.", "features.0.1."),
            new(@"^conv_head\.", "features.18.0."),
            new(@"^bn2\.", "features.18.1."),
            new(@"^classifier\.", "classifier.1."),
        ];
        int feature = 1;
        for (int stage = 0; stage < MobileNetV2Block.Stages; stage++)
        {
            // The first stage does not expand; timm calls its layers otherwise.
            string[] layers = stage == 0
                ? ["conv_dw", "bn1", "conv_pw", "bn2"]
                : ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"];
            for (int block = 0; block < MobileNetV2Block.InStageOf(stage + 1); block++, feature++)
            {
                for (int i = 0; i < layers.Length; i++)
                {
                    // Convolution and norm in pairs, but for the last: conv.0.0, conv.0.1, …, conv.2, conv.3.
                    int last = layers.Length - 2;
                    string place = i < last ? $"{i / 2}.{i % 2}" : $"{(last / 2) + i - last}";
                    rules.Add(new KeyRule($@"^blocks\.{stage}\.{block}\.{layers[i]}\.", $"features.{feature}.conv.{place}."));
                }
            }
        }

        return new KeyMap([.. rules]);
    }
}
