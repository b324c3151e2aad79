using System.Collections.Immutable;
using System.Reflection;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// The emitters by module type: which modules can be exported, and how. Immutable: <c>With</c> returns a larger set.
/// <see cref="Default"/> has TorchSharp's common layers and every module and network of the library. The export of any other type
/// fails with an exception that names it, until you add an emitter for it.
/// </summary>
/// <remarks>
/// A type's emitter also serves a class derived from it, unless that class, or one between, has a <c>forward</c> of its own.
/// </remarks>
public sealed class OnnxEmitters
{
    private readonly ImmutableDictionary<
        Type, Func<OnnxContext, nn.Module, IReadOnlyList<OnnxValue>, IReadOnlyList<OnnxValue>>> _emitters;
    private readonly ImmutableDictionary<Type, Func<OnnxContext, nn.Module, OnnxValue, OnnxValue>> _gates;

    private OnnxEmitters(
        ImmutableDictionary<Type, Func<OnnxContext, nn.Module, IReadOnlyList<OnnxValue>, IReadOnlyList<OnnxValue>>> emitters,
        ImmutableDictionary<Type, Func<OnnxContext, nn.Module, OnnxValue, OnnxValue>> gates)
            => (_emitters, _gates) = (emitters, gates);

    /// <summary>TorchSharp's common layers, and every module and network of the library.</summary>
    public static OnnxEmitters Default { get; } = new OnnxEmitters(
            ImmutableDictionary<Type, Func<OnnxContext, nn.Module, IReadOnlyList<OnnxValue>, IReadOnlyList<OnnxValue>>>.Empty,
            ImmutableDictionary<Type, Func<OnnxContext, nn.Module, OnnxValue, OnnxValue>>.Empty)
        .WithLayers()
        .WithActivations()
        .WithPooling()
        .WithMultiheadAttention()
        .WithChannelAttentions()
        .WithSpatialAttentions()
        .WithMixedAttentions()
        .WithBranchAttentions()
        .WithSelfAttentions()
        .WithNetworks();

    /// <summary>Adds or replaces the emitter of modules with one input and one output.</summary>
    /// <typeparam name="TModule">The type of module.</typeparam>
    /// <param name="emit">Writes such a module: what it computes from its input.</param>
    public OnnxEmitters With<TModule>(Func<OnnxContext, TModule, OnnxValue, OnnxValue> emit)
        where TModule : nn.Module
    {
        ArgumentNullException.ThrowIfNull(emit);
        return WithMultiple<TModule>((context, module, inputs) => inputs is [OnnxValue input]
            ? [emit(context, module, input)]
            : throw context.Unsupported($"it was called with {inputs.Count} values, and its emitter takes one."));
    }

    /// <summary>Adds or replaces the emitter of modules with any number of inputs and outputs.</summary>
    /// <typeparam name="TModule">The type of module.</typeparam>
    /// <param name="emit">Writes such a module: what it computes from its inputs.</param>
    public OnnxEmitters WithMultiple<TModule>(Func<OnnxContext, TModule, IReadOnlyList<OnnxValue>, IReadOnlyList<OnnxValue>> emit)
        where TModule : nn.Module
    {
        ArgumentNullException.ThrowIfNull(emit);
        return new OnnxEmitters(
            _emitters.SetItem(typeof(TModule), (context, module, inputs) => emit(context, (TModule)module, inputs)), _gates);
    }

    /// <summary>
    /// Adds or replaces the emitter of a gate. The emitter writes only what <see cref="GateModule"/>'s <c>ComputeGate</c>
    /// computes. The identity start, the multiplication with the input and the maps are added automatically.
    /// </summary>
    /// <typeparam name="TModule">The type of gate.</typeparam>
    /// <param name="gate">Writes the gate: a value that broadcasts to the input.</param>
    public OnnxEmitters WithGate<TModule>(Func<OnnxContext, TModule, OnnxValue, OnnxValue> gate)
        where TModule : GateModule
    {
        ArgumentNullException.ThrowIfNull(gate);
        return WithGate<TModule>(gate, (context, module, x) => context.Refine(x, gate(context, module, x), module.StartScale));
    }

    /// <summary>
    /// Adds or replaces the emitter of a context. The emitter writes only what <see cref="ContextModule"/>'s
    /// <c>ComputeContext</c> computes. The residual addition and the identity start are added automatically. If
    /// <see cref="OnnxContext.WantsMaps"/> is true, the emitter also passes its weights to <see cref="OnnxContext.Map"/>.
    /// </summary>
    /// <typeparam name="TModule">The type of context.</typeparam>
    /// <param name="emit">Writes the context, of the input's shape.</param>
    public OnnxEmitters WithContext<TModule>(Func<OnnxContext, TModule, OnnxValue, OnnxValue> emit)
        where TModule : ContextModule
    {
        ArgumentNullException.ThrowIfNull(emit);
        return With<TModule>((context, module, x) =>
        {
            OnnxValue found = emit(context, module, x);
            if (module.StartScale is not { } scale) return module.IsResidual ? context.Add(x, found) : found;
            OnnxValue change = module.IsResidual ? found : context.Sub(found, x);
            return context.Add(x, context.Mul(change, context.Parameter(scale, "alpha")));
        });
    }

    /// <summary>A gate that is multiplied in its own way.</summary>
    internal OnnxEmitters WithGate<TModule>(
        Func<OnnxContext, TModule, OnnxValue, OnnxValue> gate, Func<OnnxContext, TModule, OnnxValue, OnnxValue> emit)
        where TModule : GateModule
    {
        OnnxEmitters with = With(emit);
        return new OnnxEmitters(
            with._emitters,
            _gates.SetItem(
                typeof(TModule),
                (context, module, x) => context.Blend(gate(context, (TModule)module, x), ((TModule)module).StartScale)));
    }

    internal Func<OnnxContext, nn.Module, IReadOnlyList<OnnxValue>, IReadOnlyList<OnnxValue>> Find(nn.Module module, string named)
        => Find(_emitters, module.GetType()) ?? throw Unknown(module, named);

    /// <summary>Whether modules of a type can be written.</summary>
    /// <param name="module">The type.</param>
    public bool Has(Type module)
    {
        ArgumentNullException.ThrowIfNull(module);
        return Find(_emitters, module) is not null;
    }

    internal Func<OnnxContext, nn.Module, OnnxValue, OnnxValue> FindGate(nn.Module module, string named)
        => Find(_gates, module.GetType()) ?? throw Unknown(module, named);

    private static T? Find<T>(ImmutableDictionary<Type, T> emitters, Type module)
        where T : class
    {
        for (Type? type = module; type is not null; type = type.BaseType)
        {
            if (emitters.TryGetValue(type, out T? emitter)) return emitter;
            if (type.GetMethods(BindingFlags.Instance | BindingFlags.Public | BindingFlags.DeclaredOnly).Any(
                method => method.Name is "forward" or "call"))
            {
                return null;
            }
        }

        return null;
    }

    private static NotSupportedException Unknown(nn.Module module, string named) => new(
        $"No emitter is known for {named} ({module.GetType().FullName}), and what its forward does cannot be seen from " +
        "outside. Say it once: " +
        $"new {nameof(OnnxExportOptions)} {{ {nameof(OnnxExportOptions.Emitters)} = " +
        $"{nameof(OnnxEmitters)}.{nameof(Default)}.With<{module.GetType().Name}>(" +
        "(context, module, x) => context.Emit(\"child\", x)) }, with the calls and operators of its forward.");
}
