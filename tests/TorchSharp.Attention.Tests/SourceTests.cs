using System.Text.RegularExpressions;

namespace TorchSharp.Attention.Tests;

/// <summary>What the compiler cannot forbid in the sources of the packages.</summary>
public sealed partial class SourceTests
{
    [Fact]
    public void No_sum_makes_a_scalar_that_the_finaliser_may_free()
    {
        string sources = Path.Combine(ReadmeTests.RepositoryRoot(), "src");
        string[] files = [.. Directory.EnumerateFiles(sources, "*.cs", SearchOption.AllDirectories).Where(file => !file.Contains($"{Path.DirectorySeparatorChar}obj{Path.DirectorySeparatorChar}", StringComparison.Ordinal))];
        Assert.True(files.Length > 100);

        // TorchSharp's add has the factor 1 as an implicit scalar, unless it is given one.
        // What a message says is no call.
        string[] found = [.. files.SelectMany(file => File.ReadLines(file).Where(line => Sum().IsMatch(Text().Replace(line, "")) && !Factor().IsMatch(line)).Select(line => $"{Path.GetFileName(file)}: {line.Trim()}"))];
        Assert.Empty(found);
    }

    [GeneratedRegex(@"\.add_?\(")]
    private static partial Regex Sum();

    [GeneratedRegex("\"[^\"]*\"")]
    private static partial Regex Text();

    [GeneratedRegex(@", (one|once|Scalars\.Once)\)")]
    private static partial Regex Factor();
}
