using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>A plan applied to one network: everything is found, checked and built before the network is touched.</summary>
internal sealed class InsertionResolver : IDisposable
{
    private readonly nn.Module _model;
    private readonly Dictionary<nn.Module, HashSet<string>> _names = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<nn.Module, Observed>? _observed;
    private bool _handedOver;

    /// <exception cref="ArgumentException">Something does not fit; the message says what and what would.</exception>
    public InsertionResolver(nn.Module model, InsertionPlan plan, Tensor[] example)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(plan);
        ArgumentNullException.ThrowIfNull(example);
        if (Array.Exists(example, tensor => tensor is null || tensor.IsInvalid))
        {
            throw new ArgumentException(
                "example holds a tensor that is null or disposed; give the network's inputs, or none.", nameof(example));
        }

        Check.Alive(model);
        _model = model;
        Network = ModuleNode.NameOf(model);
        NetworkParameters = model.parameters().Sum(parameter => parameter.numel());
        ModuleNode[] nodes = [.. ModuleNode.Below(model)];
        List<(InsertionRule Rule, ModuleNode Node)> chosen = [];
        for (int i = 0; i < plan.Rules.Count; i++)
        {
            chosen.AddRange(Choose(plan.Rules[i], i, nodes).Select(node => (plan.Rules[i], node)));
        }

        foreach ((InsertionRule rule, ModuleNode node) in chosen) CheckKind(rule, node);
        using InsertionTrial? trial = example.Length > 0 ? new InsertionTrial(model, example, chosen) : null;
        if (trial is not null)
        {
            _observed = Observe(nodes, example, trial);
            foreach ((_, ModuleNode node) in chosen)
            {
                if (_observed[node.Module].Maps.Count > 0) continue;
                bool itsPartsRan = Array.Exists(nodes, part => part.Path.StartsWith(node.Path + ".", StringComparison.Ordinal)
                    && _observed.TryGetValue(part.Module, out Observed? seen) && seen.Maps.Count > 0);
                throw new ArgumentException(NotReached(node, itsPartsRan), nameof(example));
            }
        }

        try
        {
            foreach ((InsertionRule rule, ModuleNode node) in chosen) Planned.Add(Plan(rule, node, nodes));
            NoteNeighbours();
            if (trial is not null) Try(trial);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public string Network { get; }

    public long NetworkParameters { get; }

    public List<PlannedInsertion> Planned { get; } = [];

    public InsertionReport Report() => new(Network, NetworkParameters, [.. Planned.Select(planned => planned.Entry)]);

    /// <summary>The attentions belong to the network from now on.</summary>
    public void HandOver() => _handedOver = true;

    public void Dispose()
    {
        if (_handedOver) return;
        foreach (PlannedInsertion planned in Planned) planned.Attention.Dispose();
    }

    /// <summary>What to do about a submodule that hooks do not see.</summary>
    public static string NotReached(ModuleNode node, bool itsPartsRan = false)
    {
        string parent = node.Parent!.Path.Length == 0
            ? $"the network ({node.Parent.Module.GetType().Name})"
            : node.Parent.Describe();
        string cure = $"Hooks see calls alone: in the forward of {parent}, write {node.Path.Split('.')[^1]}.call(x) instead of " +
            ".forward(x).";
        return itsPartsRan
            ? $"{node.Describe()} is run by forward, so nothing can be inserted there. {cure}"
            : $"{node.Describe()} was not called though the network ran, so nothing can be inserted there. " +
                $"{cure} If the network does not use it " +
              "with such an input in evaluation mode, leave it out of the rule, or insert into that part of the network alone.";
    }

    /// <summary>Attentions that meet at one place are allowed, and worth a word.</summary>
    private void NoteNeighbours()
    {
        for (int i = 0; i < Planned.Count; i++)
        {
            (ModuleNode node, InsertionSide side) = (Planned[i].Node, Planned[i].Entry.Side);
            (IReadOnlyList<AttentionModule> before, IReadOnlyList<AttentionModule> after) = HookedModule.Around(node.Module);
            string[] others =
            [
                .. (side == InsertionSide.After ? after : before).Select(attention => attention.Options.Kind()),
                .. Planned.Take(i).Where(other => ReferenceEquals(other.Node.Module, node.Module) && other.Entry.Side == side)
                    .Select(other => other.Entry.Attention.Kind()),
            ];
            if (others.Length == 0) continue;
            AddNote(
                i,
                $"There is an attention {Where(side, node)} already ({string.Join(", ", others)}). " +
                "All of them act, in the order of their insertion.");
        }
    }

    private void AddNote(int index, string note)
        => Planned[index] =
            Planned[index] with { Entry = Planned[index].Entry with { Notes = [.. Planned[index].Entry.Notes, note] } };

    private void Try(InsertionTrial trial)
    {
        trial.Run();
        for (int i = 0; i < Planned.Count; i++)
        {
            Planned[i] = Planned[i] with { IsKept = trial.IsKept(Planned[i].Node, Planned[i].Entry.Side) };
            if (trial.Note is { } note) AddNote(i, note);
        }
    }

    private static List<ModuleNode> Choose(InsertionRule rule, int index, ModuleNode[] nodes)
    {
        // A module that stands in several places is one module: its first path is the one that it is known by.
        HashSet<nn.Module> chosen = new(
            nodes.Where(node => rule.Matches(node.Path, node.Module)).Select(node => node.Module),
            ReferenceEqualityComparer.Instance);
        if (chosen.Count > 0) return [.. nodes.Where(node => chosen.Remove(node.Module))];
        string exists = nodes.Length == 0
            ? "It has no registered submodule: call RegisterComponents() at the end of its constructor, and hold lists of " +
                "modules in a ModuleList."
            : $"It has {string.Join(", ", nodes.Take(30).Select(node => $"{node.Path} ({node.Module.GetType().Name})"))}" +
              (nodes.Length > 30 ? $" and {nodes.Length - 30} more." : ".") + " Attentions and what is in them are not places.";
        throw new ArgumentException($"Rule {index + 1} of the plan ({rule}) matches no submodule. {exists}", "plan");
    }

    private static void CheckKind(InsertionRule rule, ModuleNode node)
    {
        int inputs = ForwardHooks.Inputs(node.Module);
        if (inputs == 0)
        {
            throw new ArgumentException(
                $"The rule '{rule}' chooses {node.Describe()}, which is not a module of one to three tensors that returns a " +
                "tensor. " +
                "Choose a part of it, or leave it out of the rule with Where.", "plan");
        }

        if (rule.Side == InsertionSide.Before && inputs > 1)
        {
            throw new ArgumentException(
                $"The rule '{rule}' chooses {node.Describe()}, which has {inputs} inputs: 'before' does not say which. " +
                "Insert after the submodules that make its inputs.", "plan");
        }
    }

    private Dictionary<nn.Module, Observed> Observe(ModuleNode[] nodes, Tensor[] example, InsertionTrial trial)
    {
        Dictionary<nn.Module, Observed> observed = new(ReferenceEqualityComparer.Instance);
        List<Action> removals = [];
        try
        {
            foreach (ModuleNode node in nodes)
            {
                if (ForwardHooks.Inputs(node.Module) == 0 || observed.ContainsKey(node.Module)) continue;
                Observed seen = observed[node.Module] = new Observed();
                removals.Add(ForwardHooks.After(node.Module, (inputs, output) =>
                {
                    seen.Maps.Add((Map.Of(inputs[0]), Map.Of(output)));
                    return output;
                }));
            }

            removals.AddRange(trial.Watch());
            DryForward.Run(_model, example, look: (_, outputs) => trial.Keep(outputs));
        }
        finally
        {
            foreach (Action removal in removals) removal();
        }

        return observed;
    }

    private PlannedInsertion Plan(InsertionRule rule, ModuleNode node, ModuleNode[] nodes)
    {
        Map[] maps = _observed is null
            ? []
            : [.. _observed[node.Module].Maps.Select(pair => rule.Side == InsertionSide.After ? pair.Output : pair.Input)];
        int channels = _observed is null ? WidthFromWeights(rule, node) : WidthOf(rule, node, maps);
        AttentionOptions options = rule.Effective();
        AttentionModule? attention = null;
        try
        {
            attention = options.Create(channels);
            (ScalarType dtype, Device device) = maps.Length > 0 ? (maps[0].Dtype, maps[0].Device) : Place(node.Module);
            if (dtype != ScalarType.Float32) attention.to(dtype);
            if (device.type != DeviceType.CPU) attention.to(device);
            IdentityStart.Keep(attention);
            long? products = maps.Length == 0
                ? null
                : maps.GroupBy(map => map.Shape).Sum(
                    same => same.Count() * ModelCost.Measure(attention, [.. same.Key]).MultiplyAccumulates);
            attention.train(node.Module.training);
            (nn.Module? host, string name, string key) = Name(rule, node);
            InsertionEntry entry = new(
                node.Path, node.Module.GetType().Name, rule.Side, options, key, channels,
                attention.parameters().Sum(parameter => parameter.numel()))
            {
                OtherPaths = [
                    .. nodes.Where(other => ReferenceEquals(other.Module, node.Module) && other.Path != node.Path).Select(
                        other => other.Path)],
                Calls = _observed is null ? null : maps.Length,
                MapShape = maps.Length == 0 ? null : maps[0].Shape,
                MultiplyAccumulates = products,
            };
            return new PlannedInsertion(node, attention, entry, host, name, rule.NeedsGradient);
        }
        catch (ArgumentException e)
        {
            attention?.Dispose();
            throw new ArgumentException(
                $"'{options.Kind()}' does not fit {Where(rule, node)} ({channels} channels): {Check.Text(e)}", e.ParamName, e);
        }
        catch
        {
            attention?.Dispose();
            throw;
        }
    }

    private static int WidthOf(InsertionRule rule, ModuleNode node, Map[] maps)
    {
        foreach (Map map in maps)
        {
            if (map.Shape.Count != 4 || !map.Floating || map.Shape.Any(size => size < 1))
            {
                throw new ArgumentException(
                    $"{Where(rule, node)} the map is ({string.Join(", ", map.Shape)}) of {map.Dtype}; " +
                    "attention refines floating-point maps (N, C, H, W) " +
                    "that are not empty. Choose a submodule with such a map, or leave this one out of the rule with Where." +
                    (map.Shape.Count == 3 ? " If the example lacks its batch dimension, add it with unsqueeze(0)." : ""), "plan");
            }

            if (map.Shape[1] != maps[0].Shape[1])
            {
                throw new ArgumentException(
                    $"{Where(rule, node)} the map has {maps[0].Shape[1]} channels in one call and {map.Shape[1]} in another; " +
                    "an attention has one width. " +
                    "Insert beside what makes these maps instead.", "plan");
            }
        }

        return checked((int)maps[0].Shape[1]);
    }

    private static int WidthFromWeights(InsertionRule rule, ModuleNode node)
    {
        bool after = rule.Side == InsertionSide.After;
        long? width = node.Module switch
        {
            Conv2d conv => after ? conv.out_channels : conv.in_channels,
            ConvTranspose2d conv => after ? conv.out_channels : conv.in_channels,
            BatchNorm2d norm => norm.num_features,
            InstanceNorm2d norm => norm.num_features,
            _ => null,
        };
        return checked((int)(width ?? throw new ArgumentException(
            $"The width of the map {Where(rule, node)} is not to be read from weights. Give an example: " +
            "model.InsertAttention(plan, example).", "example")));
    }

    private (ScalarType Dtype, Device Device) Place(nn.Module module)
    {
        Parameter? first = module.parameters().Concat(_model.parameters()).FirstOrDefault();
        return (first?.dtype ?? ScalarType.Float32, first?.device ?? CPU);
    }

    /// <summary>
    /// The module that will own the attention (null: a shelf of the sequence at the top), the name there and the key.
    /// </summary>
    private (nn.Module? Host, string Name, string Key) Name(InsertionRule rule, ModuleNode node)
    {
        string path, prefix;
        nn.Module owner;
        nn.Module? host = null;
        if (node.Host() is { } above)
        {
            (owner, host) = (above.Module, above.Module);
            prefix = above.Path.Length == 0 ? "" : above.Path + ".";
            path = node.Path[prefix.Length..];
        }
        else if (_model is Sequential sequence && AttentionContainer.Removable(sequence))
        {
            (AttentionContainer? shelf, string key) = AttentionContainer.Of(sequence);
            (owner, prefix, path) = (shelf ?? (nn.Module)sequence, key + ".", node.Path);
        }
        else
        {
            throw new ArgumentException(
                $"{_model.GetType().Name} lists its children by itself, so no attention can be registered with it. " +
                "Wrap it in a class of your own that derives " +
                "from nn.Module<Tensor, Tensor> and calls it.", "model");
        }

        if (!_names.TryGetValue(owner, out HashSet<string>? taken))
        {
            _names[owner] = taken = [.. owner is Sequential ? [] : owner.named_children().Select(child => child.name)];
        }

        string stem = path.Replace('.', '_') + (rule.Side == InsertionSide.After ? "_attn" : "_attn_before"), name = stem;
        for (int i = 2; !taken.Add(name); i++) name = $"{stem}{i}";
        return (host, name, prefix + name);
    }

    private static string Where(InsertionRule rule, ModuleNode node) => Where(rule.Side, node);

    private static string Where(InsertionSide side, ModuleNode node)
        => $"{(side == InsertionSide.After ? "after" : "before")} {node.Describe()}";

    private sealed class Observed
    {
        public List<(Map Input, Map Output)> Maps { get; } = [];
    }

    private sealed record Map(ValueList<long> Shape, ScalarType Dtype, bool Floating, Device Device)
    {
        public static Map Of(Tensor tensor) => new([.. tensor.shape], tensor.dtype, tensor.is_floating_point(), tensor.device);
    }
}
