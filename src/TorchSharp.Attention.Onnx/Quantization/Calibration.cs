using Microsoft.ML.OnnxRuntime;
using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Runs the float model on batches, one after the other, and observes every float value that a node makes or the user gives.
/// </summary>
internal static class Calibration
{
    private const string Argument = "calibration";

    /// <exception cref="ArgumentException">
    /// There is no batch, one does not fit, a value is NaN, or a value is infinite that the model does not mean to be.
    /// </exception>
    public static IReadOnlyDictionary<string, ObservedValue> Run(
        ModelProto prepared, IEnumerable<OnnxBatch> batches, bool bins, int threads)
    {
        Dictionary<string, ObservedValue> observed = [];
        NodeGraph graph = new(prepared);
        Infinities infinities = new(graph);
        using OnnxSession runtime = new(WithAllOutputs(prepared), threads, GraphOptimizationLevel.ORT_ENABLE_BASIC);
        int count = 0;
        HashSet<string> nans = [], overflows = [];
        foreach (OnnxBatch batch in batches)
        {
            ArgumentNullException.ThrowIfNull(batch, Argument);
            foreach ((string name, float[] values, long[] shape) in batch.Inputs)
            {
                Observe(name.Length > 0 ? name : runtime.Inputs.Keys.First(), values, shape);
            }

            runtime.Run(batch, Observe, Argument);
            if (nans.Count + overflows.Count > 0) throw NotFinite(graph, infinities, count, nans, overflows);
            count++;
        }

        return count > 0
            ? observed
            : throw new ArgumentException(
                "There is no calibration batch; give at least one, better some hundred images.", Argument);

        void Observe(string name, ReadOnlySpan<float> values, long[] shape)
        {
            if (!observed.TryGetValue(name, out ObservedValue? value))
            {
                observed.Add(name, value = new ObservedValue(new ActivationHistogram(bins)));
            }

            value.Shape = shape;
            long infinite = value.Histogram.Infinities;
            if (!value.Histogram.Add(values)) nans.Add(name);
            else if (value.Histogram.Infinities > infinite && !infinities.AreMeant(name)) overflows.Add(name);
            if (graph.Outputs.Contains(name) && shape.Length > 2) value.Channels = Widened(value.Channels, values, shape);
        }
    }

    private static (float Low, float High)[] Widened((float Low, float High)[]? before, ReadOnlySpan<float> values, long[] shape)
    {
        int channels = (int)shape[1], inner = (int)shape.Skip(2).Aggregate(1L, (product, length) => product * length);
        (float Low, float High)[] ranges = before?.Length == channels ? before : new (float, float)[channels];
        for (int row = 0; inner > 0 && row * inner < values.Length; row++)
        {
            ref (float Low, float High) range = ref ranges[row % channels];
            foreach (float value in values.Slice(row * inner, inner))
            {
                range = (Math.Min(range.Low, value), Math.Max(range.High, value));
            }
        }

        return ranges;
    }

    /// <summary>Names the first value that is not finite, as the network runs: those after it follow from it.</summary>
    private static ArgumentException NotFinite(
        NodeGraph graph, Infinities infinities, int batch, HashSet<string> nans, HashSet<string> overflows)
    {
        string where = $"In calibration batch {batch}, counted from 0, the value";
        if (graph.Inputs.FirstOrDefault(input => nans.Contains(input) || overflows.Contains(input)) is { } given)
        {
            return new ArgumentException(
                $"{where} '{given}' holds {(nans.Contains(given) ? "NaN" : "infinity")}. It is an input: give finite numbers.",
                Argument);
        }

        (NodeProto node, string name) = graph.Graph.Node.SelectMany(node => node.Output.Select(output => (node, output))).First(
            pair => nans.Contains(pair.output) || overflows.Contains(pair.output));
        string what = $"{where} '{name}' holds {(nans.Contains(name) ? "NaN" : "infinity")}, which the node '{node.Name}' " +
            $"({node.OpType}) makes, though the inputs of the model are finite.";
        return new ArgumentException(
            node.Input.Any(infinities.AreMeant)
                ? $"{what} The model itself holds infinity, which comes to this node: " +
                    "a softmax over nothing but minus infinity is NaN, and so is zero times infinity. Mend the model; " +
                    "a mask of -1e9 does not do this."
                : $"{what} The model overflows float32 there, or its weights are not finite. " +
                    "Normalise the inputs as in training, or mend the model.",
            Argument);
    }

    /// <summary>The types of the outputs are left for the runtime to find.</summary>
    private static ModelProto WithAllOutputs(ModelProto prepared)
    {
        ModelProto model = prepared.Clone();
        HashSet<string> outputs = [.. model.Graph.Output.Select(output => output.Name)];
        foreach (string output in model.Graph.Node.SelectMany(node => node.Output).Where(
            output => output.Length > 0 && outputs.Add(output)).ToArray())
        {
            model.Graph.Output.Add(new ValueInfoProto { Name = output });
        }

        return model;
    }
}
