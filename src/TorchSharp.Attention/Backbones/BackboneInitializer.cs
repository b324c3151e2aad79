using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>How a backbone's own weights start, as torchvision's; attention modules start as their options say and are left alone.</summary>
internal static class BackboneInitializer
{
    /// <summary>Convolutions Kaiming normal (fan-out), their biases zero, group norms one and zero.</summary>
    /// <param name="network">The network.</param>
    /// <param name="classifierStd">Standard deviation of linear weights, biases zero; null leaves PyTorch's start.</param>
    public static void Reset(nn.Module network, double? classifierStd = null)
    {
        using IDisposable quiet = no_grad();
        Visit(network, classifierStd);
        IdentityStart.Keep(network);
    }

    private static void Visit(nn.Module module, double? classifierStd)
    {
        switch (module)
        {
            case IAttentionModule:
                return;
            case Conv2d conv:
                AttentionWeightsInitializer.Kaiming(conv.weight!);
                AttentionWeightsInitializer.Zero(conv.bias);
                return;
            case GroupNorm norm:
                // TorchSharp leaves these two uninitialised.
                nn.init.ones_(norm.weight);
                AttentionWeightsInitializer.Zero(norm.bias);
                return;
            case Linear linear when classifierStd is double std:
                nn.init.normal_(linear.weight!, 0, std);
                AttentionWeightsInitializer.Zero(linear.bias);
                return;
        }

        foreach (nn.Module child in module.children()) Visit(child, classifierStd);
    }
}
