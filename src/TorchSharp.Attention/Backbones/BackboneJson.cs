using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace TorchSharp.Attention;

/// <summary>Options of whole networks as JSON: <c>{"network":"resNet","block":"basic",…,"attention":{"rules":[…]}}</c>.</summary>
internal static class BackboneJson
{
    private const string NetworkProperty = "network";

    private static readonly JsonSerializerOptions Settings = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase, allowIntegerValues: false), new PlanConverter() },
    };

    private static readonly JsonSerializerOptions Pretty = new() { WriteIndented = true };

    public static string Write(BackboneOptions options, bool indented)
    {
        JsonObject node = new() { [NetworkProperty] = BackboneCatalog.KindOf(options) };
        foreach ((string name, JsonNode? value) in JsonSerializer.SerializeToNode(
            options, options.GetType(), Settings)!.AsObject())
        {
            node[name] = value?.DeepClone();
        }

        return node.ToJsonString(indented ? Pretty : null);
    }

    public static BackboneOptions Read(string json)
    {
        ArgumentNullException.ThrowIfNull(json);
        if (JsonNode.Parse(json) is not JsonObject node || node[NetworkProperty] is not JsonValue name
            || !name.TryGetValue(out string? network))
        {
            throw new ArgumentException(
                $"The JSON is no object with a '{NetworkProperty}'. Known networks: {string.Join(", ", BackboneCatalog.Kinds)}.",
                nameof(json));
        }

        if (BackboneCatalog.Find(network) is not { } type)
        {
            throw new ArgumentException(
                $"There is no network '{network}'. Known networks: {string.Join(", ", BackboneCatalog.Kinds)}.", nameof(json));
        }

        node.Remove(NetworkProperty);
        try
        {
            return (BackboneOptions)node.Deserialize(type, Settings)!;
        }
        catch (JsonException e)
        {
            throw new ArgumentException($"The options of '{network}' cannot be read: {e.Message}", nameof(json), e);
        }
    }

    private sealed class PlanConverter : JsonConverter<AttentionPlan>
    {
        public override AttentionPlan Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
            => AttentionPlan.FromJson(JsonNode.Parse(ref reader)!.ToJsonString());

        public override void Write(Utf8JsonWriter writer, AttentionPlan value, JsonSerializerOptions options)
            => writer.WriteRawValue(value.ToJson());
    }
}
