using System.Globalization;
using TorchSharp;
using TorchSharp.Attention;
using TorchSharp.Attention.Visualization;
using static TorchSharp.torch;

namespace Explain;

/// <summary>The parts of the report.</summary>
internal static class Sections
{
    private const string Layer = "layer3";
    private const int Mistaken = 6, Counted = 1000;

    private static readonly HeatMapOptions Look = new() { Size = 148, Legend = false };
    private static readonly HeatMapOptions Cam = Look with { Colors = ColorMap.Inferno, Opacity = 0.65 };

    public static void Overview(HtmlReport report, Subject subject)
    {
        (int Class, double Confidence)[] predictions = subject.Predict();
        double right = predictions.Where((prediction, i) => prediction.Class == subject.Data.Test.Labels[i]).Count() / (double)predictions.Length;
        report.Text(Format($"A ResNet on {subject.Data.Name}, {subject.Data.Train.Shape}: {right:P1} of {predictions.Length} test images right."));
        if (subject.Training.Count < 2) return;
        report.Curves("loss", "epoch", [("training", [.. subject.Training.Select(epoch => epoch.Loss)])]);
        report.Curves("accuracy", "epoch", [("training", [.. subject.Training.Select(epoch => epoch.TrainAccuracy)]), ("test", [.. subject.Training.Select(epoch => epoch.TestAccuracy)])]);
    }

    public static void Cost(HtmlReport report, Subject subject)
    {
        (int channels, int height, int width) = subject.Data.Train.Shape;
        using ResNet plain = new(subject.Network.Options with { Attention = AttentionPlan.None });
        report.Heading("What attention costs").Cost(
        [
            ("without attention", ModelCost.Measure(plain, 1, channels, height, width)),
            ("this network", ModelCost.Measure(subject.Network, 1, channels, height, width)),
        ]);
    }

    /// <summary>The first test image of each class, what speaks for its class, and what the spatial gates let through.</summary>
    public static void Images(HtmlReport report, Subject subject)
    {
        (int Class, double Confidence)[] predictions = subject.Predict();
        int[] images = [.. Enumerable.Range(0, subject.Data.Classes.Count).Select(label => Array.IndexOf(subject.Data.Test.Labels, (byte)label)).Where(image => image >= 0)];
        using Tensor input = subject.Images(images);
        using ClassActivationMaps grad = ClassActivation.Compute(subject.Network, input, Layer);
        using ClassActivationMaps plus = ClassActivation.Compute(subject.Network, input, Layer, ClassActivationMethod.GradCamPlusPlus);
        using ClassActivationMaps score = ClassActivation.Compute(subject.Network, input, Layer, ClassActivationMethod.ScoreCam);
        using AttentionRecorder? maps = subject.HasAttention ? AttentionRecorder.Attach(subject.Network) : null;
        using (no_grad())
        {
            subject.Network.call(input).Dispose();
        }

        string[] gates = [.. (maps?.Names ?? []).Where(name => maps![name].SpatialGate is not null).Take(3)];
        List<IReadOnlyList<Picture>> rows = [];
        List<string> labels = [];
        using DisposeScope scope = NewDisposeScope();
        for (int i = 0; i < images.Length; i++)
        {
            using Picture image = subject.Picture(images[i]);
            rows.Add([
                HeatMap.Plain(image, Look), HeatMap.Overlay(image, grad.Maps[i], Cam), HeatMap.Overlay(image, plus.Maps[i], Cam), HeatMap.Overlay(image, score.Maps[i], Cam),
                .. gates.Select(name => HeatMap.Overlay(image, maps![name].SpatialGate![i], Look with { Legend = true })),
            ]);
            labels.Add($"{subject.Data.Classes[subject.Data.Test.Labels[images[i]]]}\n→ {subject.Data.Classes[predictions[images[i]].Class]}\n{Format($"{predictions[images[i]].Confidence:P0}")}");
        }

        string words = gates.Length == 0 ? "" : " Right: how much each spatial gate lets through; the scale is each map's own.";
        Show(report.Heading("Where it looks"), rows, ["image", "Grad-CAM", "Grad-CAM++", "Score-CAM", .. gates], labels,
            $"The first test image of each class, what it is taken for, and what speaks for that at the end of {Layer} (bright).{words}");
    }

    /// <summary>The surest mistakes: what speaks for the wrong class, and what for the right one.</summary>
    public static void Mistakes(HtmlReport report, Subject subject)
    {
        (int Class, double Confidence)[] predictions = subject.Predict();
        int[] images = [.. Enumerable.Range(0, predictions.Length).Where(i => predictions[i].Class != subject.Data.Test.Labels[i])
            .OrderByDescending(i => predictions[i].Confidence).Take(Mistaken)];
        if (images.Length == 0) return;
        using Tensor input = subject.Images(images);
        using ClassActivationMaps wrong = ClassActivation.Compute(subject.Network, input, Layer, classes: [.. images.Select(image => (long)predictions[image].Class)]);
        using ClassActivationMaps right = ClassActivation.Compute(subject.Network, input, Layer, classes: [.. images.Select(image => (long)subject.Data.Test.Labels[image])]);
        List<Picture>[] rows = [[], [], []];
        using DisposeScope scope = NewDisposeScope();
        for (int i = 0; i < images.Length; i++)
        {
            using Picture image = subject.Picture(images[i]);
            string taken = subject.Data.Classes[predictions[images[i]].Class], truth = subject.Data.Classes[subject.Data.Test.Labels[images[i]]];
            rows[0].Add(HeatMap.Plain(image, Look with { Title = $"is {truth}" }));
            rows[1].Add(HeatMap.Overlay(image, wrong.Maps[i], Cam with { Title = Format($"{taken}, {predictions[images[i]].Confidence:P0}") }));
            rows[2].Add(HeatMap.Overlay(image, right.Maps[i], Cam with { Title = truth }));
        }

        Show(report.Heading("Its surest mistakes"), rows, null, ["image", "for the\nwrong class", "for the\nright class"],
            "Grad-CAM of the class that the network chose, and of the right one. A dark map: nothing in the layer speaks for the class.");
    }

    /// <summary>Statistics of all gates over test images, and the channel gates by class.</summary>
    public static void Gates(HtmlReport report, Subject subject)
    {
        int classes = subject.Data.Classes.Count;
        Dictionary<string, GateStatistics> channels = [], positions = [];
        Dictionary<string, PairwiseStatistics> pairs = [];
        using (AttentionRecorder maps = AttentionRecorder.Attach(subject.Network))
        {
            foreach (int[] images in Enumerable.Range(0, Math.Min(Counted, subject.Data.Test.Count)).Chunk(100))
            {
                using IDisposable quiet = no_grad();
                using DisposeScope scope = NewDisposeScope();
                subject.Network.call(subject.Images(images));
                Tensor labels = tensor(images.Select(image => (long)subject.Data.Test.Labels[image]).ToArray());
                foreach (string name in maps.Names)
                {
                    if (maps[name].ChannelGate is { } channel) Of(channels, name, () => new GateStatistics(classes)).Add(channel, labels);
                    if (maps[name].SpatialGate is { } spatial) Of(positions, name, () => new GateStatistics(classes)).Add(spatial, labels);
                    if (maps[name].PairwiseWeights is not null) Of(pairs, name, () => new PairwiseStatistics()).Add(maps[name]);
                }
            }
        }

        report.Heading("What the gates do");
        if (channels.Count + positions.Count > 0)
        {
            report.Gates([.. channels.Select(pair => ($"{pair.Key}, channels", pair.Value)), .. positions.Select(pair => ($"{pair.Key}, positions", pair.Value))]);
            report.Text("Sparsity is 0 and entropy 1 when all values of a gate are alike. A gate whose deviation over samples is near 0 is the same for every image.");
        }

        if (pairs.Count > 0)
        {
            report.Weights([.. pairs.Select(pair => (pair.Key, pair.Value))]);
            report.Text("Entropy is 1 for a head that looks at all positions alike. Distance is in positions of its map.");
        }

        if (channels.Count == 0) return;
        (string last, GateStatistics statistics) = channels.Last();
        using Tensor means = tensor(Enumerable.Range(0, classes).SelectMany(label => statistics.ClassMeans(label)).ToArray(), [classes, statistics.Units]);
        using Picture bars = ChannelBars.Draw(means, [.. subject.Data.Classes], minimum: 0, maximum: Math.Max(1, means.max().item<double>()));
        report.Picture(bars, $"{last}: mean gate of each channel by class. Channels that differ between classes tell them apart.");
    }

    /// <summary>What single positions look at, head by head, and where attention comes from after all layers of one size.</summary>
    public static void Pairs(HtmlReport report, Subject subject)
    {
        using AttentionRecorder maps = AttentionRecorder.Attach(subject.Network);
        int[] images = [.. new[] { 9, 0, 8 }.Select(label => Array.IndexOf(subject.Data.Test.Labels, (byte)label)).Where(image => image >= 0)];
        if (images.Length == 0) return;
        using Tensor input = subject.Images(images);
        using (no_grad())
        {
            subject.Network.call(input).Dispose();
        }

        string[] pairs = [.. maps.CallOrder.Where(name => maps[name] is { PairwiseWeights: not null, QueryGrid: { } queries, KeyGrid: { } keys } && queries == keys)];
        if (pairs.Length == 0) return;
        AttentionMaps shown = maps[pairs[^1]];
        string[] stack = [.. pairs.Where(name => maps[name].KeyGrid == shown.KeyGrid)];
        (int height, int width) = shown.KeyGrid!.Value;
        int heads = (int)shown.PairwiseWeights!.size(1);
        using DisposeScope scope = NewDisposeScope();
        Tensor rollout = PairwiseMaps.RolloutOf(maps, stack).mean([1]).view(-1, height, width);
        List<IReadOnlyList<Picture>> rows = [];
        for (int i = 0; i < images.Length; i++)
        {
            using Picture image = subject.Picture(images[i]);
            (int, int) middle = (height / 2, width / 2), corner = (height - 2, 1);
            List<Picture> row = [HeatMap.Plain(image, Look)];
            for (int head = 0; head < heads; head++) row.Add(HeatMap.Overlay(image, PairwiseMaps.From(shown, i, middle.Item1, middle.Item2, head), Look with { Mark = middle }));
            row.Add(HeatMap.Overlay(image, PairwiseMaps.From(shown, i, corner.Item1, corner.Item2), Look with { Mark = corner }));
            row.Add(HeatMap.Overlay(image, rollout[i], Look with { Legend = true, Colors = ColorMap.Inferno }));
            rows.Add(row);
        }

        Show(report.Heading("What positions look at"), rows, ["image", .. Enumerable.Range(0, heads).Select(head => $"head {head}"), "mean of heads", "rollout"], null,
            $"Self-attention: what the ringed position looks at, head by head, then another position with the mean of all heads. Rollout: what reaches all positions through {stack.Length} layers.");
    }

    private static void Show(HtmlReport report, IReadOnlyList<IReadOnlyList<Picture>> rows, IReadOnlyList<string>? columns, IReadOnlyList<string>? labels, string caption)
    {
        using (Picture grid = PictureGrid.Draw(rows, columns, labels)) report.Picture(grid, caption);
        foreach (Picture picture in rows.SelectMany(row => row)) picture.Dispose();
    }

    private static T Of<T>(Dictionary<string, T> all, string name, Func<T> create) => all.TryGetValue(name, out T? found) ? found : all[name] = create();

    private static string Format(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
