using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Attentions that cut a map into windows or blocks, or have embeddings of positions for one size: height and width get the
/// example's.
/// </summary>
internal static class BlockAttentionEmitters
{
    private const string OneSize = "its blocks, masks and positions are made for one size";

    public static OnnxEmitters WithBlockAttentions(this OnnxEmitters emitters) => emitters
        .WithContext<WindowAttention>(Context)
        .WithContext<HaloAttention>(Context)
        .WithContext<BottleneckAttention>(Context)
        .WithContext<BatAttention>(Context)
        .WithContext<SparseAttention>(Context);

    private static OnnxValue Context(OnnxContext context, WindowAttention module, OnnxValue x)
    {
        (long height, long width) = Size(context, x);
        WindowAttentionOptions options = (WindowAttentionOptions)module.Options;
        WindowAttention.Grid grid = new(height, width, options);
        long heads = options.Heads, window = options.WindowSize, slots = window * window, share = module.Channels / heads,
            channels = module.Channels;
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        Tensor example = empty(1, 1, height, width, device: module.parameters().First().device),
            bias = module.Logits(grid, example);
        long blocks = bias.size(0);

        OnnxValue map = context.Transpose(x, 0, 2, 3, 1);
        map = context.Pad(map, "constant", [0, 0, 0, 0], [0, grid.Height - height, grid.Width - width, 0]);
        map = Roll(context, Roll(context, map, 1, grid.Down), 2, grid.Across);
        OnnxLength windows = x[0] * grid.Windows;
        map = context.Reshape(map, x[0], grid.Height / window, window, grid.Width / window, window, channels);
        map = context.Reshape(context.Transpose(map, 0, 1, 3, 2, 4, 5), windows, slots, channels);

        OnnxLength outer = blocks == 1 ? windows : x[0];
        OnnxValue[] parts = [.. context.Split(context.Emit("qkv", map), 2, channels, channels, channels).Select(part =>
            context.Reshape(
                context.Transpose(context.Reshape(part, windows, slots, heads, share), 0, 2, 1, 3), outer, blocks * heads, slots,
                share))];
        OnnxValue gathered = context.Attend(
            parts[0], context.Turn(parts[1]), parts[2], context.Parameter(module.Merged(bias), "bias"), dense: weights =>
        {
            Tensor places = WindowAttention.Places(grid, example);
            return Dense(
                context, context.Reshape(weights, x[0], grid.Windows, heads, slots, slots), places, places, height * width);
        });
        OnnxValue rows = context.Transpose(context.Reshape(gathered, windows, heads, slots, share), 0, 2, 1, 3);
        map = context.Emit("proj", context.Reshape(rows, windows, slots, channels));
        map = context.Reshape(map, x[0], grid.Height / window, grid.Width / window, window, window, channels);
        map = context.Reshape(context.Transpose(map, 0, 1, 3, 2, 4, 5), x[0], grid.Height, grid.Width, channels);
        map = Roll(context, Roll(context, map, 1, -grid.Down), 2, -grid.Across);
        return context.Transpose(Crop(context, Crop(context, map, 1, height), 2, width), 0, 3, 1, 2);
    }

    private static OnnxValue Context(OnnxContext context, HaloAttention module, OnnxValue x)
    {
        (long height, long width) = Size(context, x);
        HaloAttentionOptions options = (HaloAttentionOptions)module.Options;
        long heads = options.Heads, block = options.BlockSize, halo = options.HaloSize, window = block + (2 * halo),
            share = module.Channels / heads;
        long keys = options.KeyWidth ?? share, down = (height + block - 1) / block, across = (width + block - 1) / block;
        OnnxLength blocks = x[0] * (down * across);

        OnnxValue query = Cut(context.Emit("q", x), 0);
        query = context.Transpose(context.Reshape(query, blocks, heads, keys, block, block), 0, 1, 3, 4, 2);
        OnnxValue around = context.Reshape(Cut(context.Emit("kv", x), halo), blocks, heads, keys + share, window * window);
        IReadOnlyList<OnnxValue> pair = context.Split(around, 2, keys, share);
        OnnxValue bias = Relative(context, query, window, window, options.ScalePositions ? 1 / Math.Sqrt(keys) : 1);
        OnnxValue gathered = context.Attend(
            context.Reshape(query, blocks, heads, block * block, keys), pair[0], context.Turn(pair[1]), bias, dense: weights =>
        {
            using DisposeScope scope = NewDisposeScope();
            (Tensor queries, Tensor seen) = module.Places(height, width);
            return Dense(
                context, context.Reshape(weights, x[0], down * across, heads, block * block, window * window), queries, seen,
                height * width);
        });
        OnnxValue map = context.Reshape(gathered, x[0], down, across, heads, block, block, share);
        map = context.Reshape(context.Transpose(map, 0, 3, 6, 1, 4, 2, 5), x[0], module.Channels, down * block, across * block);
        return Crop(context, Crop(context, map, 2, height), 3, width);

        OnnxValue Cut(OnnxValue projected, long edge)
        {
            long size = block + (2 * edge);
            OnnxValue padded = context.Pad(
                projected, "constant", [0, 0, edge, edge],
                [0, 0, (down * block) - height + edge, (across * block) - width + edge]);
            OnnxValue cut = context.Pick(padded, 2, Starts(down, size), down, size);
            cut = context.Pick(cut, 4, Starts(across, size), across, size);
            return context.Reshape(context.Transpose(cut, 0, 2, 4, 1, 3, 5), blocks, projected[1], size, size);
        }

        long[] Starts(long count, long size)
            => [.. Enumerable.Range(0, (int)(count * size)).Select(i => (i / size * block) + (i % size))];
    }

    private static OnnxValue Context(OnnxContext context, BottleneckAttention module, OnnxValue x)
    {
        (long height, long width) = Size(context, x);
        BottleneckAttentionOptions options = (BottleneckAttentionOptions)module.Options;
        long heads = options.Heads, share = module.Channels / heads, keys = options.KeyWidth ?? share;
        OnnxValue[] parts = [.. context.Split(context.Emit("qkv", x), 1, heads * keys, heads * keys, module.Channels)
            .Select(part => context.Columns(part, heads: heads)[0])];
        OnnxValue query = context.Turn(parts[0]);
        OnnxValue bias = Relative(
            context, context.Reshape(query, x[0], heads, height, width, keys), height, width,
            options.ScalePositions ? 1 / Math.Sqrt(keys) : 1);
        return context.ToMap(context.Attend(query, parts[1], context.Turn(parts[2]), bias), x);
    }

    private static OnnxValue Context(OnnxContext context, BatAttention module, OnnxValue x)
    {
        (long height, long width) = Size(context, x);
        BatAttentionOptions options = (BatAttentionOptions)module.Options;
        long blocks = options.BlockSize, groups = options.Groups;
        long tall = (height + blocks - 1) / blocks * blocks, wide = (width + blocks - 1) / blocks * blocks;
        (OnnxValue P, OnnxValue Q)? matrices = null;
        OnnxValue reduced = Convolved("conv1", x);
        OnnxValue transformed = context.Within("ba", () => Transform(reduced));
        if (context.WantsMaps) context.Map(AttentionMapKind.Pairwise, Weights(matrices!.Value.P, matrices.Value.Q));
        return Convolved("conv2", transformed);

        OnnxValue Convolved(string key, OnnxValue map)
            => context.Within(key, () => context.Relu(context.Emit("bn", context.Emit("conv", map))));

        OnnxValue Padded(OnnxValue map) => context.Pad(map, "constant", [0, 0, 0, 0], [0, 0, tall - height, wide - width]);

        OnnxValue Transform(OnnxValue map)
        {
            OnnxLength channels = map[1];
            long share = channels.Size / groups;
            OnnxValue grouped = Padded(Convolved("conv1", map));
            OnnxValue rowMax = context.Max(context.Reshape(grouped, x[0], groups, blocks, tall / blocks * wide), 3);
            OnnxValue columnMax = context.Reshape(
                context.Reduce("ReduceMax", grouped, [2], keep: false), x[0], groups, blocks, wide / blocks);
            columnMax = context.Unsqueeze(context.Reduce("ReduceMax", columnMax, [3], keep: false), 2);
            OnnxValue p = context.Sigmoid(context.Reshape(context.Emit("conv_p", rowMax), x[0], groups, blocks, blocks));
            OnnxValue q = context.Sigmoid(context.Reshape(context.Emit("conv_q", columnMax), x[0], groups, blocks, blocks));
            p = context.Div(p, context.Sum(p, 3));
            q = context.Div(q, context.Sum(q, 2));
            matrices = (p, q);
            OnnxValue rows = context.Reshape(
                context.Expand(context.Unsqueeze(p, 2), x[0], groups, share, blocks, blocks), x[0], channels, blocks, blocks);
            OnnxValue columns = context.Reshape(
                context.Expand(context.Unsqueeze(q, 2), x[0], groups, share, blocks, blocks), x[0], channels, 1, blocks, blocks);
            OnnxValue y = context.MatMul(rows, context.Reshape(Padded(map), x[0], channels, blocks, tall / blocks * wide));
            y = context.MatMul(context.Turn(columns), context.Reshape(y, x[0], channels, tall, blocks, wide / blocks));
            y = context.Reshape(y, x[0], channels, tall, wide);
            return Convolved("conv2", Crop(context, Crop(context, y, 2, height), 3, width));
        }

        OnnxValue Weights(OnnxValue p, OnnxValue q)
        {
            OnnxValue down = Spread(p, tall / blocks, height), across = Spread(context.Turn(q), wide / blocks, width);
            return context.Reshape(
                context.Mul(context.Unsqueeze(down, 3, 5), context.Unsqueeze(across, 2, 4)), x[0], groups, height * width,
                height * width);
        }

        OnnxValue Spread(OnnxValue matrix, long times, long size)
        {
            OnnxValue same = context.Reshape(context.AsNumbers(context.Diagonal(times)), 1, 1, 1, times, 1, times);
            OnnxValue spread = context.Reshape(
                context.Mul(context.Unsqueeze(matrix, 3, 5), same), x[0], groups, blocks * times, blocks * times);
            return Crop(context, Crop(context, spread, 2, size), 3, size);
        }
    }

    private static OnnxValue Context(OnnxContext context, SparseAttention module, OnnxValue x)
    {
        (long height, long width) = Size(context, x);
        SparseAttentionOptions options = (SparseAttentionOptions)module.Options;
        long positions = height * width, heads = options.Heads, share = module.Channels / heads;
        OnnxValue[] parts = [.. context.Columns(context.Emit("qkv", x), 3, heads).Select(context.Turn)];
        parts[0] = context.Mul(parts[0], 1 / Math.Sqrt(share));
        OnnxValue gathered = options.Pattern == SparsePattern.TopK ? Top() : Strided();
        return context.Emit("proj", context.ToMap(gathered, x));

        OnnxValue Top()
        {
            long kept = Math.Min(options.TopKeys, positions);
            OnnxLength[] few = [x[0], heads, positions, kept], all = [x[0], heads, positions, positions];
            IReadOnlyList<OnnxValue> best = context.Node(
                "TopK", [context.MatMul(parts[0], context.Turn(parts[1])), context.Constant([kept], 1)],
                [(few, OnnxElementType.Float), (few, OnnxElementType.Int64)]);
            OnnxValue weights = context.Node(
                "ScatterElements", [context.Expand(context.Scalar(0), all), best[1], context.Softmax(best[0], -1)], all,
                ("axis", 3L));
            context.Map(AttentionMapKind.Pairwise, weights);
            return context.MatMul(weights, parts[2]);
        }

        OnnxValue Strided()
        {
            (long blocks, long length, _) = module.Grid(positions);
            OnnxValue[] cut = [.. parts.Select(part => context.Reshape(
                context.Pad(part, "constant", [0, 0, 0, 0], [0, 0, (blocks * length) - positions, 0]), x[0], heads, blocks,
                length, share))];
            OnnxValue near = context.MatMul(cut[0], context.Turn(cut[1]));
            OnnxValue far = Across(context.MatMul(Across(cut[0]), context.Turn(Across(cut[1]))));
            using DisposeScope scope = NewDisposeScope();
            using Tensor hidden = SparseAttention.Hidden(blocks, length, positions, CPU);
            OnnxValue mask = context.Parameter(DotProduct.Hidden(hidden, ScalarType.Float32), "mask");
            OnnxValue weights = context.Softmax(context.Add(context.Concat(4, near, far), mask), -1);
            if (context.WantsMaps) context.Map(AttentionMapKind.Pairwise, Spread(weights, blocks, length));
            IReadOnlyList<OnnxValue> pair = context.Split(weights, 4, length, blocks);
            OnnxValue sum = context.Add(context.MatMul(pair[0], cut[2]), Across(context.MatMul(Across(pair[1]), Across(cut[2]))));
            return Crop(context, context.Reshape(sum, x[0], heads, blocks * length, share), 2, positions);
        }

        OnnxValue Across(OnnxValue value) => context.Transpose(value, 0, 1, 3, 2, 4);

        OnnxValue Spread(OnnxValue weights, long blocks, long length)
        {
            long places = blocks * length;
            OnnxLength[] rows = [x[0], heads, places, length + blocks], all = [x[0], heads, places, places];
            using DisposeScope scope = NewDisposeScope();
            OnnxValue keys = context.Constant(
                SparseAttention.Keys(blocks, length, CPU).data<long>().ToArray(), 1, 1, places, length + blocks);
            OnnxValue dense = context.Node(
                "ScatterElements",
                [context.Expand(context.Scalar(0), all), context.Expand(keys, rows), context.Reshape(weights, rows)], all,
                ("axis", 3L), ("reduction", "add"));
            return Crop(context, Crop(context, dense, 2, positions), 3, positions);
        }
    }

    private static (long Height, long Width) Size(OnnxContext context, OnnxValue x)
        => (context.RequireStatic(x[2], OneSize), context.RequireStatic(x[3], OneSize));

    private static OnnxValue Crop(OnnxContext context, OnnxValue x, int axis, long size)
        => x[axis].Size == size ? x : context.Slice(x, axis, 0, size);

    /// <summary>The axis begins where its position <paramref name="by"/> was, in a circle.</summary>
    private static OnnxValue Roll(OnnxContext context, OnnxValue x, int axis, long by)
        => by == 0 ? x : context.Concat(axis, context.Slice(x, axis, by, long.MaxValue), context.Slice(x, axis, 0, by));

    /// <summary>
    /// q · r for every query and key, r the sum of a vertical and a horizontal offset's embedding: (B, heads,
    /// L, S) of queries (B, heads, H, W, d).
    /// </summary>
    private static OnnxValue Relative(OnnxContext context, OnnxValue query, long keyHeight, long keyWidth, double scale)
    {
        OnnxLength height = query[2], width = query[3];
        query = context.Mul(query, scale);
        return context.Within("pos_embed", () =>
        {
            using DisposeScope scope = NewDisposeScope();
            using IDisposable quiet = no_grad();
            (Tensor vertical, Tensor horizontal) = ((RelativeLogits)context.Module).Embeddings(
                height.Size, width.Size, keyHeight, keyWidth);
            OnnxValue down = context.MatMul(query, context.Parameter(vertical.transpose(1, 2), "height_embeddings"));
            OnnxValue across = context.Transpose(
                context.MatMul(
                    context.Transpose(query, 0, 1, 3, 2, 4), context.Parameter(horizontal.transpose(1, 2), "width_embeddings")),
                    0, 1, 3, 2, 4);
            OnnxValue sum = context.Add(context.Unsqueeze(down, 5), context.Unsqueeze(across, 4));
            return context.Reshape(sum, query[0], query[1], height * width, keyHeight * keyWidth);
        });
    }

    /// <summary>Weights of blocks (N, blocks, heads, queries, keys) as (N, heads, L, L).</summary>
    private static OnnxValue Dense(OnnxContext context, OnnxValue weights, Tensor queries, Tensor keys, long positions)
    {
        (Tensor known, Tensor order) = BlockWeights.Places(queries, keys, positions, ScalarType.Float32);
        OnnxValue rows = context.MatMul(weights, context.Parameter(known.unsqueeze(1), "places"));
        rows = context.Reshape(
            context.Transpose(rows, 0, 2, 1, 3, 4), weights[0], weights[2], weights[1] * weights[3], positions);
        return context.Pick(rows, 2, order.cpu().data<long>().ToArray(), positions);
    }
}
