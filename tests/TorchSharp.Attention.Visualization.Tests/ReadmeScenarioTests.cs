using System.Buffers.Binary;
using System.IO.Compression;
using System.Text.RegularExpressions;

namespace TorchSharp.Attention.Visualization.Tests;

/// <summary>
/// The README's way from a network without attention to a report, compiled and run on the shipped images; the README must show exactly what
/// is here.
/// </summary>
public sealed class ReadmeScenarioTests : IDisposable
{
    private const int BatchSize = 64, Batches = 40;

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void From_a_network_to_a_report()
    {
        using DisposeScope everything = NewDisposeScope();
        manual_seed(1);
        (Tensor all, Tensor classes) = Images();
        (Tensor, Tensor)[] batches = [.. Enumerable.Range(0, Batches).Select(i => (all.narrow(0, i * BatchSize % 1900, BatchSize), classes.narrow(0, i * BatchSize % 1900, BatchSize)))];
        long[] known = classes.data<long>().ToArray();
        Tensor samples = all.index_select(0, tensor(Enumerable.Range(0, 10).Select(label => (long)Array.IndexOf(known, label)).ToArray()));
        string path = _folder.PathOf("report.html");
        manual_seed(2);
        using SmallNet first = new();
        Tensor before = Evaluated(first, samples);

        // begin scenario
        using SmallNet network = new(), plain = new();
        network.InsertAttention(InsertionPlan.After("stage1", new CbamOptions { Reduction = 4 }).AddAfter("stage2", new CbamOptions()), samples);
        using optim.Optimizer optimizer = optim.AdamW(network.parameters(), lr: 3e-3);
        using GateMonitor monitor = GateMonitor.Attach(network, new GateMonitorOptions { Every = 5, Log = Console.WriteLine });
        List<double> losses = [];
        foreach ((Tensor images, Tensor labels) in batches)
        {
            using DisposeScope scope = NewDisposeScope();
            optimizer.zero_grad();
            Tensor loss = nn.functional.cross_entropy(network.call(images), labels);
            loss.backward();
            optimizer.step();
            monitor.Step();
            losses.Add(loss.item<float>());
        }

        new HtmlReport("My network with CBAM")
            .Cost([("plain", ModelCost.Measure(plain, 1, 1, 28, 28)), ("with CBAM", ModelCost.Measure(network, 1, 1, 28, 28))])
            .Curves("loss", "step", [("training", losses)])
            .GateHistory(monitor)
            .Overlays(network, samples, layer: "stage2")
            .Save(path);
        // end scenario
        Assert.True(losses[^1] < 0.8 * losses[0], $"{losses[0]} to {losses[^1]}");
        Assert.Equal(Batches / 5, monitor.Readings.Select(reading => reading.Step).Distinct().Count());
        Assert.Equal(["stage1_attn", "stage2_attn"], monitor.Names);
        string html = File.ReadAllText(path);
        Assert.Contains("with CBAM", html, StringComparison.Ordinal);
        using Picture overlays = Picture.Decode(Convert.FromBase64String(Regex.Match(html, "base64,([^\"]+)").Groups[1].Value));
        Assert.InRange(overlays.Width, 4 * 148, 5 * 220);
        Assert.InRange(overlays.Height, 10 * 148, 12 * 160);
        if (Environment.GetEnvironmentVariable("TORCHSHARP_ATTENTION_KEEP_REPORT") is { Length: > 0 } keep) File.Copy(path, keep, overwrite: true);

        // As it was before the insertion, to the last bit.
        manual_seed(2);
        using SmallNet again = new();
        again.InsertAttention(InsertionPlan.After("stage1", new CbamOptions { Reduction = 4 }).AddAfter("stage2", new CbamOptions()), samples);
        Assert.Equal(before.data<float>().ToArray(), Evaluated(again, samples).data<float>().ToArray());
    }

    [Fact]
    public void The_readme_shows_it_in_fewer_than_thirty_lines()
    {
        Dictionary<string, string> run = DocSnippets.InFile(), shown = DocSnippets.InPage("README.md");
        string[] names = ["network", "scenario"];
        Assert.Equal(names, run.Keys.Order());
        Assert.All(names, name => Assert.Equal(run[name], shown[name]));
        int lines = names.Sum(name => shown[name].Split('\n').Count(line => line.Trim().Trim('{', '}').Length > 0));
        Assert.InRange(lines, 1, 29);
    }

    /// <summary>The shipped test images of Fashion-MNIST, 0 to 1, and their classes.</summary>
    private static (Tensor Images, Tensor Classes) Images()
    {
        string folder = Repository.PathOf("samples", "data", "fashion-mnist");
        byte[] images = Unpacked("t10k-images-idx3-ubyte.gz"), classes = Unpacked("t10k-labels-idx1-ubyte.gz");
        int count = BinaryPrimitives.ReadInt32BigEndian(images.AsSpan(4));
        Tensor pixels = tensor(images[16..], [count, 1, 28, 28]).to_type(ScalarType.Float32).div((Scalar)255f);
        return (pixels, tensor(classes[8..]).to_type(ScalarType.Int64));

        byte[] Unpacked(string name)
        {
            using GZipStream file = new(File.OpenRead(Path.Combine(folder, name)), CompressionMode.Decompress);
            using MemoryStream bytes = new();
            file.CopyTo(bytes);
            return bytes.ToArray();
        }
    }

    private static Tensor Evaluated(SmallNet network, Tensor images)
    {
        using IDisposable quiet = no_grad();
        network.eval();
        return network.call(images);
    }
}

// begin network
internal sealed class SmallNet : nn.Module<Tensor, Tensor>   // a network of yours, without anything of this library
{
    private readonly nn.Module<Tensor, Tensor> stage1 = Stage(1, 32), stage2 = Stage(32, 64), head = nn.Linear(64, 10);

    public SmallNet() : base(nameof(SmallNet)) => RegisterComponents();

    public override Tensor forward(Tensor x) => head.call(stage2.call(stage1.call(x)).mean([2, 3]));

    private static nn.Module<Tensor, Tensor> Stage(int input, int output)
        => nn.Sequential(nn.Conv2d(input, output, 3, stride: 2, padding: 1), nn.BatchNorm2d(output), nn.ReLU());
}
// end network
