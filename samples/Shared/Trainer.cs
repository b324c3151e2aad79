using System.Diagnostics;
using Samples.Data;
using TorchSharp;
using TorchSharp.Attention;
using static TorchSharp.torch;

namespace Samples;

/// <summary>One pass over the training images.</summary>
/// <param name="Loss">Mean cross-entropy over the epoch's batches.</param>
/// <param name="TrainAccuracy">Share of training images classified right while they were trained on.</param>
/// <param name="TestAccuracy">Share of test images classified right after the epoch.</param>
/// <param name="Seconds">Time of the training pass; the test is not in it.</param>
public sealed record EpochResult(double Loss, double TrainAccuracy, double TestAccuracy, double Seconds);

/// <summary>Where training stands; loss and accuracy are of the epoch so far.</summary>
public sealed record TrainingStep(int Epoch, int Epochs, int Batch, int Batches, double Loss, double Accuracy);

/// <summary>
/// Trains with AdamW under a one-cycle schedule. Everything runs on the calling thread, and no other thread may allocate
/// meanwhile: TorchSharp's optimizers pass temporary scalars that a garbage collection by another thread could free too early.
/// </summary>
public sealed class Trainer(DataSet data, Normalisation normalisation, int seed, double peakRate = 0.005)
{
    private const int BatchSize = 64, TestBatchSize = 250;
    private const double WeightDecay = 0.05, WarmUp = 0.25;

    private readonly Batches _train = new(data.Train, normalisation, data.Mirror), _test = new(data.Test, normalisation);

    /// <summary>Full batches an epoch; the images of an incomplete last one wait for another epoch's order.</summary>
    public int BatchesPerEpoch => data.Train.Count / Size;

    private int Size => Math.Min(BatchSize, data.Train.Count);

    /// <summary>Trains; the order and the changes of the images depend on the seed alone, so they are the same for every network.</summary>
    public IReadOnlyList<EpochResult> Train(
        FeatureNetwork network, int epochs, Action<TrainingStep> onBatch, Action<int, EpochResult> onEpoch, CancellationToken stop)
    {
        using optim.Optimizer optimizer = optim.AdamW(network.parameters(), peakRate, weight_decay: WeightDecay);
        Random random = new(seed);
        int[] order = [.. Enumerable.Range(0, data.Train.Count)];
        List<EpochResult> results = [];
        for (int epoch = 0; epoch < epochs; epoch++)
        {
            network.train();
            random.Shuffle(order);
            long start = Stopwatch.GetTimestamp();
            double loss = 0;
            long right = 0;
            for (int batch = 0; batch < BatchesPerEpoch; batch++)
            {
                stop.ThrowIfCancellationRequested();
                double done = (epoch + ((double)batch / BatchesPerEpoch)) / epochs;
                foreach (var group in optimizer.ParamGroups) group.LearningRate = peakRate * OneCycle(done);
                (float batchLoss, long batchRight) = Step(network, optimizer, order.AsSpan(batch * Size, Size), random);
                loss += batchLoss;
                right += batchRight;
                onBatch(new TrainingStep(
                    epoch + 1, epochs, batch + 1, BatchesPerEpoch, loss / (batch + 1), (double)right / ((batch + 1) * Size)));
            }

            double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            results.Add(new EpochResult(
                loss / BatchesPerEpoch, (double)right / (BatchesPerEpoch * Size), Accuracy(network, stop), seconds));
            onEpoch(epoch + 1, results[^1]);
        }

        return results;
    }

    /// <summary>Share of test images that the network classifies right.</summary>
    public double Accuracy(FeatureNetwork network, CancellationToken stop = default)
    {
        network.eval();
        using IDisposable quiet = no_grad();
        int[] order = [.. Enumerable.Range(0, data.Test.Count)];
        long right = 0;
        foreach (int[] images in order.Chunk(TestBatchSize))
        {
            stop.ThrowIfCancellationRequested();
            using DisposeScope scope = NewDisposeScope();
            right += Right(network.call(_test.Images(images)), _test.Labels(images));
        }

        return (double)right / data.Test.Count;
    }

    /// <summary>The dispose scope frees every tensor of the step; what lives longer (weights, optimizer state) detaches itself.</summary>
    private (float Loss, long Right) Step(FeatureNetwork network, optim.Optimizer optimizer, ReadOnlySpan<int> images, Random random)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor labels = _train.Labels(images);
        Tensor logits = network.call(_train.Images(images, random));
        Tensor loss = nn.functional.cross_entropy(logits, labels);
        optimizer.zero_grad();
        loss.backward();
        optimizer.step();
        return (loss.item<float>(), Right(logits, labels));
    }

    private static long Right(Tensor logits, Tensor labels) => logits.argmax(1).eq(labels).sum().item<long>();

    /// <summary>Share of the peak learning rate: linear up, then down along a cosine.</summary>
    private static double OneCycle(double done) =>
        done < WarmUp ? 0.04 + (0.96 * done / WarmUp) : 0.5 * (1 + Math.Cos(Math.PI * (done - WarmUp) / (1 - WarmUp)));
}
