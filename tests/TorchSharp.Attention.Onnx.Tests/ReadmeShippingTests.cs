namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>The README's way from a network of one's own with inserted attention to an eight-bit file, compiled and run; the README must show exactly what is here.</summary>
public sealed class ReadmeShippingTests : IDisposable
{
    private static readonly Scalar _noise = 0.2.ToScalar();

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void From_training_to_eight_bits_and_the_same_predictions()
    {
        using DisposeScope everything = NewDisposeScope();
        manual_seed(1);
        Tensor patterns = rand(10, 1, 28, 28);
        (Tensor samples, Tensor _) = Noisy(patterns, 256);
        (Tensor others, Tensor otherLabels) = Noisy(patterns, 200);
        string path = _folder.PathOf("small.onnx"), small = _folder.PathOf("small.int8.onnx");

        // begin ship
        using SmallNet network = new();
        network.InsertAttention(InsertionPlan.After("stage1", new CbamOptions { Reduction = 4 }).AddAfter("stage2", new CbamOptions()), samples);
        TrainOn(network);
        OnnxEmitters emitters = OnnxEmitters.Default.With<SmallNet>((file, _, x)                      // what its forward does, said once
            => file.Emit("head", file.Reduce("ReduceMean", file.Emit("stage2", file.Emit("stage1", x)), [2, 3], keep: false)));
        network.ExportOnnx(path, samples, new OnnxExportOptions { Emitters = emitters });             // run and compared in ONNX Runtime
        Console.WriteLine(OnnxQuantizer.Quantize(path, small, [OnnxBatch.From(samples)]));            // size, integer kernels, what stays in float
        network.eval();
        OnnxBatch[] unseen = [OnnxBatch.From(others, network.call(others).argmax(1))];                // labels: what it predicts itself
        Console.WriteLine($"{OnnxSensitivity.Compare(path, small, unseen).Accuracy:P1} predicted as in TorchSharp");
        // end ship

        // Eight bits may turn an image whose two largest logits are all but equal.
        using IDisposable quiet = no_grad();
        using OnnxSession session = new(small);
        Tensor expected = network.call(others).argmax(1), found = session.Run([("input", others)])["output"].argmax(1);
        Assert.InRange(expected.eq(found).sum().ToInt64(), 198, 200);
        Assert.Equal(expected.eq(found).sum().ToInt64() / 200.0, OnnxSensitivity.Compare(path, small, unseen).Accuracy!.Value, 1e-12);
        Assert.InRange(expected.eq(otherLabels).sum().ToInt64(), 180, 200);

        void TrainOn(SmallNet net)
        {
            using optim.Optimizer optimizer = optim.AdamW(net.parameters(), lr: 3e-3);
            for (int step = 0; step < 100; step++)
            {
                using DisposeScope scope = NewDisposeScope();
                (Tensor images, Tensor classes) = Noisy(patterns, 32);
                optimizer.zero_grad();
                nn.functional.cross_entropy(net.call(images), classes).backward();
                optimizer.step();
            }
        }
    }

    [Fact]
    public void The_readme_shows_it_in_ten_lines()
    {
        Dictionary<string, string> run = DocSnippets.InFile(), shown = DocSnippets.InPage("README.md");
        Assert.InRange(run["ship"].Split('\n').Length, 1, 10);
        Assert.Equal(run["ship"], shown["ship"]);

        // The network is the one that the README has shown before.
        Assert.Equal(run["network"], shown["network"]);
    }

    private static (Tensor Images, Tensor Labels) Noisy(Tensor patterns, int count)
    {
        Tensor labels = randint(10, [count], dtype: ScalarType.Int64);
        return (patterns.index_select(0, labels).add(randn(count, 1, 28, 28).mul(_noise)), labels);
    }
}

// begin network
internal sealed class SmallNet : nn.Module<Tensor, Tensor>   // a network of yours, without anything of this library
{
    private readonly nn.Module<Tensor, Tensor> stage1 = Stage(1, 32), stage2 = Stage(32, 64), head = nn.Linear(64, 10);

    public SmallNet() : base(nameof(SmallNet)) => RegisterComponents();

    public override Tensor forward(Tensor x) => head.call(stage2.call(stage1.call(x)).mean([2, 3]));

    private static nn.Module<Tensor, Tensor> Stage(int input, int output)
        => nn.Sequential(nn.Conv2d(input, output, 3, stride: 2, padding: 1), nn.BatchNorm2d(output), nn.ReLU());
}
// end network
