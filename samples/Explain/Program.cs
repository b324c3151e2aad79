using System.CommandLine;
using Samples;

namespace Explain;

/// <summary>The command line: options in, exit code out.</summary>
internal static class Program
{
    private static int Main(string[] args)
    {
        Option<string?> model = new("--model") { Description = "Folder of a model that the quick start saved. Default: trains one.", HelpName = "DIR" };
        Option<string?> data = new("--data") { Description = "Folder of other images, as for the quick start. Default: the images that ship with it.", HelpName = "DIR" };
        Option<string> folder = CommandLine.Folder("--out", "Folder for the report.", "explain-out");
        Option<int> epochs = CommandLine.Number("--epochs", "Passes over the training images.", 3);
        Option<bool> quick = new("--quick") { Description = "A small part of the images and one epoch: done within a minute." };
        RootCommand command = new("Trains a small ResNet with attention, or takes the quick start's, and writes a report on where it looks.")
        {
            model, data, folder, epochs, quick,
        };
        command.SetAction(parsed => CommandLine.Guarded(Console.Error, "Stopped.", () => ExplainRun.Execute(
            parsed.GetValue(model), parsed.GetValue(data), parsed.GetRequiredValue(folder), parsed.GetValue(epochs), parsed.GetValue(quick),
            new Screen(Console.Out, live: false))));
        return CommandLine.Run(command, args, Console.Out, Console.Error);
    }
}
