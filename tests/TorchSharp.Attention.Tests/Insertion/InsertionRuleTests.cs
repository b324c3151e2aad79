using CsCheck;
using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>Which paths a rule chooses: examples, and a plain recursive matcher over random patterns.</summary>
public sealed class InsertionRuleTests
{
    [Theory]
    [InlineData("layer3.*.conv2", "layer3.0.conv2", true)]
    [InlineData("layer3.*.conv2", "layer3.0.sub.conv2", false)]
    [InlineData("layer3.*.conv2", "layer3.conv2", false)]
    [InlineData("layer3.*.conv2", "xlayer3.0.conv2", false)]
    [InlineData("layer3.*.conv2", "layer3.0.conv22", false)]
    [InlineData("layer[34].0", "layer3.0", false)]
    [InlineData("layer?.0", "layer3.0", true)]
    [InlineData("layer?.0", "layer.0", false)]
    [InlineData("**.bn", "bn", true)]
    [InlineData("**.bn", "a.b.bn", true)]
    [InlineData("a.**", "a", true)]
    [InlineData("a.**.b", "a.b", true)]
    [InlineData("a.**.b", "a.x.y.b", true)]
    [InlineData("a.**.b", "ab", false)]
    [InlineData("**", "a.b", true)]
    [InlineData("*", "a.b", false)]
    [InlineData("Conv1", "conv1", false)]
    public void Examples(string pattern, string path, bool matches) => Assert.Equal(matches, Matches(pattern, path));

    [Fact]
    public void Random_patterns_match_as_plain_recursion_does()
    {
        Gen<string> level = Gen.String[Gen.Char["ab+"], 1, 3], piece = Gen.OneOf(Gen.Const("**"), Gen.String[Gen.Char["ab+*?"], 1, 3]);
        int hits = 0;
        Gen.Select(piece.List[1, 4], level.List[1, 5]).Sample((pattern, path) =>
        {
            bool expected = Levels([.. pattern], [.. path]);
            if (expected) Interlocked.Increment(ref hits);
            return Matches(string.Join('.', pattern), string.Join('.', path)) == expected;
        }, iter: 20_000);
        Assert.True(hits > 1000, $"{hits} hits");
    }

    /// <summary>Over every module of a network: a plan by pattern inserts exactly where the plain matcher says.</summary>
    [Theory]
    [InlineData("layer2.*.conv?")]
    [InlineData("**.conv1")]
    [InlineData("layer?.**.bn*")]
    [InlineData("**.downsample.*")]
    public void Insertions_are_where_the_pattern_says(string pattern)
    {
        using ResNet network = ResNet.ResNet18(4);
        string[] expected = [.. network.named_modules().Where(m => Levels(pattern.Split('.'), m.name.Split('.'))).Select(m => m.name).Order()];
        using InsertionHandle handle = network.InsertAttention(InsertionPlan.After(pattern, new SimAmOptions()));
        Assert.NotEmpty(expected);
        Assert.Equal(expected, handle.Report.Entries.Select(entry => entry.Path).Order());
    }

    [Fact]
    public void Type_name_and_predicate_must_all_hold()
    {
        using Conv2d convolution = nn.Conv2d(1, 1, 1);
        InsertionRule rule = new(new SimAmOptions()) { Name = "a.*", ModuleType = typeof(Conv2d), Predicate = (path, _) => path != "a.c" };
        Assert.True(rule.Matches("a.b", convolution));
        Assert.False(rule.Matches("b.b", convolution));
        Assert.False(rule.Matches("a.c", convolution));
        using ReLU relu = nn.ReLU();
        Assert.False(rule.Matches("a.b", relu));
        Assert.True((rule with { ModuleType = typeof(nn.Module<Tensor, Tensor>) }).Matches("a.b", relu));
    }

    private static bool Matches(string pattern, string path)
    {
        using ReLU module = nn.ReLU();
        return new InsertionRule(new SimAmOptions()) { Name = pattern }.Matches(path, module);
    }

    private static bool Levels(ReadOnlySpan<string> pattern, ReadOnlySpan<string> path)
    {
        if (pattern.Length == 0) return path.Length == 0;
        if (pattern[0] == "**") return Levels(pattern[1..], path) || (path.Length > 0 && Levels(pattern, path[1..]));
        return path.Length > 0 && Letters(pattern[0], path[0]) && Levels(pattern[1..], path[1..]);
    }

    private static bool Letters(ReadOnlySpan<char> pattern, ReadOnlySpan<char> text)
    {
        if (pattern.Length == 0) return text.Length == 0;
        if (pattern[0] == '*') return Letters(pattern[1..], text) || (text.Length > 0 && Letters(pattern, text[1..]));
        return text.Length > 0 && (pattern[0] == '?' || pattern[0] == text[0]) && Letters(pattern[1..], text[1..]);
    }
}
