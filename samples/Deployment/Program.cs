using System.CommandLine;
using System.Globalization;
using Deployment;
using Samples;

// dotnet run -c Release --project samples/Deployment [-- train|time|large|tables PAGE] [--out DIR] [--only NAME] [--epochs N] [--rounds N] [--threads N] [--quick]
CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
DeploymentOptions defaults = new();
Argument<string> part = new("part") { Description = "train, time, large, tables, or all: train, time and print.", DefaultValueFactory = _ => "all" };
Argument<string?> page = new("page") { Description = "For tables: the page to write into.", DefaultValueFactory = _ => null };
part.AcceptOnlyFromAmong("all", "train", "time", "large", "tables");
Option<string> folder = CommandLine.Folder("--out", "Folder for models and results.", defaults.Out);
Option<string> only = new("--only") { Description = "Networks whose name contains this, such as resnet-se.", HelpName = "NAME", DefaultValueFactory = _ => defaults.Only };
Option<int> epochs = CommandLine.Number("--epochs", "Passes over the training images.", defaults.Epochs);
Option<int> rounds = CommandLine.Number("--rounds", "Rounds of every measurement of time.", defaults.Rounds);
Option<int> threads = CommandLine.Number("--threads", "Threads of libtorch and of ONNX Runtime.", defaults.Threads);
Option<bool> quick = new("--quick") { Description = "Two networks, few images: shows within a minute that everything works." };
RootCommand command = new("Trains networks with and without attention, exports and quantizes them, and measures accuracy, size and latency of every form.")
{
    part, page, folder, only, epochs, rounds, threads, quick,
};
return CommandLine.Main(stop =>
{
    command.SetAction(parsed =>
    {
        DeploymentOptions options = new()
        {
            Out = parsed.GetRequiredValue(folder),
            Only = parsed.GetRequiredValue(only),
            Epochs = parsed.GetValue(epochs),
            Rounds = parsed.GetValue(rounds),
            Threads = parsed.GetValue(quick) ? 1 : parsed.GetValue(threads),
            Quick = parsed.GetValue(quick),
        };
        return CommandLine.Guarded(
            Console.Error,
            "Stopped. Results of finished networks are kept.",
            () => DeploymentRun.Execute(parsed.GetRequiredValue(part), parsed.GetValue(page), options, Console.Out, stop));
    });
    return CommandLine.Run(command, args, Console.Out, Console.Error);
});
