using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>A network with random weights and images.</summary>
internal sealed class NetworkSubject : IKernelSubject
{
    private readonly NetworkTrial _trial;
    private readonly FeatureNetwork _network;
    private readonly FeatureNetwork? _fused;
    private readonly Dictionary<string, Tensor> _state;
    private readonly Tensor _images;
    private readonly Tensor _weights;

    public NetworkSubject(NetworkTrial trial)
    {
        _trial = trial;
        manual_seed(trial.Draw);
        _network = trial.Create();
        RandomWeights.Fill(_network);
        _images = MapLayouts.Make(randn(trial.Batch, 3, trial.Height, trial.Width), trial.Place);
        _state = State();
        _network.train(trial.Training);
        AttentionKernels.Enabled = false;
        using IDisposable quiet = no_grad();
        _weights = randn_like(_network.call(_images));
        if (!trial.Fuses) return;
        _network.eval();
        _fused = _network.FuseForInference();
    }

    private NetworkSubject(NetworkSubject source, double shake, int round)
    {
        _trial = source._trial;
        _network = _trial.Create();
        _network.to(ScalarType.Float64);
        Shake.Seed(round);
        Dictionary<string, Tensor> own = State(clone: false);
        using (no_grad())
        {
            foreach ((string name, Tensor value) in source._state) own[name].copy_(name.Contains("num_batches", StringComparison.Ordinal) ? value : Shake.Each(value, shake, round));
        }

        _state = State();
        _images = Shake.Alike(source._images, shake, round);
        _weights = source._weights.to_type(ScalarType.Float64);
    }

    public bool Half => false;

    public IReadOnlyList<KernelValue> Exact(double shake, int round)
    {
        using NetworkSubject exact = new(this, shake, round);
        return exact.Run(fused: false);
    }

    public IReadOnlyList<KernelValue> Run(bool fused)
    {
        using (no_grad())
        {
            foreach ((string name, Tensor now) in State(clone: false)) now.copy_(_state[name]);
        }

        _network.train(_trial.Training);
        AttentionKernels.Enabled = fused;
        return _trial.Training ? Train() : Infer(fused && _fused is not null ? _fused : _network);
    }

    public void Dispose()
    {
        _network.Dispose();
        _fused?.Dispose();
    }

    private Dictionary<string, Tensor> State(bool clone = true)
        => _network.state_dict().ToDictionary(entry => entry.Key, entry => clone ? entry.Value.detach().clone() : entry.Value, StringComparer.Ordinal);

    private List<KernelValue> Infer(nn.Module<Tensor, Tensor> network)
    {
        using IDisposable quiet = no_grad();
        List<KernelValue> values = [new("y", network.call(_images), KernelValueKind.Output)];
        if (network is FeatureNetwork features) values.AddRange(features.Features(_images).Select((map, i) => new KernelValue($"feature {i}", map, KernelValueKind.Output)));
        return values;
    }

    private List<KernelValue> Train()
    {
        _network.zero_grad();
        Tensor images = _images.detach().requires_grad_();
        Tensor y = _network.call(images);
        y.mul(_weights).sum().backward();
        List<KernelValue> values = [new("y", y.detach(), KernelValueKind.Output), new("gradient of images", images.grad!.clone(), KernelValueKind.Gradient)];
        foreach ((string name, Parameter parameter) in _network.named_parameters())
        {
            values.Add(new("gradient of " + name, parameter.grad?.clone() ?? zeros_like(parameter), KernelValueKind.Gradient));
        }

        foreach ((string name, Tensor buffer) in _network.named_buffers()) values.Add(new(name, buffer.clone(), KernelValueKind.Statistic));
        return values;
    }
}
