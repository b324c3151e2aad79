using System.Text.Json;
using System.Text.Json.Nodes;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Writes what a file says of its network: the plan, the attention modules, the class names and what the caller adds.
/// </summary>
internal sealed class OnnxMetadata(nn.Module model, OnnxGraph graph, OnnxExportOptions options, List<string> notes)
{
    /// <summary>Metadata with the paths of all attention modules, as JSON.</summary>
    public const string AttentionsKey = "torchsharp_attention.attentions";

    /// <summary>Metadata with the kind of each attention module by its path, as JSON.</summary>
    public const string KindsKey = "torchsharp_attention.kinds";

    private readonly nn.Module _model = model;
    private readonly OnnxGraph _graph = graph;
    private readonly OnnxExportOptions _options = options;
    private readonly List<string> _notes = notes;

    /// <summary>Writes all of it into the graph; what cannot be written becomes a note.</summary>
    public void WriteMetadata()
    {
        _graph.Metadata("torchsharp_attention.version", OnnxGraph.Version);
        _graph.Metadata("torchsharp_attention.model", _model.GetName());
        if (Plan(_model, "the plan") is { } plan) _graph.Metadata("torchsharp_attention.plan", plan);
        if (_model is UNet && _model.named_children().FirstOrDefault(child => child.name == "encoder").module is { } encoder
            && Plan(encoder, "the encoder's plan") is { } own)
        {
            _graph.Metadata("torchsharp_attention.encoder_plan", own);
        }

        if (_model is IAttentionModule attention) _graph.Metadata("torchsharp_attention.options", attention.Options.ToJson());
        string[] attentions = [.. AttentionRecorder.Attentions(_model).Select(entry => entry.Name)];
        if (attentions.Length > 0) _graph.Metadata(AttentionsKey, JsonSerializer.Serialize(attentions));
        Dictionary<string, string> kinds = [];
        foreach ((string name, nn.Module module) in AttentionRecorder.Attentions(_model))
        {
            if (module is IAttentionModule attended && Said(() => attended.Options.Kind(), $"the kind of '{name}'") is { } kind)
            {
                kinds[name] = kind;
            }
        }

        if (kinds.Count > 0) _graph.Metadata(KindsKey, JsonSerializer.Serialize(kinds));
        if (Insertions() is { Count: > 0 } insertions)
        {
            _graph.Metadata("torchsharp_attention.insertions", insertions.ToJsonString());
        }

        if (_options.ClassNames is { } classes) _graph.Metadata("class_names", JsonSerializer.Serialize(classes.ToArray()));
        if (_options.Normalization is { } normalization)
        {
            _graph.Metadata("normalization.mean", JsonSerializer.Serialize(normalization.Mean.ToArray()));
            _graph.Metadata("normalization.std", JsonSerializer.Serialize(normalization.Std.ToArray()));
        }

        foreach ((string key, string value) in _options.Metadata ?? new Dictionary<string, string>()) _graph.Metadata(key, value);
    }

    /// <summary>What InsertAttention put around submodules, in the order in which it acts there.</summary>
    private JsonArray Insertions()
    {
        JsonArray all = [];
        foreach ((string place, nn.Module module) in _model.named_modules().Prepend(("", _model)))
        {
            (IReadOnlyList<AttentionModule> before, IReadOnlyList<AttentionModule> after) = HookedModule.Around(module);
            foreach (AttentionModule attention in before) Add(place, InsertionSide.Before, attention);
            foreach (AttentionModule attention in after) Add(place, InsertionSide.After, attention);
        }

        return all;

        void Add(string place, InsertionSide side, AttentionModule attention)
        {
            if (Said(() => attention.Options.ToJson(), $"what was inserted around '{place}'") is not { } options) return;
            all.Add(new JsonObject
            {
                ["place"] = place,
                ["side"] = side.ToString(),
                ["channels"] = attention.Channels,
                ["attention"] = JsonNode.Parse(options),
            });
        }
    }

    /// <summary>What options of a user's own say of themselves; a note where they do not.</summary>
    private string? Said(Func<string> say, string what)
    {
        try
        {
            return say();
        }
        catch (Exception e) when (e is ArgumentException or NotSupportedException or InvalidOperationException or JsonException)
        {
            _notes.Add($"{what} is not in the metadata: {Check.Text(e)}");
            return null;
        }
    }

    private string? Plan(nn.Module model, string what)
    {
        if (model is not FeatureNetwork { Plan: { } plan }) return null;
        if (plan.Rules.All(rule => rule.Predicate is null)) return plan.ToJson();
        _notes.Add($"{what} is not in the metadata, because a rule has a predicate, which is code.");
        return null;
    }
}
