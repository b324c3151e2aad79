using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// What a gate computes between pooling and applying in inference, in a few steps that the kernels know. A module describes it
/// through <see cref="IInferenceProgram"/>.
/// </summary>
internal sealed unsafe class GateProgram : IInferenceProgram
{
    public const int MostSteps = 4;

    [ThreadStatic]
    private static GateProgram? _ofThread;

    private readonly InferenceStep[] _steps = new InferenceStep[MostSteps];
    private int _batch;
    private int _height;
    private int _width;
    private bool _fits;

    private GateProgram()
    {
    }

    /// <summary>Whether all that was written down can run.</summary>
    public bool Fits => _fits;

    public ReadOnlySpan<InferenceStep> Steps => _steps.AsSpan(0, StepCount);

    public int StepCount { get; private set; }

    /// <summary>The spatial gate's convolution, and what follows it.</summary>
    public PositionConvolution.Arguments Convolution { get; private set; }

    public ElementFunction PositionFunction { get; private set; }

    public float* PositionAlpha { get; private set; }

    /// <summary>Values of layers that the region reads from memory: weights of all steps.</summary>
    public long Weights { get; private set; }

    /// <summary>An empty program of this thread for maps of a size; the last one's is gone.</summary>
    public static GateProgram Begin(int batch, int height, int width)
    {
        GateProgram program = _ofThread ??= new GateProgram();
        program._batch = batch;
        program._height = height;
        program._width = width;
        program._fits = true;
        program.StepCount = 0;
        program.Weights = 0;
        return program;
    }

    /// <inheritdoc/>
    public IInferenceProgram MarkUnsupported()
    {
        _fits = false;
        return this;
    }

    /// <inheritdoc/>
    public IInferenceProgram Average(bool wanted)
    {
        if (wanted) Next().Kind = InferenceStepKind.Average;
        return this;
    }

    /// <inheritdoc/>
    public IInferenceProgram Dense(Conv2d layer, BatchNorm2d? norm, GateActivation activation)
        => Dense(layer, norm, Of(activation), InferenceStepKind.Dense, 1);

    /// <inheritdoc/>
    public IInferenceProgram Dense(Conv2d layer, GateFunction gate, bool ofTwoBranches = false)
        => Dense(layer, null, Of(gate), InferenceStepKind.Dense, ofTwoBranches ? 2 : 1);

    /// <inheritdoc/>
    public IInferenceProgram DenseOfBoth(Conv2d layer, GateActivation activation)
        => Dense(layer, null, Of(activation), InferenceStepKind.DenseOfBoth, 1);

    /// <inheritdoc/>
    public IInferenceProgram Neighbours(Conv1d layer, bool circular, GateFunction gate)
    {
        if (!_fits || Hooks.Any(layer) || layer.bias is not null || !Holds(layer.weight)) return MarkUnsupported();
        ref InferenceStep step = ref Next();
        step.Kind = InferenceStepKind.Neighbours;
        step.Weight = MapView.Pointer(layer.weight!);
        step.Kernel = (int)layer.weight!.size(2);
        step.Circular = circular;
        step.Function = Of(gate);
        return this;
    }

    /// <inheritdoc/>
    public IInferenceProgram Convolve(Conv2d layer, BatchNorm2d? norm, SpatialMapOrder order, GateFunction gate)
    {
        if (!_fits
            || !PositionConvolution.TryDescribe(
                _batch, _height, _width, order, layer, norm, out PositionConvolution.Arguments convolution))
        {
            return MarkUnsupported();
        }

        Convolution = convolution;
        PositionFunction = Of(gate);
        PositionAlpha = null;
        return this;
    }

    /// <summary>The identity starts of the channel and of the spatial half.</summary>
    public void Blend(Tensor? channel, Tensor? spatial)
    {
        if ((channel is not null && !Holds(channel)) || (spatial is not null && !Holds(spatial))) MarkUnsupported();
        if (!_fits) return;
        if (channel is not null) _steps[StepCount - 1].Alpha = MapView.Pointer(channel);
        if (spatial is not null) PositionAlpha = MapView.Pointer(spatial);
    }

    private IInferenceProgram Dense(
        Conv2d layer, BatchNorm2d? norm, ElementFunction? function, InferenceStepKind kind, float biasFactor)
    {
        if (!_fits || function is not { } known || Hooks.Any(layer) || !Holds(layer.weight)
            || (layer.bias is not null && !Holds(layer.bias)))
        {
            return MarkUnsupported();
        }

        if (Math.Max(layer.weight!.size(0), layer.weight.size(1)) > MapView.MostCounted) return MarkUnsupported();
        ref InferenceStep step = ref Next();
        step.Kind = kind;
        step.Outputs = (int)layer.weight!.size(0);
        step.Inputs = (int)layer.weight.size(1);
        step.Weight = MapView.Pointer(layer.weight);
        step.Bias = layer.bias is null ? null : MapView.Pointer(layer.bias);
        step.BiasFactor = biasFactor;
        step.Function = known;
        Weights += (long)step.Outputs * step.Inputs;
        if (norm is null) return this;
        if (norm.training || Hooks.Any(norm) || !Holds(norm.running_mean) || !Holds(norm.running_var)) return MarkUnsupported();
        if ((norm.weight is not null && !Holds(norm.weight)) || (norm.bias is not null && !Holds(norm.bias)))
        {
            return MarkUnsupported();
        }

        step.NormMean = MapView.Pointer(norm.running_mean!);
        step.NormVariance = MapView.Pointer(norm.running_var!);
        step.NormWeight = norm.weight is null ? null : MapView.Pointer(norm.weight);
        step.NormBias = norm.bias is null ? null : MapView.Pointer(norm.bias);
        step.NormEpsilon = (float)norm.eps;
        return this;
    }

    private ref InferenceStep Next()
    {
        ref InferenceStep step = ref _steps[StepCount++];
        step = default;
        return ref step;
    }

    private static bool Holds(Tensor? tensor)
        => tensor is not null && tensor.dtype == ScalarType.Float32 && tensor.device_type == DeviceType.CPU
            && tensor.is_contiguous();

    private static ElementFunction Of(GateFunction gate)
        => gate == GateFunction.HardSigmoid ? ElementFunction.HardSigmoid : ElementFunction.Sigmoid;

    private static ElementFunction? Of(GateActivation activation) => activation switch
    {
        GateActivation.ReLU => ElementFunction.ReLU,
        GateActivation.ReLU6 => ElementFunction.ReLU6,
        GateActivation.SiLU => ElementFunction.SiLU,
        GateActivation.HardSwish => ElementFunction.HardSwish,
        _ => null,
    };
}
