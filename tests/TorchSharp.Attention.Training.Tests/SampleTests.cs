using AblationSample;

namespace TorchSharp.Attention.Training.Tests;

/// <summary>The sample's short form, and that a second start finds its work done.</summary>
public sealed class SampleTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void The_short_form_runs_and_a_second_start_runs_nothing_again()
    {
        (int code, string output) = Start("--quick", "--seeds", "1", "--images", "64", "--out", _folder.Root);
        Assert.Equal(0, code);
        Assert.Contains("4/4 se:reduction=8, seed 1: ", output, StringComparison.Ordinal);
        Assert.Contains("one seed says nothing", output, StringComparison.Ordinal);
        Assert.All(["front.svg", "front.png"], name => Assert.True(new FileInfo(_folder.PathOf(name)).Length > 1000, name));

        (code, string again) = Start("--quick", "--seeds", "1", "--images", "64", "--out", _folder.Root);
        Assert.Equal(0, code);
        Assert.DoesNotContain("4/4", again, StringComparison.Ordinal);

        (code, string refused) = Start("--quick", "--seeds", "1", "--images", "128", "--out", _folder.Root);
        Assert.Equal(2, code);
        Assert.Contains("Take another folder", refused, StringComparison.Ordinal);
        Assert.Equal(2, Start("--seeds", "0").Code);
    }

    private static (int Code, string Output) Start(params string[] args)
    {
        using StringWriter output = new();
        int code = Program.Run(args, output, output);
        return (code, output.ToString());
    }
}
