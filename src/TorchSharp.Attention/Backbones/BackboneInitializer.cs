using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// How a backbone's own weights start, as torchvision's; attention modules start as their options say and are left alone.
/// </summary>
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

    /// <summary>Weights of convolutions and linear layers normal around 0, their biases zero. Norms are left alone.</summary>
    /// <param name="network">The network.</param>
    /// <param name="std">Standard deviation of the weights.</param>
    public static void ResetNormal(nn.Module network, double std)
    {
        using IDisposable quiet = no_grad();
        foreach (nn.Module module in Own(network))
        {
            (Tensor? weight, Tensor? bias) = module switch
            {
                Conv2d conv => (conv.weight, conv.bias),
                Linear linear => (linear.weight, linear.bias),
                _ => default((Tensor?, Tensor?)),
            };
            if (weight is null) continue;
            nn.init.normal_(weight, 0, std);
            AttentionWeightsInitializer.Zero(bias);
        }

        IdentityStart.Keep(network);
    }

    /// <summary>Weights of linear layers uniform in ±1/√(outputs), their biases zero: torchvision's EfficientNet.</summary>
    public static void ResetClassifier(Linear classifier)
    {
        using IDisposable quiet = no_grad();
        double bound = 1 / Math.Sqrt(classifier.weight!.size(0));
        nn.init.uniform_(classifier.weight!, -bound, bound);
        AttentionWeightsInitializer.Zero(classifier.bias);
    }

    /// <summary>The modules of a network outside its attentions.</summary>
    private static IEnumerable<nn.Module> Own(nn.Module module)
        => module is IAttentionModule ? [] : module.children().SelectMany(Own).Prepend(module);

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
                NormCalls.Start(norm);
                return;
            case Linear linear when classifierStd is double std:
                nn.init.normal_(linear.weight!, 0, std);
                AttentionWeightsInitializer.Zero(linear.bias);
                return;
        }

        foreach (nn.Module child in module.children()) Visit(child, classifierStd);
    }
}
