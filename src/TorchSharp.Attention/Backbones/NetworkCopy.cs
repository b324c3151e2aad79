using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>What every copy of a network needs: one place for its values, and random numbers that do not notice.</summary>
internal static class NetworkCopy
{
    /// <summary>Layers start with random weights, which are overwritten at once: a seeded run must not notice.</summary>
    public static TNetwork Build<TNetwork>(Func<TNetwork> create)
    {
        using RandomStateScope random = new();
        return create();
    }

    /// <summary>The one type and device of a network's values.</summary>
    /// <exception cref="InvalidOperationException">There are several.</exception>
    /// <exception cref="ObjectDisposedException">The network was disposed.</exception>
    public static (ScalarType Type, Device Device) Place(FeatureNetwork source, string purpose)
    {
        if (source is IPlaced { Place.IsDisposed: true })
        {
            throw new ObjectDisposedException(
                source.GetName(),
                $"This {source.GetName()} was disposed, and its parameters with it: nothing is left for {purpose}.");
        }

        Parameter first = source.parameters().First();
        foreach ((string name, Parameter parameter) in source.named_parameters())
        {
            if (parameter.dtype == first.dtype && parameter.device.ToString() == first.device.ToString()) continue;
            throw new InvalidOperationException(
                $"This {source.GetName()} has values of several types or devices: " +
                $"its first parameter is {first.dtype} on {first.device}, '{name}' is " +
                $"{parameter.dtype} on {parameter.device}. Bring all to one with .to(…) before {purpose}.");
        }

        return (first.dtype, first.device);
    }
}
