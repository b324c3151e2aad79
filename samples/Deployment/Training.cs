using Samples;
using Samples.Data;
using TorchSharp.Attention;
using TorchSharp.Attention.Onnx;
using static TorchSharp.torch;

namespace Deployment;

/// <summary>Trains networks, writes their files and measures accuracy and size.</summary>
internal sealed class Training(DataSet data, DeploymentOptions options, TextWriter output)
{
    private const int Seed = 1, BatchSize = 50, CalibrationImages = 500, SensitivityImages = 500;

    private const string EpochsKey = "epochs", ImagesKey = "images";

    private readonly Normalisation _normalisation = Normalisation.Of(data.Train);

    /// <summary>Files of a candidate: weights, float model, eight-bit model.</summary>
    public static (string Weights, string Float, string Int8) Files(string folder, Candidate candidate)
        => (Path.Combine(folder, $"{candidate.Name}.safetensors"), Path.Combine(folder, $"{candidate.Name}.onnx"), Path.Combine(folder, $"{candidate.Name}.int8.onnx"));

    public DeploymentResult Run(Candidate candidate, CancellationToken stop)
    {
        (string weights, string floatPath, string int8Path) = Files(options.Out, candidate);
        manual_seed(Seed);
        using FeatureNetwork network = candidate.Options.Create();
        // A folder that was trained in before is gone on with.
        if (File.Exists(weights))
        {
            CheckTrained(weights);
            network.LoadWeights(weights);
            output.WriteLine($"{candidate.Name}: not trained again, the weights are those of {weights}");
        }
        else
        {
            Train(network, candidate.Name, stop);
            network.SaveWeights(weights, new Dictionary<string, string> { ["format"] = "pt", ["network"] = candidate.Options.ToJson(), [EpochsKey] = $"{options.EpochsRun}", [ImagesKey] = $"{data.Train.Count}" });
        }

        network.eval();
        using FeatureNetwork fused = Candidate.Fuse(network);
        (int channels, int height, int width) = data.Train.Shape;
        ModelCost cost = ModelCost.Measure(network, 1, channels, height, width);

        using Tensor example = zeros(1, channels, height, width);
        output.Write(network.ExportOnnx(floatPath, example, new OnnxExportOptions
        {
            ClassNames = [.. data.Classes],
            Normalization = new OnnxNormalization([.. _normalisation.Mean], [.. _normalisation.Std]),
        }));

        Trainer trainer = new(data, _normalisation, Seed);
        OnnxBatch[] calibration = Batches(data.Train, CalibrationImages), test = Batches(data.Test, data.Test.Count);
        Dictionary<string, QuantizationEffect> effects = [];
        QuantizationReport report = null!;
        // Min-max, the default, comes last, and its file stays.
        foreach (CalibrationMethod method in (CalibrationMethod[])[CalibrationMethod.Percentile, CalibrationMethod.Entropy, CalibrationMethod.MinMax])
        {
            report = OnnxQuantizer.Quantize(floatPath, int8Path, calibration, new QuantizationOptions { Method = method, Threads = options.Threads });
            effects[$"{method}"] = OnnxSensitivity.Compare(floatPath, int8Path, test, options.Threads);
        }

        output.Write(report);
        SensitivityReport sensitivity = OnnxSensitivity.Measure(
            floatPath, calibration, Batches(data.Test, SensitivityImages), new QuantizationOptions { Threads = options.Threads });
        output.WriteLine(sensitivity);
        return new DeploymentResult
        {
            Network = candidate.Network,
            Attention = candidate.Attention,
            Parameters = cost.Parameters,
            MultiplyAccumulates = cost.MultiplyAccumulates,
            Accuracy =
            {
                ["eager"] = trainer.Accuracy(network, stop),
                ["fused"] = trainer.Accuracy(fused, stop),
                ["onnx"] = OnnxSensitivity.Compare(floatPath, floatPath, test, options.Threads).Accuracy!.Value,
                ["int8"] = effects[nameof(CalibrationMethod.MinMax)].Accuracy!.Value,
            },
            Calibration = effects,
            Bytes = { ["weights"] = new FileInfo(weights).Length, ["float"] = report.FloatBytes, ["int8"] = report.Bytes },
            Convolutions = report.Convolutions,
            IntegerConvolutions = report.IntegerConvolutions,
            Sensitivity = sensitivity,
        };
    }

    /// <summary>Weights that are there already must be those that this run would train; older files do not say.</summary>
    private void CheckTrained(string weights)
    {
        using SafetensorsFile file = SafetensorsFile.Open(weights);
        string epochs = file.Metadata.GetValueOrDefault(EpochsKey, "?"), images = file.Metadata.GetValueOrDefault(ImagesKey, "?");
        if ((epochs == "?" || epochs == $"{options.EpochsRun}") && (images == "?" || images == $"{data.Train.Count}")) return;
        throw new IOException(
            $"{weights} was trained for {epochs} epochs on {images} images; this run asks for {options.EpochsRun} on {data.Train.Count}. Give another --out, or delete the file.");
    }

    private void Train(FeatureNetwork network, string name, CancellationToken stop)
    {
        int epochs = options.EpochsRun;
        new Trainer(data, _normalisation, Seed).Train(
            network,
            epochs,
            _ => { },
            (epoch, result) => output.WriteLine(FormattableString.Invariant(
                $"{name}: epoch {epoch} of {epochs}, loss {result.Loss:F3}, test accuracy {result.TestAccuracy:P2}, {result.Seconds:F0} s")),
            stop);
    }

    private OnnxBatch[] Batches(ImageSet images, int count)
    {
        Batches batches = new(images, _normalisation);
        return
        [
            .. Enumerable.Range(0, Math.Min(count, images.Count)).Chunk(BatchSize).Select(chunk =>
            {
                using Tensor batch = batches.Images(chunk), labels = batches.Labels(chunk);
                return OnnxBatch.From(batch, labels);
            }),
        ];
    }
}
