using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;

namespace TorchSharp.Attention.TestSupport;

/// <summary>
/// The C# of pages. A page marks a block of code by <c>&lt;!-- snippet: name --&gt;</c>; the test that runs it has the same lines between
/// <c>// begin name</c> and <c>// end name</c>.
/// </summary>
public static partial class DocSnippets
{
    /// <summary>
    /// The page shows each snippet of the calling file, letter for letter, and no C# beside these and the snippets that tests elsewhere hold.
    /// </summary>
    /// <param name="page">The page's path in the repository, such as docs/export.md.</param>
    /// <param name="elsewhere">Names of snippets that another file runs.</param>
    /// <param name="tests">The calling file.</param>
    public static void AreShown(string page, string[]? elsewhere = null, [CallerFilePath] string tests = "")
    {
        Dictionary<string, string> run = InFile(tests), shown = InPage(page);
        foreach (string name in elsewhere ?? []) Assert.True(shown.Remove(name), $"{page} has no snippet {name}.");
        Assert.NotEmpty(run);
        Assert.Equal(run.OrderBy(entry => entry.Key), shown.OrderBy(entry => entry.Key));
        Assert.Equal(run.Count + (elsewhere?.Length ?? 0), Regex.Count(Repository.Read(page), "```csharp"));
    }

    /// <summary>The code of a page, by name.</summary>
    public static Dictionary<string, string> InPage(string page)
        => Block().Matches(Repository.Read(page)).ToDictionary(match => match.Groups["name"].Value, match => match.Groups["code"].Value);

    /// <summary>The code of the calling file, by name, without the indentation of its first line.</summary>
    public static Dictionary<string, string> InFile([CallerFilePath] string tests = "")
        => Snippet().Matches(Repository.Read(InRepository(tests))).ToDictionary(
            match => match.Groups["name"].Value,
            match => string.Join('\n', match.Groups["code"].Value.Split('\n').Select(line => Without(line, match.Groups["indent"].Length))));

    /// <summary>Continuous builds map the compiler's paths to others, whose ends stay.</summary>
    private static string InRepository(string file)
    {
        string path = file.Replace('\\', '/');
        return path[(path.LastIndexOf("/tests/", StringComparison.Ordinal) + 1)..];
    }

    private static string Without(string line, int indent) => line.Length < indent ? line.TrimStart() : line[indent..];

    [GeneratedRegex(@"^(?<indent> *)// begin (?<name>\w+)\n(?<code>.*?)\n *// end \k<name>\n", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex Snippet();

    [GeneratedRegex(@"<!-- snippet: (?<name>\w+) -->\n```csharp\n(?<code>.*?)\n```", RegexOptions.Singleline)]
    private static partial Regex Block();
}
