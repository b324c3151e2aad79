using Samples;
using Samples.Data;
using TorchSharp;
using TorchSharp.Attention;
using TorchSharp.Attention.Visualization;
using static TorchSharp.torch;

namespace Explain;

/// <summary>The scenario: get a network, look at what it does on test images, write the report.</summary>
internal static class ExplainRun
{
    private const int QuickTrain = 3000, QuickTest = 500, Seed = 1;

    /// <summary>CBAM in the blocks of three stages, and self-attention where the map is small enough to compare all positions.</summary>
    private static readonly AttentionPlan Plan = AttentionPlan
        .Of(new CbamOptions { Reduction = 4, KernelSize = 7 }).InStages(1, 2, 3)
        .Add(new SelfAttention2dOptions { Heads = 4 }, AttentionPosition.After).InStages(3)
        .Add(new SelfAttention2dOptions { Heads = 4 }, AttentionPosition.StageEnd).InStages(3);

    public static void Execute(string? model, string? folder, string output, int epochs, bool quick, Screen screen)
    {
        DataSet data = folder is null ? DataSet.LoadShipped() : DataSet.Load(folder);
        if (quick)
        {
            data = data with { Train = data.Train.Take(QuickTrain), Test = data.Test.Take(QuickTest) };
            epochs = 1;
            set_num_threads(1);
        }

        (ResNet network, Normalisation normalisation, IReadOnlyList<EpochResult> training) = model is null
            ? Train(data, epochs, screen)
            : Load(model);
        using (network)
        {
            network.eval();
            Subject subject = new(network, data, normalisation, training);
            screen.Line("drawing");
            HtmlReport report = ReportOf(subject);
            string path = Path.GetFullPath(Path.Combine(output, "report.html"));
            report.Save(path);
            screen.Line($"The report is {path}");
        }
    }

    private static (ResNet Network, Normalisation Normalisation, IReadOnlyList<EpochResult> Training) Train(DataSet data, int epochs, Screen screen)
    {
        manual_seed(Seed);
        Normalisation normalisation = Normalisation.Of(data.Train);
        ResNet network = new(SmallNetworks.ResNet(data, Plan));
        IReadOnlyList<EpochResult> results = [];
        screen.Watch(view =>
        {
            view.Begin("cbam and self-attention");
            results = new Trainer(data, normalisation, Seed).Train(
                network, epochs, step => view.Batch("", step, TimeSpan.Zero), (epoch, result) => view.Epoch("", epoch, epochs, result), default);
        });
        return (network, normalisation, results);
    }

    private static (ResNet Network, Normalisation Normalisation, IReadOnlyList<EpochResult> Training) Load(string folder)
    {
        (Checkpoint checkpoint, ResNet network) = Checkpoint.Load(folder);
        return (network, checkpoint.Normalisation, []);
    }

    private static HtmlReport ReportOf(Subject subject)
    {
        HtmlReport report = new("What the network looks at");
        Sections.Overview(report, subject);
        Sections.Cost(report, subject);
        Sections.Images(report, subject);
        Sections.Mistakes(report, subject);
        if (subject.HasAttention)
        {
            Sections.Gates(report, subject);
            Sections.Pairs(report, subject);
        }

        return report;
    }
}

/// <summary>A network to explain, and the test images to explain it with.</summary>
internal sealed record Subject(ResNet Network, DataSet Data, Normalisation Normalisation, IReadOnlyList<EpochResult> Training)
{
    private readonly Batches _batches = new(Data.Test, Normalisation);

    public bool HasAttention => Network.modules().Any(module => module is IAttentionModule);

    /// <summary>Test images as the network takes them, (N, C, H, W).</summary>
    public Tensor Images(ReadOnlySpan<int> images) => _batches.Images(images);

    /// <summary>A test image to look at.</summary>
    public Picture Picture(int image)
    {
        using Tensor input = Images([image]);
        return TorchSharp.Attention.Visualization.Picture.FromTensor(input, Normalisation.Mean, Normalisation.Std);
    }

    /// <summary>For each test image: the class that the network takes it for, and how sure it is.</summary>
    public (int Class, double Confidence)[] Predict()
    {
        List<(int, double)> results = [];
        foreach (int[] images in Enumerable.Range(0, Data.Test.Count).Chunk(250))
        {
            using IDisposable quiet = no_grad();
            using DisposeScope scope = NewDisposeScope();
            (Tensor confidence, Tensor label) = Network.call(Images(images)).softmax(1).max(1);
            long[] labels = label.data<long>().ToArray();
            float[] confidences = confidence.data<float>().ToArray();
            results.AddRange(labels.Select((one, i) => ((int)one, (double)confidences[i])));
        }

        return [.. results];
    }
}
