using System.Globalization;
using Microsoft.ML.OnnxRuntime;
using Samples;
using Samples.Data;
using TorchSharp.Attention;
using TorchSharp.Attention.Onnx;
using TorchSharp.Attention.Training;
using static TorchSharp.torch;

namespace Mobile;

/// <summary>A MobileNetV2 with SE on its way to a device: trained, pruned by its gates, fine-tuned, exported, quantized, timed.</summary>
internal sealed class MobileRun
{
    private const string Whole = "whole", Pruned = "pruned", Eager = "eager", Fused = "fused", OnnxFloat = "ONNX float", OnnxInt8 = "ONNX INT8";
    private const int Seed = 1, BatchSize = 250, RankingImages = 1000, CalibrationImages = 500;

    // A tenth of the rate that trains from nothing: what is there is to be mended, not learned anew.
    private const double TuningRate = 0.0005;

    private readonly MobileOptions _options;
    private readonly TextWriter _output;
    private readonly CancellationToken _stop;
    private readonly DataSet _data;
    private readonly Normalisation _normalisation;

    public MobileRun(MobileOptions options, TextWriter output, CancellationToken stop)
    {
        (_options, _output, _stop) = (options, output, stop);
        DataSet shipped = DataSet.LoadShipped();
        _data = shipped with { Train = shipped.Train.Take(options.Images), Test = shipped.Test.Take(options.TestImages) };
        _normalisation = Normalisation.Of(_data.Train);
        Directory.CreateDirectory(options.Out);
        set_num_threads(options.Threads);
    }

    private long[] Image => [1, _data.Train.Shape.Channels, _data.Train.Shape.Height, _data.Train.Shape.Width];

    private string Settings => string.Create(CultureInfo.InvariantCulture, $"{_options.Epochs} epochs of {_data.Train.Count} images");

    /// <summary>Everything but time: leaves weights, ONNX files and results.</summary>
    public void Make()
    {
        using MobileNetV2 whole = TrainedNetwork();
        PruningPlan plan = GatePruning.Rank(whole, Images(_data.Train, RankingImages)).PlanRemoval(_options.Fraction, Pruning);
        _output.WriteLine($"\n{plan}\n");
        using MobileNetV2 cut = whole.Prune(plan);
        Step bare = Measured(new Step(Pruned, "eager, not fine-tuned"), cut, Classified(cut));
        using MobileNetV2 pruned = Saved(Pruned, string.Create(CultureInfo.InvariantCulture, $"{Settings}, pruned by {_options.Fraction}, {_options.Tune} more epochs"), () =>
        {
            Fit(cut, Pruned, _options.Tune, TuningRate);
            return cut;
        });
        Results results = new(_data.Test.Count, [.. Shipped(whole, Whole), bare, .. Shipped(pruned, Pruned)], null);
        WholeFile.WriteText(Results.PathOf(_options.Out), results.ToJson());
        _output.WriteLine($"\n{results}");
    }

    /// <summary>Latency of one image with one thread, of all forms that <see cref="Make"/> left, in turns.</summary>
    public void Time()
    {
        Results results = Results.Load(_options.Out) ?? throw new IOException($"{_options.Out} holds no results; run without 'time' first.");
        set_num_threads(1);
        using IDisposable quiet = no_grad();
        using Tensor x = randn(Image);
        using OrtValue values = OrtValue.CreateTensorValueFromMemory(x.data<float>().ToArray(), Image);
        List<IDisposable> open = [];
        try
        {
            (string Name, Action Run)[] ways = [.. results.Steps.Where(step => step.File is not null || step.Form == Fused).Select(step => (NameOf(step), Way(step)))];
            Dictionary<string, Timing> times = Timing.Measure(ways, _options.Rounds);
            results = results with
            {
                Steps = [.. results.Steps.Select(step => step with { Milliseconds = times.GetValueOrDefault(NameOf(step))?.Milliseconds })],
                Timed = string.Create(CultureInfo.InvariantCulture, $"{DateTime.Today:yyyy-MM-dd}, one thread, {_options.Rounds} rounds"),
            };
        }
        finally
        {
            foreach (IDisposable one in open) one.Dispose();
        }

        WholeFile.WriteText(Results.PathOf(_options.Out), results.ToJson());
        _output.WriteLine($"\n{results}");

        string NameOf(Step step) => $"{step.Network} {step.Form}";

        Action Way(Step step)
        {
            if (step.Form is Eager or Fused)
            {
                MobileNetV2 network = Opened(Load(PathOf($"{step.Network}.safetensors"), null));
                network.eval();
                if (step.Form == Fused) network = Opened(network.FuseForInference());
                return () => network.call(x).Dispose();
            }

            OnnxClassifier file = Opened(new OnnxClassifier(PathOf(step.File!), threads: 1));
            return () => file.Run(values);
        }

        T Opened<T>(T one)
            where T : IDisposable
        {
            open.Add(one);
            return one;
        }
    }

    /// <summary>
    /// Accuracy against cost: channels ranked by gates and, for comparison, by the norms of their weights; as many of the same groups go, and
    /// fine-tuning is the same.
    /// </summary>
    public void Curve()
    {
        using MobileNetV2 whole = TrainedNetwork();
        ChannelRanking gates = GatePruning.Rank(whole, Images(_data.Train, RankingImages)), norms = GatePruning.RankByNorm(whole, Image);
        PruningOptions pruning = Pruning with { Groups = string.Join(", ", gates.Groups.Where(group => group.Gates.Count > 0).Select(group => group.Name)) };
        List<string> lines = [];
        Run("gates", gates, _options.Fractions);
        // Where nothing is removed both are the same.
        Run("norms", norms, [.. _options.Fractions.Where(fraction => fraction > 0)]);
        _output.WriteLine($"\n| ranked by | fraction | channels removed | parameters | M MACs | accuracy at once, % | fine-tuned, % |\n|---|---:|---:|---:|---:|---:|---:|\n{string.Join('\n', lines)}");

        void Run(string name, ChannelRanking ranking, IReadOnlyList<double> fractions)
        {
            Trainer trainer = new(_data, _normalisation, Seed, TuningRate);
            List<double> before = [];
            PruningCurve curve = PruningCurve.Run(
                whole, ranking, fractions, (smaller, stop) =>
                {
                    before.Add(trainer.Accuracy(smaller, stop));
                    Fit(smaller, name, _options.Tune, TuningRate);
                    return trainer.Accuracy(smaller, stop);
                }, new PruningCurveOptions { CsvPath = PathOf($"curve-{name}.csv"), Pruning = pruning, Log = line => _output.WriteLine($"{name}: {line}") }, _stop);
            lines.AddRange(curve.Points.Zip(before, (point, at) => string.Create(
                CultureInfo.InvariantCulture,
                $"| {(point.Fraction == 0 ? "" : name)} | {point.Fraction} | {point.RemovedChannels} | {point.Parameters:N0} | {point.MultiplyAccumulates / 1e6:N2} | {at * 100:N2} | {point.Score * 100:N2} |")));
        }
    }

    /// <summary>Squeeze-and-excitation after every depthwise convolution.</summary>
    private static AttentionPlan Plan { get; } = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }, AttentionPosition.AfterDepthwise);

    private static PruningOptions Pruning { get; } = new() { RoundTo = 8 };

    private MobileNetV2 TrainedNetwork() => Saved(Whole, Settings, () =>
    {
        manual_seed(Seed);
        MobileNetV2 network = (MobileNetV2)SmallNetworks.MobileNetV2(_data, Plan).Create();
        Fit(network, Whole, _options.Epochs, peakRate: 0.005);
        return network;
    });

    private void Fit(MobileNetV2 network, string name, int epochs, double peakRate)
    {
        new Trainer(_data, _normalisation, Seed, peakRate).Train(
            network, epochs, _ => { }, (epoch, result) => _output.WriteLine(FormattableString.Invariant(
                $"{name}: epoch {epoch} of {epochs}, loss {result.Loss:F3}, test accuracy {result.TestAccuracy:P2}, {result.Seconds:F0} s")),
            _stop);
        network.eval();
    }

    /// <summary>The network of a file that was made with the same settings, or else a new one, which is saved.</summary>
    private MobileNetV2 Saved(string name, string settings, Func<MobileNetV2> make)
    {
        string path = PathOf($"{name}.safetensors");
        if (File.Exists(path)) return Load(path, settings);
        MobileNetV2 network = make();
        network.SaveWeights(path, new Dictionary<string, string> { ["format"] = "pt", ["network"] = network.Options.ToJson(), ["settings"] = settings });
        return network;
    }

    private static MobileNetV2 Load(string path, string? settings)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        string? made = file.Metadata.GetValueOrDefault("settings");
        if (settings is not null && made != settings)
        {
            throw new IOException($"{path} was made with other settings ({made ?? "unknown"}; wanted: {settings}). Take another folder with --out, or delete this one.");
        }

        MobileNetV2 network = (MobileNetV2)BackboneOptions.FromJson(file.Metadata["network"]).Create();
        file.LoadInto(network);
        network.eval();
        return network;
    }

    /// <summary>The four forms of a network, its files written.</summary>
    private IEnumerable<Step> Shipped(MobileNetV2 network, string name)
    {
        network.eval();
        (int[] Classes, bool[] Near) eager = Classified(network);
        yield return Measured(new Step(name, Eager), network, eager) with { File = $"{name}.safetensors", Bytes = new FileInfo(PathOf($"{name}.safetensors")).Length };

        using MobileNetV2 fused = network.FuseForInference();
        yield return Measured(new Step(name, Fused), network, Classified(fused));

        string floatFile = $"{name}.onnx", int8File = $"{name}.int8.onnx";
        using Tensor example = zeros(Image);
        _output.Write(network.ExportOnnx(PathOf(floatFile), example, new OnnxExportOptions
        {
            ClassNames = [.. _data.Classes],
            Normalization = new OnnxNormalization([.. _normalisation.Mean], [.. _normalisation.Std]),
        }));
        yield return Measured(new Step(name, OnnxFloat), network, Classified(floatFile)) with
        {
            File = floatFile,
            Bytes = new FileInfo(PathOf(floatFile)).Length,
            Expected = Expected(eager),
        };

        OnnxBatch[] calibration = [.. Images(_data.Train, CalibrationImages).Select(batch => OnnxBatch.From(batch))];
        _output.Write(OnnxQuantizer.Quantize(PathOf(floatFile), PathOf(int8File), calibration, new QuantizationOptions { Threads = _options.Threads }));
        (int[] Classes, bool[] Near) int8 = Classified(int8File);
        yield return Measured(new Step(name, OnnxInt8), network, int8) with
        {
            File = int8File,
            Bytes = new FileInfo(PathOf(int8File)).Length,
            Expected = Expected(int8),
        };
    }

    private Step Measured(Step step, MobileNetV2 network, (int[] Classes, bool[] Near) found)
    {
        ModelCost cost = ModelCost.Measure(network, Image);
        return step with
        {
            Parameters = cost.Parameters,
            MultiplyAccumulates = cost.MultiplyAccumulates,
            Right = found.Classes.Where((value, image) => value == _data.Test.Labels[image]).Count(),
        };
    }

    private static string Expected((int[] Classes, bool[] Near) found) => string.Concat(found.Classes.Zip(found.Near, (value, near) => near ? '?' : (char)('0' + value)));

    /// <summary>Class of every test image in TorchSharp, and which images are too near to two classes for a file that errs as an export may.</summary>
    private (int[] Classes, bool[] Near) Classified(FeatureNetwork network)
    {
        network.eval();
        using IDisposable quiet = no_grad();
        return Classified(batch =>
        {
            using Tensor logits = network.call(batch);
            return logits.data<float>().ToArray();
        }, new OnnxExportOptions().Tolerance);
    }

    /// <summary>The same in ONNX Runtime: nothing to allow for.</summary>
    private (int[] Classes, bool[] Near) Classified(string file)
    {
        using OnnxClassifier model = new(PathOf(file), _options.Threads);
        return Classified(batch =>
        {
            using OrtValue values = OrtValue.CreateTensorValueFromMemory(batch.data<float>().ToArray(), batch.shape);
            return model.Run(values);
        }, tolerance: 0);
    }

    private (int[] Classes, bool[] Near) Classified(Func<Tensor, float[]> run, double tolerance)
    {
        float[] all = [.. Images(_data.Test, _data.Test.Count).SelectMany(run)];
        float[][] rows = [.. all.Chunk(_data.Classes.Count)];
        // Each output may be off by the tolerance times the greatest of all.
        double reach = 2 * tolerance * all.Max(Math.Abs);
        return ([.. rows.Select(row => Array.IndexOf(row, row.Max()))], [.. rows.Select(row => row.Max() - row.OrderDescending().ElementAt(1) < reach)]);
    }

    private IEnumerable<Tensor> Images(ImageSet set, int count)
    {
        Batches batches = new(set, _normalisation);
        foreach (int[] chunk in Enumerable.Range(0, Math.Min(count, set.Count)).Chunk(BatchSize))
        {
            _stop.ThrowIfCancellationRequested();
            using Tensor batch = batches.Images(chunk);
            yield return batch;
        }
    }

    private string PathOf(string file) => Path.Combine(_options.Out, file);
}
