using System.CommandLine;
using QuickStart;
using QuickStart.Data;

namespace Explain;

/// <summary>The command line: options in, exit code out.</summary>
internal static class Program
{
    private static int Main(string[] args)
    {
        Option<string?> model = new("--model") { Description = "Folder of a model that the quick start saved. Default: trains one.", HelpName = "DIR" };
        Option<string?> data = new("--data") { Description = "Folder of other images, as for the quick start. Default: the images that ship with it.", HelpName = "DIR" };
        Option<string> folder = new("--out") { Description = "Folder for the report.", HelpName = "DIR", DefaultValueFactory = _ => "explain-out" };
        Option<int> epochs = new("--epochs") { Description = "Passes over the training images.", HelpName = "N", DefaultValueFactory = _ => 3 };
        epochs.Validators.Add(result =>
        {
            if (result.GetValueOrDefault<int>() is < 1 or > 1000) result.AddError("--epochs must be from 1 to 1000.");
        });
        Option<bool> quick = new("--quick") { Description = "A small part of the images and one epoch: done within a minute." };
        RootCommand command = new("Trains a small ResNet with attention, or takes the quick start's, and writes a report on where it looks.") { model, data, folder, epochs, quick };
        command.SetAction(parsed =>
        {
            try
            {
                ExplainRun.Execute(
                    parsed.GetValue(model), parsed.GetValue(data), parsed.GetRequiredValue(folder), parsed.GetValue(epochs), parsed.GetValue(quick),
                    new Screen(Console.Out, live: false));
                return 0;
            }
            catch (Exception e) when (e is DataException or IOException or UnauthorizedAccessException)
            {
                Console.Error.WriteLine(e.Message);
                return 2;
            }
        });
        return command.Parse(args).Invoke();
    }
}
