namespace TorchSharp.Attention.Onnx;

/// <summary>Attentions of this room.</summary>
internal static class MixedEmitters
{
    public static OnnxEmitters WithMixedAttentions(this OnnxEmitters emitters) => emitters;
}
