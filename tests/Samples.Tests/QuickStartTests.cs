using System.Text.Json.Nodes;
using Samples.Data;
using TorchSharp;

namespace Samples.Tests;

public sealed class QuickStartTests : IDisposable
{
    private readonly DataFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Help_lists_every_option()
    {
        (int code, string output, string error) = Run("--help");
        Assert.Equal((0, ""), (code, error));
        foreach (string option in new[] { "--epochs", "--data", "--attention", "--seed", "--out", "--quick", "--help" })
        {
            Assert.Contains(option, output);
        }
    }

    [Theory]
    [InlineData("--epochs must be from 1 to 1000", "--epochs", "0")]
    [InlineData("--epochs", "--epochs", "many")]
    [InlineData("--speed", "--speed", "9")]
    [InlineData("--seed", "--seed")]
    [InlineData("There is no attention 'cbma'. Known:", "--attention", "cbma")]
    [InlineData("cbam:kernel=4", "--attention", "se", "--attention", "cbam:kernel=4")]
    [InlineData("exists in stages", "--attention", "se@before-add:5")]
    public void Wrong_options_end_with_2_and_a_message(string message, params string[] args)
    {
        _folder.WithTinyIdx();
        (int code, _, string error) = Run([.. args, "--data", _folder.Root, "--out", _folder.PathOf("out")]);
        Assert.Equal(2, code);
        Assert.Contains(message, error);
        Assert.False(Directory.Exists(_folder.PathOf("out")));
    }

    [Fact]
    public void Missing_data_ends_with_2_and_says_where_to_get_it()
    {
        (int code, _, string error) = Run("--data", _folder.PathOf("nowhere"), "--out", _folder.PathOf("out"));
        Assert.Equal(2, code);
        Assert.Contains(_folder.PathOf("nowhere"), error);
        Assert.Contains("https://github.com/zalandoresearch/fashion-mnist", error);
    }

    [Fact]
    public void An_output_folder_that_cannot_be_made_ends_with_2()
    {
        _folder.WithTinyIdx().Write("out", [1]);
        (int code, _, string error) = Run("--data", _folder.Root, "--out", _folder.PathOf("out"));
        Assert.Equal(2, code);
        Assert.Contains(_folder.PathOf("out"), error);
    }

    [Fact]
    public void A_run_prints_plain_lines_and_saves_results_and_the_best_network()
    {
        long alive = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        (int code, string output, string error) = RunTiny("out", 3, "--attention", "cbam:reduction=8,kernel=3@before-add:3,4", "--attention", "eca@after:1");
        Assert.Equal((0, ""), (code, error));

        // With se or self it would be more: constructors of TorchSharp's convolutions with bias leave a tensor to the finaliser.
        Assert.Equal(alive, DisposeScopeManager.Statistics.ThreadTotalLiveCount);

        Assert.DoesNotContain('\u001b', output);
        Assert.All(output, c => Assert.InRange(c, '\n', '~'));
        Assert.Contains("training cbam:reduction=8,kernel=3@before-add:3,4", output);
        Assert.Contains("epoch 2/2 done, loss ", output);
        Assert.Contains("| variant ", output);
        Assert.Contains("loaded again", output);

        JsonNode results = JsonNode.Parse(File.ReadAllText(_folder.PathOf("out/results.json")))!;
        Assert.Equal(["plain", "cbam:reduction=8,kernel=3@before-add:3,4", "eca@after:1"], Names("results"));
        Assert.Equal(Names("results"), Names("timing"));
        Assert.Equal(3, (int)results["options"]!["seed"]!);
        Assert.Equal(2, results["results"]![1]!["epochs"]!.AsArray().Count);
        Assert.True((double)results["timing"]![1]!["latencyMilliseconds"]! > 0);

        JsonNode best = JsonNode.Parse(File.ReadAllText(_folder.PathOf("out/best.json")))!;
        string[] files = [.. Directory.GetFiles(_folder.PathOf("out")).Select(file => Path.GetFileName(file)!).Order(StringComparer.Ordinal)];
        Assert.Equal(new[] { (string)best["weightsFile"]!, "best.json", "results.json" }.Order(StringComparer.Ordinal), files);
        Assert.Contains((string)best["weightsChecksum"]!, Checksums(results));

        IEnumerable<string> Names(string part) => results[part]!.AsArray().Select(item => (string)item!["name"]!);
    }

    [Fact]
    public void Seeded_runs_repeat_exactly_and_seeds_differ()
    {
        JsonNode first = Repeatable("first", 5), again = Repeatable("again", 5), other = Repeatable("other", 6);
        Assert.Equal(first.ToJsonString(), again.ToJsonString());
        Assert.Empty(Checksums(first).Intersect(Checksums(other)));
        Assert.Equal(2, Checksums(first).Distinct().Count());

        JsonNode Repeatable(string folder, int seed)
        {
            Assert.Equal(0, RunTiny(folder, seed, "--attention", "se:reduction=4").Code);
            JsonNode all = JsonNode.Parse(File.ReadAllText(_folder.PathOf($"{folder}/results.json")))!;
            return new JsonObject { ["results"] = all["results"]!.DeepClone() };
        }
    }

    [Fact]
    public void Live_tensors_do_not_grow_with_the_epochs()
    {
        using DataFolder data = new DataFolder().WithTinyIdx();
        DataSet set = DataSet.Load(data.Root);
        Trainer trainer = new(set, Normalisation.Of(set.Train), seed: 1);
        using TorchSharp.Attention.ResNet network = new(SmallNetworks.ResNet(set, TorchSharp.Attention.AttentionPlan.Parse("cbam:reduction=4")));
        List<long> alive = [];
        trainer.Train(network, 5, _ => { }, (_, _) => alive.Add(DisposeScopeManager.Statistics.ThreadTotalLiveCount), CancellationToken.None);
        Assert.Equal(Enumerable.Repeat(alive[0], 5), alive);
    }

    [Fact]
    public void A_damaged_checkpoint_is_refused()
    {
        Assert.Equal(0, RunTiny("out", 1, "--attention", "eca").Code);
        JsonNode best = JsonNode.Parse(File.ReadAllText(_folder.PathOf("out/best.json")))!;
        string weights = _folder.PathOf("out/" + (string)best["weightsFile"]!);
        byte[] bytes = File.ReadAllBytes(weights);
        bytes[^1] ^= 1;
        File.WriteAllBytes(weights, bytes);
        Assert.Contains("does not hold the weights", Assert.Throws<IOException>(() => Checkpoint.Load(_folder.PathOf("out"))).Message);
    }

    [Fact]
    public void Stopping_ends_with_130_and_saves_nothing()
    {
        using CancellationTokenSource stop = new();
        stop.Cancel();
        _folder.WithTinyIdx();
        (int code, _, string error) = Run(stop.Token, "--data", _folder.Root, "--out", _folder.PathOf("out"));
        Assert.Equal(130, code);
        Assert.Contains("Stopped", error);
        Assert.Empty(Directory.GetFiles(_folder.PathOf("out")));
    }

    private static IEnumerable<string> Checksums(JsonNode results) =>
        results["results"]!.AsArray().Select(result => (string)result!["weightsChecksum"]!);

    private (int Code, string Output, string Error) RunTiny(string folder, int seed, params string[] args)
    {
        _folder.WithTinyIdx();
        return Run([.. args, "--epochs", "2", "--seed", $"{seed}", "--data", _folder.Root, "--out", _folder.PathOf(folder)]);
    }

    private static (int Code, string Output, string Error) Run(params string[] args) => Run(CancellationToken.None, args);

    private static (int Code, string Output, string Error) Run(CancellationToken stop, params string[] args)
    {
        using StringWriter output = new(), error = new();
        int code = QuickStart.Program.Run(args, output, error, live: false, stop);
        return (code, output.ToString(), error.ToString());
    }
}
