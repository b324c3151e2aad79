using System.Globalization;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>
/// Writes docs/module-table.md: every kind of the catalog with its math and paper (from the documentation comments), and, measured, the
/// shape of its map, its cost on one map, and its largest error against each reference.
/// </summary>
internal static partial class ModuleTable
{
    private const int Channels = 256, Side = 28;

    private static readonly long[] Map = [1, Channels, Side, Side], Sequence = [1, Side * Side, Channels];

    private static readonly XDocument Documentation =
        XDocument.Load(Path.ChangeExtension(typeof(AttentionModule).Assembly.Location, "xml"), LoadOptions.PreserveWhitespace);

    public static void Write(TextWriter output, IEnumerable<(string Path, string Name)> files)
    {
        HashSet<Type?> shown = [];
        ILookup<Type?, GoldenResult> results = files.ToLookup(file => ModuleOf(file.Path), file => GoldenRunner.Run(file.Path, file.Name));
        output.WriteLine("# Every module in one table");
        output.WriteLine();
        output.WriteLine("Generated: `dotnet run -c Release --project tests/Golden -- --table tests/fixtures > docs/module-table.md`. Default settings, a map of");
        output.WriteLine($"{Channels} channels and {Side} × {Side} positions. MACs: strict multiply-accumulates for one map. References: the cases under `tests/fixtures` and");
        output.WriteLine("the largest relative error of output, gradients and running statistics; a module without one is held to an independent oracle in the tests.");
        output.WriteLine();
        output.WriteLine("| kind | module and math | paper | gate or weights | parameters | MACs | references |");
        output.WriteLine("|---|---|---|---|---:|---:|---|");
        manual_seed(0);
        foreach (string kind in AttentionCatalog.Kinds) output.WriteLine(Row($"`{kind}`", OneInput(AttentionCatalog.Create(kind)), Map, results, shown));
        output.WriteLine(Row(
            "two maps", new Wrapped(new CrossAttention(Channels, Channels), (inner, x) => ((CrossAttention)inner).call(x, x)), Map, results, shown));
        output.WriteLine(Row("sequences", new Wrapped(new MultiHeadAttention(Channels), (inner, x) => ((MultiHeadAttention)inner).call(x, x, x)), Sequence, results, shown));

        // No case is left out silently: those of whole networks, and those that nothing here can build.
        output.WriteLine();
        output.WriteLine("Cases that belong to no row, of whole networks:");
        output.WriteLine();
        foreach (IGrouping<Type?, GoldenResult> rest in results.Where(group => !shown.Contains(group.Key)).OrderBy(group => group.Key?.Name, StringComparer.Ordinal))
        {
            output.WriteLine($"- {(rest.Key is null ? "built by nothing here: " : $"`{rest.Key.Name}`, ")}{Errors(rest)}");
        }
    }

    private static string Row(string label, nn.Module<Tensor, Tensor> built, long[] input, ILookup<Type?, GoldenResult> all, HashSet<Type?> shown)
    {
        using DisposeScope scope = NewDisposeScope();
        using nn.Module<Tensor, Tensor> module = built;
        module.eval();
        nn.Module documented = module is Wrapped wrapped ? wrapped.Inner : module;
        ModelCost cost = ModelCost.Measure(module, input);
        shown.Add(documented.GetType());
        XElement? about = Documentation.Descendants("member").FirstOrDefault(m => (string?)m.Attribute("name") == $"T:{documented.GetType().FullName}");
        string summary = Text(about?.Element("summary"));
        string papers = string.Join(", ", Paper().Matches(summary + Text(about?.Element("remarks"))).Select(match => match.Value).Distinct());
        string references = Errors(all[documented.GetType()]);
        return string.Create(
            CultureInfo.InvariantCulture,
            $"| {label} | **{documented.GetType().Name}**: {FirstSentence(summary)} | {Or(papers, "see its documentation")} | {Shape(module)} | {cost.Parameters:N0} | " +
            $"{cost.MultiplyAccumulates:N0} | {Or(references, "oracle")} |");
    }

    private static nn.Module<Tensor, Tensor> OneInput(AttentionOptions options) => options switch
    {
        GuidedAttentionOptions guided => new Wrapped(guided.Create(Channels, Channels), (inner, x) => ((GuidedAttentionModule)inner).call(x, x)),
        BranchAttentionOptions branch => branch.Create(Channels, Channels, 1),
        _ => options.Create(Channels),
    };

    private static string Shape(nn.Module<Tensor, Tensor> module)
    {
        using IDisposable quiet = no_grad();
        Tensor x = randn(1, Channels, Side, Side);
        Tensor? map = module switch
        {
            Wrapped { Inner: GuidedAttentionModule guided } => guided.Gate(x, x),
            GateModule gate => gate.Gate(x),
            ContextModule context => context.Weights(x),
            BranchModule branch => branch.Weights(x),
            _ => null,
        };
        return map is null ? "–" : $"(N, {string.Join(", ", map.shape.Skip(1))})";
    }

    private static Type? ModuleOf(string path)
    {
        using DisposeScope scope = NewDisposeScope();
        try
        {
            using nn.Module module = Blueprints.For(GoldenCase.Read(path)).Create();
            return module.GetType();
        }
        catch (Exception e) when (e is NotCoveredException or InvalidDataException or WeightsFormatException or ArgumentException)
        {
            return null;
        }
    }

    private static string Errors(IEnumerable<GoldenResult> results) =>
        string.Join("; ", results.OrderBy(result => result.Name, StringComparer.Ordinal).Select(result => $"{result.Name} {Error(result)}"));

    private static string Error(GoldenResult result) => result.Outcome == GoldenOutcome.Pass
        ? GoldenResult.Show(new[] { result.EvaluationError, result.TrainingError, result.GradientError, result.StatisticsError }.Max())
        : result.Outcome.ToString().ToUpperInvariant();

    private static string Text(XElement? element)
    {
        if (element is null) return "";
        IEnumerable<string> parts = element.DescendantNodes().Select(node => node switch
        {
            XText text => text.Value,
            XElement { Name.LocalName: "see" or "paramref" } see => ((string?)see.Attribute("cref") ?? (string?)see.Attribute("name") ?? "").Split('.')[^1],
            _ => "",
        });
        return White().Replace(string.Concat(parts), " ").Trim();
    }

    private static string FirstSentence(string text)
    {
        int end = text.IndexOf(". ", StringComparison.Ordinal);
        return (end < 0 ? text : text[..(end + 1)]).Replace("|", "\\|", StringComparison.Ordinal);
    }

    private static string Or(string text, string otherwise) => text.Length == 0 ? otherwise : text;

    [GeneratedRegex(@"arXiv:\d{4}\.\d{4,5}", RegexOptions.CultureInvariant)]
    private static partial Regex Paper();

    [GeneratedRegex(@"\s+", RegexOptions.CultureInvariant)]
    private static partial Regex White();

    /// <summary>A module of several inputs that gets the same one for all, so that it can be measured like the others.</summary>
    private sealed class Wrapped : nn.Module<Tensor, Tensor>
    {
        private readonly Func<nn.Module, Tensor, Tensor> _call;

        public Wrapped(nn.Module inner, Func<nn.Module, Tensor, Tensor> call)
            : base(nameof(Wrapped))
        {
            Inner = inner;
            _call = call;
            register_module("inner", inner);
        }

        public nn.Module Inner { get; }

        public override Tensor forward(Tensor input) => _call(Inner, input);
    }
}
