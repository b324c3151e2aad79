using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using Deployment;
using QuickStart.Data;

// dotnet run -c Release --project samples/Deployment [-- train|time|large|tables PAGE] [--out DIR] [--only NAME] [--epochs N] [--rounds N] [--threads N] [--quick]
CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
using CancellationTokenSource stop = new();
using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, context =>
{
    context.Cancel = !stop.IsCancellationRequested;
    stop.Cancel();
});
DeploymentOptions defaults = new();
Argument<string> part = new("part") { Description = "train, time, large, tables, or all: train, time and print.", DefaultValueFactory = _ => "all" };
Argument<string?> page = new("page") { Description = "For tables: the page to write into.", DefaultValueFactory = _ => null };
part.AcceptOnlyFromAmong("all", "train", "time", "large", "tables");
Option<string> folder = new("--out") { Description = "Folder for models and results.", HelpName = "DIR", DefaultValueFactory = _ => defaults.Out };
Option<string> only = new("--only") { Description = "Networks whose name contains this, such as resnet-se.", HelpName = "NAME", DefaultValueFactory = _ => defaults.Only };
Option<int> epochs = Number("--epochs", "Passes over the training images.", defaults.Epochs);
Option<int> rounds = Number("--rounds", "Rounds of every measurement of time.", defaults.Rounds);
Option<int> threads = Number("--threads", "Threads of libtorch and of ONNX Runtime.", defaults.Threads);
Option<bool> quick = new("--quick") { Description = "Two networks, few images: shows within a minute that everything works." };
RootCommand command = new("Trains networks with and without attention, exports and quantizes them, and measures accuracy, size and latency of every form.")
{
    part, page, folder, only, epochs, rounds, threads, quick,
};
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
    try
    {
        DeploymentRun.Execute(parsed.GetRequiredValue(part), parsed.GetValue(page), options, Console.Out, stop.Token);
        return 0;
    }
    catch (OperationCanceledException)
    {
        Console.Error.WriteLine("Stopped. Results of finished networks are kept.");
        return 130;
    }
    catch (Exception e) when (e is DataException or IOException or UnauthorizedAccessException)
    {
        Console.Error.WriteLine(e.Message);
        return 2;
    }
});
return command.Parse(args).Invoke(new InvocationConfiguration { ProcessTerminationTimeout = null });

static Option<int> Number(string name, string description, int value)
{
    Option<int> option = new(name) { Description = description, HelpName = "N", DefaultValueFactory = _ => value };
    option.Validators.Add(result =>
    {
        if (result.Tokens.Count == 1 && int.TryParse(result.Tokens[0].Value, out int number) && number < 1) result.AddError($"{name} must be at least 1.");
    });
    return option;
}
