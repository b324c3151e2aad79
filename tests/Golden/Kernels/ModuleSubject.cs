using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>An attention with random weights, a map, and what its pass takes beside them.</summary>
internal sealed class ModuleSubject : IKernelSubject
{
    private readonly ModuleTrial _trial;
    private readonly ScalarType _type;
    private readonly nn.Module _module;
    private readonly BatchNorm2d? _norm;
    private readonly Dictionary<string, Tensor> _state;
    private readonly Tensor _values;
    private readonly Tensor _map;
    private readonly Tensor? _guide;
    private readonly Tensor? _shortcut;
    private readonly Tensor _weights;

    public ModuleSubject(ModuleTrial trial)
    {
        _trial = trial;
        _type = trial.Half ? ScalarType.BFloat16 : ScalarType.Float32;
        manual_seed(trial.Draw);
        (_module, _norm) = Create(trial);
        RandomWeights.Fill(_module);
        if (_norm is not null) RandomWeights.Fill(_norm);
        long n = trial.Batch, c = trial.Channels, h = trial.Height, w = trial.Width;
        Tensor values = randn(n, c, h, w);
        if (trial.Offset != 0)
        {
            using Scalar offset = trial.Offset.ToScalar();
            values = values.Plus(offset);
        }

        if (trial.Ties) values = values.round();
        _map = MapLayouts.Make(values.to_type(_type), trial.Place);
        _values = _map.clone();
        if (IsGuided) _guide = randn(n, Math.Max(1, c / 2), Math.Max(1, h / 2), Math.Max(1, w / 2)).to_type(_type);
        if (Ends) _shortcut = MapLayouts.Make(randn(n, c, h, w).to_type(_type), trial.ShortcutPlace);
        _module.to(_type);
        _norm?.to(_type);
        Freeze();
        _state = State();
        AttentionKernels.Enabled = false;
        using (no_grad())
        {
            _module.train(trial.Training);
            Tensor y = Call(_map, null);
            _weights = randn_like(y);
            if (Ends && Trains) _shortcut = KeepOffTheEdge(_shortcut!);
        }
    }

    /// <summary>The same in float64, its weights and values off by a share.</summary>
    private ModuleSubject(ModuleSubject source, double shake, int round)
    {
        _trial = source._trial;
        _type = ScalarType.Float64;
        (_module, _norm) = Create(_trial);
        _module.to(_type);
        _norm?.to(_type);
        Shake.Seed(round);
        Dictionary<string, Tensor> own = State(clone: false);
        using (no_grad())
        {
            foreach ((string name, Tensor value) in source._state) own[name].copy_(name.Contains("num_batches", StringComparison.Ordinal) ? value : Shake.Each(value, shake, round));
        }

        Freeze();
        _state = State();
        _map = Shake.Alike(source._map, shake, round);
        _values = _map.clone();
        _guide = source._guide is null ? null : Shake.Alike(source._guide, shake, round);
        _shortcut = source._shortcut is null ? null : Shake.Alike(source._shortcut, shake, round + 10);
        _weights = source._weights.to_type(_type);
    }

    public bool Half => _trial.Half;

    private bool IsGuided => _module is GuidedAttentionModule;

    private bool Ends => _trial.Path is KernelPath.EndOfBlock or KernelPath.TrainingEnd or KernelPath.BehindNormEnd;

    private bool Trains => _trial.Path >= KernelPath.Training;

    /// <summary>Something must learn; an attention without parameters has nothing but its input.</summary>
    private bool InputLearns => _trial.Learns.Input || (_norm is null && !_module.parameters().Any());

    public IReadOnlyList<KernelValue> Exact(double shake, int round)
    {
        using ModuleSubject exact = new(this, shake, round);
        return exact.Run(fused: false);
    }

    public IReadOnlyList<KernelValue> Run(bool fused)
    {
        using (no_grad())
        {
            foreach ((string name, Tensor now) in State(clone: false)) now.copy_(_state[name]);
        }

        _module.train(_trial.Training);
        _norm?.train();
        AttentionKernels.Enabled = fused;
        IReadOnlyList<KernelValue> values = Trains ? Train(fused) : Infer(fused);
        if (_trial.Path is KernelPath.Inference or >= KernelPath.Training)
        {
            using IDisposable quiet = no_grad();
            if (!_map.equal(_values).all().item<bool>()) throw new InvalidOperationException("the pass changed its input");
        }

        return values;
    }

    public void Dispose()
    {
        _module.Dispose();
        _norm?.Dispose();
    }

    private static (nn.Module Module, BatchNorm2d? Norm) Create(ModuleTrial trial) => (
        trial.Options switch
        {
            GuidedAttentionOptions guided => guided.Create(trial.Channels, Math.Max(1, trial.Channels / 2)),
            BranchAttentionOptions branch => branch.Create(trial.Channels),
            _ => trial.Options.Create(trial.Channels),
        },
        trial.Path >= KernelPath.BehindNorm ? nn.BatchNorm2d(trial.Channels) : null);

    private void Freeze()
    {
        if (!Trains) return;
        foreach (Parameter parameter in _module.parameters()) parameter.requires_grad = _trial.Learns.Parameters;
    }

    private Dictionary<string, Tensor> State(bool clone = true)
    {
        Dictionary<string, Tensor> state = new(StringComparer.Ordinal);
        foreach ((string name, Tensor value) in _module.state_dict()) state.Add(name, clone ? value.detach().clone() : value);
        if (_norm is null) return state;
        foreach ((string name, Tensor value) in _norm.state_dict()) state.Add("norm." + name, clone ? value.detach().clone() : value);
        return state;
    }

    private Tensor Call(Tensor map, Tensor? shortcut)
    {
        if (_norm is not null) map = _norm.call(map);
        Tensor y = _module switch
        {
            GuidedAttentionModule guided => guided.call(map, _guide!),
            nn.Module<Tensor, Tensor> single => single.call(map),
            _ => throw new InvalidOperationException(_module.GetName()),
        };
        return shortcut is null ? y : y.Plus(shortcut).relu();
    }

    private Tensor Fused(Tensor map, Tensor? shortcut)
    {
        GateModule? gate = _module as GateModule;
        return _trial.Path switch
        {
            KernelPath.OverInput => gate!.RefineOwned(map),
            KernelPath.EndOfBlock or KernelPath.TrainingEnd => gate!.TryGateAddRelu(map, shortcut!) ?? Call(map, shortcut),
            >= KernelPath.BehindNorm => gate!.TryFuseAfterNorm(_norm!, map, shortcut) ?? Call(map, shortcut),
            _ => Call(map, shortcut),
        };
    }

    private List<KernelValue> Infer(bool fused)
    {
        using IDisposable quiet = no_grad();

        // What is written over must be this pass's own.
        bool own = _trial.Path != KernelPath.Inference;
        Tensor map = own ? MapLayouts.Make(_map, _trial.Place) : _map;
        return [new KernelValue("y", (fused ? Fused(map, _shortcut) : Call(map, _shortcut)).clone(), KernelValueKind.Output)];
    }

    private List<KernelValue> Train(bool fused)
    {
        _module.zero_grad();
        _norm?.zero_grad();
        Tensor input = _map.detach().requires_grad_(InputLearns);
        Tensor? shortcut = _shortcut?.detach().requires_grad_(_trial.Learns.Shortcut);
        Tensor y = fused ? Fused(input, shortcut) : Call(input, shortcut);
        y.mul(_weights).sum().backward();
        List<KernelValue> values = [new("y", y.detach(), KernelValueKind.Output)];
        if (InputLearns) Add("input", input.grad);
        if (shortcut is { requires_grad: true }) Add("shortcut", shortcut.grad);
        if (_trial.Learns.Parameters) foreach ((string name, Parameter parameter) in _module.named_parameters()) Add(name, parameter.grad, parameter);
        if (_norm is not null) foreach ((string name, Parameter parameter) in _norm.named_parameters()) Add("norm." + name, parameter.grad, parameter);
        foreach ((string name, Tensor buffer) in _module.named_buffers()) values.Add(new(name, buffer.clone(), KernelValueKind.Statistic));
        if (_norm is not null) foreach ((string name, Tensor buffer) in _norm.named_buffers()) values.Add(new("norm." + name, buffer.clone(), KernelValueKind.Statistic));
        return values;

        void Add(string name, Tensor? gradient, Tensor? like = null)
        {
            if (gradient is null && like is null) throw new InvalidOperationException($"no gradient of {name}");
            values.Add(new("gradient of " + name, gradient?.clone() ?? zeros_like(like!), KernelValueKind.Gradient));
        }
    }

    /// <summary>Moves the shortcut where the sum before the ReLU is so near zero that rounding may decide its sign.</summary>
    private Tensor KeepOffTheEdge(Tensor shortcut)
    {
        using ModuleSubject exact = new(this, 0, 0);
        exact._module.train(_trial.Training);
        exact._norm?.train();
        Tensor sum = exact.Call(exact._map, null).Plus(shortcut.to_type(ScalarType.Float64));
        using Scalar edge = (_trial.Half ? 0.05 : 2e-3).ToScalar(), step = (_trial.Half ? 0.5 : 0.02).ToScalar();
        Tensor near = sum.abs().lt(edge), away = where(sum.ge(Scalars.Zero), ones_like(sum), ones_like(sum).neg()).to_type(_type).mul(step);
        Tensor moved = shortcut.Plus(near.to_type(_type).mul(away));
        return MapLayouts.Make(moved.contiguous(), _trial.ShortcutPlace is >= MapPlace.ExpandedBatch ? MapPlace.Planes : _trial.ShortcutPlace);
    }
}
