using System.Runtime.CompilerServices;

namespace TorchSharp.Attention;

/// <summary>Argument checks that name the parameter, its value and the remedy.</summary>
internal static class Check
{
    public static int Positive(int value, [CallerArgumentExpression(nameof(value))] string name = "")
        => value >= 1 ? value : throw new ArgumentOutOfRangeException(name, value, $"{name} is {value}; it must be at least 1.");

    public static int NotNegative(int value, [CallerArgumentExpression(nameof(value))] string name = "")
        => value >= 0 ? value : throw new ArgumentOutOfRangeException(name, value, $"{name} is {value}; it must be at least 0.");

    public static double Positive(double value, [CallerArgumentExpression(nameof(value))] string name = "")
        => value > 0 && double.IsFinite(value)
            ? value
            : throw new ArgumentOutOfRangeException(name, value, $"{name} is {value}; it must be a finite number above 0.");

    public static double Finite(double value, [CallerArgumentExpression(nameof(value))] string name = "")
        => double.IsFinite(value)
            ? value
            : throw new ArgumentOutOfRangeException(name, value, $"{name} is {value}; it must be finite.");

    public static double Probability(double value, bool oneAllowed, [CallerArgumentExpression(nameof(value))] string name = "")
        => value >= 0 && (value < 1 || (oneAllowed && value == 1))
            ? value
            : throw new ArgumentOutOfRangeException(
                name, value, $"{name} is {value}; it is a probability and must lie in [0, 1{(oneAllowed ? "]" : ")")}.");

    /// <summary>Heads that share the channels out.</summary>
    public static int Heads(int value, int channels, [CallerArgumentExpression(nameof(value))] string name = "")
        => channels % Positive(value, name) == 0
            ? value
            : throw new ArgumentOutOfRangeException(
                name, value, $"{name} is {value}, which does not divide {channels} channels. Choose a divisor.");

    /// <summary>An odd kernel keeps the map's size with symmetric padding.</summary>
    public static int OddKernel(int value, [CallerArgumentExpression(nameof(value))] string name = "")
        => value >= 1 && value % 2 == 1
            ? value
            : throw new ArgumentOutOfRangeException(
                name, value, $"{name} is {value}; a kernel must be odd and at least 1, for example {Math.Max(1, value | 1)}.");

    /// <summary>A number of groups, or channels of a group, which must divide the channels.</summary>
    public static int Divides(int value, int channels, [CallerArgumentExpression(nameof(value))] string name = "")
        => Positive(value, name) >= 1 && channels % value == 0
            ? value
            : throw new ArgumentOutOfRangeException(
                name, value,
                $"{name} is {value}, which does not divide {channels} channels. Use a divisor of {channels}, such as 1.");

    /// <summary>A list of widths, one for each of several things.</summary>
    public static void Widths(
        ValueList<int>? widths, int count, string things, [CallerArgumentExpression(nameof(widths))] string name = "")
    {
        if (widths is null || widths.Count != count)
        {
            throw new ArgumentException(
                $"{name} is {widths?.ToString() ?? "null"} for {count} {things}; give one number for each.", name);
        }

        foreach (int width in widths) Positive(width, name);
    }

    public static T Defined<T>(T value, [CallerArgumentExpression(nameof(value))] string name = "")
        where T : struct, Enum
        => Enum.IsDefined(value)
            ? value
            : throw new ArgumentOutOfRangeException(
                name, value, $"{name} is {value}; {typeof(T).Name} has {string.Join(", ", Enum.GetNames<T>())}.");

    /// <summary>A tensor that is there and not disposed.</summary>
    public static void Alive(torch.Tensor input, string module, [CallerArgumentExpression(nameof(input))] string name = "")
    {
        ArgumentNullException.ThrowIfNull(input, name);
        if (!input.IsInvalid) return;
        throw new ObjectDisposedException(
            name,
            $"{name} of {module} was disposed. Call with a tensor that is alive: a dispose scope that has ended, or a using, " +
            "may have disposed it.");
    }

    /// <summary>A module that is there and not disposed, as far as it can be known.</summary>
    public static void Alive(torch.nn.Module module, [CallerArgumentExpression(nameof(module))] string name = "")
    {
        ArgumentNullException.ThrowIfNull(module, name);
        if (module is IPlaced { Place.IsDisposed: true }
            || TrainingModes.HandleOf(module) is { IsInvalid: true } or { IsClosed: true })
        {
            throw Disposed(module.GetType().Name);
        }
    }

    /// <summary>The exception for a module that was disposed.</summary>
    public static ObjectDisposedException Disposed(string module) => new(
        module, $"This {module} was disposed, and its parameters with it. Use it before it is disposed, or build a new one.");

    /// <summary>
    /// A feature map: alive, rank 4, the expected channels, nothing empty but possibly the batch, type and device of the module's
    /// parameters, and a floating-point type where there are none.
    /// </summary>
    public static void FeatureMap(
        torch.Tensor input, int channels, ParameterPlace place, [CallerArgumentExpression(nameof(input))] string name = "")
    {
        string module = place.Name;
        Alive(input, module, name);
        if (input.dim() != 4)
        {
            throw new ArgumentException(
                $"{module} takes a feature map (N, C, H, W); {name} has shape {Shape(input)}." +
                (input.dim() == 3 ? " Add a batch dimension with unsqueeze(0)." : ""), name);
        }

        if (input.size(1) != channels)
        {
            throw new ArgumentException(
                $"{module} was built for {channels} channels; {name} has {input.size(1)} (shape {Shape(input)})." +
                (input.size(3) == channels
                    ? $" Its last axis has {channels}: if it is channels last, (N, H, W, C), give {name}.permute(0, 3, 1, 2)."
                    : ""), name);
        }

        if (input.size(2) < 1 || input.size(3) < 1)
        {
            throw new ArgumentException($"{module} needs at least one position; {name} has shape {Shape(input)}.", name);
        }

        if (!input.is_floating_point())
        {
            throw new ArgumentException(
                $"{module} takes floating-point values; {name} is {input.dtype}. Convert it with to_type(ScalarType.Float32).",
                name);
        }

        place.Check(input, name);
    }

    /// <summary>
    /// An exception's message to stand within another one, without what .NET adds at the end:
    /// "(Parameter 'x')" and "Actual value was …".
    /// </summary>
    public static string Text(Exception exception)
    {
        string message = exception.Message;
        if (exception is not ArgumentException { ParamName: { } parameter } argument) return message;
        if (argument is ArgumentOutOfRangeException { ActualValue: { } value })
        {
            message = Without(new ArgumentOutOfRangeException(parameter, value, "."));
        }

        return Without(new ArgumentException(".", parameter));

        // What .NET adds to a message of one letter, it adds to every message.
        string Without(ArgumentException shortest)
        {
            string tail = shortest.Message[1..];
            return message.EndsWith(tail, StringComparison.Ordinal) ? message[..^tail.Length] : message;
        }
    }

    public static string Shape(torch.Tensor tensor) => $"({string.Join(", ", tensor.shape)})";
}
