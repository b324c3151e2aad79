using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Learnt embeddings of vertical and horizontal offsets: the logit of a query at (y, x) for a key at (y′, x′) is
/// q · (h[y′ − y] + w[x′ − x]). Keys <c>height_rel</c> and <c>width_rel</c>.
/// </summary>
internal sealed class RelativeLogits : nn.Module
{
    [ComponentName(Name = "height_rel")]
    private readonly Parameter _height;

    [ComponentName(Name = "width_rel")]
    private readonly Parameter _width;

    /// <summary>Embeddings for keys on a grid of the given size.</summary>
    public RelativeLogits(int height, int width, int headWidth)
        : base(nameof(RelativeLogits))
    {
        _height = new Parameter(empty((2 * height) - 1, headWidth));
        _width = new Parameter(empty((2 * width) - 1, headWidth));
        RegisterComponents();
        Reset();
    }

    /// <summary>Normal with σ = 1 / √d.</summary>
    public void Reset()
    {
        double deviation = 1 / Math.Sqrt(_height.size(1));
        nn.init.normal_(_height, 0, deviation);
        nn.init.normal_(_width, 0, deviation);
    }

    /// <summary>
    /// Logits (B, heads, a · b, keyHeight · keyWidth) of queries (B, heads, a, b, d), times a scale if there is one.
    /// </summary>
    public Tensor For(Tensor query, long keyHeight, long keyWidth, double? scale = null)
    {
        if (scale is double factor)
        {
            using Scalar scalar = factor.ToScalar();
            query = query.mul(scalar);
        }

        long batch = query.size(0), heads = query.size(1), height = query.size(2), width = query.size(3);
        Tensor vertical = query.matmul(Resized(_height, keyHeight).t())
            .gather(
                4,
                Offsets(height, keyHeight, query.device).view(1, 1, height, 1, keyHeight)
                    .expand(batch, heads, height, width, keyHeight));
        Tensor horizontal = query.matmul(Resized(_width, keyWidth).t())
            .gather(
                4, Offsets(
                    width, keyWidth, query.device).view(1, 1, 1, width, keyWidth).expand(batch, heads, height, width, keyWidth));
        return vertical.unsqueeze(5).Plus(horizontal.unsqueeze(4)).view(batch, heads, height * width, keyHeight * keyWidth);
    }

    /// <summary>The functions of <see cref="For"/>; returns the number of logits.</summary>
    /// <param name="count">Adds them up.</param>
    /// <param name="queries">Batch, heads and positions.</param>
    /// <param name="keyHeight">Rows of keys.</param>
    /// <param name="keyWidth">Columns of keys.</param>
    /// <param name="scaled">Whether there is a scale.</param>
    public long CountFor(FunctionCount count, long queries, long keyHeight, long keyWidth, bool scaled)
    {
        long width = _height.size(1), logits = queries * keyHeight * keyWidth;
        if (scaled) count.Map(queries * width);
        foreach ((Parameter table, long keys) in new[] { (_height, keyHeight), (_width, keyWidth) })
        {
            long offsets = (2 * keys) - 1;
            if (table.size(0) != offsets)
            {
                long shares = offsets * table.size(0);
                count.Add(0, shares, shares);
                count.Product(offsets * width, shares, table.numel());
            }

            count.Product(queries * offsets, queries * width, offsets * width);
            count.Copy(queries * keys);
        }

        count.Combine(logits, queries * keyHeight, queries * keyWidth);
        return logits;
    }

    /// <summary>key − query + keys − 1 for every pair.</summary>
    /// <summary>
    /// The embedding of each vertical offset from query to key, (queries, keys, d), and of each horizontal one.
    /// </summary>
    public (Tensor Height, Tensor Width) Embeddings(long height, long width, long keyHeight, long keyWidth)
    {
        return (Of(_height, height, keyHeight), Of(_width, width, keyWidth));

        static Tensor Of(Tensor table, long queries, long keys)
            => Resized(table, keys).index_select(0, Offsets(queries, keys, table.device)).view(queries, keys, table.size(1));
    }

    private static Tensor Offsets(long queries, long keys, Device device)
    {
        long[] offsets = new long[queries * keys];
        for (long i = 0; i < offsets.Length; i++) offsets[i] = (i % keys) - (i / keys) + keys - 1;
        return tensor(offsets, device: device);
    }

    /// <summary>
    /// The table of 2n − 1 offsets for another n: interpolated linearly, outermost offsets and zero staying what they are.
    /// </summary>
    private static Tensor Resized(Tensor table, long size)
    {
        long rows = table.size(0), wanted = (2 * size) - 1;
        if (rows == wanted) return table;
        double[] shares = new double[wanted * rows];
        for (long i = 0; i < wanted; i++)
        {
            double place = size == 1 ? (rows - 1) / 2.0 : (double)i * (rows - 1) / (wanted - 1);
            long low = Math.Min((long)place, Math.Max(0, rows - 2));
            shares[(i * rows) + low] = 1 - (place - low);
            if (low + 1 < rows) shares[(i * rows) + low + 1] = place - low;
        }

        return tensor(shares, [wanted, rows], dtype: table.dtype, device: table.device).matmul(table);
    }
}
