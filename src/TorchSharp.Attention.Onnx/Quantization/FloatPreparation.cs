using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Brings a float model into the form that is calibrated and quantized: constants as initialisers, transposed ones as they are
/// read, batch norms inside the layers before them.
/// </summary>
internal static class FloatPreparation
{
    /// <summary>Changes the model; its outputs stay the same up to rounding.</summary>
    /// <returns>How many batch norms went into a convolution or linear layer.</returns>
    public static int Prepare(ModelProto model)
    {
        LiftConstants(model.Graph);
        FoldTransposes(model.Graph);
        NameNodes(model.Graph);
        PoolPreparation.Prepare(new NodeGraph(model));
        int folded = FoldBatchNorms(new NodeGraph(model));
        NodeGraph.DropUnusedConstants(model.Graph);
        return folded;
    }

    /// <summary>
    /// Constants of nodes become initialisers, however a Constant says them, and so do their copies by Identity.
    /// </summary>
    internal static void LiftConstants(GraphProto graph)
    {
        HashSet<NodeProto> lifted = new(ReferenceEqualityComparer.Instance);
        HashSet<string> outputs = [.. graph.Output.Select(output => output.Name)];
        Dictionary<string, TensorProto> constants = [];
        foreach (TensorProto constant in graph.Initializer) constants[constant.Name] = constant;
        foreach (NodeProto node in graph.Node)
        {
            TensorProto? constant = NodeGraph.Is(node, "Constant") ? ValueOf(node)
                : NodeGraph.Is(node, "Identity") && !outputs.Contains(node.Output[0])
                    && constants.TryGetValue(node.Input[0], out TensorProto? copied) ? copied.Clone()
                : null;
            if (constant is null) continue;
            constant.Name = node.Output[0];
            graph.Initializer.Add(constant);
            constants[constant.Name] = constant;
            lifted.Add(node);
        }

        NodeGraph.Keep(graph.Node, node => !lifted.Contains(node));
    }

    /// <summary>What a Constant holds; null for text and for sparse tensors, which no layer reads.</summary>
    private static TensorProto? ValueOf(NodeProto node)
    {
        foreach (AttributeProto attribute in node.Attribute)
        {
            switch (attribute.Name)
            {
                case "value":
                    return attribute.T?.Clone();
                case "value_float":
                    return NodeGraph.Tensor<float>("", TensorProto.Types.DataType.Float, [attribute.F]);
                case "value_floats":
                    return NodeGraph.Tensor<float>(
                        "", TensorProto.Types.DataType.Float, [.. attribute.Floats], [attribute.Floats.Count]);
                case "value_int":
                    return NodeGraph.Tensor<long>("", TensorProto.Types.DataType.Int64, [attribute.I]);
                case "value_ints":
                    return NodeGraph.Tensor<long>(
                        "", TensorProto.Types.DataType.Int64, [.. attribute.Ints], [attribute.Ints.Count]);
            }
        }

        return null;
    }

    /// <summary>A linear layer over more than rows reads its weight transposed; as a constant it can be quantized.</summary>
    private static void FoldTransposes(GraphProto graph)
    {
        Dictionary<string, TensorProto> constants = [];
        foreach (TensorProto constant in graph.Initializer) constants[constant.Name] = constant;
        HashSet<string> outputs = [.. graph.Output.Select(output => output.Name)];
        HashSet<NodeProto> folded = new(ReferenceEqualityComparer.Instance);
        foreach (NodeProto node in graph.Node)
        {
            if (!NodeGraph.Is(node, "Transpose") || outputs.Contains(node.Output[0])
                || !constants.TryGetValue(node.Input[0], out TensorProto? constant))
            {
                continue;
            }

            if (constant.DataType != (int)TensorProto.Types.DataType.Float) continue;
            int rank = constant.Dims.Count;
            int[] order = NodeGraph.Attribute(node, "perm") is { } perm
                ? [.. perm.Ints.Select(axis => (int)axis)]
                : [.. Enumerable.Range(0, rank).Reverse()];
            if (!order.Order().SequenceEqual(Enumerable.Range(0, rank))) continue;
            long[] dims = [.. order.Select(axis => constant.Dims[axis])];
            TensorProto turned = NodeGraph.Tensor<float>(
                node.Output[0], TensorProto.Types.DataType.Float,
                Transposed(NodeGraph.Floats(constant), [.. constant.Dims], order), dims);
            graph.Initializer.Add(turned);
            constants[turned.Name] = turned;
            folded.Add(node);
        }

        NodeGraph.Keep(graph.Node, node => !folded.Contains(node));
    }

    private static float[] Transposed(float[] values, long[] dims, int[] order)
    {
        int[] strides = new int[dims.Length];
        for (int axis = dims.Length - 1, stride = 1; axis >= 0; stride *= (int)dims[axis--]) strides[axis] = stride;
        float[] turned = new float[values.Length];
        int[] place = new int[order.Length];
        int from = 0;
        for (int to = 0; to < turned.Length; to++)
        {
            turned[to] = values[from];
            for (int i = order.Length - 1; i >= 0; i--)
            {
                from += strides[order[i]];
                if (++place[i] < dims[order[i]]) break;
                from -= place[i] * strides[order[i]];
                place[i] = 0;
            }
        }

        return turned;
    }

    /// <summary>
    /// γ (W x + b − μ) / √(σ² + ε) + β = (f W) x + f (b − μ) + β with f = γ / √(σ² + ε); in float64, rounded once.
    /// </summary>
    private static int FoldBatchNorms(NodeGraph graph)
    {
        HashSet<NodeProto> folded = new(ReferenceEqualityComparer.Instance);
        foreach (NodeProto norm in graph.Graph.Node)
        {
            if (!NodeGraph.Is(norm, "BatchNormalization") || norm.Output.Count(name => name.Length > 0) != 1
                || NodeGraph.Int(norm, "training_mode", 0) != 0)
            {
                continue;
            }

            if (graph.Producer(norm.Input[0]) is not { } layer || graph.OnlyConsumer(norm.Input[0]) != norm
                || folded.Contains(layer))
            {
                continue;
            }

            if (OutputAxis(layer) is not { } axis || graph.Constant(layer.Input[1]) is not { } weight
                || graph.Floats(weight.Name) is not { } weights)
            {
                continue;
            }

            float[]?[] statistics = [.. norm.Input.Skip(1).Take(4).Select(graph.Floats)];
            if (statistics is not [{ } gamma, { } beta, { } mean, { } variance] || axis >= weight.Dims.Count
                || gamma.Length != weight.Dims[axis])
            {
                continue;
            }

            bool biased = layer.Input.Count > 2 && layer.Input[2].Length > 0;
            if ((biased ? graph.BiasOf(layer, gamma.Length) : new float[gamma.Length]) is not { } bias) continue;

            double epsilon = NodeGraph.Float(norm, "epsilon", 1e-5f);
            double[] factor = [.. gamma.Zip(variance, (g, v) => g / Math.Sqrt(v + epsilon))];
            long inner = weight.Dims.Skip(axis + 1).Aggregate(1L, (product, length) => product * length);
            float[] scaled = [.. weights.Select((value, i) => (float)(value * factor[i / inner % factor.Length]))];
            float[] shifted = [.. bias.Select((value, i) => (float)(((value - mean[i]) * factor[i]) + beta[i]))];

            layer.Input[1] = Add(graph, $"{weight.Name}_folded", scaled, weight.Dims);
            string shift = Add(graph, biased ? $"{layer.Input[2]}_folded" : $"{layer.Input[1]}_bias", shifted, [shifted.Length]);
            while (layer.Input.Count < 3) layer.Input.Add("");
            layer.Input[2] = shift;
            layer.Output[0] = norm.Output[0];
            folded.Add(norm);
        }

        NodeGraph.Keep(graph.Graph.Node, node => !folded.Contains(node));
        return folded.Count;
    }

    /// <summary>The axis of a layer's weight that counts its outputs; null where nothing can be folded into the node.</summary>
    private static int? OutputAxis(NodeProto layer) => layer switch
    {
        _ when NodeGraph.Is(layer, "Conv") => 0,
        _ when NodeGraph.Is(layer, "Gemm") && NodeGraph.Float(layer, "alpha", 1) == 1 && NodeGraph.Float(layer, "beta", 1) == 1 =>
            NodeGraph.Int(layer, "transB", 0) == 1 ? 0 : 1,
        _ => null,
    };

    private static string Add(NodeGraph graph, string wish, float[] values, IEnumerable<long> dims)
    {
        string name = graph.Fresh(wish);
        graph.Graph.Initializer.Add(NodeGraph.Tensor<float>(name, TensorProto.Types.DataType.Float, values, dims));
        return name;
    }

    /// <summary>Nodes may lack names, and rules and reports go by them.</summary>
    private static void NameNodes(GraphProto graph)
    {
        HashSet<string> names = [.. graph.Node.Select(node => node.Name)];
        foreach (NodeProto node in graph.Node.Where(node => node.Name.Length == 0))
        {
            string wish = $"{node.Output.FirstOrDefault(output => output.Length > 0)}/{node.OpType}";
            node.Name = names.Add(wish) ? wish : Enumerable.Range(1, int.MaxValue).Select(i => $"{wish}_{i}").First(names.Add);
        }
    }
}
