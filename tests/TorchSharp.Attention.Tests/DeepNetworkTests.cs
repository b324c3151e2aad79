using TorchSharp.Attention.Golden;

namespace TorchSharp.Attention.Tests;

/// <summary>
/// A deep network in training, with small batches: a gradient that the kernels and the composed operations compute differently is one that float64
/// does not know better than by that difference.
/// </summary>
public class DeepNetworkTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("channel@before-add", 67, 40)]
    [InlineData("srm@after-depthwise", 46, 33)]
    public void Gradients_are_off_by_no_more_than_float64_moves(string plan, int height, int width)
    {
        for (int draw = 0; draw < 6; draw++)
        {
            MobileNetV2Options options = new() { WidthMultiplier = 0.5, Classes = 5, Dropout = 0, Attention = AttentionPlan.Parse(plan) };
            NetworkTrial trial = new(
                Seed: 0, Number: 0, Threads: 1, TeamKind.Whole, KernelThresholds.Own, draw, "MobileNetV2", options, Fuses: false, Training: true, Batch: 4, height, width, MapPlace.Planes);
            IReadOnlyList<(string Name, double Composed, double Fused, double Moved)> all = KernelJudge.Distances(trial);
            foreach ((string name, double composed, double fused, double moved) in all.OrderByDescending(one => one.Fused / (one.Composed + 1e-6)).Take(3))
            {
                output.WriteLine($"{plan}, draw {draw}, {name}: {composed:0.0e0} composed, {fused:0.0e0} fused, {moved:0.0e0} moved");
            }

            foreach ((string name, double composed, double fused, double moved) in all)
            {
                Assert.True(fused <= 2e-3 + (10 * composed) + (4 * moved), $"draw {draw}, {name}: {composed} composed, {fused} fused, {moved} moved");
            }
        }
    }
}
