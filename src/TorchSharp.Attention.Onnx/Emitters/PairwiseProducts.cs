namespace TorchSharp.Attention.Onnx;

/// <summary>What the emitters of attentions over pairs of positions share.</summary>
internal static class PairwiseProducts
{
    /// <summary>A projected map (N, parts · heads · d, H, W) as its parts, each (N, heads, d, L) with L = H · W.</summary>
    public static IReadOnlyList<OnnxValue> Columns(this OnnxContext context, OnnxValue projected, int parts = 1, long heads = 1)
    {
        long width = projected[1].Size / (parts * heads);
        return [.. context.Split(projected, 1, [.. Enumerable.Repeat(heads * width, parts)])
            .Select(part => context.Reshape(part, part[0], heads, width, part[2] * part[3]))];
    }

    /// <summary>(…, d, L) as (…, L, d), or the other way round.</summary>
    public static OnnxValue Turn(this OnnxContext context, OnnxValue x)
        => context.Transpose(x, [.. Enumerable.Range(0, x.Rank - 2), x.Rank - 1, x.Rank - 2]);

    /// <summary>
    /// softmax(scale · q k + bias) v with q (…, L, d), k (…, d, S) and v (…, S, e). The weights become the module's map,
    /// made dense where they are of blocks.
    /// </summary>
    public static OnnxValue Attend(
        this OnnxContext context, OnnxValue query, OnnxValue key, OnnxValue value, OnnxValue? bias = null, double? scale = null,
        Func<OnnxValue, OnnxValue>? dense = null)
    {
        OnnxValue logits = context.MatMul(context.Mul(query, scale ?? 1 / Math.Sqrt(query[-1].Size)), key);
        OnnxValue weights = context.Softmax(bias is null ? logits : context.Add(logits, bias), -1);
        if (context.WantsMaps) context.Map(AttentionMapKind.Pairwise, dense is null ? weights : dense(weights));
        return context.MatMul(weights, value);
    }

    /// <summary>Gathered values (N, heads, L, d) as a map of <paramref name="like"/>'s size.</summary>
    public static OnnxValue ToMap(this OnnxContext context, OnnxValue gathered, OnnxValue like)
        => context.Reshape(context.Turn(gathered), like[0], gathered[1] * gathered[3], like[2], like[3]);

    /// <summary>The positions of an axis, picked: their axes take its place.</summary>
    public static OnnxValue Pick(this OnnxContext context, OnnxValue x, int axis, long[] positions, params long[] shape)
    {
        OnnxLength[] picked = [.. x.Shape.Take(axis), .. shape.Select(OnnxLength.Of), .. x.Shape.Skip(axis + 1)];
        return context.Node(
            "Gather", [x, context.Constant(positions, shape)], [(picked, x.ElementType)], ("axis", (long)axis))[0];
    }

    /// <summary>(n, n), true on the diagonal; n may be dynamic.</summary>
    public static OnnxValue Diagonal(this OnnxContext context, OnnxLength size)
    {
        OnnxValue count = context.Squeeze(context.Lengths(size), 0);
        OnnxValue places = context.Node(
            "Range", [context.Constant([0L]), count, context.Constant([1L])], [([size], OnnxElementType.Int64)])[0];
        return context.Node(
            "Equal", [context.Unsqueeze(places, 1), context.Unsqueeze(places, 0)], [([size, size], OnnxElementType.Bool)])[0];
    }

    /// <summary>Truth values as zeros and ones.</summary>
    public static OnnxValue AsNumbers(this OnnxContext context, OnnxValue truth)
        => context.Node("Cast", [truth], truth.Shape, ("to", (long)OnnxElementType.Float));
}
