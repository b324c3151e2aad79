using System.Diagnostics;
using Samples;
using Samples.Data;
using TorchSharp;
using TorchSharp.Attention;

namespace QuickStart;

/// <summary>The scenario: load, train every variant, measure, save the best, show what it sees.</summary>
internal static class QuickStartRun
{
    private const int QuickTrain = 2000, QuickTest = 500;
    private const int Rounds = 100, QuickRounds = 20, ShownImages = 10;

    /// <exception cref="DataException">A data file is missing or damaged.</exception>
    /// <exception cref="PlanException">A plan of the command line is wrong.</exception>
    /// <exception cref="OperationCanceledException">The user stopped the run.</exception>
    public static void Execute(QuickStartOptions options, Screen screen, CancellationToken stop)
    {
        DataSet data = options.Data is null ? DataSet.LoadShipped() : DataSet.Load(options.Data);
        if (options.Quick)
        {
            // One thread: little to compute, no waiting for a busy machine's other cores, and the same numbers for any number of them.
            data = data with { Train = data.Train.Take(QuickTrain), Test = data.Test.Take(QuickTest) };
            torch.set_num_threads(1);
        }

        IReadOnlyList<Variant> variants = Variant.From(options.Attention, data);
        Directory.CreateDirectory(options.Out);
        screen.Line($"{data.Name}: {data.Train.Count} images to train on, {data.Test.Count} to test, {data.Train.Shape}, {data.Classes.Count} classes");

        Normalisation normalisation = Normalisation.Of(data.Train);
        List<VariantResult> results = [];
        try
        {
            screen.Watch(view => Train(options, data, normalisation, variants, view, results, stop));
            MeasureLatency(results, data, normalisation, options.Quick ? QuickRounds : Rounds);
            screen.Line();
            Report.Show(screen, results);
            Report.Save(options.Out, options, data.Name, results);

            VariantResult best = results.MaxBy(result => result.TestAccuracy)!;
            Checkpoint.Save(options.Out, best.Variant.Name, best.TestAccuracy, best.Network, data, normalisation);
        }
        finally
        {
            foreach (VariantResult result in results) result.Network.Dispose();
        }

        (Checkpoint checkpoint, ResNet network) = Checkpoint.Load(options.Out);
        using (network)
        {
            screen.Line();
            screen.Line($"The best, {checkpoint.Variant}, saved as {Path.Combine(options.Out, checkpoint.WeightsFile)} and loaded again, takes test images for:");
            Predictions.Show(screen, network, data.Test, checkpoint.Normalisation, checkpoint.Classes, ShownImages);
        }
    }

    private static void Train(
        QuickStartOptions options, DataSet data, Normalisation normalisation, IReadOnlyList<Variant> variants, IProgressView view,
        List<VariantResult> results, CancellationToken stop)
    {
        Trainer trainer = new(data, normalisation, options.Seed);
        long start = Stopwatch.GetTimestamp();
        int done = 0, all = variants.Count * options.EpochCount * trainer.BatchesPerEpoch;
        foreach (Variant variant in variants)
        {
            view.Begin(variant.Name);
            torch.manual_seed(options.Seed);
            ResNet network = new(SmallNetworks.ResNet(data, variant.Plan));
            try
            {
                IReadOnlyList<EpochResult> epochs = trainer.Train(
                    network,
                    options.EpochCount,
                    step => view.Batch(variant.Name, step, Stopwatch.GetElapsedTime(start) / ++done * (all - done)),
                    (epoch, result) => view.Epoch(variant.Name, epoch, options.EpochCount, result),
                    stop);
                (int channels, int height, int width) = data.Train.Shape;
                ModelCost cost = ModelCost.Measure(network, 1, channels, height, width);
                results.Add(new VariantResult(variant, network, cost, epochs, Checkpoint.Checksum(network)) { Latency = new(0, 0) });
            }
            catch
            {
                network.Dispose();
                throw;
            }
        }
    }

    private static void MeasureLatency(List<VariantResult> results, DataSet data, Normalisation normalisation, int rounds)
    {
        using torch.Tensor image = new Batches(data.Test, normalisation).Images([0]);
        IReadOnlyList<Latency> latencies = Latency.Measure([.. results.Select(result => result.Network)], image, rounds);
        for (int i = 0; i < results.Count; i++) results[i] = results[i] with { Latency = latencies[i] };
    }
}
