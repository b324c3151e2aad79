using Microsoft.ML.OnnxRuntime;
using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>What calibration knows of a value: its distribution and the shape that it last had.</summary>
internal sealed record ObservedValue(ActivationHistogram Histogram)
{
    public long[] Shape { get; set; } = [];
}

/// <summary>Runs the float model on batches, one after the other, and observes every float value that a node makes or the user gives.</summary>
internal static class Calibration
{
    private const string Argument = "calibration";

    /// <exception cref="ArgumentException">There is no batch, one does not fit, or a value is no finite number.</exception>
    public static IReadOnlyDictionary<string, ObservedValue> Run(ModelProto prepared, IEnumerable<OnnxBatch> batches, bool bins, int threads)
    {
        Dictionary<string, ObservedValue> observed = [];
        using RuntimeModel runtime = new(WithAllOutputs(prepared), threads, GraphOptimizationLevel.ORT_ENABLE_BASIC);
        int count = 0;
        foreach (OnnxBatch batch in batches)
        {
            ArgumentNullException.ThrowIfNull(batch, Argument);
            foreach ((string name, float[] values, long[] shape) in batch.Inputs) Observe(name.Length > 0 ? name : runtime.Inputs.Keys.First(), values, shape);
            runtime.Run(batch, Observe, Argument);
            count++;

            void Observe(string name, ReadOnlySpan<float> values, long[] shape)
            {
                if (!observed.TryGetValue(name, out ObservedValue? value)) observed.Add(name, value = new ObservedValue(new ActivationHistogram(bins)));
                value.Shape = shape;
                if (!value.Histogram.Add(values))
                {
                    throw new ArgumentException(
                        $"In calibration batch {count}, counted from 0, the value '{name}' holds NaN or infinity. Give finite inputs; if they are, the model itself overflows on them.", Argument);
                }
            }
        }

        return count > 0 ? observed : throw new ArgumentException("There is no calibration batch; give at least one, better some hundred images.", Argument);
    }

    /// <summary>The types of the outputs are left for the runtime to find.</summary>
    private static ModelProto WithAllOutputs(ModelProto prepared)
    {
        ModelProto model = prepared.Clone();
        HashSet<string> outputs = [.. model.Graph.Output.Select(output => output.Name)];
        foreach (string output in model.Graph.Node.SelectMany(node => node.Output).Where(output => output.Length > 0 && outputs.Add(output)).ToArray())
        {
            model.Graph.Output.Add(new ValueInfoProto { Name = output });
        }

        return model;
    }
}
