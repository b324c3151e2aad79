namespace TorchSharp.Attention;

/// <summary>The kind of place for an attention in a network. Each member says which networks have it.</summary>
public enum AttentionPosition
{
    /// <summary>
    /// At the end of the residual branch, before the addition: the default, and usually the best choice. In blocks of every
    /// backbone.
    /// </summary>
    BeforeAdd,

    /// <summary>
    /// At the input of the block. Both the residual branch and the shortcut get the refined map. In blocks of every backbone.
    /// </summary>
    Before,

    /// <summary>After the first convolution, its norm and its activation. In residual blocks.</summary>
    AfterConv1,

    /// <summary>
    /// After the second convolution and its norm. In a bottleneck this is the 3×3 convolution, and the attention also follows its
    /// activation. In residual blocks.
    /// </summary>
    AfterConv2,

    /// <summary>
    /// On the shortcut, after its projection if it has one. In residual blocks, and in inverted residual blocks that have a
    /// shortcut.
    /// </summary>
    Shortcut,

    /// <summary>After the addition and the activation. In blocks of every backbone.</summary>
    After,

    /// <summary>
    /// After the activation of the expansion. In inverted residual blocks with an expansion, and in EfficientNet's fused blocks.
    /// </summary>
    AfterExpand,

    /// <summary>
    /// After the depthwise convolution and its activation, as in MobileNetV3. In inverted residual blocks and ConvNeXt blocks. In
    /// EfficientNet the attention replaces the block's own squeeze-and-excitation.
    /// </summary>
    AfterDepthwise,

    /// <summary>After the last block of a stage, as in BAM. In every backbone.</summary>
    StageEnd,

    /// <summary>
    /// At the output of an encoder level. Both the skip connection and the next level get the refined map. In U-Net.
    /// </summary>
    EncoderEnd,

    /// <summary>At the output of the deepest level, before it is up-sampled. In U-Net.</summary>
    Bottleneck,

    /// <summary>
    /// On the skip connection only. A guided attention gets the up-sampled decoder map as its guide here. In U-Net.
    /// </summary>
    Skip,

    /// <summary>After the skip connection and the decoder map are concatenated. In U-Net.</summary>
    AfterConcat,

    /// <summary>At the output of a decoder level. In U-Net.</summary>
    DecoderEnd,

    /// <summary>
    /// In place of a 3×3 convolution, its norm and its activation. This is the second convolution of a bottleneck, the first
    /// (strided) one of a basic block, as in timm's SK-ResNet and ResNeSt, and the depthwise one of an inverted residual block.
    /// Branch kinds (<see cref="BranchAttentionOptions"/>) can be placed only here. The module gets the key of the convolution
    /// (<c>conv2</c>, <c>conv1</c>; <c>conv.1.0</c> in MobileNetV2, <c>conv.0.0</c> without expansion), and the norm does not
    /// exist. In blocks of ResNet and MobileNetV2.
    /// </summary>
    ReplaceSpatialConv,
}
