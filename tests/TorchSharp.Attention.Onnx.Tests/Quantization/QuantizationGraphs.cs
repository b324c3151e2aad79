using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>Small float models with random weights, written node by node: quantization must not depend on who wrote a file.</summary>
internal sealed class QuantizationGraphs
{
    private readonly Random _random;
    private readonly ModelProto _model;

    public QuantizationGraphs(int seed, long opset = 17, params long[] input)
    {
        _random = new Random(seed);
        _model = new ModelProto { IrVersion = 8, Graph = new GraphProto { Name = "test" } };
        _model.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = opset });
        _model.Graph.Input.Add(Value("input", input));
    }

    public ModelProto Model => _model;

    /// <summary>Normally distributed numbers.</summary>
    public static float[] Noise(Random random, long count, double deviation = 1, double mean = 0)
        => [.. Enumerable.Range(0, (int)count).Select(_ => (float)(mean + (deviation * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()))))];

    public string Floats(string name, float[] values, params long[] dims)
    {
        _model.Graph.Initializer.Add(NodeGraph.Tensor<float>(name, TensorProto.Types.DataType.Float, values, dims));
        return name;
    }

    public string Noise(string name, double deviation, double mean, params long[] dims)
        => Floats(name, Noise(_random, dims.Aggregate(1L, (a, b) => a * b), deviation, mean), dims);

    public string Node(string op, string name, string[] inputs, params AttributeProto[] attributes)
    {
        NodeProto node = new() { OpType = op, Name = $"{name}/{op}", Output = { name } };
        node.Input.AddRange(inputs);
        node.Attribute.AddRange(attributes);
        _model.Graph.Node.Add(node);
        return name;
    }

    public string Conv(string name, string input, int from, int to, int kernel, bool bias = true, int groups = 1, int stride = 1)
    {
        double deviation = Math.Sqrt(2.0 * groups / (from * kernel * kernel));
        List<string> inputs = [input, Noise($"{name}.weight", deviation, 0, to, from / groups, kernel, kernel)];
        if (bias) inputs.Add(Noise($"{name}.bias", 0.1, 0, to));
        int pad = kernel / 2;
        return Node("Conv", name, [.. inputs], NodeGraph.Ints("pads", pad, pad, pad, pad), NodeGraph.Ints("strides", stride, stride), NodeGraph.Int("group", groups));
    }

    public string BatchNorm(string name, string input, int channels) => Node(
        "BatchNormalization", name,
        [
            input, Noise($"{name}.weight", 0.1, 1, channels), Noise($"{name}.bias", 0.1, 0, channels), Noise($"{name}.mean", 0.2, 0, channels),
            Floats($"{name}.var", [.. Enumerable.Range(0, channels).Select(_ => 0.5f + _random.NextSingle())], channels),
        ]);

    public ModelProto Output(string name, params long[] shape)
    {
        _model.Graph.Output.Add(Value(name, shape));
        return _model;
    }

    /// <summary>Convolutions with norms, a residual sum, and CBAM: squeeze by mean and maximum, a shared bottleneck, the spatial half with mean and maximum over channels.</summary>
    public static ModelProto Cbam(int seed)
    {
        const int Channels = 16;
        QuantizationGraphs g = new(seed, 17, -1, 3, 16, 16);
        g.Node("Relu", "stem.relu", [g.BatchNorm("stem.bn", g.Conv("stem", "input", 3, Channels, 3, bias: false), Channels)]);
        string branch = g.BatchNorm("conv2.bn", g.Conv("conv2", g.Node("Relu", "conv1.relu", [g.BatchNorm("conv1.bn", g.Conv("conv1", "stem.relu", Channels, Channels, 3, bias: false), Channels)]), Channels, Channels, 3, bias: false), Channels);
        string Excite(string name, string squeezed, bool shared)
        {
            if (!shared) return g.Conv($"{name}.fc2", g.Node("Relu", $"{name}.relu", [g.Conv($"{name}.fc1", squeezed, Channels, 4, 1)]), 4, Channels, 1);
            g.Node("Conv", $"{name}.fc1", [squeezed, "attn.avg.fc1.weight", "attn.avg.fc1.bias"]);
            g.Node("Relu", $"{name}.relu", [$"{name}.fc1"]);
            return g.Node("Conv", $"{name}.fc2", [$"{name}.relu", "attn.avg.fc2.weight", "attn.avg.fc2.bias"]);
        }

        string average = Excite("attn.avg", g.Node("ReduceMean", "attn.mean", [branch], NodeGraph.Ints("axes", 2, 3)), shared: false);
        string maximum = Excite("attn.max", g.Node("ReduceMax", "attn.maximum", [branch], NodeGraph.Ints("axes", 2, 3)), shared: true);
        string gate = g.Node("Sigmoid", "attn.gate", [g.Node("Add", "attn.sum", [average, maximum])]);
        string refined = g.Node("Mul", "attn.refined", [branch, gate]);
        string pooled = g.Node(
            "Concat", "attn.pooled",
            [g.Node("ReduceMean", "attn.channelmean", [refined], NodeGraph.Ints("axes", 1)), g.Node("ReduceMax", "attn.channelmax", [refined], NodeGraph.Ints("axes", 1))],
            NodeGraph.Int("axis", 1));
        string spatial = g.Node("Sigmoid", "attn.spatial", [g.Conv("attn.conv", pooled, 2, 1, 3, bias: false)]);
        string sum = g.Node("Add", "add", [g.Node("Mul", "attn.out", [refined, spatial]), "stem.relu"]);
        string last = g.Node("Relu", "relu", [sum]);
        string flat = g.Node("Flatten", "flat", [g.Node("ReduceMean", "pool", [last], NodeGraph.Ints("axes", -2, -1))]);
        g.Node("Gemm", "logits", [flat, g.Noise("fc.weight", 0.3, 0, 10, Channels), g.Noise("fc.bias", 0.1, 0, 10)], NodeGraph.Int("transB", 1));
        g.Model.MetadataProps.Add(new StringStringEntryProto { Key = OnnxMetadata.AttentionsKey, Value = "[\"attn\"]" });
        return g.Output("logits", -1, 10);
    }

    public static OnnxBatch[] Batches(int seed, int count, int size, params long[] shape)
    {
        Random random = new(seed);
        return [.. Enumerable.Range(0, count).Select(_ => new OnnxBatch(Noise(random, size * shape.Aggregate(1L, (a, b) => a * b)), [size, .. shape]))];
    }

    /// <summary>Batches for <see cref="Cbam"/> to calibrate with.</summary>
    public static OnnxBatch[] Calibration() => Batches(2, 4, 16, 3, 16, 16);

    /// <summary>Others to measure on.</summary>
    public static OnnxBatch[] Evaluation() => Batches(3, 2, 50, 3, 16, 16);

    /// <summary>How far a file is from the float one.</summary>
    public static QuantizationEffect Effect(string path, string quantized, OnnxBatch[]? evaluation = null)
        => new ModelEvaluation(OnnxModelFile.Load(path), evaluation ?? Evaluation(), 1).Measure(OnnxModelFile.Load(quantized));

    /// <summary>What a file computes, by output.</summary>
    public static Dictionary<string, float[]> Outputs(string path, OnnxBatch batch)
    {
        Dictionary<string, float[]> outputs = [];
        using OnnxSession runtime = new(OnnxModelFile.Load(path), 1);
        runtime.Run(batch, (name, values, _) => outputs[name] = values.ToArray());
        return outputs;
    }

    /// <summary>Where each row is largest.</summary>
    public static long[] Classes(float[] logits, int classes) => [.. logits.Chunk(classes).Select(row => (long)Array.IndexOf(row, row.Max()))];

    /// <summary>
    /// Two convolutions and a linear layer. A channel between the convolutions is always zero, and the second one's weights for it are ten thousand times the others: they change nothing, but
    /// leave the others no steps.
    /// </summary>
    public static ModelProto Ruined()
    {
        QuantizationGraphs g = new(10, 17, -1, 3, 8, 8);
        float[] first = Noise(new Random(3), 8 * 3, 0.5), second = Noise(new Random(1), 8 * 8, 0.3);
        first.AsSpan(7 * 3).Clear();
        for (int i = 7; i < second.Length; i += 8) second[i] = 3000;
        string x = g.Node("Relu", "relu", [g.Node("Conv", "good", ["input", g.Floats("good.weight", first, 8, 3, 1, 1)])]);
        x = g.Node("Conv", "bad", [x, g.Floats("bad.weight", second, 8, 8, 1, 1)]);
        x = g.Node("Flatten", "flat", [g.Node("GlobalAveragePool", "pool", [x])]);
        return g.Output(g.Node("Gemm", "fc", [x, g.Noise("fc.weight", 1, 0, 8, 5)]), -1, 5);
    }

    private static ValueInfoProto Value(string name, long[] shape)
    {
        TensorShapeProto dims = new();
        foreach (long length in shape) dims.Dim.Add(length < 0 ? new TensorShapeProto.Types.Dimension { DimParam = "batch" } : new TensorShapeProto.Types.Dimension { DimValue = length });
        return new ValueInfoProto { Name = name, Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = 1, Shape = dims } } };
    }
}
