namespace TorchSharp.Attention.Onnx;

/// <summary>Attentions of this room.</summary>
internal static class BranchEmitters
{
    public static OnnxEmitters WithBranchAttentions(this OnnxEmitters emitters) => emitters;
}
