using TorchSharp.Attention.Onnx.Schema;

namespace TorchSharp.Attention.Onnx;

/// <summary>Measures how much error the quantization of each part of a model causes. No file is written.</summary>
public static class OnnxSensitivity
{
    /// <summary>
    /// Measures the error of a quantized model part by part, compared with the float model. Each attention and each layer is
    /// quantized alone, and then everything except it. Finally the whole model is quantized, with each treatment of sigmoids. The
    /// attentions are those that the metadata of the file names, as in files of this library.
    /// </summary>
    /// <param name="modelPath">The float model.</param>
    /// <param name="calibration">What typical inputs are.</param>
    /// <param name="evaluation">
    /// Batches to measure on, other ones than those of calibration; with labels where accuracy is wanted. They are held in memory
    /// and run twice per row of the report, five times if a row has sigmoids.
    /// </param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <param name="groups">
    /// More groups, by name: a pattern for names of nodes, as in <see cref="QuantizationOptions.ExcludeNames"/>. For
    /// files without metadata. Null for none.
    /// </param>
    /// <returns>The table.</returns>
    /// <exception cref="FileNotFoundException">There is no such model.</exception>
    /// <exception cref="InvalidDataException">The file is no ONNX model, or ONNX Runtime does not load it.</exception>
    /// <exception cref="ArgumentException">
    /// As <see cref="OnnxQuantizer.Quantize(string, string, IEnumerable{OnnxBatch}, QuantizationOptions?)"/>, a group gets no
    /// node, or the float model's outputs are not finite.
    /// </exception>
    public static SensitivityReport Measure(
        string modelPath, IEnumerable<OnnxBatch> calibration, IEnumerable<OnnxBatch> evaluation,
        QuantizationOptions? options = null,
        IReadOnlyDictionary<string, string>? groups = null)
    {
        ArgumentNullException.ThrowIfNull(calibration);
        ArgumentNullException.ThrowIfNull(evaluation);
        options ??= new QuantizationOptions();
        PreparedModel prepared = PreparedModel.Read(modelPath, options).Calibrate(calibration);
        ModelEvaluation measured = new(prepared.Source, evaluation, options.Threads);
        (QuantizationPlan plan, ModelProto whole) = prepared.Quantize();
        QuantizationEffect all = measured.Measure(whole);
        bool sigmoids = prepared.Model.Graph.Node.Any(IsSigmoid);
        List<SensitivityRow> rows = [];
        foreach (SensitivityGroup group in SensitivityGroup.Of(prepared, plan, groups))
        {
            bool gate = prepared.Model.Graph.Node.Any(node => IsSigmoid(node) && group.Nodes.Contains(node.Name));
            rows.Add(new SensitivityRow(
                group.Name,
                group.Kind,
                Only(prepared, measured, group),
                measured.Measure(prepared.Quantize(node => group.Nodes.Contains(node.Name) ? "kept" : null).Quantized),
                gate ? Sigmoids(mode => Only(prepared, measured, group, mode)) : null));
        }

        return new SensitivityReport
        {
            FloatAccuracy = measured.FloatAccuracy,
            All = all,
            Rows = rows,
            AllBySigmoid = sigmoids ? Sigmoids(mode => measured.Measure(prepared.Quantize(sigmoid: mode).Quantized)) : null,
        };
    }

    /// <summary>Compares the outputs of two files, such as a quantized one with its float model.</summary>
    /// <param name="modelPath">The float model.</param>
    /// <param name="otherPath">The file that is compared with it; with the same inputs and outputs.</param>
    /// <param name="evaluation">Batches to run; with labels where accuracy is wanted. They are held in memory.</param>
    /// <param name="threads">Threads of the runtime; 0 leaves the number to it. Default 0.</param>
    /// <returns>Error of the other file's outputs, agreement, and its accuracy.</returns>
    /// <exception cref="FileNotFoundException">There is no such file.</exception>
    /// <exception cref="InvalidDataException">A file is no ONNX model, or ONNX Runtime does not load it.</exception>
    /// <exception cref="ArgumentException">
    /// There is no batch, one does not fit, the first file's outputs are not finite, or the files' outputs differ in number or
    /// size.
    /// </exception>
    public static QuantizationEffect Compare(
        string modelPath, string otherPath, IEnumerable<OnnxBatch> evaluation, int threads = 0)
    {
        ArgumentException.ThrowIfNullOrEmpty(modelPath);
        ArgumentException.ThrowIfNullOrEmpty(otherPath);
        ArgumentNullException.ThrowIfNull(evaluation);
        Check.NotNegative(threads);
        return new ModelEvaluation(OnnxModelFile.Load(modelPath), evaluation, threads).Measure(OnnxModelFile.Load(otherPath));
    }

    /// <summary>
    /// The effect of one group in eight bits. ReLUs and clips belong to whatever stands before them: they become its range, as
    /// in the file that the quantizer writes.
    /// </summary>
    internal static QuantizationEffect Only(
        PreparedModel prepared, ModelEvaluation measured, SensitivityGroup group, SigmoidQuantization? sigmoid = null)
        => measured.Measure(prepared.Quantize(
            node => group.Nodes.Contains(node.Name) || QuantizationRules.Bounds(node, prepared.Graph) is not null
                ? null
                : "outside", alone: true, sigmoid).Quantized);

    private static bool IsSigmoid(NodeProto node) => NodeGraph.Is(node, "Sigmoid");

    private static SigmoidEffects Sigmoids(Func<SigmoidQuantization, QuantizationEffect> measure)
        => new(
            measure(SigmoidQuantization.FixedRange), measure(SigmoidQuantization.Calibrated), measure(SigmoidQuantization.None));
}
