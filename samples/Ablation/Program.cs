using System.CommandLine;
using System.Runtime.InteropServices;
using QuickStart.Data;

namespace AblationSample;

/// <summary>The command line: options in, exit code out.</summary>
internal static class Program
{
    internal const int Success = 0, BadInput = 2, Stopped = 130;

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
        SampleOptions defaults = new();
        Option<int> epochs = Number("--epochs", "Passes over the training images.", defaults.Epochs, 1);
        Option<int> seeds = Number("--seeds", "How often each network is trained.", defaults.Seeds, 1);
        Option<int> images = Number("--images", "How many training images to use.", defaults.Images, 64);
        Option<string> folder = new("--out")
        {
            Description = "Folder for the results. A run that was stopped goes on where it was.",
            HelpName = "DIR",
            DefaultValueFactory = _ => defaults.Out,
        };
        Option<bool> quick = new("--quick") { Description = "Four networks, two seeds, few images: shows within a minute that everything works." };
        RootCommand command = new("Trains a small ResNet with attentions, places and reductions, several seeds each, and tells differences from noise.")
        {
            epochs, seeds, images, folder, quick,
        };
        command.SetAction(parsed => Guarded(error, () => SampleRun.Execute(
            new SampleOptions
            {
                Epochs = parsed.GetValue(epochs),
                Seeds = parsed.GetValue(seeds),
                Images = parsed.GetValue(images),
                Out = parsed.GetRequiredValue(folder),
                Quick = parsed.GetValue(quick),
            },
            output,
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

    private static Option<int> Number(string name, string description, int value, int least)
    {
        Option<int> option = new(name) { Description = description, HelpName = "N", DefaultValueFactory = _ => value };
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
            return Success;
        }
        catch (OperationCanceledException)
        {
            error.WriteLine("Stopped. Finished runs are kept; the same command goes on.");
            return Stopped;
        }
        catch (Exception e) when (e is DataException or IOException or UnauthorizedAccessException or InvalidOperationException)
        {
            error.WriteLine(e.Message);
            return BadInput;
        }
    }
}
