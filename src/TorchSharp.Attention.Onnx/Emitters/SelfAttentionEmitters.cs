namespace TorchSharp.Attention.Onnx;

/// <summary>Attentions of this room.</summary>
internal static class SelfAttentionEmitters
{
    public static OnnxEmitters WithSelfAttentions(this OnnxEmitters emitters) => emitters;
}
