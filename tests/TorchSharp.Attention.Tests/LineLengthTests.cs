namespace TorchSharp.Attention.Tests;

/// <summary>Lines of the packages' sources are at most as long as <c>.editorconfig</c> says, which no analyzer enforces.</summary>
public sealed class LineLengthTests
{
    private const int Longest = 130;

    [Fact]
    public void No_line_of_the_sources_is_longer_than_130_characters()
    {
        string sources = Path.Combine(Repository.Root, "src"), built = $"{Path.DirectorySeparatorChar}obj{Path.DirectorySeparatorChar}";
        string[] files = [.. Directory.EnumerateFiles(sources, "*.cs", SearchOption.AllDirectories)
            .Where(file => !file.Contains(built, StringComparison.Ordinal))];
        Assert.True(files.Length > 100);
        Assert.Empty(files.SelectMany(file => LongLines(File.ReadLines(file)).Select(number => $"{file}:{number}")));
    }

    [Fact]
    public void Texts_that_are_literal_may_be_longer()
        => Assert.Equal([1, 6], LongLines([new('x', 131), "a = \"\"\"", new('x', 131), "\"\"\";", new('x', 130), new('x', 131)]));

    /// <summary>The numbers of the lines that are too long. Within a raw string a line is what the text is.</summary>
    private static IEnumerable<int> LongLines(IEnumerable<string> lines)
    {
        bool raw = false;
        int number = 0;
        foreach (string line in lines)
        {
            number++;
            if (!raw && line.Length > Longest) yield return number;
            if ((line.Split("\"\"\"").Length - 1) % 2 == 1) raw = !raw;
        }
    }
}
