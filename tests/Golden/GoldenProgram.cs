using System.Globalization;

namespace TorchSharp.Attention.Golden;

/// <summary>The console program: runs every case below some folders and prints one line each.</summary>
public static class GoldenProgram
{
    private const string Usage = """
        Usage: Golden FOLDER…
        Runs every *.safetensors file in the folders and below, and prints a line for each: PASS, FAIL or SKIP, the name, and
        the relative errors of y_eval, y_train, gradients and running statistics.
               Golden --hostile COUNT FOLDER
        Damages the small *.safetensors files of the folder, and PyTorch archives of the same tensors, COUNT times, and reads each: it
        must read or be refused, allocate little and be closed.
               Golden --table FOLDER…
        Prints docs/module-table.md: every kind with math, paper, cost, and its errors against the folders' files.
               Golden kernels [--minutes N] [--seed S] …
        Compares the fused kernels with libtorch's operations on random maps; "kernels --help" names its options.
        Exit code: 0 if nothing failed, 1 if something did, 2 if the folders cannot be used.
        """;

    /// <summary>Runs the program.</summary>
    /// <param name="args">The folders.</param>
    /// <param name="output">Receives a line for each file, then the totals.</param>
    /// <param name="errors">Receives what is wrong with the folders.</param>
    /// <returns>The exit code.</returns>
    public static int Run(IReadOnlyList<string> args, TextWriter output, TextWriter errors)
    {
        if (args.Count == 0 || (args[0] != "kernels" && args.Any(arg => arg is "-h" or "--help")))
        {
            (args.Count == 0 ? errors : output).WriteLine(Usage);
            return args.Count == 0 ? 2 : 0;
        }

        if (args[0] == "kernels") return KernelCommand.Run([.. args.Skip(1)], output, errors);
        if (args[0] == "--hostile") return Hostile(args, output, errors);

        bool table = args[0] == "--table";
        IReadOnlyList<string> folders = table ? [.. args.Skip(1)] : args;
        if (folders.Count == 0)
        {
            errors.WriteLine(Usage);
            return 2;
        }

        List<(string Path, string Name)> files = [];
        foreach (string folder in folders)
        {
            if (Find(folder, files, namesFolder: folders.Count > 1) is not string problem) continue;
            errors.WriteLine(problem);
            return 2;
        }

        if (table)
        {
            ModuleTable.Write(output, files);
            return 0;
        }

        int[] counts = new int[Enum.GetValues<GoldenOutcome>().Length];
        int width = files.Max(file => file.Name.Length);
        foreach ((string path, string name) in files.DistinctBy(file => Path.GetFullPath(file.Path)))
        {
            GoldenResult result = GoldenRunner.Run(path, name);
            counts[(int)result.Outcome]++;
            output.WriteLine(result.Line(width));
        }

        output.WriteLine(
            $"{counts[(int)GoldenOutcome.Pass]} passed, {counts[(int)GoldenOutcome.Fail]} failed, {counts[(int)GoldenOutcome.Skip]} skipped");
        return counts[(int)GoldenOutcome.Fail] == 0 ? 0 : 1;
    }

    private static int Hostile(IReadOnlyList<string> args, TextWriter output, TextWriter errors)
    {
        if (args.Count != 3 || !int.TryParse(args[1], NumberStyles.None, CultureInfo.InvariantCulture, out int count) || !Directory.Exists(args[2]))
        {
            errors.WriteLine("--hostile takes a count and a folder, for example: --hostile 10000 tests/fixtures");
            return 2;
        }

        IReadOnlyList<(string Name, byte[] Bytes, Range[] Structure)> seeds = HostileRun.Seeds(args[2]);
        if (seeds.Count == 0)
        {
            errors.WriteLine($"The folder '{args[2]}' holds no small *.safetensors file, nor does a folder below it.");
            return 2;
        }

        HostileRun.Outcome outcome = HostileRun.Run(count, seed: 1, seeds, output);
        foreach (string problem in outcome.Problems) output.WriteLine(problem);
        output.WriteLine($"{outcome.Read} read in spite of the damage, {outcome.Refused} refused, {outcome.Problems.Count} problems");
        return outcome.Problems.Count == 0 ? 0 : 1;
    }

    private static string? Find(string folder, List<(string Path, string Name)> files, bool namesFolder)
    {
        if (!Directory.Exists(folder)) return $"There is no folder '{folder}'.";
        string[] found;
        try
        {
            found = Directory.GetFiles(folder, "*.safetensors", SearchOption.AllDirectories);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return $"The folder '{folder}' cannot be read: {e.Message}";
        }

        if (found.Length == 0) return $"The folder '{folder}' holds no *.safetensors file, nor does a folder below it.";
        files.AddRange(found.Order(StringComparer.Ordinal).Select(path =>
            (path, Path.ChangeExtension(namesFolder ? path : Path.GetRelativePath(folder, path), null).Replace('\\', '/'))));
        return null;
    }
}
