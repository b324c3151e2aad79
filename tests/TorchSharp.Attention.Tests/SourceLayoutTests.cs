using System.Text.RegularExpressions;

namespace TorchSharp.Attention.Tests;

/// <summary>
/// Types are found in the file of their name. Options, their module and the enums of the options may share the module's file, or the options' own. A type
/// within a type is not counted. A family is a file of small structs that all implement one interface, such as the vector widths.
/// </summary>
public sealed partial class SourceLayoutTests
{
    private const double LargestShare = 0.12;

    /// <summary>The families, below the folder of the kernels, and their interfaces.</summary>
    private static readonly Dictionary<string, string> _families = new()
    {
        ["Engine/MapLayouts.cs"] = "IMapLayout",
        ["Engine/Simd.cs"] = "ISimd",
        ["Engine/Storage.cs"] = "IStorage",
        ["Formulas/CombinationMaps.cs"] = "IElementwise",
        ["Formulas/CombinationReductions.cs"] = "IReduction",
        ["Formulas/Combinations.cs"] = "ICombination",
        ["Formulas/DeferredBatchNormMaps.cs"] = "IElementwise",
        ["Formulas/DeferredBatchNormReductions.cs"] = "IReduction",
        ["Formulas/ElementwiseMaps.cs"] = "IElementwise",
        ["Formulas/GateReductions.cs"] = "IReduction",
        ["Formulas/PooledGradients.cs"] = "IPooled",
        ["Formulas/Poolings.cs"] = "IReduction",
        ["Inference/Places.cs"] = "IPlaces",
    };

    [Fact]
    public void Types_are_found_in_the_file_of_their_name()
    {
        SourceType[] types = [.. Types()];
        string[] elsewhere = [.. types.Where(type => !IsInPlace(type) && FamilyOf(type) is null).Select(type => $"{type.File}: {type.Name}")];
        Assert.True(types.Length > 500);
        Assert.True(elsewhere.Length < LargestShare * types.Length, $"{elsewhere.Length} of {types.Length} types:\n{string.Join('\n', elsewhere)}");
    }

    [Fact]
    public void A_family_holds_structs_of_one_interface_only()
    {
        SourceType[] members = [.. Types().Where(type => FamilyOf(type) is not null)];
        Assert.Equal(_families.Count, members.Select(type => type.File).Distinct().Count());
        Assert.DoesNotContain(members, type => !IsInPlace(type) && type.Name != FamilyOf(type) && !Implements(type, FamilyOf(type)!));
    }

    private static bool IsInPlace(SourceType type)
    {
        string file = Path.GetFileName(type.File).Split('.')[0];
        return type.Name == file || type.Name == $"{file}Options" || (type.Kind == "enum" && type.HasOptions);
    }

    private static string? FamilyOf(SourceType type)
        => _families.FirstOrDefault(family => type.File.EndsWith($"/Kernels/{family.Key}", StringComparison.Ordinal)).Value;

    private static bool Implements(SourceType type, string face)
        => type.Kind == "struct" && Regex.IsMatch(type.Rest, $@": {face}\b");

    private static IEnumerable<SourceType> Types()
    {
        string sources = Path.Combine(Repository.Root, "src");
        foreach (string path in Directory.EnumerateFiles(sources, "*.cs", SearchOption.AllDirectories))
        {
            string file = path[sources.Length..].Replace('\\', '/');
            if (file.Contains("/obj/", StringComparison.Ordinal) || file.Contains("/bin/", StringComparison.Ordinal)) continue;
            Match[] found = [.. Declaration().Matches(File.ReadAllText(path)).Cast<Match>()];
            string stem = Path.GetFileName(file).Split('.')[0], options = stem.EndsWith("Options", StringComparison.Ordinal) ? stem : $"{stem}Options";
            bool hasOptions = found.Any(type => type.Groups["name"].Value == options);
            foreach (Match type in found)
            {
                yield return new(file, type.Groups["kind"].Value, type.Groups["name"].Value, type.Groups["rest"].Value, hasOptions);
            }
        }
    }

    /// <summary>A declaration at the beginning of a line, which those within a type are not.</summary>
    [GeneratedRegex(
        @"^(?:(?:public|internal|file|sealed|static|abstract|readonly|unsafe|partial|ref) )*(?<kind>class|struct|interface|enum|record struct|record) (?<name>\w+)(?<rest>.*)$",
        RegexOptions.Multiline)]
    private static partial Regex Declaration();

    private sealed record SourceType(string File, string Kind, string Name, string Rest, bool HasOptions);
}
