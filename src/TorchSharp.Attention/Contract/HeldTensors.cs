using System.Collections;
using System.Reflection;
using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// What a network keeps between its calls: tensors in fields, buffers, collections and objects of its own. Who runs a network in a dispose scope, or frees one
/// of its maps, asks here first.
/// </summary>
internal sealed class HeldTensors : IDisposable
{
    // A network may know its trainer, and that a data set: whoever holds so much is not searched to the end.
    private const int MostObjects = 20_000;

    private static readonly ConditionalWeakTable<Type, FieldInfo[]> Known = [];

    private readonly nn.Module _model;
    private readonly DisposeScope? _scope = CurrentDisposeScope;

    /// <summary>
    /// When this is disposed, the tensors that the network has made for later meanwhile, such as a table of positions, leave the dispose scope that is open now.
    /// </summary>
    public HeldTensors(nn.Module model) => _model = model;

    public void Dispose()
    {
        if (_scope is not { DisposablesCount: > 0 }) return;
        foreach (Tensor tensor in Of(_model))
        {
            if (_scope.Contains(tensor)) _scope.Detach(tensor);
        }
    }

    /// <summary>Whether the module, or one within it, keeps this very tensor.</summary>
    public static bool Holds(nn.Module module, Tensor tensor) => Of(module).Any(held => ReferenceEquals(held, tensor));

    private static IEnumerable<Tensor> Of(nn.Module model)
    {
        HashSet<object> seen = new(ReferenceEqualityComparer.Instance);
        Stack<object> waiting = new([model]);
        while (seen.Count < MostObjects && waiting.TryPop(out object? next))
        {
            if (!seen.Add(next)) continue;
            switch (next)
            {
                case Tensor tensor:
                    yield return tensor;
                    break;
                case nn.Module module:
                    foreach ((string _, Tensor buffer) in module.named_buffers(recurse: false)) Add(buffer);
                    foreach ((string _, nn.Module child) in module.named_children()) Add(child);
                    AddFields(module);
                    break;
                case IDictionary dictionary:
                    foreach (object? value in dictionary.Values) Add(value);
                    break;
                case ITuple tuple:
                    for (int i = 0; i < tuple.Length; i++) Add(tuple[i]);
                    break;
                case IEnumerable collection when IsOfSystem(next.GetType()):
                    foreach (object? element in collection) Add(element);
                    break;
                default:
                    AddFields(next);
                    break;
            }
        }

        void AddFields(object owner)
        {
            foreach (FieldInfo field in Known.GetValue(owner.GetType(), Fields)) Add(field.GetValue(owner));
        }

        void Add(object? value)
        {
            if (value is not null && MayHold(value.GetType())) waiting.Push(value);
        }
    }

    private static FieldInfo[] Fields(Type owner)
    {
        List<FieldInfo> fields = [];
        for (Type? type = owner; type is not null && type != typeof(nn.Module) && type != typeof(object); type = type.BaseType)
        {
            fields.AddRange(type
                .GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly)
                .Where(field => field.FieldType.IsInterface || field.FieldType == typeof(object) || MayHold(field.FieldType)));
        }

        return [.. fields];
    }

    /// <summary>Tensors, modules, collections and tuples of anything but numbers and text, and whatever is no class of the system's or TorchSharp's.</summary>
    private static bool MayHold(Type type)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        if (typeof(Tensor).IsAssignableFrom(type) || typeof(nn.Module).IsAssignableFrom(type)) return true;
        if (type.IsPrimitive || type.IsEnum || type.IsPointer || type == typeof(string) || typeof(Delegate).IsAssignableFrom(type)) return false;
        if (!typeof(IEnumerable).IsAssignableFrom(type) && !typeof(ITuple).IsAssignableFrom(type)) return !IsOfSystem(type) && type.Assembly != typeof(Tensor).Assembly;
        Type[] parts = type.IsArray ? [type.GetElementType()!] : type.GetGenericArguments();
        return parts.Length == 0 || parts.Any(part => part.IsInterface || part == typeof(object) || MayHold(part));
    }

    private static bool IsOfSystem(Type type) => type.IsArray || type.Namespace is "System" || type.Namespace?.StartsWith("System.", StringComparison.Ordinal) == true;
}
