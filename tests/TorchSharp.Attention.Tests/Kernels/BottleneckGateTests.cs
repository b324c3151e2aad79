using CsCheck;
using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>The bottleneck of squeeze-and-excitation and of CBAM in training as one function, against its layers in float64.</summary>
public sealed class BottleneckGateTests
{
    private static readonly Gen<Trial> Trials =
        Gen.Select(Gen.Int[1, 2], Gen.Int[1, 4], Gen.Int[1, 150], Gen.Int[1, 90], Gen.Bool, Gen.Int)
            .Select((branches, batch, channels, reduced, bias, seed) => new Trial(branches, branches * batch, channels, reduced, bias, seed));

    private static readonly Scalar Edge = 1e-4.ToScalar();

    [Fact]
    public void The_gate_and_all_gradients_are_those_of_the_layers() => Trials.Sample(
        trial =>
        {
            using DisposeScope scope = NewDisposeScope();
            if (trial.IsAtAnEdge()) return;
            Agree(trial.Run(fused: false, ScalarType.Float64), trial.Run(fused: true, ScalarType.Float32), 2e-5);
        },
        iter: 200,
        threads: 1);

    [Fact]
    public void Second_derivatives_are_those_of_the_layers() => Trials.Sample(
        trial =>
        {
            using DisposeScope scope = NewDisposeScope();
            if (trial.IsAtAnEdge()) return;
            Agree(trial.RunTwice(fused: false, ScalarType.Float64), trial.RunTwice(fused: true, ScalarType.Float32), 1e-3);
        },
        iter: 60,
        threads: 1);

    [Fact]
    public void Several_threads_compute_the_same()
    {
        int threads = get_num_threads();
        long worth = NativeTeam.BytesWorthAThread;
        try
        {
            NativeTeam.BytesWorthAThread = 1;
            using DisposeScope scope = NewDisposeScope();
            foreach (Trial trial in (Trial[])[new(2, 3, 67, 5, true, 1), new(1, 4, 33, 41, true, 2), new(2, 1, 130, 17, false, 3)])
            {
                set_num_threads(1);
                List<Tensor> one = trial.Run(fused: true, ScalarType.Float32);
                foreach (int count in (int[])[2, 3, 8])
                {
                    set_num_threads(count);
                    Agree(one, trial.Run(fused: true, ScalarType.Float32), 1e-5);
                }
            }
        }
        finally
        {
            set_num_threads(threads);
            NativeTeam.BytesWorthAThread = worth;
        }
    }

    [Fact]
    public void A_value_that_is_not_a_number_reaches_what_it_reaches_in_the_layers()
    {
        using DisposeScope scope = NewDisposeScope();
        Trial trial = new(2, 2, 20, 6, true, 4);
        foreach ((Tensor layers, Tensor fused) in trial.Run(fused: false, ScalarType.Float32, special: true).Zip(trial.Run(fused: true, ScalarType.Float32, special: true)))
        {
            Assert.True(layers.isnan().Equals(fused.isnan()));
        }
    }

    [Fact]
    public void Activations_and_gate_functions_without_a_kernel_run_the_layers()
    {
        using DisposeScope scope = NewDisposeScope();
        using Conv2d first = nn.Conv2d(8, 4, 1), second = nn.Conv2d(4, 8, 1);
        Tensor pooled = randn([1, 2, 8, 1, 1]);
        Assert.NotNull(Try(pooled));
        Assert.Null(Try(pooled, activation: GateActivation.SiLU));
        Assert.Null(Try(pooled, gate: GateFunction.HardSigmoid));
        Assert.Null(Try(randn([1, 5, 8, 1, 1])));
        Assert.NotNull(Try(randn([2, 8, 8, 1, 1])));
        Assert.Null(Try(randn([2, 9, 8, 1, 1])));
        Assert.Null(Try(pooled.to_type(ScalarType.BFloat16)));
        Assert.Null(Try(randn([1, 8, 2, 1, 1]).transpose(1, 2)));
        using (no_grad()) Assert.Null(Try(pooled));
        var listening = second.register_forward_hook((_, _, output) => output);
        Assert.Null(Try(pooled));
        listening.remove();
        foreach (Parameter parameter in first.parameters().Concat(second.parameters())) parameter.requires_grad = false;
        Assert.Null(Try(pooled));
        Assert.NotNull(Try(pooled.requires_grad_()));

        Tensor? Try(Tensor input, GateActivation activation = GateActivation.ReLU, GateFunction gate = GateFunction.Sigmoid)
            => BottleneckGate.TryRun(input, first, activation, second, gate);
    }

    private static void Agree(List<Tensor> expected, List<Tensor> actual, double tolerance)
    {
        Assert.Equal(expected.Count, actual.Count);
        for (int i = 0; i < expected.Count; i++)
        {
            double scale = Math.Max(1, expected[i].abs().max().to_type(ScalarType.Float64).ToDouble());
            double error = expected[i].to_type(ScalarType.Float64).sub(actual[i].to_type(ScalarType.Float64)).abs().max().ToDouble();
            Assert.True(error <= tolerance * scale, $"tensor {i}: error {error} at scale {scale}");
        }
    }

    private sealed record Trial(int Branches, int Batch, int Channels, int Reduced, bool Bias, int Seed)
    {
        /// <summary>The gate and the gradients of pooled channels, weights and biases.</summary>
        public List<Tensor> Run(bool fused, ScalarType type, bool special = false)
        {
            (Tensor gate, Tensor direction, List<Tensor> leaves) = Forward(fused, type, special);
            return [gate.detach(), .. autograd.grad([gate.mul(direction).sum()], leaves)];
        }

        public List<Tensor> RunTwice(bool fused, ScalarType type)
        {
            (Tensor gate, Tensor direction, List<Tensor> leaves) = Forward(fused, type, special: false);
            IList<Tensor> first = autograd.grad([gate.mul(direction).sum()], leaves, create_graph: true, retain_graph: true);
            Tensor sum = first.Select(gradient => gradient.square().sum()).Aggregate((a, b) => a.add(b));
            return [.. first.Select(gradient => gradient.detach()), .. autograd.grad([sum], leaves)];
        }

        /// <summary>Whether a hidden value is so near zero that rounding may decide whether its ReLU lets a gradient through.</summary>
        public bool IsAtAnEdge()
        {
            using IDisposable quiet = no_grad();
            (Conv2d first, _, Tensor pooled, _) = Draw(ScalarType.Float64, special: false);
            return first.call(pooled.flatten(0, 1)).abs().lt(Edge).any().ToBoolean();
        }

        private (Tensor Gate, Tensor Direction, List<Tensor> Leaves) Forward(bool fused, ScalarType type, bool special)
        {
            (Conv2d first, Conv2d second, Tensor pooled, Tensor direction) = Draw(type, special);
            pooled = pooled.requires_grad_();
            List<Tensor> leaves = [pooled, .. first.parameters(), .. second.parameters()];
            Tensor gate = fused
                ? BottleneckGate.TryRun(pooled, first, GateActivation.ReLU, second, GateFunction.Sigmoid)!
                : Enumerable.Range(0, Branches).Select(branch => second.call(first.call(pooled[branch]).relu())).Aggregate((a, b) => a.add(b)).sigmoid();
            return (gate, direction, leaves);
        }

        private (Conv2d First, Conv2d Second, Tensor Pooled, Tensor Direction) Draw(ScalarType type, bool special)
        {
            manual_seed(Seed);
            Conv2d first = nn.Conv2d(Channels, Reduced, 1, bias: Bias), second = nn.Conv2d(Reduced, Channels, 1, bias: Bias);
            nn.init.normal_(first.weight!);
            nn.init.normal_(second.weight!, 0, 0.3);
            Tensor pooled = randn([Branches, Batch, Channels, 1, 1]), direction = randn(Batch, Channels, 1, 1);
            if (special) pooled[0, 1, 3, 0, 0] = tensor(float.NaN);
            first.to(type);
            second.to(type);
            return (first, second, pooled.to_type(type), direction.to_type(type));
        }
    }
}
