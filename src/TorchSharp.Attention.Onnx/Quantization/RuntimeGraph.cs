using Microsoft.ML.OnnxRuntime;
using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// What ONNX Runtime makes of a model: the graph that it runs after fusing, read back from the file that it writes.
/// </summary>
internal static class RuntimeGraph
{
    /// <summary>Counts the operators of the graph that a session with default settings runs on this machine.</summary>
    public static IReadOnlyDictionary<string, int> Operators(ModelProto model)
    {
        string folder = Directory.CreateTempSubdirectory("onnx-optimized-").FullName;
        try
        {
            string path = Path.Combine(folder, "optimized.onnx");
            // All, as in a session with default settings, layouts of memory included: what is counted is what runs.
            using (new OnnxSession(model, threads: 1, GraphOptimizationLevel.ORT_ENABLE_ALL, path))
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
        model.Graph.Node.GroupBy(node => node.Domain.Length == 0 ? node.OpType : $"{node.Domain}.{node.OpType}").ToDictionary(
            group => group.Key, group => group.Count()),
        StringComparer.Ordinal);
}
