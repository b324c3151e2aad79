using System.CommandLine;
using Samples;
using Spectre.Console;

namespace QuickStart;

/// <summary>The command line: options in, exit code out.</summary>
internal static class Program
{
    private static int Main(string[] args)
    {
        Capabilities terminal = AnsiConsole.Profile.Capabilities;
        bool live = !Console.IsOutputRedirected && terminal.Interactive && terminal.Ansi;
        return CommandLine.Main(stop => Run(args, Console.Out, Console.Error, live, stop));
    }

    /// <summary>The whole program. <paramref name="live"/> draws progress on a terminal; otherwise plain lines are written.</summary>
    internal static int Run(string[] args, TextWriter output, TextWriter error, bool live = false, CancellationToken stop = default)
    {
        Option<int?> epochs = CommandLine.OptionalNumber(
            "--epochs", $"Passes over the training images (default {QuickStartOptions.DefaultEpochs}, with --quick 1).", most: 1000);
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
        Option<string> folder = CommandLine.Folder("--out", "Folder for the results and the best model.", new QuickStartOptions().Out);
        Option<bool> quick = new("--quick") { Description = "A small part of the images: shows within a minute that everything works." };
        RootCommand command = new("Trains a small ResNet plain and with attention, and compares accuracy, cost and speed.")
        {
            epochs, data, attention, seed, folder, quick,
        };

        command.SetAction(parsed =>
        {
            QuickStartOptions options = new()
            {
                Epochs = parsed.GetValue(epochs),
                Data = parsed.GetValue(data),
                Attention = parsed.GetValue(attention) ?? [],
                Seed = parsed.GetValue(seed),
                Out = parsed.GetRequiredValue(folder),
                Quick = parsed.GetValue(quick),
            };
            return CommandLine.Guarded(
                error, "Stopped. Nothing was saved.", () => QuickStartRun.Execute(options, new Screen(output, live), stop), e => e is PlanException);
        });
        return CommandLine.Run(command, args, output, error);
    }
}
