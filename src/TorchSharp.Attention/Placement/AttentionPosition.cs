namespace TorchSharp.Attention;

/// <summary>Where in a network an attention stands. Which of them exist depends on the network; see each member.</summary>
public enum AttentionPosition
{
    /// <summary>
    /// End of the residual branch, before the addition: the default, and best in practice. Blocks of every backbone.
    /// </summary>
    BeforeAdd,

    /// <summary>
    /// Input of the block; both the residual branch and the shortcut see the refined map. Blocks of every backbone.
    /// </summary>
    Before,

    /// <summary>After the first convolution, its norm and activation. Residual blocks.</summary>
    AfterConv1,

    /// <summary>
    /// After the second convolution, its norm and, in a bottleneck, its activation: the 3×3 there. Residual blocks.
    /// </summary>
    AfterConv2,

    /// <summary>
    /// On the shortcut, after its projection if it has one. Residual blocks, and inverted residual blocks that have a shortcut.
    /// </summary>
    Shortcut,

    /// <summary>After addition and activation. Blocks of every backbone.</summary>
    After,

    /// <summary>After the expansion's activation. Inverted residual blocks that expand, and EfficientNet's fused ones.</summary>
    AfterExpand,

    /// <summary>
    /// After the depthwise convolution and its activation, MobileNetV3's place. Inverted residual blocks, and ConvNeXt's. In
    /// EfficientNet the attention replaces the block's own squeeze-and-excitation.</summary>
    AfterDepthwise,

    /// <summary>After the last block of a stage: BAM's place. Every backbone.</summary>
    StageEnd,

    /// <summary>Result of an encoder level; skip connection and next level see the refined map. U-Net.</summary>
    EncoderEnd,

    /// <summary>Deepest level. U-Net.</summary>
    Bottleneck,

    /// <summary>On the skip connection alone; a guided attention is steered by the up-sampled decoder map here. U-Net.</summary>
    Skip,

    /// <summary>After skip and decoder map are concatenated. U-Net.</summary>
    AfterConcat,

    /// <summary>Result of a decoder level. U-Net.</summary>
    DecoderEnd,

    /// <summary>
    /// Instead of a 3×3 convolution, its norm and its activation: the second convolution of a bottleneck, the first (and
    /// strided) one of a basic block, as timm's SK-ResNet and ResNeSt do, and the depthwise one of an inverted residual
    /// block. Branch kinds (<see cref="BranchAttentionOptions"/>) stand here and nowhere else. The module takes the
    /// convolution's key (<c>conv2</c>, <c>conv1</c>; <c>conv.1.0</c> in MobileNetV2, <c>conv.0.0</c> without expansion); its
    /// norm is not there. Blocks of ResNet and MobileNetV2.
    /// </summary>
    ReplaceSpatialConv,
}
