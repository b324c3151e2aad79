using System.CommandLine;
using Samples;

namespace AblationSample;

/// <summary>The command line: options in, exit code out.</summary>
internal static class Program
{
    private static int Main(string[] args) => CommandLine.Main(stop => Run(args, Console.Out, Console.Error, stop));

    internal static int Run(string[] args, TextWriter output, TextWriter error, CancellationToken stop = default)
    {
        SampleOptions defaults = new();
        Option<int> epochs = CommandLine.Number("--epochs", "Passes over the training images.", defaults.Epochs);
        Option<int> seeds = CommandLine.Number("--seeds", "How often each network is trained.", defaults.Seeds);
        Option<int> images = CommandLine.Number("--images", "How many training images to use.", defaults.Images, least: 64);
        Option<string> folder = CommandLine.Folder("--out", "Folder for the results. A run that was stopped goes on where it was.", defaults.Out);
        Option<bool> quick = new("--quick") { Description = "Four networks, two seeds, few images: shows within a minute that everything works." };
        RootCommand command = new("Trains a small ResNet with attentions, places and reductions, several seeds each, and tells differences from noise.")
        {
            epochs, seeds, images, folder, quick,
        };
        command.SetAction(parsed =>
        {
            SampleOptions options = new()
            {
                Epochs = parsed.GetValue(epochs),
                Seeds = parsed.GetValue(seeds),
                Images = parsed.GetValue(images),
                Out = parsed.GetRequiredValue(folder),
                Quick = parsed.GetValue(quick),
            };
            return CommandLine.Guarded(
                error,
                "Stopped. Finished runs are kept; the same command goes on.",
                () => SampleRun.Execute(options, output, stop),
                e => e is InvalidOperationException);
        });
        return CommandLine.Run(command, args, output, error);
    }
}
