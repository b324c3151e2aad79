using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Type and device of a module's parameters. Its inputs must have the same: libtorch's own exception names neither the parameter
/// nor a remedy, and some operations widen the result in silence.
/// </summary>
/// <remarks>
/// One parameter stands for all. A conversion of the module replaces and disposes it; then it is looked up again.
/// </remarks>
internal sealed class ParameterPlace(nn.Module module)
{
    private Modules.Parameter? _witness;
    private bool _free;

    /// <summary>Whether the module was disposed; its parameters are not listed any more then.</summary>
    public bool IsDisposed { get; private set; }

    /// <summary>To be called when the module is disposed.</summary>
    public void End() => IsDisposed = true;

    /// <summary>The module's name, for messages.</summary>
    public string Name => module.GetName();

    /// <exception cref="ArgumentException">The input has another type than the parameters, or is on another device.</exception>
    /// <exception cref="ObjectDisposedException">The module was disposed.</exception>
    public void Check(Tensor input, string name)
    {
        if (IsDisposed) throw Attention.Check.Disposed(Name);
        if (_free || (_witness is { IsInvalid: false } witness && Matches(witness, input))) return;
        Modules.Parameter[] all = [.. module.parameters()];
        Modules.Parameter[] alive = Array.FindAll(all, parameter => !parameter.IsInvalid);
        if (alive.Length == 0)
        {
            _free = true;
            return;
        }

        // The weight of a layer must have the input's type; norms may be kept in a wider one.
        _witness = Array.Find(alive, parameter => parameter.dim() > 1) ?? alive[0];
        if (!Matches(_witness, input)) throw Refusal(_witness, input, name);
    }

    private static bool Matches(Tensor parameter, Tensor input)
        => parameter.dtype == input.dtype && parameter.device_type == input.device_type
            && (input.device_type == DeviceType.CPU || parameter.device_index == input.device_index);

    private ArgumentException Refusal(Modules.Parameter parameter, Tensor input, string name) => parameter.dtype == input.dtype
        ? new ArgumentException(
            $"The parameters of {Name} are on {parameter.device}; {name} is on {input.device}. " +
            $"Move the input with {name}.to({DeviceOf(parameter)}), or the module with module.to({DeviceOf(input)}).", name)
        : new ArgumentException(
            $"The parameters of {Name} are {parameter.dtype}; {name} is {input.dtype}. " +
            $"Convert the input with {name}.to_type(ScalarType.{parameter.dtype}), " +
            $"or the module with module.to(ScalarType.{input.dtype}).", name);

    private static string DeviceOf(Tensor tensor) => $"device(\"{tensor.device}\")";
}
