namespace TorchSharp.Attention.Tests;

/// <summary>Two names of one tensor: the file may have either or both, if they agree.</summary>
public sealed class TiedWeightsTests : IDisposable
{
    private readonly WeightsFolder _folder = new();
    private readonly DisposeScope _scope = NewDisposeScope();

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [InlineData("embed.weight")]
    [InlineData("head.weight")]
    public void Either_name_is_enough(string name)
    {
        using Tied model = new();
        WeightsReport report = model.LoadWeights(_folder.Safetensors("t", new Dictionary<string, Tensor> { [name] = arange(16, ScalarType.Float32).reshape(4, 4) }));
        Assert.True(report.IsComplete, report.ToString());
        Assert.Equal(["embed.weight", "head.weight"], report.Loaded);
        Assert.Equal(15, model.state_dict()["head.weight"][3, 3].ToSingle());
        Assert.Equal(["embed.weight", "head.weight"], Assert.Throws<WeightsMismatchException>(
            () => model.LoadWeights(_folder.Safetensors("none", new Dictionary<string, Tensor> { ["other"] = ones(1) }))).Report.Missing);
    }

    [Fact]
    public void Both_names_must_agree()
    {
        using Tied model = new();
        Tensor values = rand(4, 4), other = values.clone();
        values[1, 1] = float.NaN.ToTensor();
        model.LoadWeights(_folder.Safetensors("a", new Dictionary<string, Tensor> { ["embed.weight"] = values, ["head.weight"] = values }));
        byte[] before = WeightsFolder.Snapshot(model);
        string path = _folder.Safetensors("b", new Dictionary<string, Tensor> { ["embed.weight"] = values, ["head.weight"] = other });
        WeightsMismatchException e = Assert.Throws<WeightsMismatchException>(() => model.LoadWeights(path));
        Assert.Contains("the network has one tensor for this name and 'embed.weight'", e.Message, StringComparison.Ordinal);
        Assert.Equal("head.weight", Assert.Single(e.Report.Mismatched).Name);
        Assert.Empty(model.LoadWeights(path, options: new WeightsLoadOptions { Strict = false }).Loaded);
        Assert.Equal(before, WeightsFolder.Snapshot(model));
        Assert.True(model.LoadWeights(path, KeyMap.Drop("^head")).IsComplete);
    }

    [Fact]
    public void Weights_tied_by_assignment_or_as_a_buffer_of_the_same_memory_are_one_too()
    {
        using Shared model = new();
        WeightsReport report = model.LoadWeights(_folder.Safetensors("t", new Dictionary<string, Tensor> { ["b"] = full([3], 7f), ["part"] = full([2], 7f) }));
        Assert.True(report.IsComplete, report.ToString());
        Assert.Equal(["a", "b", "part"], report.Loaded);
        Assert.Equal([7f, 7, 7], model.state_dict()["a"].data<float>().ToArray());

        // A part of a tensor is another one.
        Assert.Equal(["part"], Assert.Throws<WeightsMismatchException>(
            () => model.LoadWeights(_folder.Safetensors("u", new Dictionary<string, Tensor> { ["a"] = ones(3) }))).Report.Missing);
    }

    [Fact]
    public void A_network_without_ties_misses_what_the_file_lacks_and_what_is_saved_comes_back()
    {
        using Tied tied = new(), other = new();
        using nn.Module<Tensor, Tensor> loose = nn.Sequential(("embed", nn.Linear(4, 4, hasBias: false)), ("head", nn.Linear(4, 4, hasBias: false)));
        string path = _folder.Safetensors("t", new Dictionary<string, Tensor> { ["embed.weight"] = ones(4, 4) });
        Assert.Equal(["head.weight"], Assert.Throws<WeightsMismatchException>(() => loose.LoadWeights(path)).Report.Missing);
        tied.SaveWeights(_folder.PathOf("saved"));
        Assert.True(other.LoadWeights(_folder.PathOf("saved")).IsComplete);
        Assert.Equal(WeightsFolder.Snapshot(tied), WeightsFolder.Snapshot(other));
    }

    private sealed class Tied : nn.Module<Tensor, Tensor>
    {
        private readonly Modules.Linear embed = nn.Linear(4, 4, hasBias: false), head;

        public Tied()
            : base(nameof(Tied))
        {
            head = embed;
            RegisterComponents();
        }

        public override Tensor forward(Tensor input) => head.call(embed.call(input));
    }

    private sealed class Shared : nn.Module
    {
        public Shared()
            : base(nameof(Shared))
        {
            Tensor values = zeros(3).DetachFromDisposeScope();
            register_buffer("a", values);
            register_buffer("b", values.alias().DetachFromDisposeScope());
            register_buffer("part", values.narrow(0, 0, 2).DetachFromDisposeScope());
        }
    }
}
