extern alias Runner;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Samples.Tests;

/// <summary>From training to ONNX Runtime alone: samples/Mobile writes files, samples/Mobile.Runner runs them.</summary>
public sealed class MobileTests : IDisposable
{
    private readonly DataFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void What_is_made_runs_without_TorchSharp_and_gives_the_same_classes()
    {
        string[] settings = ["--quick", "--images", "64", "--threads", "1", "--rounds", "1", "--out", _folder.PathOf("out")];
        (int code, string output, string error) = Make(settings);
        Assert.Equal((0, ""), (code, error));
        Assert.Equal(9, Steps().Count);
        Assert.All(Steps(), step => Assert.Equal((string)step!["Form"]! != "eager, not fine-tuned", (double?)step["Milliseconds"] > 0));
        Assert.True((long)Steps()[5]!["MultiplyAccumulates"]! < 0.9 * (long)Steps()[0]!["MultiplyAccumulates"]!);
        Assert.True((long)Steps()[3]!["Bytes"]! < 0.5 * (long)Steps()[2]!["Bytes"]!);
        Assert.Contains("| pruned | ONNX INT8 |", output);

        (code, output, error) = Run(_folder.PathOf("out"), "--rounds", "1");
        Assert.Equal((0, ""), (code, error));
        Assert.Equal(4, Regex.Count(output, "the same class for"));

        // Files by themselves: measured, compared with nothing.
        (code, output, _) = Run("--images", "10", "--rounds", "1", _folder.PathOf("out/pruned.int8.onnx"));
        Assert.Equal(0, code);
        Assert.DoesNotContain("class for", output);
        Assert.Contains("10 test images", output);

        // A file that gives other classes: found out, and told by the exit code.
        JsonNode results = JsonNode.Parse(File.ReadAllText(_folder.PathOf("out/results.json")))!;
        string expected = (string)results["Steps"]![2]!["Expected"]!;
        results["Steps"]![2]!["Expected"] = string.Concat(expected.Select(value => value == '0' ? '1' : '0'));
        Assert.NotEqual(expected, (string)results["Steps"]![2]!["Expected"]!);
        File.WriteAllText(_folder.PathOf("out/results.json"), results.ToJsonString());
        (code, output, _) = Run(_folder.PathOf("out"), "--rounds", "1");
        Assert.Equal(1, code);
        Assert.Contains("ANOTHER CLASS", output);

        // Time again, without training; other settings are not mixed in.
        Assert.Equal(0, Make(["time", .. settings]).Code);
        (code, _, error) = Make(["--quick", "--images", "128", "--out", _folder.PathOf("out")]);
        Assert.Equal(2, code);
        Assert.Contains("was made with other settings (1 epochs of 64 images; wanted: 1 epochs of 128 images)", error);

        // Accuracy against cost: the network itself, and pruned by gates and by norms.
        (code, output, error) = Make(["curve", .. settings]);
        Assert.Equal((0, ""), (code, error));
        string[] rows = [.. output.Split('\n').Where(line => line.StartsWith("| ", StringComparison.Ordinal)).Skip(1).Select(line => line.Split('|')[1].Trim())];
        Assert.Equal(["", "gates", "norms"], rows);
        Assert.Equal((3, 2), (File.ReadAllLines(_folder.PathOf("out/curve-gates.csv")).Length, File.ReadAllLines(_folder.PathOf("out/curve-norms.csv")).Length));

        JsonArray Steps() => JsonNode.Parse(File.ReadAllText(_folder.PathOf("out/results.json")))!["Steps"]!.AsArray();
    }

    [Theory]
    [InlineData("--epochs must be at least 1", "--epochs", "0")]
    [InlineData("--fraction is 1.5; it must lie between 0 and 1", "--fraction", "1.5")]
    [InlineData("--images must be at least 64", "--images", "3")]
    [InlineData("sell", "sell")]
    [InlineData("holds no results; run without 'time' first", "time")]
    public void Wrong_arguments_end_with_2_and_a_message(string message, params string[] args)
    {
        (int code, _, string error) = Make([.. args, "--out", _folder.PathOf("out")]);
        Assert.Equal(2, code);
        Assert.Contains(message, error);
    }

    [Theory]
    [InlineData("No file is given. Mobile.Runner [--images N]")]
    [InlineData("There is no option --speed", "--speed")]
    [InlineData("--images needs a whole number from 1", "--images", "0")]
    [InlineData("--rounds needs a whole number from 1", "x.onnx", "--rounds")]
    [InlineData("nowhere.onnx is neither a file nor a folder", "nowhere.onnx")]
    public void The_runner_refuses_with_2_and_a_message(string message, params string[] args)
    {
        (int code, _, string error) = Run(args);
        Assert.Equal(2, code);
        Assert.Contains(message, error);
    }

    [Fact]
    public void The_runner_names_folders_without_results_and_files_that_are_no_model()
    {
        Directory.CreateDirectory(_folder.PathOf("empty"));
        (int code, _, string error) = Run(_folder.PathOf("empty"));
        Assert.Equal(2, code);
        Assert.Contains("holds no results.json", error);

        _folder.Write("noise.onnx", [1, 2, 3]);
        (code, _, error) = Run(_folder.PathOf("noise.onnx"));
        Assert.Equal(2, code);
        Assert.Contains("noise.onnx", error);
    }

    /// <summary>The lock file has every package and project that the runner brings along, for every system.</summary>
    [Fact]
    public void The_runner_depends_on_ONNX_Runtime_alone()
    {
        JsonNode locked = JsonNode.Parse(Repository.Read("samples", "Mobile.Runner", "packages.lock.json"))!;
        IEnumerable<string> all = locked["dependencies"]!.AsObject().SelectMany(framework => framework.Value!.AsObject().Select(package => package.Key)).Distinct().Order(StringComparer.Ordinal);
        Assert.Equal(["Microsoft.ML.OnnxRuntime", "Microsoft.ML.OnnxRuntime.Managed", "System.Numerics.Tensors"], all);
        Assert.DoesNotContain(typeof(Runner::Mobile.Runner.Program).Assembly.GetReferencedAssemblies(), assembly => assembly.Name!.Contains("Torch", StringComparison.OrdinalIgnoreCase));
    }

    private static (int Code, string Output, string Error) Make(params string[] args)
    {
        using StringWriter output = new(), error = new();
        int code = Mobile.Program.Run(args, output, error);
        return (code, output.ToString(), error.ToString());
    }

    private static (int Code, string Output, string Error) Run(params string[] args)
    {
        using StringWriter output = new(), error = new();
        int code = Runner::Mobile.Runner.Program.Run(args, output, error);
        return (code, output.ToString(), error.ToString());
    }
}
