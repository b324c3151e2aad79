using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>Holds the C# of a page of docs against that between "begin" and "end" in the test that runs it.</summary>
internal static partial class PageSnippets
{
    /// <summary>The page shows each snippet of the calling file, letter for letter, and no others.</summary>
    public static void Shows(string page, [CallerFilePath] string tests = "")
    {
        string root = Root();
        // Not the compiler's path: continuous builds map it.
        string source = Read(root, "tests", "TorchSharp.Attention.Onnx.Tests", Path.GetFileName(tests)), text = Read(root, "docs", page);
        Dictionary<string, string> run = Snippet().Matches(source).ToDictionary(
            match => match.Groups["name"].Value,
            match => string.Join('\n', match.Groups["code"].Value.Split('\n').Select(line => line.Length < 8 ? line.TrimStart() : line[8..])));
        Dictionary<string, string> shown = Block().Matches(text).ToDictionary(match => match.Groups["name"].Value, match => match.Groups["code"].Value);
        Assert.NotEmpty(run);
        Assert.Equal(run.OrderBy(entry => entry.Key), shown.OrderBy(entry => entry.Key));
        Assert.Equal(run.Count, Regex.Count(text, "```csharp"));
    }

    /// <summary>The repository's folder.</summary>
    public static string Root()
    {
        string root = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(root, "Attention.sln"))) root = Path.GetDirectoryName(root.TrimEnd(Path.DirectorySeparatorChar))!;
        return root;
    }

    /// <summary>A text file, lines ended by \n alone.</summary>
    public static string Read(params string[] path) => File.ReadAllText(Path.Combine(path)).ReplaceLineEndings("\n");

    [GeneratedRegex(@"// begin (?<name>\w+)\n(?<code>.*?)\n *// end \k<name>\n", RegexOptions.Singleline)]
    private static partial Regex Snippet();

    [GeneratedRegex(@"<!-- snippet: (?<name>\w+) -->\n```csharp\n(?<code>.*?)\n```", RegexOptions.Singleline)]
    private static partial Regex Block();
}
