using System.Collections;
using System.Reflection;
using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// What a network keeps between its calls: parameters, buffers, tensors in fields, collections, objects of its own, closures, and
/// static fields of the classes met. Who runs a network in a dispose scope, or frees one of its maps, asks here first. Where the
/// search does not come to its end, everything counts as kept.
/// </summary>
internal sealed class ReachableTensors : IDisposable
{
    // A network may know its trainer, and that a data set: neither objects without end nor long lists of them are searched.
    private const int MostObjects = 5_000, MostElements = 1_000;

    private static readonly ConditionalWeakTable<Type, FieldInfo[]> Known = [];

    private readonly nn.Module _model;
    private readonly DisposeScope? _scope = CurrentDisposeScope;

    /// <summary>
    /// When this is disposed, the tensors that the network has made for later meanwhile, such as a table of positions,
    /// leave the dispose scope that is open now.
    /// </summary>
    public ReachableTensors(nn.Module model) => _model = model;

    public void Dispose()
    {
        if (_scope is not { DisposablesCount: > 0 }) return;
        bool complete = new Search(tensor =>
        {
            if (_scope.Contains(tensor)) _scope.Detach(tensor);
            return false;
        }).Run(_model);

        // Then the finaliser has what nobody keeps.
        if (!complete) _scope.Detach(_scope.DisposablesView);
    }

    /// <summary>Whether the module, or one within it, keeps this very tensor.</summary>
    public static bool Holds(nn.Module module, Tensor tensor)
    {
        bool found = false;
        bool complete = new Search(held => found = ReferenceEquals(held, tensor)).Run(module);
        return found || !complete;
    }

    private static FieldInfo[] Fields(Type owner)
    {
        List<FieldInfo> fields = [];
        for (Type? type = owner; type is not null && type != typeof(nn.Module) && type != typeof(object); type = type.BaseType)
        {
            fields.AddRange(Declared(type, BindingFlags.Instance));
            if (IsOfUser(type)) fields.AddRange(Statics(type));
        }

        return [.. fields];
    }

    /// <summary>Static fields of a class, and of those that it is declared in.</summary>
    private static IEnumerable<FieldInfo> Statics(Type? type)
    {
        for (; type is { ContainsGenericParameters: false }; type = type.DeclaringType)
        {
            foreach (FieldInfo field in Declared(type, BindingFlags.Static).Where(field => !field.IsLiteral)) yield return field;
        }
    }

    /// <summary>What may lead to a tensor. Hooks are no keepers of the network's own.</summary>
    private static IEnumerable<FieldInfo> Declared(Type type, BindingFlags kind) => type
        .GetFields(kind | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly)
        .Where(field => IsOfUser(type) || !field.Name.EndsWith("_hooks", StringComparison.Ordinal))
        .Where(field => field.FieldType.IsInterface || field.FieldType == typeof(object) || MayHold(field.FieldType));

    private static bool IsOfUser(Type type)
        => !IsOfSystem(type) && type.Assembly != typeof(Tensor).Assembly && type.Assembly != typeof(ReachableTensors).Assembly;

    /// <summary>
    /// Tensors, modules, collections and tuples of anything but numbers and text, and whatever is no
    /// class of the system's or TorchSharp's.
    /// </summary>
    private static bool MayHold(Type type)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        if (typeof(Tensor).IsAssignableFrom(type) || typeof(nn.Module).IsAssignableFrom(type)) return true;
        if (type.IsPrimitive || type.IsEnum || type.IsPointer || type == typeof(string)) return false;
        if (typeof(Delegate).IsAssignableFrom(type)) return true;
        if (!IsCollection(type) && !typeof(ITuple).IsAssignableFrom(type))
        {
            return !IsOfSystem(type) && type.Assembly != typeof(Tensor).Assembly;
        }

        Type[] parts = type.IsArray ? [type.GetElementType()!] : type.GetGenericArguments();
        return parts.Length == 0 || parts.Any(part => part.IsInterface || part == typeof(object) || MayHold(part));
    }

    /// <summary>Whether it holds its elements, as an array or list does; sequences that compute theirs are left alone.</summary>
    private static bool IsCollection(Type type)
        => type.IsArray
            || (type.Namespace?.StartsWith("System.Collections", StringComparison.Ordinal) == true
                && typeof(IEnumerable).IsAssignableFrom(type));

    private static bool IsOfSystem(Type type)
        => type.IsArray || type.Namespace is "System" || type.Namespace?.StartsWith("System.", StringComparison.Ordinal) == true
            || type.Namespace?.StartsWith("Microsoft.", StringComparison.Ordinal) == true;

    /// <summary>One search through a network.</summary>
    /// <param name="found">Is handed every tensor; true ends the search.</param>
    private sealed class Search(Func<Tensor, bool> found)
    {
        private readonly HashSet<object> _seen = new(ReferenceEqualityComparer.Instance);
        private readonly Stack<object> _modules = [], _others = [];
        private bool _ended;

        /// <summary>Modules and their fields first, then whatever else they lead to.</summary>
        /// <returns>Whether the search came to its end, or found what it was for.</returns>
        public bool Run(nn.Module model)
        {
            try
            {
                Add(model);
                while (!_ended && (_modules.TryPop(out object? next) || _others.TryPop(out next)))
                {
                    if (_seen.Count > MostObjects) return false;
                    Open(next);
                }

                return true;
            }
            catch (InvalidOperationException)
            {
                return false; // Another thread changed a collection meanwhile.
            }
        }

        private void Open(object owner)
        {
            switch (owner)
            {
                case nn.Module module:
                    foreach ((string _, Modules.Parameter parameter) in module.named_parameters(recurse: false)) Add(parameter);
                    foreach ((string _, Tensor buffer) in module.named_buffers(recurse: false)) Add(buffer);
                    foreach ((string _, nn.Module child) in module.named_children()) Add(child);
                    AddFields(module);
                    break;
                case Delegate closure:
                    foreach (Delegate one in closure.GetInvocationList()) Add(one.Target);
                    break;
                case IDictionary dictionary:
                    AddAll(dictionary.Values);
                    break;
                case ITuple tuple:
                    for (int i = 0; i < tuple.Length; i++) Add(tuple[i]);
                    break;
                case IEnumerable collection when IsCollection(owner.GetType()):
                    AddAll(collection);
                    break;
                default:
                    AddFields(owner);
                    break;
            }
        }

        private void AddFields(object owner)
        {
            foreach (FieldInfo field in Known.GetValue(owner.GetType(), Fields)) Add(field.GetValue(owner));
        }

        private void AddAll(IEnumerable elements)
        {
            int others = 0;
            foreach (object? element in elements)
            {
                // Tensors and modules of however long a list; of a data set's samples the first ones show what they are.
                if (element is not (Tensor or nn.Module) && ++others > MostElements) return;
                Add(element);
            }
        }

        private void Add(object? value)
        {
            if (_ended || value is null || !MayHold(value.GetType()) || !_seen.Add(value)) return;
            if (value is Tensor tensor) _ended = found(tensor);
            else (value is nn.Module ? _modules : _others).Push(value);
        }
    }
}
