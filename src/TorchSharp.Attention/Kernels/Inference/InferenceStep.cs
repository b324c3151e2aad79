namespace TorchSharp.Attention.Kernels;

/// <summary>One step from pooled channels to their gate.</summary>
internal unsafe struct InferenceStep
{
    public InferenceStepKind Kind;
    public int Inputs;
    public int Outputs;

    /// <summary>Taps of a convolution over channels, and whether the last channel is next to the first.</summary>
    public int Kernel;
    public bool Circular;

    public float* Weight;
    public float* Bias;

    /// <summary>How often the bias counts: twice in the sum of two branches.</summary>
    public float BiasFactor;

    /// <summary>A batch norm in evaluation, or nulls.</summary>
    public float* NormMean;
    public float* NormVariance;
    public float* NormWeight;
    public float* NormBias;
    public float NormEpsilon;

    public ElementFunction Function;

    /// <summary>The identity start's scale, on the last step.</summary>
    public float* Alpha;
}
