using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using QuickStart.Data;

namespace Mobile;

/// <summary>The command line: options in, exit code out.</summary>
internal static class Program
{
    private const int BadInput = 2, Stopped = 130;

    private static int Main(string[] args)
    {
        using CancellationTokenSource stop = new();
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, context =>
        {
            context.Cancel = !stop.IsCancellationRequested;
            stop.Cancel();
        });
        return Run(args, Console.Out, Console.Error, stop.Token);
    }

    internal static int Run(string[] args, TextWriter output, TextWriter error, CancellationToken stop = default)
    {
        MobileOptions usual = new();
        Argument<string> part = new("part")
        {
            Description = "make, time (measure the files of --out again), curve (accuracy against cost), or all: make and time.",
            DefaultValueFactory = _ => "all",
        };
        part.AcceptOnlyFromAmong("all", "make", "time", "curve");
        Option<string> folder = new("--out")
        {
            Description = "Folder for weights, ONNX files and results. Networks that were trained there are used again.",
            HelpName = "DIR",
            DefaultValueFactory = _ => usual.Out,
        };
        Option<int?> epochs = Number("--epochs", $"Passes over the training images. Default {usual.Epochs}.", 1);
        Option<int?> tune = Number("--tune", $"Passes over them after pruning. Default {usual.Tune}.", 1);
        Option<int?> images = Number("--images", $"How many training images to use. Default {usual.Images}, all.", 64);
        Option<int?> threads = Number("--threads", "Threads for training. Default 2 at most; latency is always that of one thread.", 1);
        Option<int?> rounds = Number("--rounds", $"Rounds of every measurement of time. Default {usual.Rounds}.", 1);
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
        command.SetAction(parsed => Guarded(error, () =>
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
        }));

        ParseResult result = command.Parse(args, new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (result.Errors.Count == 0)
        {
            return result.Invoke(new InvocationConfiguration { Output = output, Error = error, EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
        }

        foreach (System.CommandLine.Parsing.ParseError problem in result.Errors) error.WriteLine(problem.Message);
        error.WriteLine("Try --help.");
        return BadInput;
    }

    private static Option<int?> Number(string name, string description, int least)
    {
        Option<int?> option = new(name) { Description = description, HelpName = "N" };
        option.Validators.Add(result =>
        {
            if (int.TryParse(result.Tokens.SingleOrDefault()?.Value, out int number) && number < least) result.AddError($"{name} must be at least {least}.");
        });
        return option;
    }

    private static int Guarded(TextWriter error, Action run)
    {
        try
        {
            run();
            return 0;
        }
        catch (OperationCanceledException)
        {
            error.WriteLine("Stopped. Networks that were trained are kept.");
            return Stopped;
        }
        catch (Exception e) when (e is DataException or IOException or InvalidDataException or UnauthorizedAccessException or OnnxRuntimeException)
        {
            error.WriteLine(e.Message);
            return BadInput;
        }
    }
}
