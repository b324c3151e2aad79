namespace TorchSharp.Attention;

/// <summary>The dictionary of tensors in what a pickle holds: the outermost, or one of those inside it.</summary>
/// <param name="Path">The keys that lead to it, joined by dots.</param>
/// <param name="Tensors">Its tensors.</param>
/// <param name="NotTensors">What else it and the dictionaries around it hold: where, and of what kind.</param>
internal sealed record StateDictionary(
    string Path, IReadOnlyList<KeyValuePair<string, PickleTensor>> Tensors, IReadOnlyList<string> NotTensors)
{
    private const int Depth = 4, MostSections = 10_000, MostListed = 1000;

    private static readonly string[] Usual = ["state_dict", "model_state_dict", "model"];

    /// <exception cref="PickleException">There is none, or several and none is meant.</exception>
    public static StateDictionary Find(object? value, string? section)
    {
        if (value is not PickleDictionary root)
        {
            throw new PickleException(
                $"it holds no dictionary but {PickleKinds.Of(value)}; nothing was run. " +
                "If it is a whole model or a tensor, save the weights alone in Python: " +
                "torch.save(model.state_dict(), path)");
        }

        List<Place> places = Places(root);
        if (section is not null)
        {
            return Of(places.Find(place => place.IsAt(section)) ?? throw new PickleException(
                $"it has no dictionary of tensors '{section}'; it has {(places.Count == 0 ? "none" : Names(places))}"));
        }

        foreach (string usual in Usual)
        {
            if (places.Find(place => place.IsAt(usual)) is { } found) return Of(found);
        }

        return places switch
        {
            [{ Depth: 0 } outermost, ..] => Of(outermost),
            [Place only] => Of(only),
            [] => throw new PickleException(
                $"it holds no dictionary of tensors but {Listing.Of(Others(root, null, ""), other => other)}; nothing was run. " +
                "Save the weights in Python: torch.save(model.state_dict(), path)"),
            _ => throw new PickleException($"it holds several dictionaries of tensors; say which section: {Names(places)}"),
        };
    }

    private static StateDictionary Of(Place place)
    {
        List<string> others = [];
        PickleDictionary? chosen = null;
        for (Place? at = place; at is not null && others.Count < MostListed; at = at.Outer)
        {
            others.AddRange(Others(at.Dictionary, chosen, at.Path));
            chosen = at.Dictionary;
        }

        return new(place.Path,
            [.. place.Dictionary.Items.Where(IsTensor)
                .Select(item => new KeyValuePair<string, PickleTensor>((string)item.Key!, (PickleTensor)item.Value!))], others);
    }

    /// <summary>What a dictionary holds that is neither a tensor to read nor the dictionary that was chosen in it.</summary>
    private static List<string> Others(PickleDictionary dictionary, PickleDictionary? chosen, string path)
    {
        // Of a long path the start is enough: a file may repeat it many times.
        string start = path.Length == 0 ? "" : Listing.Cut(path) + ".";
        List<string> others = [];
        foreach ((object? key, object? value) in dictionary.Items)
        {
            if (ReferenceEquals(value, chosen) && chosen is not null) continue;
            if (chosen is null && key is string && value is PickleTensor) continue;
            string place = key is string name
                ? Listing.Short(start + Listing.Cut(name))
                : $"{(start.Length == 0 ? "" : Listing.Short(start) + " ")}under {PickleKinds.Of(key)}";
            others.Add($"{place}: {PickleKinds.Of(value)}");
            if (others.Count < MostListed) continue;
            others.Add("and more");
            break;
        }

        return others;
    }

    /// <summary>
    /// The dictionaries with tensors, nearest first, each once: what refers to itself, or to one thing many times, is walked
    /// once.
    /// </summary>
    private static List<Place> Places(PickleDictionary root)
    {
        List<Place> found = [];
        HashSet<PickleDictionary> seen = [root];
        Queue<Place> waiting = new([new Place(root, null, "")]);
        while (waiting.TryDequeue(out Place? place))
        {
            if (place.Dictionary.Items.Any(IsTensor)) found.Add(place);
            if (place.Depth == Depth) continue;
            foreach ((object? key, object? value) in place.Dictionary.Items)
            {
                if (key is not string name || value is not PickleDictionary inner || !seen.Add(inner)) continue;
                if (seen.Count > MostSections) throw new PickleException($"it holds more than {MostSections} dictionaries");
                waiting.Enqueue(new Place(inner, place, name));
            }
        }

        return found;
    }

    private static bool IsTensor(KeyValuePair<object?, object?> item) => item is { Key: string, Value: PickleTensor };

    private static string Names(List<Place> places) => Listing.Of(places, place => Listing.Short(place.Path));

    /// <summary>
    /// A dictionary and the keys that lead to it. They are joined only where somebody reads them: ten thousand
    /// dictionaries may share one long key.
    /// </summary>
    private sealed class Place(PickleDictionary dictionary, Place? outer, string key)
    {
        public PickleDictionary Dictionary => dictionary;

        public Place? Outer => outer;

        public int Depth { get; } = outer is null ? 0 : outer.Depth + 1;

        public string Path => outer is null or { Depth: 0 } ? key : $"{outer.Path}.{key}";

        /// <summary>Whether keys joined by dots lead here.</summary>
        public bool IsAt(string path) => outer switch
        {
            null => path.Length == 0,
            { Depth: 0 } => key == path,
            _ =>
                path.Length > key.Length && path[^(key.Length + 1)] == '.' && path.EndsWith(key, StringComparison.Ordinal)
                    && outer.IsAt(path[..^(key.Length + 1)]),
        };
    }
}
