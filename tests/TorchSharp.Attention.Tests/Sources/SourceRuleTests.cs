namespace TorchSharp.Attention.Tests;

/// <summary>What the compiler cannot forbid in the sources of the packages.</summary>
public sealed class SourceRuleTests
{
    /// <summary>An editor shows a summary without the members around it.</summary>
    [Fact]
    public void No_summary_leans_on_the_member_above()
        => Assert.DoesNotContain(Lines(), line => line.Text.Contains("<summary>The same", StringComparison.Ordinal));

    [Fact]
    public void The_readme_has_at_most_250_lines()
        => Assert.InRange(File.ReadLines(Path.Combine(Repository.Root, "README.md")).Count(), 1, 250);

    private static IEnumerable<(string File, string Text)> Lines()
    {
        string sources = Path.Combine(Repository.Root, "src"), built = $"{Path.DirectorySeparatorChar}obj{Path.DirectorySeparatorChar}";
        string[] files = [.. Directory.EnumerateFiles(sources, "*.cs", SearchOption.AllDirectories).Where(file => !file.Contains(built, StringComparison.Ordinal))];
        Assert.True(files.Length > 100);
        return files.SelectMany(file => File.ReadLines(file).Select(line => (Path.GetFileName(file), line)));
    }
}
