using Microsoft.ML.OnnxRuntime;
using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>What ONNX Runtime makes of a model: the graph that it runs after fusing, read back from the file that it writes.</summary>
internal static class RuntimeGraph
{
    /// <summary>Counts the operators of the optimised graph.</summary>
    public static IReadOnlyDictionary<string, int> Operators(ModelProto model)
    {
        string folder = Directory.CreateTempSubdirectory("onnx-optimized-").FullName;
        try
        {
            string path = Path.Combine(folder, "optimized.onnx");
            // Extended, not all: layouts of memory are this machine's business, and the fusions are the same.
            using (new RuntimeModel(model, threads: 1, GraphOptimizationLevel.ORT_ENABLE_EXTENDED, path))
            {
            }

            return Count(OnnxModelFile.Load(path));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>How often each operator occurs; those outside ONNX's own set with their domain.</summary>
    public static IReadOnlyDictionary<string, int> Count(ModelProto model) => new SortedDictionary<string, int>(
        model.Graph.Node.GroupBy(node => node.Domain.Length == 0 ? node.OpType : $"{node.Domain}.{node.OpType}").ToDictionary(group => group.Key, group => group.Count()),
        StringComparer.Ordinal);
}
