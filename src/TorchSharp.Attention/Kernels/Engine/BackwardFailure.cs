using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// Carries the message of an exception out of a backward pass. An exception that left the backward of a custom function would end
/// the process. Such a function returns impossible gradients instead, and libtorch throws where the caller can catch it; the
/// exception that TorchSharp makes of that gets the message of the first one, so that it says what went wrong.
/// </summary>
internal static class BackwardFailure
{
    private const string ModifiedInPlace = "modified by an inplace operation", Impossible = "returned an invalid gradient";

    /// <summary>What PyTorch's messages are followed by: where in libtorch they come from.</summary>
    private const string Origin = "\nException raised from";

    private const string Remedy =
        " An attention needs its feature map and its weights in the backward pass as they were in the forward pass. " +
        "Use the operation that is not in place,"
        + " for example y = x.add(1) instead of x.add_(1); or give the attention x.clone(); or call backward before the change.";

    [ThreadStatic]
    private static string? _message;

    private static int _listens;

    /// <summary>Remembers the exception for the one that libtorch will throw on this thread.</summary>
    public static void Report(Exception exception)
    {
        string message = exception.Message;
        int origin = message.IndexOf(Origin, StringComparison.Ordinal);
        if (origin >= 0) message = message[..origin];
        if (message.Contains(ModifiedInPlace, StringComparison.Ordinal)) message = message.TrimEnd() + Remedy;
        Trace.TraceError($"The backward pass of an attention failed: {message}");
        _message = message;
        if (Interlocked.Exchange(ref _listens, 1) == 0) AppDomain.CurrentDomain.FirstChanceException += Complete;
    }

    /// <summary>Forgets a message that no exception has taken.</summary>
    public static void Forget() => _message = null;

    private static void Complete(object? sender, FirstChanceExceptionEventArgs e)
    {
        if (_message is not { } message || e.Exception is not ExternalException thrown
            || !thrown.Message.Contains(Impossible, StringComparison.Ordinal))
        {
            return;
        }

        _message = null;
        try
        {
            MessageOf(thrown) = message;
        }
        catch (MissingFieldException)
        {
            // A runtime that keeps the message elsewhere: then libtorch's own words stay.
        }
    }

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_message")]
    private static extern ref string? MessageOf(Exception exception);
}
