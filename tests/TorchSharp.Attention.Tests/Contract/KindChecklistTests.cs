using System.Reflection;

namespace TorchSharp.Attention.Tests;

/// <summary>What every kind of attention must have. Each test fails for a new kind that lacks the thing; docs/extending.md has the same list.</summary>
public sealed class KindChecklistTests
{
    private static readonly string Root = Repository.Root;

    public static TheoryData<string> Kinds => [.. OwnKinds()];

    /// <summary>The row of a kind names its options; other rows hold settings of the same kind.</summary>
    [Fact]
    public void Every_kind_has_a_row_that_the_contract_tests_run_over()
        => Assert.Equal(OwnKinds(), Row.All.Select(row => row.Options).Concat(BranchRow.All.Select(row => (AttentionOptions)row.Options))
            .Select(options => options.GetType().GetCustomAttribute<AttentionKindAttribute>()!.Kind).Distinct().Order(StringComparer.Ordinal));

    [Theory]
    [MemberData(nameof(Kinds))]
    public void The_page_of_the_modules_has_a_row(string kind)
        => Assert.Contains($"\n| `{kind}` ", File.ReadAllText(Path.Combine(Root, "docs", "modules.md")), StringComparison.Ordinal);

    /// <summary>An attention that has no layout of its channels keeps them all; docs/pruning.md names both sorts.</summary>
    [Theory]
    [MemberData(nameof(Kinds))]
    public void The_page_of_pruning_says_whether_its_channels_can_be_removed(string kind)
        => Assert.Contains($"`{kind}`", File.ReadAllText(Path.Combine(Root, "docs", "pruning.md")), StringComparison.Ordinal);

    private static IEnumerable<string> OwnKinds() => typeof(AttentionOptions).Assembly.GetTypes()
        .Select(type => type.GetCustomAttribute<AttentionKindAttribute>()?.Kind).OfType<string>().Order(StringComparer.Ordinal);
}
