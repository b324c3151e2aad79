namespace TorchSharp.Attention;

/// <summary>The dictionary of tensors in what a pickle holds: the outermost, or one of those inside it.</summary>
internal sealed record StateDictionary(string Path, IReadOnlyList<KeyValuePair<string, PickleTensor>> Tensors)
{
    private const int Depth = 4, MostSections = 10_000;

    private static readonly string[] Usual = ["state_dict", "model_state_dict", "model"];

    /// <exception cref="PickleException">There is none, or several and none is meant.</exception>
    public static StateDictionary Find(object? value, string? section)
    {
        if (value is not PickleDictionary root)
        {
            throw new PickleException(
                "it holds no dictionary. If it is a whole model or a tensor, save the weights alone in Python: torch.save(model.state_dict(), path)");
        }

        List<(string Path, PickleDictionary Dictionary)> sections = Sections(root);
        if (section is not null) return Take(sections, section);
        if (Usual.Select(name => sections.FirstOrDefault(found => found.Path == name)).FirstOrDefault(found => found.Path is not null) is { Path: not null } usual)
        {
            return Of(usual.Path, usual.Dictionary);
        }

        if (sections.FirstOrDefault(found => found.Path is { Length: 0 }) is { Path: not null } outermost) return Of("", outermost.Dictionary);
        return sections.Count switch
        {
            1 => Of(sections[0].Path, sections[0].Dictionary),
            0 => throw new PickleException("it holds no dictionary of tensors. Save the weights in Python: torch.save(model.state_dict(), path)"),
            _ => throw new PickleException($"it holds several dictionaries of tensors; say which section: {Names(sections)}"),
        };
    }

    private static StateDictionary Take(List<(string Path, PickleDictionary Dictionary)> sections, string path)
    {
        int index = sections.FindIndex(found => found.Path == path);
        return index >= 0
            ? Of(path, sections[index].Dictionary)
            : throw new PickleException($"it has no dictionary of tensors '{path}'; it has {Names(sections)}");
    }

    private static StateDictionary Of(string path, PickleDictionary dictionary) => new(path,
        [.. dictionary.Items.Where(IsTensor).Select(item => new KeyValuePair<string, PickleTensor>((string)item.Key!, (PickleTensor)item.Value!))]);

    /// <summary>Each dictionary once, nearest first: what refers to itself, or to one thing many times, is walked once.</summary>
    private static List<(string Path, PickleDictionary Dictionary)> Sections(PickleDictionary root)
    {
        List<(string, PickleDictionary)> found = [];
        HashSet<PickleDictionary> seen = [root];
        Queue<(string Path, int Depth, PickleDictionary Dictionary)> waiting = new([("", 0, root)]);
        while (waiting.TryDequeue(out (string Path, int Depth, PickleDictionary Dictionary) next))
        {
            if (next.Dictionary.Items.Any(IsTensor)) found.Add((next.Path, next.Dictionary));
            if (next.Depth == Depth) continue;
            foreach ((object? key, object? value) in next.Dictionary.Items)
            {
                if (key is not string || value is not PickleDictionary inner || !seen.Add(inner)) continue;
                if (seen.Count > MostSections) throw new PickleException($"it holds more than {MostSections} dictionaries");
                waiting.Enqueue((next.Path.Length == 0 ? (string)key : $"{next.Path}.{key}", next.Depth + 1, inner));
            }
        }

        return found;
    }

    private static bool IsTensor(KeyValuePair<object?, object?> item) => item is { Key: string, Value: PickleTensor };

    private static string Names(List<(string Path, PickleDictionary Dictionary)> sections) =>
        sections.Count == 0 ? "none" : Listing.Of(sections.Select(found => found.Path));
}
