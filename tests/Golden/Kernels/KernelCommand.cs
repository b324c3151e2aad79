using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;

namespace TorchSharp.Attention.Golden;

/// <summary>The command <c>kernels</c>: random comparisons of the fused kernels with libtorch's operations.</summary>
internal static partial class KernelCommand
{
    /// <summary>What the command is for, and its options.</summary>
    public const string Usage = """
        Usage: Golden kernels [--minutes N] [--trials N] [--seed S] [--only TEXT] [--fail-fast] [--verbose]
               Golden kernels --seed S --trial K [--limit L]
        Compares the fused kernels with libtorch's operations in float64: random attentions, settings, shapes, layouts, types, threads and
        teams cut short, in inference and training, alone, at the end of a block, behind a norm and in whole networks.
          --minutes N   How long it runs. Default 2, unless --trials says how many trials.
          --trials N    How many trials it runs.
          --seed S      What everything is drawn from, a whole number. Default 1.
          --trial K     Runs this trial alone. Every failure prints the command that repeats it.
          --only TEXT   Runs only those trials whose description holds the text, such as '"kind":"cbam"' or bfloat16.
          --limit L     Runs with at most L OpenMP threads (OMP_THREAD_LIMIT), in a process of its own.
          --fail-fast   Ends with the first failure.
          --verbose     Names each trial before it runs.
        Exit code: 0 if nothing failed, 1 if something did, 2 if an option is wrong.
        """;

    private static readonly int[] Limits = [1, 3];

    /// <summary>Runs the command.</summary>
    /// <param name="args">The options, without the command's name.</param>
    /// <param name="output">Receives a line for each failure, then the totals.</param>
    /// <param name="errors">Receives what is wrong with the options.</param>
    /// <returns>The exit code.</returns>
    public static int Run(IReadOnlyList<string> args, TextWriter output, TextWriter errors)
    {
        if (Settings.Parse(args) is not { } settings)
        {
            errors.WriteLine(Usage);
            return 2;
        }

        if (settings.Limit is int limit && Environment.GetEnvironmentVariable(Teams.LimitVariable) != limit.ToString(CultureInfo.InvariantCulture))
        {
            return Child(args, limit, output, out _);
        }

        Tally tally = new();
        bool children = settings is { Limit: null, Trial: null } && Teams.HasOpenMp;
        Loop(children ? settings.Share(0.8) : settings, tally, output);
        if (children && !(settings.FailFast && tally.Failed > 0))
        {
            foreach (int most in Limits)
            {
                Settings share = settings.Share(0.1) with { Limit = most };
                Child(share.Arguments(), most, output, out Tally? counted);
                tally.Add(counted);
            }
        }

        if (tally.Conditioned > 0) output.WriteLine($"{tally.Conditioned} of those that passed are held to what float64 knows of an ill-conditioned result");
        output.WriteLine($"{tally.Passed} passed, {tally.Failed} failed, {tally.Skipped} skipped");
        return tally.Failed == 0 ? 0 : 1;
    }

    private static void Loop(Settings settings, Tally tally, TextWriter output)
    {
        Stopwatch watch = Stopwatch.StartNew();
        if (settings.Trial is int one)
        {
            Judge(settings, one, tally, watch, output);
            return;
        }

        for (int number = 0; settings.Trials is not int trials || tally.Count < trials; number++)
        {
            if (settings.Trials is null && watch.Elapsed.TotalMinutes >= settings.Minutes) return;
            Judge(settings, number, tally, watch, output);
            if (settings.FailFast && tally.Failed > 0) return;
        }
    }

    private static void Judge(Settings settings, int number, Tally tally, Stopwatch watch, TextWriter output)
    {
        KernelTrial trial = KernelTrial.Of(settings.Seed, number, settings.Limit is not null);
        if (settings.Only is { } only && !trial.ToString()!.Contains(only, StringComparison.OrdinalIgnoreCase)) return;
        if (settings.Verbose)
        {
            output.Write($"{number}: {trial}");
            output.Flush();
        }

        long began = watch.ElapsedMilliseconds;
        KernelResult result = KernelJudge.Run(trial);
        tally.Add(result.Outcome);
        if (settings.Verbose) output.WriteLine($" [{result.Outcome}, {watch.ElapsedMilliseconds - began} ms]");
        if (result.Outcome is KernelOutcome.Pass or KernelOutcome.PassWithinCondition) return;
        string limit = settings.Limit is int most ? $" --limit {most}" : "";
        string word = result.Outcome == KernelOutcome.Fail ? "FAIL" : "SKIP";
        output.WriteLine($"{word} kernels --seed {settings.Seed} --trial {number}{limit}: {result.Reason}; after {watch.Elapsed.TotalSeconds:0.0} s; {trial}");
        output.Flush();
    }

    /// <summary>The same program in a process whose environment limits OpenMP's threads.</summary>
    private static int Child(IReadOnlyList<string> args, int limit, TextWriter output, out Tally? tally)
    {
        ProcessStartInfo start = new(Environment.ProcessPath!) { RedirectStandardOutput = true };
        if (Path.GetFileNameWithoutExtension(start.FileName) == "dotnet") start.ArgumentList.Add(Environment.GetCommandLineArgs()[0]);
        foreach (string argument in args.Prepend("kernels")) start.ArgumentList.Add(argument);
        start.Environment[Teams.LimitVariable] = limit.ToString(CultureInfo.InvariantCulture);
        using Process process = Process.Start(start) ?? throw new InvalidOperationException($"{start.FileName} cannot be started");
        tally = null;
        while (process.StandardOutput.ReadLine() is { } line)
        {
            if (Totals().Match(line) is { Success: true } match) tally = new Tally(match);
            else output.WriteLine(line);
        }

        process.WaitForExit();
        if (tally is null) output.WriteLine($"FAIL the process with {Teams.LimitVariable}={limit} ended with {process.ExitCode} and no totals");
        else if (args.Contains("--trial")) output.WriteLine($"{tally.Passed} passed, {tally.Failed} failed, {tally.Skipped} skipped");
        return process.ExitCode;
    }

    [GeneratedRegex(@"^(\d+) passed, (\d+) failed, (\d+) skipped$")]
    private static partial Regex Totals();

    /// <summary>How many trials had which outcome.</summary>
    private sealed class Tally
    {
        public Tally()
        {
        }

        public Tally(Match line)
        {
            int[] counts = [.. line.Groups.Values.Skip(1).Select(group => int.Parse(group.ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture))];
            (Passed, Failed, Skipped) = (counts[0], counts[1], counts[2]);
        }

        public int Passed { get; private set; }

        public int Conditioned { get; private set; }

        public int Failed { get; private set; }

        public int Skipped { get; private set; }

        public int Count => Passed + Failed + Skipped;

        public void Add(KernelOutcome outcome)
        {
            if (outcome == KernelOutcome.Fail) Failed++;
            else if (outcome == KernelOutcome.Skip) Skipped++;
            else Passed++;
            if (outcome == KernelOutcome.PassWithinCondition) Conditioned++;
        }

        /// <summary>Adds what another process counted; one that counted nothing failed.</summary>
        public void Add(Tally? other)
        {
            Passed += other?.Passed ?? 0;
            Failed += other?.Failed ?? 1;
            Skipped += other?.Skipped ?? 0;
        }
    }

    /// <summary>The options of the command.</summary>
    private sealed record Settings
    {
        public double Minutes { get; init; } = 2;

        public int? Trials { get; init; }

        public int Seed { get; init; } = 1;

        public int? Trial { get; init; }

        public string? Only { get; init; }

        public int? Limit { get; init; }

        public bool FailFast { get; init; }

        public bool Verbose { get; init; }

        /// <summary>A share of the work.</summary>
        public Settings Share(double share) => this with { Minutes = Minutes * share, Trials = Trials is int trials ? Math.Max(1, (int)(trials * share)) : null };

        public List<string> Arguments()
        {
            List<string> arguments = ["--seed", Text(Seed)];
            arguments.AddRange(Trials is int trials ? ["--trials", Text(trials)] : ["--minutes", Minutes.ToString(CultureInfo.InvariantCulture)]);
            if (Limit is int limit) arguments.AddRange(["--limit", Text(limit)]);
            if (Only is not null) arguments.AddRange(["--only", Only]);
            if (FailFast) arguments.Add("--fail-fast");
            if (Verbose) arguments.Add("--verbose");
            return arguments;
        }

        /// <summary>Reads the options; null where one is wrong.</summary>
        public static Settings? Parse(IReadOnlyList<string> args)
        {
            Settings settings = new();
            for (int i = 0; i < args.Count; i++)
            {
                if (args[i] is "--fail-fast" or "--verbose")
                {
                    settings = args[i] == "--verbose" ? settings with { Verbose = true } : settings with { FailFast = true };
                    continue;
                }

                if (i + 1 == args.Count || settings.With(args[i], args[++i]) is not { } changed) return null;
                settings = changed;
            }

            return settings;
        }

        private Settings? With(string name, string value)
        {
            if (name == "--only") return this with { Only = value };
            if (name == "--minutes") return double.TryParse(value, CultureInfo.InvariantCulture, out double minutes) && minutes > 0 ? this with { Minutes = minutes } : null;
            if (!int.TryParse(value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int number)) return null;
            return name switch
            {
                "--seed" => this with { Seed = number },
                "--trials" when number > 0 => this with { Trials = number },
                "--trial" when number >= 0 => this with { Trial = number },
                "--limit" when number > 0 => this with { Limit = number },
                _ => null,
            };
        }

        private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
    }
}
