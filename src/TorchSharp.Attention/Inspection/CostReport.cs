using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace TorchSharp.Attention;

/// <summary>A network's cost for people (tree, table) and for programs (CSV, JSON). No locale has a say.</summary>
internal static class CostReport
{
    private static readonly JsonSerializerOptions Pretty =
        new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    private static readonly JsonSerializerOptions Compact = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static string Tree(ModelCost cost, CostConvention convention, int depth)
    {
        Check.NotNegative(depth);
        List<(string, ModuleCost)> lines = [(cost.Total.Description, cost.Total)];
        Add(cost.Total, "", depth);
        return Aligned(cost, lines, convention);

        void Add(ModuleCost parent, string indent, int levels)
        {
            if (levels == 0) return;
            for (int i = 0; i < parent.Children.Count; i++)
            {
                ModuleCost child = parent.Children[i];
                bool last = i == parent.Children.Count - 1;
                string name = parent.Path.Length == 0 ? child.Path : child.Path[(parent.Path.Length + 1)..];
                lines.Add(($"{indent}{(last ? "└─ " : "├─ ")}{Mark(child)}{name}: {child.Description}", child));
                Add(child, indent + (last ? "   " : "│  "), levels - 1);
            }
        }
    }

    public static string Table(ModelCost cost, CostConvention convention)
    {
        List<(string, ModuleCost)> lines = [];
        Add(cost.Total);
        if (lines is not [(_, { } only)] || only != cost.Total) lines.Add(("all", cost.Total));
        return Aligned(cost, lines, convention);

        void Add(ModuleCost module)
        {
            if (module.IsAttention || module.Children.Count == 0) lines.Add(
                ($"{Mark(module)}{module.Path}: {module.Description}", module));
            else foreach (ModuleCost child in module.Children) Add(child);
        }
    }

    public static string Csv(ModelCost cost)
    {
        StringBuilder text = new(
            "path,description,attention,coverage,calls,parameters,strict,thop,fvcore,elementwise,bytesMoved,activationBytes," +
            "milliseconds,outputShape\n");
        foreach (ModuleCost module in cost.Modules)
        {
            text.AppendJoin(
                ',', Quoted(module.Path), Quoted(module.Description), module.IsAttention ? "true" : "false", module.Coverage,
                module.Calls, module.Parameters)
                .Append(',').AppendJoin(',', module.Counts)
                .Append(',').AppendJoin(',', module.ElementwiseOperations, module.BytesMoved, module.ActivationBytes)
                .Append(',').Append(module.Milliseconds?.ToString("R", CultureInfo.InvariantCulture))
                .Append(',').Append(module.OutputShape is { } shape ? string.Join('x', shape) : "").Append('\n');
        }

        return text.ToString();

        static string Quoted(string cell)
            => cell.AsSpan().ContainsAny(",\"\r\n") ? $"\"{cell.Replace("\"", "\"\"", StringComparison.Ordinal)}\"" : cell;
    }

    public static string Json(ModelCost cost, bool indented)
        => new JsonObject
        {
            ["inputShape"] = Shape(cost.InputShape),
            ["inputShapes"] = new JsonArray([.. cost.InputShapes.Select(Shape)]),
            ["total"] = Node(cost.Total),
        }.ToJsonString(indented ? Pretty : Compact);

    private static JsonObject Node(ModuleCost module) => new()
    {
        ["path"] = module.Path,
        ["description"] = module.Description,
        ["attention"] = module.IsAttention,
        ["coverage"] = JsonNamingPolicy.CamelCase.ConvertName(module.Coverage.ToString()),
        ["calls"] = module.Calls,
        ["parameters"] = module.Parameters,
        ["strict"] = module.Operations(CostConvention.Strict),
        ["thop"] = module.Operations(CostConvention.Thop),
        ["fvcore"] = module.Operations(CostConvention.Fvcore),
        ["elementwise"] = module.ElementwiseOperations,
        ["bytesMoved"] = module.BytesMoved,
        ["activationBytes"] = module.ActivationBytes,
        ["milliseconds"] = module.Milliseconds,
        ["outputShape"] = module.OutputShape is { } shape ? Shape(shape) : null,
        ["children"] = new JsonArray([.. module.Children.Select(Node)]),
    };

    private static JsonArray Shape(ValueList<long> shape) => new([.. shape.Select(size => (JsonNode)JsonValue.Create(size))]);

    private static string Mark(ModuleCost module) => module switch
    {
        { Coverage: CostCoverage.NotCounted or CostCoverage.NotCalled } => "! ",
        { IsAttention: true } => "◆ ",
        _ => "",
    };

    private static string Aligned(ModelCost cost, List<(string Label, ModuleCost Module)> lines, CostConvention convention)
    {
        Check.Defined(convention);
        bool timed = cost.Total.Milliseconds is not null;
        string[] heads = [
            "module", "parameters", convention == CostConvention.Strict ? "multiply-accumulates" : $"{convention} operations",
            "element-wise", "moved MB", "kept MB"];
        List<string[]> rows = [timed ? [.. heads, "ms"] : heads];
        foreach ((string label, ModuleCost module) in lines)
        {
            string[] cells =
            [
                label, Text("N0", module.Parameters), Text("N0", module.Operations(convention)),
                Text("N0", module.ElementwiseOperations),
                Text("N2", module.BytesMoved / 1e6), Text("N2", module.ActivationBytes / 1e6),
            ];
            rows.Add(timed ? [.. cells, module.Milliseconds is double time ? Text("N3", time) : ""] : cells);
        }

        int[] widths = [.. rows[0].Select((_, column) => rows.Max(row => row[column].Length))];
        StringBuilder text = new();
        foreach (string[] row in rows)
        {
            text.AppendJoin(
                "  ", row.Select((cell, column) => column == 0 ? cell.PadRight(widths[0]) : cell.PadLeft(widths[column])))
                .Append('\n');
        }

        Notes(text, cost);
        return text.ToString().TrimEnd('\n');

        static string Text(string format, IFormattable number) => number.ToString(format, CultureInfo.InvariantCulture);
    }

    private static void Notes(StringBuilder text, ModelCost cost)
    {
        if (cost.Attentions.Any())
        {
            AttentionShare share = cost.AttentionShare;
            text.Append(
                CultureInfo.InvariantCulture,
                $"attention (◆): {share.Parameters:0.###%} of the parameters, {share.MultiplyAccumulates:0.###%} of the " +
                $"multiply-accumulates, ")
                .Append(CultureInfo.InvariantCulture, $"{share.BytesMoved:0.###%} of the bytes moved");
            if (share.Milliseconds is double time) text.Append(CultureInfo.InvariantCulture, $", {time:0.###%} of the time");
            text.Append('\n');
        }

        foreach (ModuleCost module in cost.NotCounted)
        {
            string why = module.Coverage == CostCoverage.NotCounted
                ? "no formula for what it computes"
                : "never called, or by forward instead of call";
            text.Append(
                CultureInfo.InvariantCulture,
                $"! not counted: {(module.Path.Length == 0 ? "" : module.Path + ": ")}{module.Description}, " +
                $"{module.Parameters:N0} parameters; {why}\n");
        }

        if (!cost.Modules.All(module => module.IsPlain))
        {
            text.Append(
                "element-wise, moved and kept are those of layers and of this library; " +
                "functions that other forwards call are not seen\n");
        }

        string[] partly = [.. cost.PartlyCounted.Select(module => module.Description).Distinct()];
        if (partly.Length > 0)
        {
            text.Append(
                $"of {string.Join(", ", partly)} only the modules inside are counted: " +
                $"products that forward calls as functions are not seen\n");
        }
    }
}
