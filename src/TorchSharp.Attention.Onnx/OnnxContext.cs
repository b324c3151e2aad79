using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

// How emitters work
// -----------------
// A module is described once, by an emitter: a function of this context, the module and the values
// that it is called with, which adds nodes
// and returns the values that the module would return. OnnxEmitters says which emitter a type has:
//
//     OnnxEmitters.Default.With<MyNet>((context, net, x) => context.Emit("head", context.Relu(context.Emit("body", x))))
//
// Within an emitter:
// Emit(child or "key", x) writes a submodule by its own emitter, and the attentions that
// InsertAttention put around it; Emit is to emitters
//                              what call is to forward.
// Parameter("weight") a parameter or buffer of the module, or Parameter(tensor): an initialiser that is named by its state-dict
// key.
//   Constant(…)                other numbers.
//   Relu(x), Conv(x, …), …     operators that work out the shape of what they return (OnnxContext.Operators.cs);
//   Node("Op", inputs, …)      any other operator; the caller says the shape.
// x[1], x.Rank lengths of axes. They may be dynamic: Reshape, Expand and Lengths take them as they are; who needs the number
// asks RequireStatic(x[2], "why"), which ends in a report note (the axis gets the example's size) or an error.
// Gates and contexts describe less: OnnxEmitters.WithGate returns the gate, WithContext the context;
// identity start, multiplication, residual and
// the maps as outputs are added for all of them alike. WantsMaps says whether weights are asked
// for; Map(kind, value) hands them over.

/// <summary>
/// The tool that emitters write the graph with. It adds nodes and constants, and it writes submodules. Names of nodes and
/// constants start with the path of the module that is being written.
/// </summary>
public sealed partial class OnnxContext
{
    private readonly OnnxGraph _graph;
    private readonly OnnxEmitters _emitters;
    private readonly bool _convert;
    private readonly Dictionary<nn.Module, string> _paths = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<IntPtr, string> _keys = [];
    private readonly Dictionary<IntPtr, OnnxValue> _parameters = [];
    private readonly Dictionary<string, OnnxValue> _lengths = [];
    private readonly Stack<(nn.Module Module, string Path)> _stack = new();
    private readonly HashSet<nn.Module> _mapped = new(ReferenceEqualityComparer.Instance);
    private int _unmapped;

    internal OnnxContext(OnnxGraph graph, nn.Module model, OnnxEmitters emitters, bool convert, IEnumerable<nn.Module> mapped)
    {
        (_graph, _emitters, _convert) = (graph, emitters, convert);
        _mapped.UnionWith(mapped);
        _paths.Add(model, "");
        foreach ((string name, nn.Module module) in model.named_modules()) _paths.TryAdd(module, name);
        foreach ((string name, Modules.Parameter parameter) in model.named_parameters()) _keys.TryAdd(parameter.Handle, name);
        foreach ((string name, Tensor buffer) in model.named_buffers()) _keys.TryAdd(buffer.Handle, name);
    }

    /// <summary>The module that is being written.</summary>
    public nn.Module Module => _stack.Peek().Module;

    /// <summary>Path of the module that is being written, as in <c>named_modules</c>; "" for the network itself.</summary>
    public string Path => _stack.Peek().Path;

    /// <summary>
    /// Whether the attention maps of this module become outputs of the file. If so, the emitter passes them to <see cref="Map"/>.
    /// </summary>
    public bool WantsMaps => _unmapped == 0 && _mapped.Contains(Module);

    /// <summary>The maps handed over so far.</summary>
    internal List<(string Path, AttentionMapKind Kind, OnnxValue Value)> Maps { get; } = [];

    /// <summary>Writes a submodule with one input and one output.</summary>
    /// <param name="module">The submodule.</param>
    /// <param name="input">What it is called with.</param>
    /// <returns>What it returns.</returns>
    /// <exception cref="NotSupportedException">No emitter is known for the submodule, or for its settings.</exception>
    public OnnxValue Emit(nn.Module module, OnnxValue input)
        => Emit(module, [input]) is [OnnxValue output] ? output : throw new NotSupportedException(
        $"{Named(module, PathOf(module))} does not return one value; use the overload for several.");

    /// <summary>Writes a child of the current module by its key.</summary>
    /// <param name="key">The child's name, as in state-dict keys; with dots for a child further in: <c>blocks.0</c>.</param>
    /// <param name="input">What it is called with.</param>
    /// <returns>What it returns.</returns>
    /// <exception cref="ArgumentException">There is no such child.</exception>
    /// <exception cref="NotSupportedException">No emitter is known for the child, or for its settings.</exception>
    public OnnxValue Emit(string key, OnnxValue input) => Emit(Child(key) ?? throw MissingChild(key), input);

    /// <summary>Writes a submodule.</summary>
    /// <param name="module">The submodule.</param>
    /// <param name="inputs">What it is called with.</param>
    /// <returns>What it returns.</returns>
    /// <exception cref="NotSupportedException">No emitter is known for the submodule, or for its settings.</exception>
    public IReadOnlyList<OnnxValue> Emit(nn.Module module, params IReadOnlyList<OnnxValue> inputs)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(inputs);
        (IReadOnlyList<AttentionModule> before, IReadOnlyList<AttentionModule> after) = HookedModule.Around(module);
        if (before.Count > 0) inputs = [Chain(before, inputs[0]), .. inputs.Skip(1)];
        IReadOnlyList<OnnxValue> outputs = Enter(
            module, path => _emitters.Find(module, Named(module, path))(this, module, inputs));
        return after.Count > 0 ? [Chain(after, outputs[0]), .. outputs.Skip(1)] : outputs;
    }

    /// <summary>
    /// Writes a child within the emitter of the current module. Use this for a child whose type has no emitter of its own.
    /// </summary>
    /// <param name="key">The child's name, as in state-dict keys; with dots for a child further in: <c>blocks.0</c>.</param>
    /// <param name="write">Writes it; meanwhile the child is the current module.</param>
    /// <exception cref="ArgumentException">There is no such child.</exception>
    public OnnxValue Within(string key, Func<OnnxValue> write)
    {
        ArgumentNullException.ThrowIfNull(write);
        return Enter(Child(key) ?? throw MissingChild(key), _ => write());
    }

    /// <summary>
    /// Writes a child that the network calls, together with the attentions that were inserted before and after it.
    /// </summary>
    /// <param name="key">The child's name, as in state-dict keys; with dots for a child further in: <c>blocks.0</c>.</param>
    /// <param name="input">What it is called with.</param>
    /// <param name="write">Writes it; meanwhile the child is the current module.</param>
    /// <exception cref="ArgumentException">There is no such child.</exception>
    public OnnxValue Within(string key, OnnxValue input, Func<OnnxValue, OnnxValue> write)
    {
        ArgumentNullException.ThrowIfNull(write);
        nn.Module child = Child(key) ?? throw MissingChild(key);
        (IReadOnlyList<AttentionModule> before, IReadOnlyList<AttentionModule> after) = HookedModule.Around(child);
        OnnxValue given = Chain(before, input);
        return Chain(after, Enter(child, _ => write(given)));
    }

    /// <summary>
    /// Writes a child of the current module if there is one, and returns its output; otherwise returns the input.
    /// </summary>
    /// <param name="key">The child's name, as in state-dict keys; with dots for a child further in: <c>blocks.0</c>.</param>
    /// <param name="input">What it is called with.</param>
    public OnnxValue EmitOptional(string key, OnnxValue input) => Child(key) is { } child ? Emit(child, input) : input;

    /// <summary>Returns a child of the current module by its key. Null if there is none.</summary>
    /// <param name="key">
    /// The child's name, as in state-dict keys; with dots for a child further in, such as <c>blocks.0</c> of a ModuleList.
    /// </param>
    public nn.Module? Child(string key)
    {
        ArgumentNullException.ThrowIfNull(key);
        nn.Module module = Module;
        foreach (string part in key.Split('.'))
        {
            if (module.named_children().FirstOrDefault(child => child.name == part).module is not { } child) return null;
            module = child;
        }

        return module;
    }

    /// <summary>Adds a parameter or buffer of the current module to the graph, by its name. Throws if there is none.</summary>
    /// <param name="name">Its name in the module.</param>
    /// <exception cref="ArgumentException">There is no such parameter or buffer.</exception>
    public OnnxValue Parameter(string name) => Parameter(Tensor(name) ?? throw Missing(
        name, "parameter or buffer", Module.named_parameters(recurse: false).Select(own => own.name)), name);

    /// <summary>
    /// Adds a tensor to the graph as a constant. Its name is its state-dict key if it belongs to the network, otherwise it starts
    /// with the path of the current module.
    /// </summary>
    /// <param name="tensor">The values; floating point. They are copied now.</param>
    /// <param name="name">Its name in the module.</param>
    /// <exception cref="NotSupportedException">Its type is not float32, and the options do not allow to convert.</exception>
    public OnnxValue Parameter(Tensor tensor, [CallerArgumentExpression(nameof(tensor))] string name = "")
    {
        ArgumentNullException.ThrowIfNull(tensor);
        if (_parameters.TryGetValue(tensor.Handle, out OnnxValue? known)) return known;
        bool part = _keys.TryGetValue(tensor.Handle, out string? key);
        key ??= Below(Path, name.Split('.', ' ')[^1].TrimEnd('!').TrimStart('_'));
        if (tensor.dtype != ScalarType.Float32 && !(_convert && tensor.is_floating_point()))
        {
            throw new NotSupportedException(
                $"'{key}' is {tensor.dtype}. ONNX files are written in float32: " +
                "bring the network to float32 with .to(ScalarType.Float32), or set " +
                $"{nameof(OnnxExportOptions)}.{nameof(OnnxExportOptions.ConvertToFloat32)} to write its values rounded to " +
                "float32.");
        }

        using DisposeScope scope = NewDisposeScope();
        Tensor values = tensor.detach().cpu().to_type(ScalarType.Float32).contiguous();
        OnnxValue value = _graph.Initializer(key, tensor.shape, OnnxElementType.Float, values.bytes.ToArray());
        if (part) _parameters.Add(tensor.Handle, value);
        return value;
    }

    /// <summary>Adds float32 numbers to the graph as a constant.</summary>
    /// <param name="values">The numbers, row by row.</param>
    /// <param name="shape">Length of each axis; none for a scalar.</param>
    public OnnxValue Constant(ReadOnlySpan<float> values, params long[] shape)
        => _graph.Constant(Below(Path, "constant"), values, shape, OnnxElementType.Float);

    /// <summary>Adds int64 numbers to the graph as a constant.</summary>
    /// <param name="values">The numbers, row by row.</param>
    /// <param name="shape">Length of each axis; none for a scalar.</param>
    public OnnxValue Constant(ReadOnlySpan<long> values, params long[] shape)
        => _graph.Constant(Below(Path, "constant"), values, shape, OnnxElementType.Int64);

    /// <summary>Adds a node with one output.</summary>
    /// <param name="op">The operator, of operator set 17.</param>
    /// <param name="inputs">Its inputs; null for one that is left out.</param>
    /// <param name="shape">The output's shape.</param>
    /// <param name="attributes">Settings: int, long, bool, float, double, string, or lists of ints, longs or floats.</param>
    public OnnxValue Node(
        string op, IReadOnlyList<OnnxValue?> inputs, IReadOnlyList<OnnxLength> shape,
        params (string Name, object Value)[] attributes)
        => Node(op, inputs, [(shape, OnnxElementType.Float)], attributes)[0];

    /// <summary>Adds a node.</summary>
    /// <param name="op">The operator, of operator set 17.</param>
    /// <param name="inputs">Its inputs; null for one that is left out.</param>
    /// <param name="outputs">Shape and type of each output.</param>
    /// <param name="attributes">Settings: int, long, bool, float, double, string, or lists of ints, longs or floats.</param>
    public IReadOnlyList<OnnxValue> Node(
        string op, IReadOnlyList<OnnxValue?> inputs,
        IReadOnlyList<(IReadOnlyList<OnnxLength> Shape, OnnxElementType Type)> outputs,
        params (string Name, object Value)[] attributes)
    {
        ArgumentException.ThrowIfNullOrEmpty(op);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(outputs);
        ArgumentNullException.ThrowIfNull(attributes);
        return _graph.Node(op, Below(Path, op), inputs, outputs, attributes);
    }

    /// <summary>
    /// Returns a length as a number, for an emitter that must know it while the graph is written. If the length depends on a
    /// dynamic axis, that axis is fixed to the example's size and a note goes into the report. With
    /// <see cref="OnnxExportOptions.RequireDynamicAxes"/> the export fails instead.
    /// </summary>
    /// <param name="length">The length.</param>
    /// <param name="reason">What needs it, for the report: "windows are padded to a multiple of 7".</param>
    public long RequireStatic(OnnxLength length, string reason)
    {
        ArgumentNullException.ThrowIfNull(length);
        return length.IsDynamic ? throw new FixedAxisException(length.Axes, $"{Named(Module, Path)}: {reason}") : length.Size;
    }

    /// <summary>Creates the exception for a setting or a module that has no form in ONNX.</summary>
    /// <param name="reason">What it is and what would do instead.</param>
    public NotSupportedException Unsupported(string reason) => new($"{Named(Module, Path)} cannot be written: {reason}");

    /// <summary>
    /// Makes a map of the current attention an output of the file. If an attention is called several times, the map of the last
    /// call is kept.
    /// </summary>
    /// <param name="kind">What it weighs.</param>
    /// <param name="map">The map, in the shape that <see cref="AttentionMapKind"/> says.</param>
    public void Map(AttentionMapKind kind, OnnxValue map)
    {
        ArgumentNullException.ThrowIfNull(map);
        if (!WantsMaps) return;
        Maps.RemoveAll(earlier => earlier.Path == Path && earlier.Kind == kind); // A recorder keeps those of the last call.
        Maps.Add((Path, kind, map));
    }

    /// <summary>The gate of a gate module inside the current one, identity start included, without multiplying.</summary>
    internal OnnxValue Gate(GateModule module, OnnxValue input)
        => Enter(module, path => _emitters.FindGate(module, Named(module, path))(this, module, input));

    /// <summary>Writes something whose attentions have no maps.</summary>
    internal OnnxValue WithoutMaps(Func<OnnxValue> write)
    {
        _unmapped++;
        try
        {
            return write();
        }
        finally
        {
            _unmapped--;
        }
    }

    /// <summary>A tensor of the current module by its name.</summary>
    internal Tensor? Tensor(string name)
        => Module.named_parameters(recurse: false).FirstOrDefault(own => own.name == name).parameter
            ?? Module.named_buffers(recurse: false).FirstOrDefault(own => own.name == name).buffer;

    internal static string Below(string path, string name) => path.Length == 0 ? name : $"{path}/{name}";

    private OnnxValue Chain(IReadOnlyList<AttentionModule> attentions, OnnxValue map)
        => attentions.Aggregate(map, (x, attention) => Emit(attention, x));

    private T Enter<T>(nn.Module module, Func<string, T> write)
    {
        string path = PathOf(module);
        if (_stack.Any(entry => ReferenceEquals(entry.Module, module)))
        {
            throw new NotSupportedException($"{Named(module, path)} contains itself.");
        }

        _stack.Push((module, path));
        try
        {
            return write(path);
        }
        finally
        {
            _stack.Pop();
        }
    }

    private string PathOf(nn.Module module)
        => _paths.TryGetValue(module, out string? path) ? path : _stack.Count == 0 ? "" : Below(Path, module.GetName());

    /// <summary>Says what there is where the key stops to lead on.</summary>
    private ArgumentException MissingChild(string key)
    {
        string[] parts = key.Split('.');
        int known = 0;
        while (Child(string.Join('.', parts.Take(known + 1))) is not null) known++;
        string inside = string.Concat(parts.Take(known).Select(part => $"{part}."));
        nn.Module last = known == 0 ? Module : Child(inside[..^1])!;
        return Missing(key, "child", last.named_children().Select(child => inside + child.name));
    }

    private ArgumentException Missing(string name, string what, IEnumerable<string> present)
        => new($"{Named(Module, Path)} has no {what} '{name}'. There are: {string.Join(", ", present)}.", nameof(name));

    private static string Named(nn.Module module, string path)
        => path.Length == 0 ? module.GetType().Name : $"{module.GetType().Name} '{path}'";
}
