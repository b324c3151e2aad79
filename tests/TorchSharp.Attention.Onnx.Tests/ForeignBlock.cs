using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>
/// A squeeze-and-excitation block of somebody else's file: y = x · h(W₂ max(W₁ z + b₁, 0) + b₂), z the mean of x over positions, h(v) = min(max(slope · v + offset, 0), 1).
/// </summary>
internal sealed record ForeignBlock(string Input, string Output, float[] W1, float[] B1, float[] W2, float[] B2, float Slope, float Offset)
{
    public int Reduced => B1.Length;

    public int Channels => B2.Length;

    /// <summary>The blocks of a model, by their pattern: pool, 1×1 convolution, ReLU, 1×1 convolution, hard sigmoid, multiplication with the pool's input.</summary>
    public static IReadOnlyList<ForeignBlock> Of(ModelProto model)
    {
        NodeGraph graph = new(model);
        return [.. graph.Graph.Node.Where(node => NodeGraph.Is(node, "GlobalAveragePool")).Select(pool => From(pool, graph)).OfType<ForeignBlock>()];
    }

    /// <summary>
    /// Our module with the block's weights. Our hard sigmoid is min(max(v / 6 + 1 / 2, 0), 1), so the second layer takes the rest: 6 · slope · W₂ and
    /// 6 · (slope · b₂ + offset − 1 / 2).
    /// </summary>
    public SqueezeExcitation ToModule()
    {
        SqueezeExcitation module = new(Channels, new SqueezeExcitationOptions { ReducedChannels = Reduced, Gate = GateFunction.HardSigmoid });
        using IDisposable quiet = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Dictionary<string, float[]> values = new()
        {
            ["fc1.weight"] = W1,
            ["fc1.bias"] = B1,
            ["fc2.weight"] = [.. W2.Select(weight => (float)(6.0 * Slope * weight))],
            ["fc2.bias"] = [.. B2.Select(bias => (float)(6 * (((double)Slope * bias) + Offset - 0.5)))],
        };
        foreach ((string name, Modules.Parameter parameter) in module.named_parameters()) parameter.copy_(tensor(values[name], parameter.shape));
        module.eval();
        return module;
    }

    private static ForeignBlock? From(NodeProto pool, NodeGraph graph)
    {
        if (Next(pool, "Conv") is not { } first || Next(first, "Relu") is not { } relu || Next(relu, "Conv") is not { } second) return null;
        if (Next(second, "HardSigmoid") is not { } gate || Next(gate, "Mul") is not { } product || !product.Input.Contains(pool.Input[0])) return null;
        if (Layer(first) is not { } inner || Layer(second) is not { } outer) return null;
        return new ForeignBlock(
            pool.Input[0], product.Output[0], inner.Weight, inner.Bias, outer.Weight, outer.Bias,
            NodeGraph.Float(gate, "alpha", 0.2f), NodeGraph.Float(gate, "beta", 0.5f));

        NodeProto? Next(NodeProto node, string op) => graph.OnlyConsumer(node.Output[0]) is { } next && NodeGraph.Is(next, op) ? next : null;

        (float[] Weight, float[] Bias)? Layer(NodeProto conv)
            => Constant(conv.Input[1]) is { } weight && weight.Dims.Skip(2).All(side => side == 1) && conv.Input.Count == 3 && Constant(conv.Input[2]) is { } bias
                ? (NodeGraph.Floats(weight), NodeGraph.Floats(bias))
                : null;

        // Some exporters write weights as nodes.
        TensorProto? Constant(string name) => graph.Constant(name) ?? (graph.Producer(name) is { OpType: "Constant" } node ? NodeGraph.Attribute(node, "value")?.T : null);
    }
}
