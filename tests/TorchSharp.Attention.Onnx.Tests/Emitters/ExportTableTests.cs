namespace TorchSharp.Attention.Onnx.Tests;

/// <summary>Every module with every setting, and every network with every attention at every position, computes in ONNX Runtime what it does in TorchSharp.</summary>
public sealed class ExportTableTests(ExportTable table) : IClassFixture<ExportTable>
{
    private const double Tolerance = 1e-4;

    public static TheoryData<string> ModuleNames => [.. ExportCase.Modules.Select(one => one.Name)];

    public static TheoryData<string> NetworkNames => [.. ExportCase.Networks.Select(one => one.Name)];

    private static Type[] PublicModules
        => [.. typeof(AttentionModule).Assembly.GetExportedTypes().Where(type => !type.IsAbstract && type.IsSubclassOf(typeof(nn.Module)))];

    [Theory]
    [MemberData(nameof(ModuleNames))]
    public void A_module_computes_the_same(string name) => Export(ExportCase.Modules.Single(one => one.Name == name), name);

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public void A_network_computes_the_same(string name) => Export(ExportCase.Networks.Single(one => one.Name == name), name);

    private void Export(ExportCase one, string name)
    {
        using TestFolder folder = new();
        using DisposeScope scope = NewDisposeScope();
        manual_seed(11);
        using nn.Module model = one.Create();
        ExportTests.Disturb(model);

        // SiLU has no upper bound: with attention at every position values grow from block to block, and softmaxes of them magnify rounding.
        double tolerance = one.Group == nameof(EfficientNet) ? 1e-3 : Tolerance;

        // All axes open and the maps as outputs; then, for modules and wherever an axis needs the example's size, another size with nothing but the batch open.
        OnnxExportReport open = model.ExportOnnx(folder.PathOf("open.onnx"), Example(one.First), new OnnxExportOptions
        {
            DynamicAxes = one.Axes,
            AttentionMaps = true,
            Tolerance = tolerance,
        });
        Assert.Empty(open.Skipped);
        Assert.Equal(one.Inputs(model), open.Inputs);
        double error = open.MaxRelativeError!.Value;
        EmitterTests.AssertNothingUnread(OnnxModelFile.Load(folder.PathOf("open.onnx")).Graph);
        OnnxFiles.Keep(folder.PathOf("open.onnx"), name);
        bool fixedSize = open.Notes.Count > 0;
        if (fixedSize || model is not FeatureNetwork)
        {
            OnnxExportReport plain = model.ExportOnnx(folder.PathOf("plain.onnx"), Example(one.Second), new OnnxExportOptions { Tolerance = tolerance });
            Assert.Empty(plain.Skipped);
            Assert.Empty(plain.Notes);
            error = Math.Max(error, plain.MaxRelativeError!.Value);
        }

        table.Add(one, open, error);
    }

    /// <summary>A public module that nobody gave an emitter would be found out by users.</summary>
    [Fact]
    public void Every_public_module_of_the_library_has_an_emitter()
    {
        Assert.True(PublicModules.Length > 40);
        Assert.DoesNotContain(PublicModules, type => !OnnxEmitters.Default.Has(type));
    }

    [Fact]
    public void Every_public_module_of_the_library_is_in_the_table()
    {
        HashSet<string> groups = [.. ExportCase.All.Select(one => one.Group.Split(' ')[0])];
        Assert.DoesNotContain(PublicModules, type => !groups.Contains(type.Name));
        string page = File.ReadAllText(ExportTable.Page).ReplaceLineEndings("\n");
        Assert.All(ExportCase.All.GroupBy(one => one.Group), group => Assert.Contains($"\n{ExportTable.Row(group.Key, [.. group.Select(Inputs)])}", page, StringComparison.Ordinal));

        static string Inputs(ExportCase one)
        {
            using DisposeScope scope = NewDisposeScope();
            using nn.Module model = one.Create();
            return ExportTable.Line(one.Inputs(model));
        }
    }

    private static Tensor[] Example(long[][] shapes) => [.. shapes.Select(shape => randn(shape))];
}
