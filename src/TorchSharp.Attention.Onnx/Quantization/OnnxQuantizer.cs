using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Writes ONNX models with eight-bit weights and activations. Works on any float32 ONNX file of operator set 9 or
/// later, not only on those of this library.
/// </summary>
public static class OnnxQuantizer
{
    /// <summary>Metadata that says how a file was quantized.</summary>
    internal const string Key = "torchsharp_attention.quantization";

    /// <summary>
    /// Static quantization: x ≈ s · (q − z) for every value between integer nodes, with scales s and zero points z from
    /// calibration (Jacob et al., <i>Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    /// Inference</i>, 2018, arXiv:1712.05877). Batch norms are folded. Weights have eight bits around zero and one scale per
    /// output channel. Activations have eight bits and one scale per tensor. Biases are int32. The file is in quantize–dequantize
    /// form, which ONNX Runtime runs with integer kernels; the report counts them.
    /// </summary>
    /// <param name="inputPath">The float model.</param>
    /// <param name="outputPath">The quantized model; it appears only when it is whole and loads, an old one is replaced.</param>
    /// <param name="calibration">
    /// What typical inputs are: some hundred images, normalised as in training. Read once, one batch in memory at a time.
    /// </param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <returns>What was written.</returns>
    /// <exception cref="FileNotFoundException">There is no such model.</exception>
    /// <exception cref="DirectoryNotFoundException">The folder of the quantized model does not exist.</exception>
    /// <exception cref="InvalidDataException">The file is no ONNX model, or ONNX Runtime does not load it.</exception>
    /// <exception cref="ArgumentException">
    /// There is no calibration batch, one does not fit, a value in the network is not finite, the operator set is
    /// too old, the model is quantized already, the quantized model would replace the float one, or an option
    /// names what the model lacks.</exception>
    public static QuantizationReport Quantize(
        string inputPath, string outputPath, IEnumerable<OnnxBatch> calibration, QuantizationOptions? options = null)
    {
        CheckPaths(inputPath, outputPath);
        ArgumentNullException.ThrowIfNull(calibration);
        options ??= new QuantizationOptions();
        PreparedModel prepared = PreparedModel.Read(inputPath, options).Calibrate(calibration);
        return Write(prepared, outputPath, options, keep: null, fallenBack: []);
    }

    /// <summary>
    /// Static quantization within a budget. First, the error that each attention and each layer causes is measured, as in
    /// <see cref="OnnxSensitivity"/>. Then parts go back to float, those with the largest error first, until the quantized model
    /// loses no more than the budget allows on its evaluation batches.
    /// </summary>
    /// <param name="inputPath">The float model.</param>
    /// <param name="outputPath">The quantized model.</param>
    /// <param name="calibration">What typical inputs are.</param>
    /// <param name="budget">What may be lost, and on which batches it is measured.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <returns>What was written; <see cref="QuantizationReport.FallbackParts"/> names what stayed in float.</returns>
    /// <exception cref="FileNotFoundException">There is no such model.</exception>
    /// <exception cref="DirectoryNotFoundException">The folder of the quantized model does not exist.</exception>
    /// <exception cref="InvalidDataException">The file is no ONNX model, or ONNX Runtime does not load it.</exception>
    /// <exception cref="ArgumentException">
    /// As without a budget, or accuracy is asked for and batches have no labels, or the float
    /// model's outputs on them are not finite.
    /// </exception>
    public static QuantizationReport QuantizeWithin(
        string inputPath, string outputPath, IEnumerable<OnnxBatch> calibration, QuantizationBudget budget,
        QuantizationOptions? options = null)
    {
        CheckPaths(inputPath, outputPath);
        ArgumentNullException.ThrowIfNull(calibration);
        ArgumentNullException.ThrowIfNull(budget);
        options ??= new QuantizationOptions();
        budget.Validate();
        PreparedModel prepared = PreparedModel.Read(inputPath, options).Calibrate(calibration);
        IReadOnlyList<SensitivityGroup> kept = QuantizationFallback.Choose(prepared, budget, options);
        HashSet<string> nodes = [.. kept.SelectMany(group => group.Nodes)];
        return Write(
            prepared, outputPath, options, node => nodes.Contains(node.Name) ? "costs more than the budget" : null,
            [.. kept.Select(group => group.Name)]);
    }

    /// <summary>
    /// Dynamic quantization of linear layers (MatMul and Gemm with constant weights), without calibration. Weights have eight
    /// bits around zero and one scale per output. Each input gets its scale from its own extremes while the model runs.
    /// Everything else stays in float, convolutions too. Use it for transformers and other networks that spend most of their time
    /// in matrix products. The file has standard operators (DynamicQuantizeLinear, MatMulInteger), which ONNX Runtime fuses.
    /// </summary>
    /// <param name="inputPath">The float model.</param>
    /// <param name="outputPath">The quantized model.</param>
    /// <param name="options">Settings; those of activations and sigmoids have no meaning here. Null for the defaults.</param>
    /// <returns>What was written.</returns>
    /// <exception cref="FileNotFoundException">There is no such model.</exception>
    /// <exception cref="DirectoryNotFoundException">The folder of the quantized model does not exist.</exception>
    /// <exception cref="InvalidDataException">The file is no ONNX model, or ONNX Runtime does not load it.</exception>
    /// <exception cref="ArgumentException">
    /// There is no linear layer with constant weights, one's weights are not finite, the operator set is too old, the model is
    /// quantized already, the quantized model would replace the float one, or an option names what the model lacks.
    /// </exception>
    public static QuantizationReport QuantizeDynamic(string inputPath, string outputPath, QuantizationOptions? options = null)
    {
        CheckPaths(inputPath, outputPath);
        options ??= new QuantizationOptions();
        PreparedModel prepared = PreparedModel.Read(inputPath, options);
        (ModelProto quantized, IReadOnlyList<FloatNode> kept) = DynamicWriter.Write(prepared, options);
        string weights = WeightForm.Of(options).Description;
        return Save(prepared, quantized, outputPath, kept, [], [], $"dynamic, {weights}", weights);
    }

    /// <summary>What would fail at the end, after calibration and a search, fails at the beginning.</summary>
    private static void CheckPaths(string inputPath, string outputPath)
    {
        ArgumentException.ThrowIfNullOrEmpty(inputPath);
        ArgumentException.ThrowIfNullOrEmpty(outputPath);
        string input = Path.GetFullPath(inputPath), output = Path.GetFullPath(outputPath);
        StringComparison names = OperatingSystem.IsWindows() || OperatingSystem.IsMacOS()
            ? StringComparison.OrdinalIgnoreCase
            : StringComparison.Ordinal;
        if (string.Equals(input, output, names))
        {
            throw new ArgumentException(
                $"outputPath is '{outputPath}', the float model itself, which would be lost; " +
                "give the quantized model a name of its own.", nameof(outputPath));
        }

        if (Directory.Exists(output))
        {
            throw new ArgumentException($"outputPath is '{outputPath}', which is a folder; give a file.", nameof(outputPath));
        }

        if (!Directory.Exists(Path.GetDirectoryName(output)))
        {
            throw new DirectoryNotFoundException($"The folder of '{outputPath}' does not exist. Create it first.");
        }
    }

    private static QuantizationReport Write(
        PreparedModel prepared, string outputPath, QuantizationOptions options, Func<NodeProto, string?>? keep,
        IReadOnlyList<string> fallenBack)
    {
        (QuantizationPlan plan, ModelProto quantized) = prepared.Quantize(keep);
        string weights = plan.IsEmpty ? WeightForm.NoWeights : WeightForm.Of(options).Description;
        string how = $"static, {options.Method}, uint8 activations, {weights}, sigmoid {options.Sigmoid}";
        QuantizationReport report = Save(prepared, quantized, outputPath, plan.Kept, plan.Warnings, fallenBack, how, weights);
        return report with
        {
            FoldedBatchNorms = plan.IsEmpty ? 0 : prepared.FoldedBatchNorms,
            OnCalibration = ModelEvaluation.OnCalibration(prepared.Source, quantized, prepared.Sample, options.Threads),
        };
    }

    private static QuantizationReport Save(
        PreparedModel prepared, ModelProto quantized, string outputPath, IReadOnlyList<FloatNode> kept,
        IReadOnlyList<string> warnings,
        IReadOnlyList<string> fallenBack, string how, string weights)
    {
        quantized.MetadataProps.Add(new StringStringEntryProto { Key = Key, Value = how });
        IReadOnlyDictionary<string, int> written = RuntimeGraph.Count(quantized), runtime = RuntimeGraph.Operators(quantized);
        string? data = OnnxModelFile.Save(quantized, outputPath);
        int convolutions = written.GetValueOrDefault("Conv"), products = Sum(written, "Gemm", "MatMul", "MatMulInteger");
        return new QuantizationReport
        {
            Path = outputPath,
            FloatBytes = OnnxModelFile.Size(prepared.Source),
            Bytes = new FileInfo(outputPath).Length + (data is null ? 0 : new FileInfo(data).Length),
            FoldedBatchNorms = prepared.FoldedBatchNorms,
            Convolutions = convolutions,
            IntegerConvolutions = Sum(runtime, "QLinearConv", "ConvInteger", "com.microsoft.QLinearConv"),
            Products = products,
            IntegerProducts = Sum(
                runtime, "QLinearMatMul", "MatMulInteger", "com.microsoft.QGemm", "com.microsoft.MatMulIntegerToFloat",
                "com.microsoft.DynamicQuantizeMatMul"),
            FloatOperators = RuntimeGraph.Count(prepared.Source),
            Operators = written,
            RuntimeOperators = runtime,
            Weights = weights,
            FloatNodes = kept,
            Warnings = warnings,
            FallbackParts = fallenBack,
        };
    }

    private static int Sum(IReadOnlyDictionary<string, int> operators, params string[] names)
        => names.Sum(name => operators.GetValueOrDefault(name));
}
