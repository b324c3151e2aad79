using Samples.Data;
using static TorchSharp.torch;

namespace Deployment;

/// <summary>The scenario: train, write files, measure, and tables of what was found.</summary>
internal static class DeploymentRun
{
    private const int QuickTrain = 640, QuickTest = 250;

    public static void Execute(string part, string? page, DeploymentOptions options, TextWriter output, CancellationToken stop)
    {
        if (page is not null && part != "tables") throw new IOException($"A page, '{page}', is for the part tables alone; {part} writes none.");
        Directory.CreateDirectory(options.Out);
        DataSet data = DataSet.LoadShipped();
        if (options.Quick) data = data with { Train = data.Train.Take(QuickTrain), Test = data.Test.Take(QuickTest) };
        set_num_threads(options.Threads);
        Candidate[] candidates = [.. Candidate.All(data).Where(candidate => Wanted(candidate, options))];
        Candidate[] large = [.. Candidate.Large.Where(candidate => candidate.Name.Contains(options.Only, StringComparison.Ordinal))];
        if (part is "all" or "train")
        {
            foreach (Candidate candidate in candidates) new Training(data, options, output).Run(candidate, stop).Save(options.Out);
        }

        if (part is "all" or "time")
        {
            (int channels, int height, int width) = data.Train.Shape;
            foreach (Candidate candidate in candidates)
            {
                DeploymentResult trained = DeploymentResult.Load(options.Out, candidate.Name) ?? throw new IOException($"{options.Out} has no {candidate.Name}; train it first.");
                Latency.Of(trained, candidate, options, [1, channels, height, width]).Save(options.Out);
            }
        }

        if (part == "large")
        {
            foreach (Candidate candidate in large) Latency.OfLarge(candidate, options).Save(options.Out);
        }

        DeploymentResult[] results =
        [
            .. candidates.Select(candidate => candidate.Name).Concat(large.Select(candidate => $"{candidate.Network}-224-{candidate.Attention}"))
                .Select(name => DeploymentResult.Load(options.Out, name)).OfType<DeploymentResult>(),
        ];
        if (part == "tables" && page is not null) Tables.WriteInto(page, results);
        else output.WriteLine(Tables.Of(results));
    }

    private static bool Wanted(Candidate candidate, DeploymentOptions options)
        => candidate.Name.Contains(options.Only, StringComparison.Ordinal) && (!options.Quick || candidate.Name is "resnet-plain" or "resnet-se");
}
