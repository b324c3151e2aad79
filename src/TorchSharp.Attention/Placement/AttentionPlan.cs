namespace TorchSharp.Attention;

/// <summary>
/// Which attention is placed at a position, and in which stages and blocks. An immutable record; a null selection means all.
/// </summary>
/// <param name="Attention">The attention's settings.</param>
public sealed record AttentionRule(AttentionOptions Attention)
{
    /// <summary>The attention's settings.</summary>
    public AttentionOptions Attention { get; init; } = Attention ?? throw new ArgumentNullException(nameof(Attention));

    /// <summary>The kind of place in a block. Default <see cref="AttentionPosition.BeforeAdd"/>.</summary>
    public AttentionPosition Position { get; init; }

    /// <summary>Stages (levels) that the rule selects, counted from 1. Default null: all.</summary>
    public ValueList<int>? Stages { get; init; }

    /// <summary>Blocks that the rule selects in each stage, counted from 0. Default null: all.</summary>
    public ValueList<int>? Blocks { get; init; }

    /// <summary>
    /// An additional condition on the site. Default null: none. A rule with a predicate cannot be written as JSON.
    /// </summary>
    public Func<AttentionSite, bool>? Predicate { get; init; }

    /// <summary>Whether the rule places its attention at the site.</summary>
    /// <param name="site">The place.</param>
    public bool Matches(AttentionSite site)
    {
        ArgumentNullException.ThrowIfNull(site);
        return site.Position == Position
            && (Stages is null || Stages.Contains(site.Stage))
            && (Blocks is null || Blocks.Contains(site.Block))
            && (Predicate is null || Predicate(site));
    }

    /// <summary>Formats the rule in one line: <c>cbam at BeforeAdd of stages [3, 4]</c>.</summary>
    public override string ToString() =>
        $"{Attention.Kind()} at {Position}" +
        (Stages is null ? "" : $" of stages {Stages}") +
        (Blocks is null ? "" : $", blocks {Blocks}") +
        (Predicate is null ? "" : ", where a predicate holds");
}

/// <summary>
/// Which attention goes where: an ordered list of rules, as an immutable value. Networks read it when they are built. If several
/// rules match one site, their attentions act in the order of the rules. <c>AttentionPlan.Of(new CbamOptions()).InStages(3,
/// 4)</c>.
/// </summary>
public sealed class AttentionPlan : IEquatable<AttentionPlan>
{
    /// <summary>A plan of the given rules.</summary>
    /// <param name="rules">The rules, in order.</param>
    public AttentionPlan(IEnumerable<AttentionRule> rules)
    {
        ArgumentNullException.ThrowIfNull(rules);
        Rules = new ValueList<AttentionRule>([.. rules]);
        foreach (AttentionRule rule in Rules)
        {
            ArgumentNullException.ThrowIfNull(rule, nameof(rules));
            CheckSelection(rule);
        }
    }

    /// <summary>The plan without a rule: the plain network.</summary>
    public static AttentionPlan None { get; } = new([]);

    /// <summary>The rules, in order.</summary>
    public ValueList<AttentionRule> Rules { get; }

    /// <summary>A plan of one rule: an attention at one position of every block.</summary>
    /// <param name="attention">The attention's settings.</param>
    /// <param name="position">The place. Default before the addition.</param>
    public static AttentionPlan Of(AttentionOptions attention, AttentionPosition position = AttentionPosition.BeforeAdd)
        => None.Add(attention, position);

    /// <summary>This plan and one more rule.</summary>
    /// <param name="attention">The attention's settings.</param>
    /// <param name="position">The place. Default before the addition.</param>
    public AttentionPlan Add(AttentionOptions attention, AttentionPosition position = AttentionPosition.BeforeAdd)
        => new([.. Rules, new AttentionRule(attention) { Position = Check.Defined(position) }]);

    /// <summary>Restricts the last rule to stages, counted from 1.</summary>
    /// <param name="stages">Stages (levels), from 1: <c>InStages(3, 4)</c> is <c>layer3</c> and <c>layer4</c>.</param>
    /// <exception cref="InvalidOperationException">The plan has no rule yet.</exception>
    /// <exception cref="ArgumentException">No stage is given, or one is below 1.</exception>
    public AttentionPlan InStages(params int[] stages)
        => ChangeLast(rule => rule with { Stages = ValueList.Create<int>(stages) });

    /// <summary>Restricts the last rule to blocks, counted from 0 within their stage.</summary>
    /// <param name="blocks">Blocks, from 0: <c>InBlocks(0)</c> is the first block of every stage.</param>
    /// <exception cref="InvalidOperationException">The plan has no rule yet.</exception>
    /// <exception cref="ArgumentException">No block is given, or one is below 0.</exception>
    public AttentionPlan InBlocks(params int[] blocks)
        => ChangeLast(rule => rule with { Blocks = ValueList.Create<int>(blocks) });

    /// <summary>Restricts the last rule to sites that satisfy a condition. Several conditions must all hold.</summary>
    /// <param name="predicate">The condition. A plan with one cannot be written as JSON.</param>
    /// <exception cref="InvalidOperationException">The plan has no rule yet.</exception>
    public AttentionPlan Where(Func<AttentionSite, bool> predicate)
    {
        ArgumentNullException.ThrowIfNull(predicate);
        return ChangeLast(rule => rule with
        {
            Predicate = rule.Predicate is { } before ? site => before(site) && predicate(site) : predicate,
        });
    }

    /// <summary>
    /// Writes the plan as JSON: <c>{"rules":[{"attention":{"kind":"cbam",…},"position":"beforeAdd","stages":[3,4]}]}</c>.
    /// </summary>
    /// <param name="indented">True for one property a line.</param>
    /// <exception cref="InvalidOperationException">A rule has a predicate.</exception>
    public string ToJson(bool indented = false) => AttentionJson.Write(this, indented);

    /// <summary>Reads what <see cref="ToJson"/> wrote.</summary>
    /// <param name="json">The plan as JSON.</param>
    /// <exception cref="ArgumentException">A name or a value is unknown; the message lists the known ones.</exception>
    /// <exception cref="System.Text.Json.JsonException">The text is not JSON.</exception>
    public static AttentionPlan FromJson(string json) => AttentionJson.ReadPlan(json);

    /// <summary>
    /// Reads the short form of command lines: <c>kind[:property=value,…][@position[:stage,…]]</c>, with <c>;</c> between rules.
    /// Names ignore case and hyphens, and can be shortened as long as they are unique:
    /// <c>cbam:reduction=8,kernel=3@before-add:3,4</c>. Lists are written with plus signs:
    /// <c>selective-kernel:kernel-sizes=3+5+7</c>, <c>dynamic:attentions=se+eca</c> (each with its default settings).
    /// </summary>
    /// <param name="text">The short form.</param>
    /// <exception cref="ArgumentException">
    /// A name or a value is unknown or ambiguous; the message lists the known ones.
    /// </exception>
    public static AttentionPlan Parse(string text) => AttentionPlanParser.Parse(text);

    /// <summary>Applies the plan to the sites of a network, and checks that each rule matches and fits.</summary>
    /// <param name="network">The network's name, for messages.</param>
    /// <param name="sites">All places that the network has.</param>
    /// <exception cref="ArgumentException">
    /// A rule matches no place (the message says what exists), or an attention's settings do not fit the channels there.
    /// </exception>
    public AttentionPlacement Resolve(string network, IReadOnlyCollection<AttentionSite> sites) => new(this, network, sites);

    /// <inheritdoc/>
    public bool Equals(AttentionPlan? other) => other is not null && Rules.Equals(other.Rules);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as AttentionPlan);

    /// <inheritdoc/>
    public override int GetHashCode() => Rules.GetHashCode();

    /// <summary>The rules, separated by semicolons; "plain" without any.</summary>
    public override string ToString() => Rules.Count == 0 ? "plain" : string.Join("; ", Rules);

    private AttentionPlan ChangeLast(Func<AttentionRule, AttentionRule> change) => Rules.Count == 0
        ? throw new InvalidOperationException("The plan has no rule to restrict; call Add or AttentionPlan.Of first.")
        : new AttentionPlan([.. Rules.SkipLast(1), change(Rules[^1])]);

    private static void CheckSelection(AttentionRule rule)
    {
        Check.Defined(rule.Position, nameof(AttentionRule.Position));
        Numbers(rule.Stages, 1, "stages");
        Numbers(rule.Blocks, 0, "blocks");

        static void Numbers(ValueList<int>? numbers, int first, string name)
        {
            if (numbers is null) return;
            if (numbers.Count == 0)
            {
                throw new ArgumentException($"The list of {name} is empty; name at least one, or leave it out for all.", name);
            }

            foreach (int number in numbers)
            {
                if (number < first)
                {
                    throw new ArgumentOutOfRangeException(name, number, $"{name} holds {number}; {name} count from {first}.");
                }
            }
        }
    }
}
