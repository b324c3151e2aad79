namespace TorchSharp.Attention.Tests;

/// <summary>Who turns the kernels off turns them off for a while, however many do so at once.</summary>
public sealed class KernelSwitchTests : IDisposable
{
    private readonly KernelSettings _kernels = KernelSettings.On();

    public void Dispose() => _kernels.Dispose();

    [Fact]
    public void Scopes_count_whatever_the_order_in_which_they_end()
    {
        AttentionKernels.Enabled = true;
        IDisposable first = AttentionKernels.Disable(), second = AttentionKernels.Disable();
        Assert.False(AttentionKernels.Enabled);
        first.Dispose();
        first.Dispose();
        Assert.False(AttentionKernels.Enabled);
        AttentionKernels.Enabled = true;
        Assert.False(AttentionKernels.Enabled);
        second.Dispose();
        Assert.True(AttentionKernels.Enabled);
        AttentionKernels.Enabled = false;
        AttentionKernels.Disable().Dispose();
        Assert.False(AttentionKernels.Enabled);
    }

    [Fact]
    public void Measuring_and_inserting_in_several_threads_leave_the_kernels_on()
    {
        AttentionKernels.Enabled = true;
        for (int round = 0; round < 4; round++)
        {
            Thread[] threads = [.. Enumerable.Range(0, 3).Select(index => new Thread(() =>
            {
                using Modules.Sequential network = nn.Sequential(("conv", nn.Conv2d(3, 8, 3)), ("attention", new SqueezeExcitation(8, new() { ReducedChannels = 4 })), ("relu", nn.ReLU()));
                ModelCost.Measure(network, 1, 3, 10 + index, 10);
                using InsertionHandle handle = network.InsertAttention(InsertionPlan.After("conv", new EfficientChannelAttentionOptions()), randn(1, 3, 10, 10));
            }))];
            foreach (Thread thread in threads) thread.Start();
            foreach (Thread thread in threads) thread.Join();
            Assert.True(AttentionKernels.Enabled);
        }
    }
}
