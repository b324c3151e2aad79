namespace TorchSharp.Attention.Onnx;

/// <summary>Attentions of this room.</summary>
internal static class SpatialEmitters
{
    public static OnnxEmitters WithSpatialAttentions(this OnnxEmitters emitters) => emitters;
}
