namespace TorchSharp.Attention.TestSupport;

public static class LiveTensors
{
    /// <summary>
    /// Tensors that this thread made and nobody disposed. The gradients that the last backward pass of a fused gate handed to libtorch outside a dispose
    /// scope are let go first, as the next training pass would: whose test they were depends on the order of the tests.
    /// </summary>
    public static long OfThread
    {
        get
        {
            GateAutograd.Drop();
            return DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        }
    }
}
