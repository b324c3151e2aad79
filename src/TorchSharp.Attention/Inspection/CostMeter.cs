using System.Diagnostics;
using System.Reflection;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Walks a network, watches it run once (or, for time, more often), and leaves it as it was.</summary>
internal static class CostMeter
{
    public static ModuleCost Run(nn.Module model, Tensor[] inputs, CostOptions options)
    {
        MethodInfo call = DryForward.Call(model, inputs.Length) ?? throw new ArgumentException(
            $"{model.GetName()} has no call with {inputs.Length} tensor{(inputs.Length == 1 ? "" : "s")}; " +
            "give one for each of its inputs.", nameof(inputs));
        Node root = new(model, "", null, new HashSet<nn.Module>(ReferenceEqualityComparer.Instance), new HashSet<IntPtr>());
        Node[] nodes = [.. root.All()];
        using (DryRunScope dry = new(model))
        using (no_grad())
        {
            using (AttentionKernels.Disable())
            using (ModuleHooks hooks = new())
            {
                Count(nodes, hooks, () => Pass(dry));
            }

            if (options.Repetitions > 0)
            {
                using IDisposable? composed = options.FusedKernels ? null : AttentionKernels.Disable();
                using ModuleHooks hooks = new();
                Node[] watched = [.. nodes.Where(
                    node => ModuleHooks.CanWatch(node.Module) && !(options.FusedKernels && node.IsInAttention))];
                Time(watched, inputs[0].device, hooks, options, () => Pass(dry));
            }
        }

        return root.ToCost(isOurs: false);

        void Pass(DryRunScope dry)
        {
            using DryRunScope.Pass pass = dry.StartPass();
            call.Invoke(model, BindingFlags.DoNotWrapExceptions, null, inputs, null);
        }
    }

    private static void Count(Node[] nodes, ModuleHooks hooks, Action pass)
    {
        Dictionary<nn.Module, Node> known = new(
            nodes.Select(node => KeyValuePair.Create(node.Module, node)), ReferenceEqualityComparer.Instance);
        foreach (Node node in nodes.Where(node => ModuleHooks.CanWatch(node.Module)))
        {
            hooks.Around(
                node.Module, _ => { },
                (_, inputs, output) => node.Add(inputs, output, child => known.GetValueOrDefault(child)?.Shape));
        }

        pass();
    }

    private static void Time(Node[] nodes, Device device, ModuleHooks hooks, CostOptions options, Action pass)
    {
        bool isCuda = device.type == DeviceType.CUDA;
        Stack<long> starts = new();
        foreach (Node node in nodes)
        {
            hooks.Around(node.Module, (nn.Module _) => starts.Push(Now()), _ => node.Ticks += Now() - starts.Pop());
        }

        for (int i = -options.WarmUps; i < options.Repetitions; i++)
        {
            foreach (Node node in nodes) node.Ticks = 0;
            pass();
            if (i < 0) continue;
            foreach (Node node in nodes) node.Times.Add(node.Ticks * 1000.0 / Stopwatch.Frequency);
        }

        long Now()
        {
            if (isCuda) cuda.synchronize(device);
            return Stopwatch.GetTimestamp();
        }
    }

    /// <summary>A module and what its own work, without that of the modules below it, came to.</summary>
    private sealed class Node
    {
        private readonly string _path;
        private readonly List<Node> _children = [];
        private readonly long _parameters, _stateBytes;
        private readonly bool _hasOwnParameters, _hasSubmodules;
        private long _strict, _thop, _fvcore, _elementwise, _moved, _kept;
        private int _calls;
        private bool _isCounted, _isLayer;

        public Node(nn.Module module, string path, Node? parent, HashSet<nn.Module> seen, HashSet<IntPtr> parameters)
        {
            Module = module;
            _path = path;
            IsInAttention = parent is { IsInAttention: true } or { IsAttention: true };
            seen.Add(module);
            parent?._children.Add(this);
            foreach ((string _, Parameter parameter) in module.named_parameters(recurse: false))
            {
                _hasOwnParameters = true;
                _stateBytes += Bytes(parameter);
                if (parameters.Add(parameter.Handle)) _parameters += parameter.numel();
            }

            foreach ((string _, Tensor buffer) in module.named_buffers(recurse: false)) _stateBytes += Bytes(buffer);
            foreach ((string name, nn.Module child) in module.named_children())
            {
                // A submodule that stands elsewhere too is counted there. This module is a class around it all the same, not a
                // layer.
                _hasSubmodules = true;
                if (!seen.Contains(child))
                {
                    _ = new Node(child, path.Length == 0 ? name : $"{path}.{name}", this, seen, parameters);
                }
            }
        }

        public nn.Module Module { get; }

        /// <summary>Whether it stands below an attention, whose kernels run only where nobody watches its layers.</summary>
        public bool IsInAttention { get; }

        /// <summary>Shape of the last output; null where there was none, or several.</summary>
        public ValueList<long>? Shape { get; private set; }

        public long Ticks { get; set; }

        public List<double> Times { get; } = [];

        public IEnumerable<Node> All() => _children.SelectMany(child => child.All()).Prepend(this);

        public void Add(object?[] inputs, object? output, Func<nn.Module, ValueList<long>?> outputs)
        {
            _calls++;
            Tensor[] read = [.. ModuleHooks.Tensors(inputs)], written = [.. ModuleHooks.Tensors(output)];
            Shape = written.Length == 1 ? ValueList.Create<long>(written[0].shape) : null;
            LayerCost? known = read.Length > 0 && written.Length == 1 ? LayerCost.Of(Module, read[0], written[0]) : null;
            if (known is { } cost)
            {
                _isCounted = _isLayer = true;
                _strict += cost.Strict;
                _thop += cost.Thop;
                _fvcore += cost.Fvcore;
                _elementwise += cost.Elementwise;
            }

            if (Products(read) is long products)
            {
                _isCounted = true;
                _strict += products;
                _fvcore += products;
            }

            if (Module is ICountsFunctions functions)
            {
                FunctionCount count = new(outputs);
                functions.Count(count, read);
                _elementwise += count.Elementwise;
                _moved += count.Moved * read[0].ElementSize;
                _kept += count.Kept * read[0].ElementSize;
                return;
            }

            if (_hasSubmodules || known is { IsView: true }) return;
            _moved += _stateBytes + read.Concat(written).Sum(Bytes);
            if (!IsInPlace) _kept += written.Sum(Bytes);
        }

        public ModuleCost ToCost(bool isOurs)
        {
            bool ours = Module.GetType().Assembly == typeof(CostMeter).Assembly;
            ValueList<ModuleCost> children = [.. _children.Select(child => child.ToCost(_calls > 0 ? isOurs || ours : isOurs))];
            return new ModuleCost
            {
                Path = _path,
                Description = Module is IAttentionModule attention
                    ? $"{Module.GetName()}({attention.Channels})"
                    : ModuleTree.Describe(Module),
                IsAttention = IsAttention,
                Coverage = Coverage(isOurs, ours),
                IsPlain = IsContainer || _isLayer || _calls == 0 || (ours && Module is ICountsFunctions),
                Calls = _calls,
                Parameters = _parameters + children.Sum(child => child.Parameters),
                Counts =
                [
                    _strict + children.Sum(child => child.Operations(CostConvention.Strict)),
                    _thop + children.Sum(child => child.Operations(CostConvention.Thop)),
                    _fvcore + children.Sum(child => child.Operations(CostConvention.Fvcore)),
                ],
                ElementwiseOperations = _elementwise + children.Sum(child => child.ElementwiseOperations),
                BytesMoved = _moved + children.Sum(child => child.BytesMoved),
                ActivationBytes = _kept + children.Sum(child => child.ActivationBytes),
                OutputShape = Shape,
                Milliseconds = Milliseconds(children),
                Children = children,
            };
        }

        private static long Bytes(Tensor tensor) => tensor.numel() * tensor.ElementSize;

        private bool IsAttention => ISequenceAttention.IsAttention(Module) || Module is MultiheadAttention;

        private bool IsInPlace => Module.GetType().GetProperty("inplace")?.GetValue(Module) is true;

        private bool IsContainer
            => Module.GetType() is { IsGenericType: true, Namespace: "TorchSharp.Modules" }
                || Module.GetType() == typeof(Sequential);

        /// <summary>TorchSharp's transformers run past the hooks, even by call.</summary>
        private bool HidesItsCalls
            => Module is Transformer or TransformerEncoder or TransformerEncoderLayer or TransformerDecoder
                or TransformerDecoderLayer;

        private long? Products(Tensor[] read) => Module switch
        {
            MultiHeadAttention sequences => sequences.MultiplyAccumulates(read[0], read[1], read[2]),
            CrossAttention cross => cross.MultiplyAccumulates(read[0], read[1]),
            IFunctionalCost functional when read.Length > 0 => functional.MultiplyAccumulates(read[0]),
            _ => null,
        };

        /// <param name="isOurs">
        /// Whether a module of the library that ran stands above: it accounts for layers that it does not call.
        /// </param>
        /// <param name="ours">Whether this is a module of the library.</param>
        private CostCoverage Coverage(bool isOurs, bool ours)
        {
            bool own = ours || Module.GetType().Namespace == "TorchSharp.Modules";
            if (IsContainer || _isCounted || (isOurs && own)) return CostCoverage.Counted;
            if (!ModuleHooks.CanWatch(Module)) return _hasOwnParameters ? CostCoverage.NotCounted : CostCoverage.Counted;
            if (_calls == 0 && !HidesItsCalls) return CostCoverage.NotCalled;
            if (ours) return CostCoverage.Counted;
            return _hasOwnParameters || !_hasSubmodules ? CostCoverage.NotCounted : CostCoverage.PartlyCounted;
        }

        /// <summary>The median pass; a list of modules, which nobody calls, takes what is in it takes.</summary>
        private double? Milliseconds(ValueList<ModuleCost> children)
        {
            if (_calls == 0 || Times.Count == 0)
            {
                return children.Any(child => child.Milliseconds is not null)
                    ? children.Sum(child => child.Milliseconds ?? 0)
                    : null;
            }

            double[] sorted = [.. Times.Order()];
            return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
        }
    }
}
