using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace TorchSharp.Attention.Training;

/// <summary>The finished runs of an ablation on disk, one file each, either whole or not there.</summary>
internal sealed class AblationFolder
{
    private static readonly JsonSerializerOptions Json =
        new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.CamelCase };

    private readonly AblationOptions _options;
    private readonly string _runs;

    public AblationFolder(AblationOptions options)
    {
        _options = options;
        _runs = Path.Combine(options.Folder, "runs");
        Directory.CreateDirectory(_runs);
    }

    /// <summary>The result of a run, or null where it is still to do.</summary>
    /// <exception cref="InvalidOperationException">The file belongs to another plan or setup.</exception>
    public AblationRun? Read(AblationVariant variant, int seed)
    {
        string path = PathOf(variant, seed);
        if (!File.Exists(path)) return null;
        Entry? entry;
        try
        {
            entry = JsonSerializer.Deserialize<Entry>(File.ReadAllText(path), Json);
        }
        catch (JsonException e)
        {
            return Again(e.Message);
        }

        if (entry is not { Run.Outcome: { } outcome }) return Again("it has no outcome");
        if (!double.IsFinite(outcome.Score)) return Again($"its score is {outcome.Score}, which no comparison can use");
        if (!double.IsFinite(entry.Run.Seconds) || double.IsNegative(entry.Run.Seconds))
        {
            return Again($"its time is {entry.Run.Seconds} s");
        }

        if (outcome.Parameters < 0 || outcome.MultiplyAccumulates < 0) return Again("its cost is negative");
        if (entry.Plan == TextOf(variant) && entry.Setup == _options.Setup && entry.Run.Variant == variant.Name
            && entry.Run.Seed == seed)
        {
            return entry.Run;
        }

        throw new InvalidOperationException(
            $"{path} is a result of the plan '{entry.Plan}' and the setup '{entry.Setup}'; " +
            $"asked for are '{TextOf(variant)}' and '{_options.Setup}'. " +
            "Take another folder, or delete that one.");

        AblationRun? Again(string problem)
        {
            _options.Log?.Invoke(FormattableString.Invariant($"{path} is no result ({problem}); it is run again."));
            return null;
        }
    }

    public void Write(AblationVariant variant, AblationRun run)
    {
        Entry entry = new() { Plan = TextOf(variant), Setup = _options.Setup, Run = run };
        AtomicFile.Write(PathOf(variant, run.Seed), stream => JsonSerializer.Serialize(stream, entry, Json));
    }

    /// <summary>A variant's plans with all settings of their attentions; of a predicate only that there is one.</summary>
    public static string TextOf(AblationVariant variant)
    {
        IEnumerable<string> planned = variant.Plan.Rules.Select(rule => $"{rule} {rule.Attention.ToJson()}");
        IEnumerable<string> inserted = variant.Insertion?.Rules.Select(TextOf) ?? [];
        string text = string.Join("; ", planned.Concat(inserted));
        return text.Length == 0 ? "plain" : text;
    }

    private static string TextOf(InsertionRule rule)
    {
        string where = string.Join(
            ", ", new[] { rule.Name, rule.ModuleType?.FullName, rule.Predicate is null ? null : "a predicate" }.OfType<string>());
        return $"inserted {(rule.Side == InsertionSide.After ? "after" : "before")} " +
            $"{(where.Length == 0 ? "all" : where)}{(rule.IdentityStart ? "" : ", start of its own")} {rule.Attention.ToJson()}";
    }

    /// <summary>Readable as far as names allow, and different for different names.</summary>
    private string PathOf(AblationVariant variant, int seed)
    {
        string readable = string.Concat(variant.Name.Take(40).Select(c => char.IsAsciiLetterOrDigit(c) ? c : '-'));
        string hash = Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(variant.Name)))[..8];
        return Path.Combine(_runs, string.Create(CultureInfo.InvariantCulture, $"{readable}-{hash}-seed{seed}.json"));
    }

    private sealed record Entry
    {
        public string Plan { get; init; } = "";

        public string Setup { get; init; } = "";

        public AblationRun? Run { get; init; }
    }
}
