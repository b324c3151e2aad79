using System.Globalization;
using System.Reflection;
using System.Text.Json.Nodes;

namespace TorchSharp.Attention;

/// <summary>The short form of plans for command lines: <c>cbam:reduction=8,kernel=3@before-add:3,4</c>.</summary>
internal static class AttentionPlanParser
{
    public static AttentionPlan Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        List<AttentionRule> rules = [];
        foreach (string part in text.Split(';', StringSplitOptions.TrimEntries))
        {
            if (part.Length == 0)
            {
                throw new ArgumentException(
                    $"'{text}' has an empty rule; write kind[:property=value,…][@position[:stage,…]].", nameof(text));
            }

            rules.Add(ParseRule(part));
        }

        return new AttentionPlan(rules);
    }

    private static AttentionRule ParseRule(string text)
    {
        string[] halves = text.Split('@', 2);
        AttentionRule rule = new(ParseAttention(halves[0].Trim()));
        if (halves.Length == 1) return rule;

        string[] where = halves[1].Split(':', 2, StringSplitOptions.TrimEntries);
        rule = rule with
        {
            Position = Enum.Parse<AttentionPosition>(Match(where[0], Enum.GetNames<AttentionPosition>(), "position")),
        };
        return where.Length == 1 ? rule : rule with
        {
            Stages = ValueList.Create<int>([.. where[1].Split(',', StringSplitOptions.TrimEntries).Select(stage =>
                int.TryParse(stage, NumberStyles.None, CultureInfo.InvariantCulture, out int number)
                    ? number
                    : throw new ArgumentException($"'{stage}' in '{text}' is not a stage; stages are whole numbers from 1."))]),
        };
    }

    private static AttentionOptions ParseAttention(string text)
    {
        string[] halves = text.Split(':', 2, StringSplitOptions.TrimEntries);
        string kind = Match(halves[0], AttentionCatalog.Kinds, "attention");
        JsonObject node = new() { ["kind"] = kind };
        IReadOnlyDictionary<string, PropertyInfo> known = AttentionJson.Properties(AttentionCatalog.TypeOf(kind));
        foreach (string setting in halves.Length == 1 ? [] : halves[1].Split(',', StringSplitOptions.TrimEntries))
        {
            string[] pair = setting.Split('=', 2, StringSplitOptions.TrimEntries);
            if (pair.Length != 2 || pair[1].Length == 0)
            {
                throw new ArgumentException($"'{setting}' in '{text}' is not property=value.");
            }

            string property = Match(pair[0], known.Keys, $"property of '{kind}'");
            if (node.ContainsKey(property)) throw new ArgumentException($"'{text}' sets {property} twice.");
            node[property] = Value(pair[1], known[property].PropertyType);
        }

        return AttentionJson.ToOptions(node, text);
    }

    private static JsonNode? Value(string text, Type type)
    {
        Type bare = Nullable.GetUnderlyingType(type) ?? type;
        if (bare != type && string.Equals(text, "null", StringComparison.OrdinalIgnoreCase)) return null;
        if (bare == typeof(ValueList<int>))
        {
            return new JsonArray([.. text.Split('+', StringSplitOptions.TrimEntries).Select(item => Value(item, typeof(int)))]);
        }

        if (bare == typeof(ValueList<AttentionOptions>))
        {
            return new JsonArray([.. text.Split('+', StringSplitOptions.TrimEntries)
                .Select(item => new JsonObject { ["kind"] = Match(item, AttentionCatalog.Kinds, "attention") })]);
        }

        if (bare.IsEnum)
        {
            return Match(
                text, [.. Enum.GetNames(bare).Select(System.Text.Json.JsonNamingPolicy.CamelCase.ConvertName)], bare.Name);
        }

        if (bool.TryParse(text, out bool flag)) return flag;
        if (long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long whole)) return whole;
        return double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double number)
            && double.IsFinite(number) ? number : text;
    }

    /// <summary>The one name that equals the text, or else begins with it, regardless of case and hyphens.</summary>
    private static string Match(string text, IEnumerable<string> names, string what)
    {
        string sought = Bare(text);
        List<string> all = [.. names];
        if (all.Find(name => Bare(name) == sought) is { } exact) return exact;
        List<string> begin = sought.Length == 0
            ? []
            : all.FindAll(name => Bare(name).StartsWith(sought, StringComparison.Ordinal));
        return begin.Count switch
        {
            1 => begin[0],
            0 => throw new ArgumentException($"There is no {what} '{text}'. Known: {string.Join(", ", all)}."),
            _ => throw new ArgumentException($"'{text}' could be {string.Join(" or ", begin)}; write more of the {what}."),
        };
    }

    private static string Bare(string name) => name.Replace("-", "", StringComparison.Ordinal).ToUpperInvariant();
}
