namespace TorchSharp.Attention.Kernels;

internal enum InferenceStepKind
{
    /// <summary>(mean + maximum) / 2.</summary>
    Average,

    /// <summary>f(norm(W x + b)).</summary>
    Dense,

    /// <summary>f(W mean + b) + f(W maximum + b).</summary>
    DenseOfBoth,

    /// <summary>f(w ∗ x), over neighbouring channels.</summary>
    Neighbours,
}
