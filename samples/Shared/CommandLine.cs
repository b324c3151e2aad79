using System.CommandLine;
using System.CommandLine.Parsing;
using System.Runtime.InteropServices;
using Samples.Data;

namespace Samples;

/// <summary>What all samples do with their command lines: options, exit codes, Ctrl+C, messages instead of stack traces.</summary>
public static class CommandLine
{
    public const int Success = 0, BadInput = 2, Stopped = 130;

    /// <summary>Runs a program. The first Ctrl+C asks it to stop, a second one ends the process.</summary>
    public static int Main(Func<CancellationToken, int> run)
    {
        using CancellationTokenSource stop = new();
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        return run(stop.Token);

        void Stop(PosixSignalContext context)
        {
            context.Cancel = !stop.IsCancellationRequested;
            stop.Cancel();
        }
    }

    /// <summary>A whole number with a default.</summary>
    public static Option<int> Number(string name, string description, int value, int least = 1)
    {
        Option<int> option = new(name) { Description = description, HelpName = "N", DefaultValueFactory = _ => value };
        option.Validators.Add(result => Check(result, least, int.MaxValue));
        return option;
    }

    /// <summary>A whole number that may be missing.</summary>
    public static Option<int?> OptionalNumber(string name, string description, int least = 1, int most = int.MaxValue)
    {
        Option<int?> option = new(name) { Description = description, HelpName = "N" };
        option.Validators.Add(result => Check(result, least, most));
        return option;
    }

    public static Option<string> Folder(string name, string description, string value)
        => new(name) { Description = description, HelpName = "DIR", DefaultValueFactory = _ => value };

    /// <summary>Reads the arguments and runs the command, or writes what is wrong with them.</summary>
    public static int Run(RootCommand command, string[] args, TextWriter output, TextWriter error)
    {
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

        foreach (ParseError problem in result.Errors) error.WriteLine(problem.Message);
        error.WriteLine("Try --help.");
        return BadInput;
    }

    /// <summary>Runs the sample. What a user can mend becomes a message and exit code 2.</summary>
    /// <param name="error">Where messages go.</param>
    /// <param name="stopped">What to say when the user stopped it.</param>
    /// <param name="run">The sample.</param>
    /// <param name="mendable">Exceptions that a user can mend beside missing data and files that cannot be read or written.</param>
    public static int Guarded(TextWriter error, string stopped, Action run, Predicate<Exception>? mendable = null)
    {
        try
        {
            run();
            return Success;
        }
        catch (OperationCanceledException)
        {
            error.WriteLine(stopped);
            return Stopped;
        }
        catch (Exception e) when (e is DataException or IOException or UnauthorizedAccessException || mendable?.Invoke(e) == true)
        {
            error.WriteLine(e.Message);
            return BadInput;
        }
    }

    private static void Check(OptionResult result, int least, int most)
    {
        if (!int.TryParse(result.Tokens.SingleOrDefault()?.Value, out int number) || (number >= least && number <= most)) return;
        string name = result.Option.Name;
        result.AddError(most == int.MaxValue ? $"{name} must be at least {least}." : $"{name} must be from {least} to {most}.");
    }
}
