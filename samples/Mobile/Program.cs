using System.CommandLine;
using System.Globalization;
using Microsoft.ML.OnnxRuntime;
using Samples;

namespace Mobile;

/// <summary>The command line: options in, exit code out.</summary>
internal static class Program
{
    private static int Main(string[] args) => CommandLine.Main(stop => Run(args, Console.Out, Console.Error, stop));

    internal static int Run(string[] args, TextWriter output, TextWriter error, CancellationToken stop = default)
    {
        MobileOptions usual = new();
        Argument<string> part = new("part")
        {
            Description = "make, time (measure the files of --out again), curve (accuracy against cost), or all: make and time.",
            DefaultValueFactory = _ => "all",
        };
        part.AcceptOnlyFromAmong("all", "make", "time", "curve");
        Option<string> folder = CommandLine.Folder(
            "--out", "Folder for weights, ONNX files and results. Networks that were trained there are used again.", usual.Out);
        Option<int?> epochs = CommandLine.OptionalNumber("--epochs", $"Passes over the training images. Default {usual.Epochs}.");
        Option<int?> tune = CommandLine.OptionalNumber("--tune", $"Passes over them after pruning. Default {usual.Tune}.");
        Option<int?> images = CommandLine.OptionalNumber("--images", $"How many training images to use. Default {usual.Images}, all.", least: 64);
        Option<int?> threads = CommandLine.OptionalNumber("--threads", "Threads for training. Default 2 at most; latency is always that of one thread.");
        Option<int?> rounds = CommandLine.OptionalNumber("--rounds", $"Rounds of every measurement of time. Default {usual.Rounds}.");
        Option<double?> fraction = new("--fraction") { Description = string.Create(CultureInfo.InvariantCulture, $"Share of the gated channels to remove. Default {usual.Fraction}."), HelpName = "X" };
        fraction.Validators.Add(result =>
        {
            string? text = result.Tokens.SingleOrDefault()?.Value;
            if (double.TryParse(text, CultureInfo.InvariantCulture, out double share) && share is not (> 0 and < 1)) result.AddError($"--fraction is {text}; it must lie between 0 and 1.");
        });
        Option<bool> quick = new("--quick") { Description = "Few images, one epoch: shows within a minute that everything works." };
        RootCommand command = new("Trains a MobileNetV2 with SE, prunes it by its gates, exports and quantizes it; prints size, latency and accuracy of every step.")
        {
            part, folder, epochs, tune, images, fraction, threads, rounds, quick,
        };
        command.SetAction(parsed => CommandLine.Guarded(error, "Stopped. Networks that were trained are kept.", () =>
        {
            MobileOptions options = parsed.GetValue(quick) ? MobileOptions.Quick : usual;
            MobileRun run = new(
                options with
                {
                    Out = parsed.GetRequiredValue(folder),
                    Epochs = parsed.GetValue(epochs) ?? options.Epochs,
                    Tune = parsed.GetValue(tune) ?? options.Tune,
                    Images = parsed.GetValue(images) ?? options.Images,
                    Fraction = parsed.GetValue(fraction) ?? options.Fraction,
                    Threads = parsed.GetValue(threads) ?? options.Threads,
                    Rounds = parsed.GetValue(rounds) ?? options.Rounds,
                },
                output,
                stop);
            string wanted = parsed.GetRequiredValue(part);
            if (wanted is "all" or "make") run.Make();
            if (wanted is "all" or "time") run.Time();
            if (wanted == "curve") run.Curve();
            else output.WriteLine($"Now without TorchSharp: dotnet run -c Release --project samples/Mobile.Runner -- {parsed.GetRequiredValue(folder)}");
        }, e => e is InvalidDataException or OnnxRuntimeException));
        return CommandLine.Run(command, args, output, error);
    }
}
