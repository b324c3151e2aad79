using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>The float model's outputs on some batches, and how far other models are from them.</summary>
internal sealed class ModelEvaluation
{
    private readonly IReadOnlyList<OnnxBatch> _batches;
    private readonly int _threads;
    private readonly string _argument;
    private readonly List<Output> _outputs;
    private readonly List<int> _classes;

    // Of each batch, the rows of the output with classes and how many classes it has.
    private readonly List<(int Rows, long Classes)> _sizes = [];

    /// <exception cref="ArgumentException">
    /// There is no batch, one does not fit, an output of the float model is not finite, or labels do not fit the rows.
    /// </exception>
    /// <param name="model">The float model.</param>
    /// <param name="batches">What to run it on.</param>
    /// <param name="threads">Threads of the runtime.</param>
    /// <param name="argument">The caller's argument that holds the batches, for messages.</param>
    /// <param name="strict">Whether a model without finite float outputs is an error.</param>
    public ModelEvaluation(
        ModelProto model, IEnumerable<OnnxBatch> batches, int threads, string argument = "evaluation", bool strict = true)
    {
        (_batches, _threads, _argument) = ([.. batches], threads, argument);
        if (_batches.Count == 0) throw new ArgumentException("There is no batch to measure on; give at least one.", argument);
        foreach (OnnxBatch batch in _batches) ArgumentNullException.ThrowIfNull(batch, argument);
        HasLabels = _batches.All(batch => batch.Labels is not null);
        (_outputs, _classes) = Run(model, mustBeFinite: strict);
        if (strict && _outputs.Count == 0)
        {
            throw new ArgumentException("The model has no float output that could be compared.", nameof(model));
        }

        if (HasLabels && _classes.Count == 0)
        {
            throw new ArgumentException(
                "The batches have labels, but no float output of the model has an axis of classes, (N, classes); " +
                "leave the labels out.", argument);
        }

        if (HasLabels && _batches.Sum(batch => batch.Labels!.Count) != _classes.Count)
        {
            throw new ArgumentException(
                $"The batches have {_batches.Sum(batch => batch.Labels!.Count)} labels, but the model's first float output " +
                $"with an axis of classes has {_classes.Count} rows; give one label a row.", argument);
        }

        if (HasLabels) CheckLabels();
        FloatAccuracy = Accuracy(_classes);
    }

    /// <summary>
    /// How far a model is from the float one on the batches of calibration; null where the float model has no
    /// float output, or one that is not finite.
    /// </summary>
    /// <param name="model">The float model.</param>
    /// <param name="other">The model that is compared with it.</param>
    /// <param name="batches">The batches; none of them has labels.</param>
    /// <param name="threads">Threads of the runtime.</param>
    public static QuantizationEffect? OnCalibration(
        ModelProto model, ModelProto other, IReadOnlyList<OnnxBatch> batches, int threads)
    {
        if (batches.Count == 0) return null;
        ModelEvaluation evaluation = new(model, batches, threads, "calibration", strict: false);
        return evaluation._outputs.Count > 0 && evaluation._outputs.All(output => output.Values.All(float.IsFinite))
            ? evaluation.Measure(other)
            : null;
    }

    /// <summary>Whether all batches have labels.</summary>
    public bool HasLabels { get; }

    /// <summary>Accuracy of the float model; null without labels.</summary>
    public double? FloatAccuracy { get; }

    /// <summary>Runs another model on the same batches.</summary>
    /// <exception cref="ArgumentException">Its outputs are others.</exception>
    public QuantizationEffect Measure(ModelProto model)
    {
        (List<Output> outputs, List<int> classes) = Run(model, mustBeFinite: false);
        if (!outputs.Select(output => output.Values.Length).SequenceEqual(_outputs.Select(output => output.Values.Length)))
        {
            throw new ArgumentException(
                "The models' outputs differ in number or size, so they cannot be compared.", nameof(model));
        }

        Dictionary<string, OutputErrors> errors = [];
        for (int i = 0; i < outputs.Count; i++)
        {
            (string name, float[] expected, long[] shape) = _outputs[i];
            if (!errors.TryGetValue(name, out OutputErrors? own)) errors.Add(name, own = new OutputErrors(name));
            own.Add(expected, outputs[i].Values, shape);
        }

        double agreement = classes.Count > 0
            ? classes.Zip(_classes).Count(pair => pair.First == pair.Second) / (double)classes.Count
            : double.NaN;
        double error = OutputErrors.ErrorOf(
            errors.Values.Sum(own => own.Whole.Signal), errors.Values.Sum(own => own.Whole.Noise));
        (double worst, string part) = errors.Values.SelectMany(own => own.Parts()).MaxBy(part => part.Error);
        return new QuantizationEffect(
            error, agreement, Accuracy(classes))
        { WorstError = Math.Max(error, worst), WorstPart = worst > error ? part : "" };
    }

    private (List<Output> Outputs, List<int> Classes) Run(ModelProto model, bool mustBeFinite)
    {
        using OnnxSession runtime = new(model, _threads);
        List<Output> outputs = [];
        List<int> classes = [];
        // The first with classes: a loss may stand before it.
        string? classified = null;
        for (int i = 0; i < _batches.Count; i++)
        {
            runtime.Run(_batches[i], (name, values, shape) =>
            {
                outputs.Add(new Output(name, values.ToArray(), shape));
                if (mustBeFinite && !outputs[^1].Values.All(float.IsFinite))
                {
                    throw new ArgumentException(
                        $"In evaluation batch {i}, counted from 0, the float model's output '{name}' holds NaN or infinity, so " +
                        "nothing can be compared with it. Give finite inputs; if they are, the model itself overflows on them.",
                        _argument);
                }

                if (shape.Length <= 1 || (classified ??= name) != name) return;
                List<int> largest = Largest(values, shape);
                classes.AddRange(largest);
                if (mustBeFinite) _sizes.Add((largest.Count, shape[1]));
            }, _argument);
        }

        return (outputs, classes);
    }

    /// <summary>Labels must be classes of the model, and as many as the rows of their own batch.</summary>
    private void CheckLabels()
    {
        for (int i = 0; i < _batches.Count; i++)
        {
            IReadOnlyList<long> labels = _batches[i].Labels!;
            (int rows, long classes) = _sizes[i];
            if (labels.Count != rows)
            {
                throw new ArgumentException(
                    $"Evaluation batch {i}, counted from 0, has {labels.Count} labels for {rows} rows of the model; " +
                    "give one label a row.", _argument);
            }

            for (int j = 0; j < rows; j++)
            {
                if (labels[j] >= 0 && labels[j] < classes) continue;
                throw new ArgumentException(
                    $"In evaluation batch {i}, counted from 0, Labels[{j}] is {labels[j]}; " +
                    $"the model has {classes} classes, so a label is from 0 to {classes - 1}. " +
                    "Leave out the rows that belong to no class.", _argument);
            }
        }
    }

    /// <summary>Where axis 1 is largest, for each row and each position.</summary>
    private static List<int> Largest(ReadOnlySpan<float> values, long[] shape)
    {
        int channels = (int)shape[1], inner = (int)shape.Skip(2).Aggregate(1L, (product, length) => product * length);
        List<int> largest = [];
        for (int row = 0; row < shape[0]; row++)
        {
            for (int position = 0; position < inner; position++)
            {
                int best = 0;
                for (int channel = 1; channel < channels; channel++)
                {
                    if (values[(((row * channels) + channel) * inner) + position] > values[(((row * channels) + best) * inner)
                        + position])
                    {
                        best = channel;
                    }
                }

                largest.Add(best);
            }
        }

        return largest;
    }

    private double? Accuracy(List<int> classes)
        => HasLabels
            ? classes.Zip(_batches.SelectMany(batch => batch.Labels!)).Count(
                pair => pair.First == pair.Second) / (double)Math.Max(1, classes.Count)
            : null;

    private readonly record struct Output(string Name, float[] Values, long[] Shape);
}
