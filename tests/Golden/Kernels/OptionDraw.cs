using System.Reflection;

namespace TorchSharp.Attention.Golden;

/// <summary>Random settings of any kind of attention in the catalog. What is drawn depends on the generator alone.</summary>
internal static class OptionDraw
{
    private const int Attempts = 40;

    /// <summary>Kinds whose inference goes through one parallel call: they are drawn most.</summary>
    private static readonly string[] Grouped = ["cbam", "channel", "lcbam", "spatial", "spatial"];

    /// <summary>Kinds with kernels of another form.</summary>
    private static readonly string[] Fused =
    [
        "se", "eca", "ese", "bam", "scse", "coord", "ela", "scoord", "strip", "triplet", "simam", "psa", "gct", "srm", "ge",
    ];

    /// <summary>A kind of attention. Kinds that the library gains later are drawn with those that have no kernels.</summary>
    public static string Kind(Random random)
    {
        IReadOnlyList<string> kinds = AttentionCatalog.Kinds;
        return random.NextDouble() switch
        {
            < 0.5 => random.Pick(Grouped),
            < 0.87 => random.Pick(Fused),
            _ => kinds[random.Next(kinds.Count)],
        };
    }

    /// <summary>A kind out of those that refine a map without a second input.</summary>
    public static string RefiningKind(Random random)
    {
        while (true)
        {
            string kind = Kind(random);
            if (AttentionCatalog.Create(kind) is not (GuidedAttentionOptions or BranchAttentionOptions)) return kind;
        }
    }

    /// <summary>Settings of a kind that are valid for a map.</summary>
    /// <param name="random">The generator.</param>
    /// <param name="kind">The kind.</param>
    /// <param name="channels">All numbers of channels that the settings must go with.</param>
    /// <param name="height">Height of the map; settings that name a fixed size get it. 0 where maps of several sizes come.</param>
    /// <param name="width">Width of the map.</param>
    /// <returns>The settings; null where none of those drawn was valid.</returns>
    public static AttentionOptions? Draw(Random random, string kind, IReadOnlyList<int> channels, int height, int width)
    {
        for (int attempt = 0; attempt < Attempts; attempt++)
        {
            AttentionOptions options = AttentionCatalog.Create(kind);
            double changed = attempt < Attempts / 2 ? 0.45 : 0.2;
            foreach (PropertyInfo property in options.GetType().GetProperties().OrderBy(one => one.Name, StringComparer.Ordinal))
            {
                if (property.SetMethod is null || property.GetIndexParameters().Length > 0) continue;
                if (Fixed(property.Name, height, width) is { } size) property.SetValue(options, size);
                else if (random.NextDouble() < changed && Value(random, property, channels[0]) is { } value) property.SetValue(options, value);
            }

            if (height == 0 && options is BottleneckAttentionOptions or GatherExciteOptions { MapHeight: not null } or GatherExciteOptions { MapWidth: not null }) continue;
            if (channels.All(count => IsValid(options, count))) return options;
        }

        return null;
    }

    private static bool IsValid(AttentionOptions options, int channels)
    {
        try
        {
            if (options is GuidedAttentionOptions guided) guided.Validate(channels, Math.Max(1, channels / 2));
            else options.Validate(channels);
            return true;
        }
        catch (ArgumentException)
        {
            return false;
        }
    }

    private static object? Fixed(string name, int height, int width) => height == 0 ? null : name switch
    {
        "FeatureHeight" => height,
        "FeatureWidth" => width,
        _ => null,
    };

    /// <summary>A value of a property; null to leave its default.</summary>
    private static object? Value(Random random, PropertyInfo property, int channels)
    {
        Type type = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
        if (type == typeof(bool)) return random.Next(2) == 0;
        if (type.IsEnum) return Enum.GetValues(type).GetValue(random.Next(Enum.GetValues(type).Length));
        if (type == typeof(int)) return Number(random, property.Name, channels);
        if (type == typeof(double)) return RealNumber(random, property.Name);
        if (type == typeof(ValueList<int>)) return property.Name == "KernelSizes" ? random.Pick<ValueList<int>>([3, 3], [1, 3, 5], [3, 5], [7]) : null;
        return null;
    }

    private static object? Number(Random random, string name, int channels) => name switch
    {
        "Reduction" => random.Pick(1, 2, 3, 4, 8, 16, 32),
        "ReducedChannels" => random.Next(1, Math.Min(channels, 48) + 1),
        "RoundingDivisor" => random.Pick(1, 2, 4, 8),
        "KernelSize" or "DilatedKernelSize" => random.Pick(1, 3, 5, 7, 9),
        "Dilation" => random.Next(1, 4),
        "DilatedConvolutions" => random.Next(0, 4),
        "Extent" => random.Pick(0, 2, 4, 6),
        "HaloSize" or "Shift" => random.Next(0, 4),
        "Recurrence" => random.Next(1, 3),
        "MapHeight" or "MapWidth" => null,
        _ => random.Pick(1, 2, 3, 4, 5, 8),
    };

    /// <summary>Dropouts stay zero: two runs would draw differently.</summary>
    private static object? RealNumber(Random random, string name) => name switch
    {
        "Gamma" or "Beta" => random.Pick(1.0, 2.0, 3.0),
        "Temperature" => random.Pick(0.3, 1.0, 2.0),
        "Lambda" => random.Pick(1e-4, 1e-2, 0.3),
        _ when name.EndsWith("Momentum", StringComparison.Ordinal) => random.Pick(0.01, 0.1, 0.3, 1.0),
        _ when name.EndsWith("Epsilon", StringComparison.Ordinal) => random.Pick(1e-5, 1e-3),
        _ => null,
    };
}
