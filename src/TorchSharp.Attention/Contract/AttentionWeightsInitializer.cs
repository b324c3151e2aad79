using static TorchSharp.torch;

namespace TorchSharp.Attention;

internal static class AttentionWeightsInitializer
{
    /// <summary>
    /// Starts every convolution, linear and norm layer below a module afresh; attentions inside it do so by
    /// themselves, as their own options say.
    /// </summary>
    public static void Reset(nn.Module module, AttentionInitialization initialization, Action paper)
    {
        using IDisposable quiet = no_grad();
        foreach (nn.Module child in module.children()) Visit(child, initialization);
        if (initialization == AttentionInitialization.Paper) paper();
    }

    private static void Visit(nn.Module module, AttentionInitialization initialization)
    {
        switch (module)
        {
            case IAttentionModule attention:
                attention.ResetParameters();
                return;
            case Modules.Conv2d conv:
                Fill(conv.weight!, conv.bias, initialization);
                return;
            case Modules.Conv1d conv:
                Fill(conv.weight!, conv.bias, initialization);
                return;
            case Modules.Conv3d conv:
                Fill(conv.weight!, conv.bias, initialization);
                return;
            case Modules.Linear linear:
                Fill(linear.weight!, linear.bias, initialization);
                return;
            case Modules.GroupNorm norm:
                NormCalls.Start(norm);
                return;
            case Modules.BatchNorm2d norm:
                norm.reset_running_stats();
                if (norm.weight is not null) nn.init.ones_(norm.weight);
                Zero(norm.bias);
                return;
            case Modules.LayerNorm norm:
                if (norm.weight is not null) nn.init.ones_(norm.weight);
                Zero(norm.bias);
                return;
        }

        foreach (nn.Module child in module.children()) Visit(child, initialization);
    }

    /// <summary>A layer's weight and bias; a paper's own start comes afterwards.</summary>
    public static void Fill(Tensor weight, Tensor? bias, AttentionInitialization initialization)
    {
        switch (initialization)
        {
            case AttentionInitialization.Kaiming:
                Kaiming(weight);
                Zero(bias);
                break;
            case AttentionInitialization.Xavier:
                nn.init.xavier_uniform_(weight);
                Zero(bias);
                break;
            default:
                (long fanIn, _) = nn.init.CalculateFanInAndFanOut(weight);
                double bound = 1 / Math.Sqrt(fanIn);
                nn.init.uniform_(weight, -bound, bound);
                if (bias is not null) nn.init.uniform_(bias, -bound, bound);
                break;
        }
    }

    public static void Kaiming(Tensor weight)
        => nn.init.kaiming_normal_(weight, mode: nn.init.FanInOut.FanOut, nonlinearity: nn.init.NonlinearityType.ReLU);

    public static void Zero(Tensor? tensor)
    {
        if (tensor is not null) nn.init.zeros_(tensor);
    }
}
