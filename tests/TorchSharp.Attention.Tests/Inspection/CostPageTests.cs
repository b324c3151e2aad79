namespace TorchSharp.Attention.Tests;

/// <summary>The C# of docs/cost.md is compiled and run here, and the page must show exactly what is.</summary>
public sealed class CostPageTests
{
    [Fact]
    public void The_page_shows_what_runs_here() => DocSnippets.AreShown("docs/cost.md");

    [Fact]
    public void The_snippet_of_the_page_runs()
    {
        using ResNet network = ResNet.ResNet18(attention: AttentionPlan.Of(SqueezeExcitationOptions.Timm));

        // begin cost
        ModelCost cost = ModelCost.Measure(network, 1, 3, 224, 224);             // one pass in evaluation mode; the network stays as it was
        Console.WriteLine(cost.ToTree(depth: 2));                                // also ToTable, ToCsv, ToJson
        long strict = cost.MultiplyAccumulates, thop = cost.Total.Operations(CostConvention.Thop);
        double share = cost.AttentionShare.MultiplyAccumulates;                  // attention's part of the whole, from 0 to 1
        ModuleCost gate = cost["layer4.1.attn"];                                 // any module, the modules below it included
        ModelCost timed = ModelCost.Measure(network, new CostOptions { Repetitions = 20 }, 1, 3, 224, 224);
        double? milliseconds = timed["layer4.1.attn"].Milliseconds;              // median of 20 passes, after warming up
        // end cost
        Assert.True(thop > strict && strict > 1_814_073_344);
        Assert.InRange(share, 0.00001, 0.01);
        Assert.Equal(2 * 512 * 32, gate.MultiplyAccumulates);
        Assert.True(milliseconds > 0 && milliseconds < timed.Total.Milliseconds);
    }
}
