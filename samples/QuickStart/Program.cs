using System.CommandLine;
using System.Runtime.InteropServices;
using QuickStart.Data;
using Spectre.Console;

namespace QuickStart;

/// <summary>The command line: options in, exit code out.</summary>
internal static class Program
{
    internal const int Success = 0, BadInput = 2, Stopped = 130;

    private static int Main(string[] args)
    {
        using CancellationTokenSource stop = new();
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        Capabilities terminal = AnsiConsole.Profile.Capabilities;
        bool live = !Console.IsOutputRedirected && terminal.Interactive && terminal.Ansi;
        return Run(args, Console.Out, Console.Error, live, stop.Token);

        // The first Ctrl+C ends the run after the current batch, a second one ends the process.
        void Stop(PosixSignalContext context)
        {
            context.Cancel = !stop.IsCancellationRequested;
            stop.Cancel();
        }
    }

    /// <summary>The whole program. <paramref name="live"/> draws progress on a terminal; otherwise plain lines are written.</summary>
    internal static int Run(string[] args, TextWriter output, TextWriter error, bool live = false, CancellationToken stop = default)
    {
        Option<int?> epochs = new("--epochs")
        {
            Description = $"Passes over the training images (default {QuickStartOptions.DefaultEpochs}, with --quick 1).",
            HelpName = "N",
        };
        epochs.Validators.Add(result =>
        {
            bool number = int.TryParse(result.Tokens.SingleOrDefault()?.Value, out int value);
            if (number && value is < 1 or > 1000) result.AddError("--epochs must be from 1 to 1000.");
        });
        Option<string?> data = new("--data")
        {
            Description = "Folder with Fashion-MNIST or MNIST (IDX files, packed or not) or CIFAR-10 (binary files). " +
                "Default: the subset of Fashion-MNIST that ships with the program.",
            HelpName = "DIR",
        };
        Option<string[]> attention = new("--attention")
        {
            Description = "What to compare with the plain network: kind[:property=value,...][@position[:stage,...]], for example " +
                "cbam:reduction=8,kernel=3@before-add:3,4. May be repeated. Default: SE, ECA, CBAM and self-attention.",
            HelpName = "PLAN",
        };
        Option<int> seed = new("--seed")
        {
            Description = "Start of all random numbers; the same seed on the same machine gives the same weights.",
            HelpName = "N",
            DefaultValueFactory = _ => new QuickStartOptions().Seed,
        };
        Option<string> folder = new("--out")
        {
            Description = "Folder for the results and the best model.",
            HelpName = "DIR",
            DefaultValueFactory = _ => new QuickStartOptions().Out,
        };
        Option<bool> quick = new("--quick") { Description = "A small part of the images: shows within a minute that everything works." };
        RootCommand command = new("Trains a small ResNet plain and with attention, and compares accuracy, cost and speed.")
        {
            epochs, data, attention, seed, folder, quick,
        };

        command.SetAction(parsed => Guarded(error, () => QuickStartRun.Execute(
            new QuickStartOptions
            {
                Epochs = parsed.GetValue(epochs),
                Data = parsed.GetValue(data),
                Attention = parsed.GetValue(attention) ?? [],
                Seed = parsed.GetValue(seed),
                Out = parsed.GetRequiredValue(folder),
                Quick = parsed.GetValue(quick),
            },
            new Screen(output, live),
            stop)));

        ParseResult result = command.Parse(args, new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (result.Errors.Count == 0)
        {
            return result.Invoke(new InvocationConfiguration
            {
                Output = output,
                Error = error,
                EnableDefaultExceptionHandler = false,
                ProcessTerminationTimeout = null,
            });
        }

        foreach (System.CommandLine.Parsing.ParseError problem in result.Errors) error.WriteLine(problem.Message);
        error.WriteLine("Try --help.");
        return BadInput;
    }

    /// <summary>What a user can mend becomes a message and exit code 2.</summary>
    private static int Guarded(TextWriter error, Action run)
    {
        try
        {
            run();
            return Success;
        }
        catch (OperationCanceledException)
        {
            error.WriteLine("Stopped. Nothing was saved.");
            return Stopped;
        }
        catch (Exception e) when (e is DataException or PlanException or IOException or UnauthorizedAccessException)
        {
            error.WriteLine(e.Message);
            return BadInput;
        }
    }
}
