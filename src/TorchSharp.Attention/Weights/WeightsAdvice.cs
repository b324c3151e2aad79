using System.Text.RegularExpressions;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>What would make a file and a network fit, as far as the names and shapes of what does not fit tell.</summary>
internal static partial class WeightsAdvice
{
    private static readonly string[] Counters = ["running_mean", "running_var", "num_batches_tracked"];

    public static ValueList<string> Of(WeightsReport report, nn.Module model, string prefix)
    {
        if (report.IsComplete) return [];
        return [
            .. new[]
            {
                Prefix(report, prefix),
                FileAttention(report),
                ModelAttention(report, model),
                Fused(report),
                Pruned(report),
                Classifier(report),
                Types(report),
            }.OfType<string>()];
    }

    /// <summary>A prefix that one side has and the other has not.</summary>
    private static string? Prefix(WeightsReport report, string into)
    {
        if (report.Missing.Count == 0 || report.Unexpected.Count == 0) return null;
        HashSet<string> missing = [.. report.Missing.Select(name => name[into.Length..])], unexpected = [.. report.Unexpected];
        string? more = Common(unexpected, missing), less = Common(missing, unexpected);
        if (more == "module.")
        {
            return "The file's names begin with 'module.', as nn.DataParallel saves them: pass KeyMaps.DataParallel.";
        }

        if (more is not null)
        {
            return $"The file's names are the network's with {Listing.Short(more)} in front: " +
                $"pass KeyMap.Prefix(\"{more}\", \"\").";
        }

        return less is null ? null
            : $"The network's names are the file's with {Listing.Short(less)} in front: " +
                $"load into that part with Submodule = \"{less[..^1]}\", or pass KeyMap.Prefix(\"\", \"{less}\").";
    }

    /// <summary>What stands in front of most long names, so that the rests are the short ones.</summary>
    private static string? Common(HashSet<string> longer, HashSet<string> shorter)
    {
        Dictionary<string, int> found = new(StringComparer.Ordinal);
        foreach (string name in longer)
        {
            for (int dot = name.IndexOf('.', StringComparison.Ordinal); dot >= 0; dot = name.IndexOf('.', dot + 1))
            {
                if (shorter.Contains(name[(dot + 1)..]))
                {
                    found[name[..(dot + 1)]] = found.GetValueOrDefault(name[..(dot + 1)]) + 1;
                }
            }
        }

        if (found.Count == 0) return null;
        (string start, int most) = found.MaxBy(item => item.Value);
        return 2 * most >= Math.Min(longer.Count, shorter.Count) ? start : null;
    }

    private static string? FileAttention(WeightsReport report)
    {
        string[] attention = [.. report.Unexpected.Where(name => Attention().IsMatch(name))];
        if (attention.Length == 0) return null;
        string rename = report.Missing.Any(name => name.Contains("attn.", StringComparison.Ordinal))
            ? " The network has attention under other names: KeyMaps has maps for published weights, such as " +
                "KeyMaps.TimmResNet and KeyMaps.OfficialCbam."
            : " Build the network with the AttentionPlan of the file, or call InsertAttention with the plan of the file first, " +
                "and load afterwards; AllowUnexpected leaves them out.";
        return $"The file has {attention.Length} tensors of attention that the network lacks, such as " +
            $"{Listing.Short(attention[0])}.{rename}";
    }

    private static string? ModelAttention(WeightsReport report, nn.Module model)
    {
        string[] starts = [
            .. model.named_modules().Where(item => item.module is IAttentionModule).Select(item => item.name + ".")];
        string[] attention = [
            .. report.Missing.Where(name => starts.Any(start => name.StartsWith(start, StringComparison.Ordinal)))];
        return attention.Length == 0 ? null
            : $"The network has {attention.Length} tensors of attention that the file lacks, such as " +
                $"{Listing.Short(attention[0])}. AllowMissingAttention keeps " +
              "the values of attention of which the file has nothing; or load the file before InsertAttention.";
    }

    private static string? Fused(WeightsReport report)
    {
        bool IsNorm(string name) => Counters.Any(end => name.EndsWith(end, StringComparison.Ordinal));
        if (report.Unexpected.Any(IsNorm) && report.Missing.Any(name => name.EndsWith(".bias", StringComparison.Ordinal))
            && !report.Missing.Any(IsNorm))
        {
            return "The file has batch norms where the network has biases: the network seems to come from FuseForInference. " +
                "Load the weights into the network before it is fused.";
        }

        return report.Missing.Any(IsNorm) && report.Unexpected.Any(name => name.EndsWith(".bias", StringComparison.Ordinal))
            && !report.Unexpected.Any(IsNorm)
            ? "The network has batch norms where the file has biases: " +
                "the file seems to be saved from a copy of FuseForInference. Save the network that it was made from, or load " +
                "into a fused copy."
            : null;
    }

    private static string? Pruned(WeightsReport report)
    {
        WeightsMismatch[] shapes = [
            .. report.Mismatched.Where(
                item => item.FileShape.Count == item.ModelShape.Count && !item.FileShape.Equals(item.ModelShape)
                    && !IsClassifier(item))];
        if (shapes.Length < 3) return null;
        bool Less(WeightsMismatch item) => item.FileShape.Zip(item.ModelShape, (file, own) => file <= own).All(less => less);
        bool More(WeightsMismatch item) => item.FileShape.Zip(item.ModelShape, (file, own) => file >= own).All(more => more);
        if (shapes.All(Less))
        {
            return "The file's tensors are smaller than the network's in many places, as after Prune. " +
                "Build the network with the options of the pruned one (its Options, or plan.Result), and load into that.";
        }

        return shapes.All(More)
            ? "The file's tensors are larger than the network's in many places: the network is pruned or narrower. " +
                "Load the file into the network before Prune, or build it as wide."
            : null;
    }

    private static string? Classifier(WeightsReport report)
        => report.Mismatched.Any(item => IsClassifier(item) && !item.FileShape.Take(1).SequenceEqual(item.ModelShape.Take(1)))
        ? "The classifier has another number of classes: DropClassifier keeps the network's own."
        : report.Mismatched.Any(
            item => item is { FileShape.Count: 4, ModelShape.Count: 4 } && item.FileShape[1] != item.ModelShape[1]
            && item.FileShape[0] == item.ModelShape[0] && Math.Min(item.FileShape[1], item.ModelShape[1]) <= 4)
            ? "A convolution has another number of input channels: AdaptInputChannels fits the first one."
            : null;

    private static bool IsClassifier(WeightsMismatch item) =>
        new WeightsLoadOptions().Classifier.Any(start => item.Name.StartsWith(start, StringComparison.Ordinal));

    private static string? Types(WeightsReport report) =>
        report.Mismatched.FirstOrDefault(item => item.ForeignType is not null) is { } foreign
            ? $"The file has values of the type {foreign.ForeignType}: see WidenTypes in WeightsLoadOptions." : null;

    /// <summary>A part of a name that attention has, ours and published ones'.</summary>
    [GeneratedRegex(@"(^|\.)(\w*_attn\d*|attn\d*|attention\d*|se|se_module|cbam|eca|bam\d*|gct|scse|cSE|sSE|simam|ca|sa)\.",
        RegexOptions.CultureInvariant)]
    private static partial Regex Attention();
}
