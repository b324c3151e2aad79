using TorchSharp.Modules;

namespace TorchSharp.Attention;

/// <summary>
/// Takes the steps of a gate in inference. A layer that the kernel cannot compute makes the program unsupported:
/// one with a hook, of another type than float32, on another device than the CPU, or with a batch norm in training
/// mode. The layers of the module run then.
/// </summary>
internal interface IInferenceProgram
{
    /// <summary>Says that the settings of the gate need a step that the kernel lacks.</summary>
    IInferenceProgram MarkUnsupported();

    /// <summary>(mean + maximum) / 2, as the input of the next step; nothing where <paramref name="wanted"/> is false.</summary>
    IInferenceProgram Average(bool wanted);

    /// <summary>f(norm(W x + b)): a 1×1 convolution of pooled channels, a batch norm if there is one, an activation.</summary>
    IInferenceProgram Dense(Conv2d layer, BatchNorm2d? norm, GateActivation activation);

    /// <summary>f(W x + b), the last layer. Of two branches, x is the sum over both, and the bias counts twice.</summary>
    IInferenceProgram Dense(Conv2d layer, GateFunction gate, bool ofTwoBranches = false);

    /// <summary>f(W mean + b) + f(W maximum + b): the first layer of two branches with the same weights.</summary>
    IInferenceProgram DenseOfBoth(Conv2d layer, GateActivation activation);

    /// <summary>f(w ∗ x): a convolution over neighbouring channels, without a bias.</summary>
    IInferenceProgram Neighbours(Conv1d layer, bool circular, GateFunction gate);

    /// <summary>f(norm(w ∗ maps)): the convolution of pooled positions that gives the spatial gate.</summary>
    IInferenceProgram Convolve(Conv2d layer, BatchNorm2d? norm, SpatialMapOrder order, GateFunction gate);
}
