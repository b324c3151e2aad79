using System.Reflection;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace TorchSharp.Attention;

/// <summary>Options and plans as JSON, with errors that list what is known.</summary>
internal static class AttentionJson
{
    private const string KindProperty = "kind";

    private static readonly JsonSerializerOptions Settings = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase, allowIntegerValues: false), new NestedOptions() },
    };

    private static readonly JsonWriterOptions Compact = new() { Indented = false };
    private static readonly JsonWriterOptions Pretty = new() { Indented = true };

    public static string Write(AttentionOptions options, bool indented) => Text(ToNode(options), indented);

    public static string Write(AttentionPlan plan, bool indented)
    {
        JsonArray rules = [];
        for (int i = 0; i < plan.Rules.Count; i++)
        {
            AttentionRule rule = plan.Rules[i];
            if (rule.Predicate is not null)
            {
                throw new InvalidOperationException(
                    $"Rule {i + 1} of the plan ({rule}) selects blocks with a predicate, which JSON cannot hold. " +
                    "Use InStages and InBlocks.");
            }

            JsonObject node = new()
            {
                ["attention"] = ToNode(rule.Attention),
                ["position"] = JsonSerializer.SerializeToNode(rule.Position, Settings),
            };
            if (rule.Stages is not null) node["stages"] = JsonSerializer.SerializeToNode(rule.Stages, Settings);
            if (rule.Blocks is not null) node["blocks"] = JsonSerializer.SerializeToNode(rule.Blocks, Settings);
            rules.Add((JsonNode)node);
        }

        return Text(new JsonObject { ["rules"] = rules }, indented);
    }

    public static AttentionOptions ReadOptions(string json)
    {
        ArgumentNullException.ThrowIfNull(json);
        return ToOptions(JsonNode.Parse(json), "The JSON");
    }

    public static AttentionPlan ReadPlan(string json)
    {
        ArgumentNullException.ThrowIfNull(json);
        JsonObject plan = Object(JsonNode.Parse(json), "The plan");
        RejectUnknown(plan, "the plan", ["rules"]);
        if (plan["rules"] is not JsonArray rules) throw new ArgumentException("The plan has no array 'rules'.", nameof(json));

        List<AttentionRule> read = [];
        foreach (JsonNode? node in rules)
        {
            string where = $"Rule {read.Count + 1}";
            JsonObject rule = Object(node, where);
            RejectUnknown(rule, where, ["attention", "position", "stages", "blocks"]);
            read.Add(new AttentionRule(ToOptions(rule["attention"], $"{where}'s attention"))
            {
                Position = rule["position"] is { } position
                    ? Value<AttentionPosition>(position, $"{where}'s position", $"one of {Names<AttentionPosition>()}")
                    : AttentionPosition.BeforeAdd,
                Stages = rule["stages"] is { } stages
                    ? Value<ValueList<int>>(stages, $"{where}'s stages", "an array of integers")
                    : null,
                Blocks = rule["blocks"] is { } blocks
                    ? Value<ValueList<int>>(blocks, $"{where}'s blocks", "an array of integers")
                    : null,
            });
        }

        return new AttentionPlan(read);
    }

    /// <summary>The settable properties of an options record, in the spelling of JSON.</summary>
    public static IReadOnlyDictionary<string, PropertyInfo> Properties(Type type) =>
        type.GetProperties(BindingFlags.Public | BindingFlags.Instance)
            .Where(property => property.CanWrite && property.GetIndexParameters().Length == 0)
            .ToDictionary(property => JsonNamingPolicy.CamelCase.ConvertName(property.Name));

    /// <summary>Options of a kind with properties set from JSON values.</summary>
    public static AttentionOptions ToOptions(JsonNode? node, string where)
    {
        JsonObject given = Object(node, where);
        if (given[KindProperty] is not JsonValue kind || !kind.TryGetValue(out string? name))
        {
            throw new ArgumentException(
                $"{where} has no 'kind'. Known kinds: {string.Join(", ", AttentionCatalog.Kinds)}.", KindProperty);
        }

        Type type = AttentionCatalog.TypeOf(name);
        IReadOnlyDictionary<string, PropertyInfo> known = Properties(type);
        RejectUnknown(given, $"the attention '{name}'", [KindProperty, .. known.Keys]);
        foreach ((string property, JsonNode? value) in given)
        {
            if (property == KindProperty) continue;
            Type wanted = known[property].PropertyType;
            try
            {
                value.Deserialize(wanted, Settings);
                if (value is null && wanted.IsValueType && Nullable.GetUnderlyingType(wanted) is null)
                {
                    throw new JsonException("null");
                }
            }
            catch (JsonException e)
            {
                throw new ArgumentException(
                    $"{property} of the attention '{name}' is {value?.ToJsonString() ?? "null"}; it must be {Describe(wanted)}.",
                    property, e);
            }
        }

        JsonObject bare = (JsonObject)given.DeepClone();
        bare.Remove(KindProperty);
        return (AttentionOptions)bare.Deserialize(type, Settings)!;
    }

    private static JsonObject ToNode(AttentionOptions options)
    {
        JsonObject node = new() { [KindProperty] = options.Kind() };
        foreach ((string name, JsonNode? value) in JsonSerializer.SerializeToNode(
            options, options.GetType(), Settings)!.AsObject())
        {
            node[name] = value?.DeepClone();
        }

        return node;
    }

    private static JsonObject Object(JsonNode? node, string where) =>
        node as JsonObject
            ?? throw new ArgumentException($"{where} is not a JSON object but {node?.ToJsonString() ?? "missing"}.");

    private static void RejectUnknown(JsonObject node, string where, IReadOnlyCollection<string> known)
    {
        foreach ((string name, _) in node)
        {
            if (!known.Contains(name))
            {
                throw new ArgumentException(
                    $"{where} has no property '{name}'. Known: {string.Join(", ", known.Order())}.", name);
            }
        }
    }

    private static T Value<T>(JsonNode node, string where, string expected)
    {
        try
        {
            return node.Deserialize<T>(Settings) ?? throw new JsonException("null");
        }
        catch (JsonException e)
        {
            throw new ArgumentException($"{where} is {node.ToJsonString()}; it must be {expected}.", e);
        }
    }

    private static string Names<T>()
        where T : struct, Enum => string.Join(", ", Enum.GetNames<T>().Select(JsonNamingPolicy.CamelCase.ConvertName));

    private static string Describe(Type type)
    {
        Type bare = Nullable.GetUnderlyingType(type) ?? type;
        string what =
            bare.IsEnum ? "one of " + string.Join(", ", Enum.GetNames(bare).Select(JsonNamingPolicy.CamelCase.ConvertName))
            : bare == typeof(int) ? "an integer"
            : bare == typeof(double) ? "a number"
            : bare == typeof(bool) ? "true or false"
            : bare == typeof(ValueList<int>) ? "an array of integers"
            : bare == typeof(ValueList<AttentionOptions>) ? "an array of attentions, each an object with a 'kind'"
            : $"a {bare.Name}";
        return bare == type ? what : what + " or null";
    }

    private static string Text(JsonNode node, bool indented)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter writer = new(stream, indented ? Pretty : Compact)) node.WriteTo(writer);
        return System.Text.Encoding.UTF8.GetString(stream.ToArray());
    }

    /// <summary>Options as a property of other options: an object with its kind, as at the top.</summary>
    private sealed class NestedOptions : JsonConverter<AttentionOptions>
    {
        public override AttentionOptions Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
            ToOptions(JsonNode.Parse(ref reader), "An attention inside the attention");

        public override void Write(Utf8JsonWriter writer, AttentionOptions value, JsonSerializerOptions options)
            => ToNode(value).WriteTo(writer, options);
    }
}
