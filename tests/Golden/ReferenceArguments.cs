using System.Text.Json;

namespace TorchSharp.Attention.Golden;

/// <summary>The library has no such module yet.</summary>
internal sealed class NotCoveredException(string reason) : Exception(reason);

/// <summary>
/// The constructor's arguments of a reference implementation. It remembers which were read, so that none is ignored silently.
/// A JSON null counts as not given: the reference's default holds.
/// </summary>
internal sealed class ReferenceArguments
{
    private readonly Dictionary<string, JsonElement> _values = new(StringComparer.Ordinal);
    private readonly HashSet<string> _read = new(StringComparer.Ordinal);

    /// <param name="json">A JSON object; null or empty for no arguments.</param>
    /// <exception cref="InvalidDataException">The text is not a JSON object.</exception>
    public ReferenceArguments(string? json)
    {
        if (string.IsNullOrEmpty(json)) return;
        try
        {
            using JsonDocument document = JsonDocument.Parse(json, new JsonDocumentOptions { AllowDuplicateProperties = false });
            foreach (JsonProperty property in document.RootElement.EnumerateObject()) _values.Add(property.Name, property.Value.Clone());
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new InvalidDataException($"the arguments are not a JSON object: {e.Message}", e);
        }
    }

    public int? Integer(string name) =>
        Read(name, "an integer", value => value.TryGetInt32(out int number) ? number : (int?)null);

    public int Integer(string name, int otherwise) => Integer(name) ?? otherwise;

    public double Number(string name, double otherwise) =>
        Read(name, "a number", value => value.TryGetDouble(out double number) && double.IsFinite(number) ? number : (double?)null) ?? otherwise;

    public bool Flag(string name, bool otherwise) => Read(name, "true or false", value => value.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => (bool?)null,
    }) ?? otherwise;

    public string? Text(string name) => Find(name) switch
    {
        null => null,
        { ValueKind: JsonValueKind.String } value => value.GetString(),
        JsonElement value => throw Wrong(name, value, "a string"),
    };

    public ValueList<int> Integers(string name)
    {
        JsonElement list = Find(name) ?? throw new InvalidDataException($"the argument '{name}' is missing");
        if (list.ValueKind != JsonValueKind.Array) throw Wrong(name, list, "a list of integers");
        return ValueList.Create<int>([.. list.EnumerateArray().Select(item =>
            item.ValueKind == JsonValueKind.Number && item.TryGetInt32(out int number) ? number : throw Wrong(name, list, "a list of integers"))]);
    }

    /// <summary>A list, or one number as a list of one; null if not given.</summary>
    public ValueList<int>? IntegerOrIntegers(string name) => Find(name) switch
    {
        null => null,
        { ValueKind: JsonValueKind.Array } => Integers(name),
        _ => [Integer(name)!.Value],
    };

    /// <summary>One of several named values.</summary>
    public T Choice<T>(string name, string otherwise, params (string Name, T Value)[] choices)
    {
        string given = Text(name) ?? otherwise;
        foreach ((string known, T value) in choices)
        {
            if (known == given) return value;
        }

        throw new InvalidDataException(
            $"the argument '{name}' is \"{given}\"; supported: {string.Join(", ", choices.Select(choice => $"\"{choice.Name}\""))}");
    }

    /// <summary>Arguments that have no effect beside the others.</summary>
    public void Ignore(params ReadOnlySpan<string> names)
    {
        foreach (string name in names) _read.Add(name);
    }

    /// <exception cref="InvalidDataException">An argument was given that nothing read.</exception>
    public void RejectUnread()
    {
        string[] unread = [.. _values.Keys.Where(name => !_read.Contains(name)).Order(StringComparer.Ordinal)];
        if (unread.Length > 0)
        {
            throw new InvalidDataException(
                $"not understood: the arguments {string.Join(", ", unread.Select(name => $"'{name}'"))}");
        }
    }

    private T? Read<T>(string name, string expected, Func<JsonElement, T?> convert)
        where T : struct
    {
        if (Find(name) is not JsonElement value) return null;
        try
        {
            return convert(value) ?? throw Wrong(name, value, expected);
        }
        catch (InvalidOperationException)
        {
            throw Wrong(name, value, expected);
        }
    }

    private JsonElement? Find(string name)
    {
        _read.Add(name);
        return _values.TryGetValue(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null ? value : null;
    }

    private static InvalidDataException Wrong(string name, JsonElement value, string expected) =>
        new($"the argument '{name}' is {value.GetRawText()}; it must be {expected}");
}
