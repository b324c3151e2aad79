namespace TorchSharp.Attention;

/// <summary>
/// A channel gate or spatial gate that can describe its layers as steps, so that one kernel computes the whole gate in inference.
/// Without this interface, the kernels pool and apply, and the layers of the module run between.
/// </summary>
internal interface IInferenceGate : IFusableGate
{
    /// <summary>Adds the steps from pooled values to the gate.</summary>
    /// <param name="program">The program that takes the steps.</param>
    void Describe(IInferenceProgram program);
}
