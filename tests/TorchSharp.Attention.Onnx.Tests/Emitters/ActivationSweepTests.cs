using TorchSharp.Modules;

namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>Every activation, with settings that are not the defaults, at every magnitude and at the very bounds.</summary>
public sealed class ActivationSweepTests : IDisposable
{
    private static readonly (string Name, Func<nn.Module<Tensor, Tensor>> Create)[] _rows =
    [
        ("ReLU", () => nn.ReLU()),
        ("ReLU6", () => nn.ReLU6()),
        ("LeakyReLU", () => nn.LeakyReLU(0.3)),
        ("PReLU", () => nn.PReLU(1, 0.4)),
        ("ELU", () => nn.ELU(0.7)),
        ("CELU", () => nn.CELU(0.6)),
        ("CELU, large", () => nn.CELU(3)),
        ("SELU", () => nn.SELU()),
        ("GELU", () => nn.GELU()),
        ("GELU, tanh", () => nn.GELU(GELU.Approximate.tanh)),
        ("SiLU", () => nn.SiLU()),
        ("Sigmoid", () => nn.Sigmoid()),
        ("LogSigmoid", () => nn.LogSigmoid()),
        ("Hardsigmoid", () => nn.Hardsigmoid()),
        ("Hardswish", () => nn.Hardswish()),
        ("Tanh", () => nn.Tanh()),
        ("Softmax", () => nn.Softmax(1)),
        ("Softmin", () => nn.Softmin(1)),
        ("LogSoftmax", () => nn.LogSoftmax(1)),
        ("Softplus", () => nn.Softplus()),
        ("Softplus, low threshold", () => nn.Softplus(1, 1)),
        ("Softplus, steep", () => nn.Softplus(2.5, 8)),
        ("Softplus, flat", () => nn.Softplus(0.25, 3)),
        ("Hardshrink", () => nn.Hardshrink(1.5)),
        ("Softshrink", () => nn.Softshrink(1.5)),
        ("Tanhshrink", () => nn.Tanhshrink()),
        ("Threshold", () => nn.Threshold(0.5, -2)),
        ("Threshold, above zero", () => nn.Threshold(-1.5, 4)),
        ("RReLU", () => nn.RReLU(0.1, 0.4)),
        ("Softsign", () => nn.Softsign()),
        ("Mish", () => nn.Mish()),
        ("GLU", () => nn.GLU(1)),
    ];

    private readonly TestFolder _folder = new();

    public static TheoryData<string> Names => [.. _rows.Select(row => row.Name)];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Names))]
    public void An_activation_is_the_modules_everywhere(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        using nn.Module<Tensor, Tensor> module = _rows.Single(row => row.Name == name).Create();
        module.eval();
        string path = _folder.PathOf("activation.onnx");
        module.ExportOnnx(path, randn(2, 8), new OnnxExportOptions { DynamicAxes = OnnxDynamicAxes.Batch });
        float[] bounds = [0, -0f, 0.25f, 0.5f, 0.7f, 1, 1.5f, 2, 3, 3.2f, 4, 6, 8, 12, 20, 88, 89, 104, 1e4f];
        float[] sweep = [.. Enumerable.Range(-1200, 2401).Select(i => i / 64f), .. bounds, .. bounds.Select(bound => -bound), .. bounds.Select(MathF.BitIncrement), .. bounds.Select(MathF.BitDecrement)];
        Tensor x = tensor([.. sweep, .. new float[(8 - (sweep.Length % 8)) % 8]]).reshape(-1, 8);
        using OnnxSession session = new(path);
        float[] found = session.Run([("input", x)])["output"].data<float>().ToArray();
        float[] expected;
        using (no_grad()) expected = module.call(x).contiguous().data<float>().ToArray();
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.True(Math.Abs(found[i] - expected[i]) <= 3e-6f * Math.Max(1, Math.Abs(expected[i])), $"{name} at entry {i} ({x.reshape(-1)[Math.Min(i, x.numel() - 1)].item<float>():R}): {found[i]:R} instead of {expected[i]:R}");
        }
    }
}
