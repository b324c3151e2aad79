using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace TorchSharp.Attention.Visualization.Tests;

/// <summary>Maps of pairwise weights against loops, and what a report holds.</summary>
public sealed class PairwiseAndReportTests
{
    [Theory]
    [InlineData(0.5)]
    [InlineData(0.0)]
    public void Rollout_is_the_product_of_the_layers(double residual)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor[] layers = [.. Enumerable.Range(0, 3).Select(_ => randn(2, 4, 5, 5, dtype: ScalarType.Float64).softmax(-1))];
        double[] rollout = PairwiseMaps.Rollout(layers, residual).data<double>().ToArray();
        for (int n = 0; n < 2; n++)
        {
            double[,] product = new double[5, 5];
            for (int i = 0; i < 5; i++) product[i, i] = 1;
            foreach (Tensor layer in layers)
            {
                double[,] next = new double[5, 5];
                for (int i = 0; i < 5; i++)
                {
                    for (int k = 0; k < 5; k++)
                    {
                        double mean = Enumerable.Range(0, 4).Average(head => layer[n, head, i, k].item<double>());
                        double mixed = ((1 - residual) * mean) + (i == k ? residual : 0);
                        for (int j = 0; j < 5; j++) next[i, j] += mixed * product[k, j];
                    }
                }

                product = next;
            }

            for (int i = 0; i < 25; i++) Assert.Equal(product[i / 5, i % 5], rollout[(25 * n) + i], 1e-12);
        }
    }

    /// <summary>A network that registers its attentions from the last to the first: rollout takes them as they were called.</summary>
    [Fact]
    public void Rollout_follows_the_calls_and_not_the_registration()
    {
        using DisposeScope scope = NewDisposeScope();
        using Backwards network = new();
        using AttentionRecorder maps = AttentionRecorder.Attach(network);
        network.call(randn(2, 8, 3, 4));
        Assert.Equal(["last", "pooled", "first"], maps.Names);
        Tensor first = maps["first"].PairwiseWeights!, last = maps["last"].PairwiseWeights!;
        double[] called = PairwiseMaps.Rollout([first, last]).data<float>().Select(value => (double)value).ToArray();
        double[] registered = PairwiseMaps.Rollout([last, first]).data<float>().Select(value => (double)value).ToArray();
        double[] recorded = PairwiseMaps.RolloutOf(maps, ["last", "first"]).data<float>().Select(value => (double)value).ToArray();
        Assert.Equal(called, recorded);
        Assert.True(called.Zip(registered).Max(pair => Math.Abs(pair.First - pair.Second)) > 1e-3);

        Assert.Contains("first 3 × 4", Assert.Throws<ArgumentException>(() => PairwiseMaps.RolloutOf(maps)).Message, StringComparison.Ordinal);
        Assert.Throws<KeyNotFoundException>(() => PairwiseMaps.RolloutOf(maps, ["none"]));
        maps.Clear();
        Assert.Contains("No recorded module", Assert.Throws<ArgumentException>(() => PairwiseMaps.RolloutOf(maps)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_positions_row_becomes_a_map()
    {
        using DisposeScope scope = NewDisposeScope();
        using SelfAttention2d attention = new(8, new SelfAttention2dOptions { Heads = 2 });
        using AttentionRecorder recorder = AttentionRecorder.Attach(attention);
        attention.call(randn(2, 8, 3, 4));
        AttentionMaps maps = recorder[""];
        Tensor mean = PairwiseMaps.From(maps, 1, 2, 1), head = PairwiseMaps.From(maps, 1, 2, 1, head: 1);
        Assert.Equal([3, 4], mean.shape);
        for (int key = 0; key < 12; key++)
        {
            float first = maps.PairwiseWeights![1, 0, 9, key].item<float>(), second = maps.PairwiseWeights[1, 1, 9, key].item<float>();
            Assert.Equal(second, head[key / 4, key % 4].item<float>());
            Assert.Equal((first + second) / 2, mean[key / 4, key % 4].item<float>(), 1e-6f);
        }

        Assert.Contains("0 to 2", Assert.Throws<ArgumentOutOfRangeException>(() => PairwiseMaps.From(maps, 0, 3, 0)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => PairwiseMaps.From(maps, 0, 0, 0, head: 2));
        Assert.Throws<ArgumentException>(() => PairwiseMaps.Rollout([maps.PairwiseWeights!, zeros(2, 2, 4, 4)]));
        using Cbam cbam = new(8, new CbamOptions { Reduction = 2 });
        using AttentionRecorder gates = AttentionRecorder.Attach(cbam);
        cbam.call(randn(1, 8, 4, 4));
        Assert.Contains("Channel, Spatial", Assert.Throws<ArgumentException>(() => PairwiseMaps.From(gates[""], 0, 0, 0)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_report_is_one_file_that_needs_nothing_else()
    {
        using DisposeScope scope = NewDisposeScope();
        using Picture picture = HeatMap.Draw(rand(4, 4));
        GateStatistics gate = new();
        gate.Add(tensor(new float[] { 0, 1, 0.5f, 0.5f }, [1, 4]));
        PairwiseStatistics weights = new();
        weights.Add(full([1, 2, 4, 4], 0.25f), (2, 2));
        using Modules.Linear plain = nn.Linear(99, 10), wider = nn.Linear(109, 10);
        string html = new HtmlReport("A <report>")
            .Heading("Cost & more").Text("1 < 2")
            .Cost([("plain", ModelCost.Measure(plain, 1, 99)), ("wider", ModelCost.Measure(wider, 1, 109))])
            .Gates([("layer1.0.attn", gate)]).Weights([("self", weights)])
            .Picture(picture, "a \"map\"")
            .Curves("loss", "epoch", [("train", [3.0, 2.0, 1.0]), ("test", [2.5, double.NaN, 2.0])])
            .ToHtml();
        Assert.Contains("<title>A &lt;report&gt;</title>", html, StringComparison.Ordinal);
        Assert.Contains("Cost &amp; more", html, StringComparison.Ordinal);
        Assert.Contains("<td>1,100</td><td>+10.00 %</td><td>1,090</td><td>+10.10 %</td>", html, StringComparison.Ordinal);
        Assert.Contains("<td>25.0 %</td><td>25.0 %</td>", html, StringComparison.Ordinal);
        Assert.Contains("<td>self</td><td>0</td><td>1.000</td><td>0.250</td><td>0.854</td>", html, StringComparison.Ordinal);
        string data = Regex.Match(html, "src=\"data:image/png;base64,([^\"]+)\"").Groups[1].Value;
        using Picture read = Picture.Decode(Convert.FromBase64String(data));
        Assert.Equal(picture.Pixels(), read.Pixels());

        // What is not counted is said, not left out silently.
        using TinyNetwork own = new();
        string partly = new HtmlReport("partly").Cost([("own", ModelCost.Measure(own, 1, 1, 2, 3))]).ToHtml();
        Assert.Contains("own: of TinyNetwork only the modules inside are counted", partly, StringComparison.Ordinal);
        Assert.DoesNotContain("not counted", html, StringComparison.Ordinal);

        // Nothing is fetched: the only addresses are names of formats.
        Assert.DoesNotMatch("(src|href)=\"(?!data:)", html);
        Assert.DoesNotMatch("@import|url\\(|<script|<link", html);
    }

    [Fact]
    public void Curves_stand_where_their_values_are()
    {
        string svg = CurveChart.Svg("loss", "epoch", [("a & b", [0.0, 5.0, 10.0]), ("gap", [10.0, double.NaN, 0.0])]);
        XElement root = XDocument.Parse(svg).Root!;
        string[] paths = [.. root.Elements().Where(e => e.Name.LocalName == "path" && (string?)e.Attribute("fill") == "none").Select(e => (string)e.Attribute("d")!)];
        Assert.Equal(["M56.0 240.0L273.0 135.0L490.0 30.0", "M56.0 30.0M490.0 240.0"], paths);
        Assert.Contains(root.Elements(), e => e.Value == "a & b");
        Assert.Equal(["0", "2", "4", "6", "8", "10"], root.Elements().Where(e => (string?)e.Attribute("text-anchor") == "end").Select(e => e.Value));
        Assert.Throws<ArgumentException>(() => CurveChart.Svg("loss", "epoch", [("a", [double.NaN])]));
        foreach (double[] values in new double[][] { [1e17], [1, 1 + double.Epsilon, 1.0000000000000002], [0.5], [-3e8, -3e8], [0], [1e-200, 2e-200], [-1e299, 1e299], [double.MaxValue, 1] })
        {
            XElement chart = XDocument.Parse(CurveChart.Svg("loss", "epoch", [("a", values)])).Root!;
            Assert.InRange(chart.Elements().Count(e => (string?)e.Attribute("text-anchor") == "end"), 2, 8);
            Assert.DoesNotContain("NaN", chart.ToString(), StringComparison.Ordinal);
        }

        Assert.Equal([1, 2, 5, 10, 0.2], [CurveChart.Step(5, 5), CurveChart.Step(9, 5), CurveChart.Step(11, 5), CurveChart.Step(30, 5), CurveChart.Step(0.9, 5)]);
    }

    [Fact]
    public void What_was_watched_is_in_the_report()
    {
        using DisposeScope scope = NewDisposeScope();
        using Cbam gate = new(8, new CbamOptions { Reduction = 2, KernelSize = 3, Initialization = AttentionInitialization.Identity });
        using GateMonitor monitor = GateMonitor.Attach(gate, new GateMonitorOptions { Every = 5, Patience = 1 });
        Assert.Contains("not looked", new HtmlReport("r").GateHistory(monitor).ToHtml(), StringComparison.Ordinal);
        for (int i = 0; i < 10; i++)
        {
            gate.call(randn(2, 8, 4, 4));
            monitor.Step();
        }

        string html = new HtmlReport("r").GateHistory(monitor).ToHtml();
        Assert.Contains("mean of the gates", html, StringComparison.Ordinal);
        Assert.Contains(">attention channel<", html, StringComparison.Ordinal);
        Assert.Contains("text-anchor=\"middle\">5</text>", html, StringComparison.Ordinal);
        Assert.Contains("text-anchor=\"middle\">10</text>", html, StringComparison.Ordinal);
        Assert.DoesNotContain("entropy of the weights", html, StringComparison.Ordinal);
        Assert.Contains("<td>attention spatial: Identity</td><td>5</td>", html, StringComparison.Ordinal);
        Assert.Contains("<p>Identity. The gate started as the identity", html, StringComparison.Ordinal);
    }

    private sealed class Backwards : nn.Module<Tensor, Tensor>
    {
        private readonly SelfAttention2d last = new(8, new SelfAttention2dOptions { Heads = 2 }), pooled = new(8, new SelfAttention2dOptions { Heads = 2 });
        private readonly SelfAttention2d first = new(8, new SelfAttention2dOptions { Heads = 2 });

        public Backwards()
            : base(nameof(Backwards)) => RegisterComponents();

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            return pooled.call(nn.functional.avg_pool2d(last.call(first.call(input)), 2)).MoveToOuterDisposeScope();
        }
    }
}
