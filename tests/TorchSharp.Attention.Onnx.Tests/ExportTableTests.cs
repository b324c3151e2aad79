namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>Every module with every setting, and every network with every attention at every position, computes in ONNX Runtime what it does in TorchSharp.</summary>
public sealed class ExportTableTests(ExportTable table) : IClassFixture<ExportTable>
{
    private const double Tolerance = 1e-4;

    public static TheoryData<string> ModuleNames => [.. ExportCase.Modules.Select(one => one.Name)];

    public static TheoryData<string> NetworkNames => [.. ExportCase.Networks.Select(one => one.Name)];

    [Theory]
    [MemberData(nameof(ModuleNames))]
    public void A_module_computes_the_same(string name) => Export(ExportCase.Modules.Single(one => one.Name == name));

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public void A_network_computes_the_same(string name) => Export(ExportCase.Networks.Single(one => one.Name == name));

    private void Export(ExportCase one)
    {
        using TestFolder folder = new();
        using DisposeScope scope = NewDisposeScope();
        manual_seed(11);
        using nn.Module model = one.Create();
        ExportTests.Disturb(model);

        // All axes open and the maps as outputs; then another size with nothing but the batch open.
        OnnxExportReport open = model.ExportOnnx(folder.File("open.onnx"), Example(one.First), new OnnxExportOptions
        {
            DynamicAxes = OnnxDynamicAxes.Batch | OnnxDynamicAxes.Size | OnnxDynamicAxes.Length,
            AttentionMaps = true,
            Tolerance = Tolerance,
        });
        OnnxExportReport plain = model.ExportOnnx(folder.File("plain.onnx"), Example(one.Second), new OnnxExportOptions { Tolerance = Tolerance });

        Assert.Empty(open.Skipped);
        Assert.Empty(plain.Skipped);
        Assert.Empty(plain.Notes);
        foreach (OnnxExportReport report in new[] { open, plain }) Assert.InRange(report.MaxRelativeError!.Value, 0, Tolerance);
        table.Add(one, open, plain);
    }

    private static Tensor[] Example(long[][] shapes) => [.. shapes.Select(shape => randn(shape))];
}
