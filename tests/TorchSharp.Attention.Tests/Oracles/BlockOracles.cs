using static TorchSharp.Attention.Tests.Layers;

namespace TorchSharp.Attention.Tests;

/// <summary>
/// Self-attention whose logits are −∞ outside a position's window, the cyclic border never entering. Padding enters where the options
/// say so: then the map is a larger one, and what was added is cut off again.
/// </summary>
internal static class WindowOracle
{
    public static DenseMap Context(WindowAttentionOptions options, DenseMap x, OracleState state)
    {
        DenseMap seen = Seen(options, x);
        DenseMap qkv = Convolve(seen, state.Child("qkv"), 3 * x.C, options.Bias);
        DenseMap gathered = ContextOracle.Gather(SeenWeights(options, seen, state), ContextOracle.Channels(qkv, 2 * x.C, x.C), seen.H, seen.W);
        DenseMap cut = DenseMap.Of(x.N, x.C, x.H, x.W, (n, c, y, column) => gathered[n, c, y, column]);
        return Convolve(cut, state.Child("proj"), x.C, bias: true);
    }

    public static DenseMap Weights(WindowAttentionOptions options, DenseMap x, OracleState state)
    {
        DenseMap seen = Seen(options, x);
        DenseMap weights = SeenWeights(options, seen, state);
        return DenseMap.Of(x.N, options.Heads, x.H * x.W, x.H * x.W, (n, head, i, j) => weights[n, head, Place(i), Place(j)]);

        int Place(int i) => (i / x.W * seen.W) + (i % x.W);
    }

    private static DenseMap Seen(WindowAttentionOptions options, DenseMap x)
    {
        if (options.MaskPadding) return x;
        return DenseMap.Of(x.N, x.C, Whole(x.H), Whole(x.W), (n, c, y, column) => y < x.H && column < x.W ? x[n, c, y, column] : 0);

        int Whole(int length) => (length + options.WindowSize - 1) / options.WindowSize * options.WindowSize;
    }

    private static DenseMap SeenWeights(WindowAttentionOptions options, DenseMap x, OracleState state)
    {
        int size = options.WindowSize, span = (2 * size) - 1;
        DenseMap qkv = Convolve(x, state.Child("qkv"), 3 * x.C, options.Bias);
        double[] table = state.Get("relative_position_bias_table", span * span * options.Heads);
        DenseMap logits = ContextOracle.Logits(
            ContextOracle.Channels(qkv, 0, x.C), ContextOracle.Channels(qkv, x.C, x.C), 1 / Math.Sqrt(x.C / options.Heads), options.Heads);
        return SelfAttentionOracle.Softmax(DenseMap.Of(x.N, options.Heads, logits.H, logits.W, (n, head, i, j) =>
        {
            (int y, int column) = (i / x.W, i % x.W);
            (int otherY, int otherColumn) = (j / x.W, j % x.W);
            if (Window(y, x.H) != Window(otherY, x.H) || Window(column, x.W) != Window(otherColumn, x.W)) return double.NegativeInfinity;
            int offset = ((y - otherY + size - 1) * span) + column - otherColumn + size - 1;
            return logits[n, head, i, j] + table[(offset * options.Heads) + head];
        }));

        // Without the cyclic trick: what lies before the shift is a window of its own.
        int Window(int place, int length) => length <= size || options.Shift == 0 ? place / size : place < options.Shift ? -1 : (place - options.Shift) / size;
    }
}

/// <summary>q · (h[Δy] + w[Δx]) with tables that are interpolated for another size than their own.</summary>
internal static class RelativeOracle
{
    public static double Logit(
        OracleState state, DenseMap query, int rows, int columns, int n, int head, int width, (int Y, int X) at, (int Y, int X) offset, (int Height, int Width) keys)
    {
        double[] height = state.Get("height_rel", rows * width);
        double[] across = state.Get("width_rel", columns * width);
        double sum = 0;
        for (int i = 0; i < width; i++)
        {
            sum += query[n, (head * width) + i, at.Y, at.X] * (Entry(height, rows, offset.Y, keys.Height, i) + Entry(across, columns, offset.X, keys.Width, i));
        }

        return sum;

        double Entry(double[] table, int count, int delta, int size, int i)
        {
            // Outermost offset to outermost offset, zero to zero.
            double centre = (count - 1) / 2.0;
            double place = size == 1 ? centre : centre + (delta * centre / (size - 1));
            int low = (int)Math.Floor(place + 1e-9);
            double share = Math.Abs(place - low) < 1e-9 ? 0 : place - low;
            return ((1 - share) * table[(low * width) + i]) + (share == 0 ? 0 : share * table[((low + 1) * width) + i]);
        }
    }
}

/// <summary>softmax(q kᵀ / √d + q · r) v.</summary>
internal static class BottleneckOracle
{
    public static DenseMap Context(BottleneckAttentionOptions options, DenseMap x, OracleState state)
    {
        int keys = options.Heads * (options.KeyWidth ?? x.C / options.Heads);
        DenseMap qkv = Convolve(x, state.Child("qkv"), (2 * keys) + x.C, options.Bias);
        return ContextOracle.Gather(Weights(options, x, state), ContextOracle.Channels(qkv, 2 * keys, x.C), x.H, x.W);
    }

    public static DenseMap Weights(BottleneckAttentionOptions options, DenseMap x, OracleState state)
    {
        int width = options.KeyWidth ?? x.C / options.Heads, keys = options.Heads * width;
        DenseMap qkv = Convolve(x, state.Child("qkv"), (2 * keys) + x.C, options.Bias);
        DenseMap query = ContextOracle.Channels(qkv, 0, keys);
        double scale = options.ScalePositions ? 1 / Math.Sqrt(width) : 1;
        DenseMap logits = ContextOracle.Logits(query, ContextOracle.Channels(qkv, keys, keys), 1 / Math.Sqrt(width), options.Heads);
        return SelfAttentionOracle.Softmax(DenseMap.Of(x.N, options.Heads, logits.H, logits.W, (n, head, i, j) =>
        {
            (int Y, int X) at = (i / x.W, i % x.W);
            return logits[n, head, i, j] + (scale * RelativeOracle.Logit(
                state.Child("pos_embed"), query, (2 * options.FeatureHeight) - 1, (2 * options.FeatureWidth) - 1, n, head, width,
                at, ((j / x.W) - at.Y, (j % x.W) - at.X), (x.H, x.W)));
        }));
    }
}

/// <summary>
/// Every query against the window around its block; beyond the map stand zeros that take part. Offsets go from the query's place in
/// its block to the key's place in the window.
/// </summary>
internal static class HaloOracle
{
    public static DenseMap Context(HaloAttentionOptions options, DenseMap x, OracleState state)
        => ContextOracle.Gather(Weights(options, x, state), Half(options, x, state, value: true), x.H, x.W);

    public static DenseMap Weights(HaloAttentionOptions options, DenseMap x, OracleState state)
    {
        int width = options.KeyWidth ?? x.C / options.Heads, window = options.BlockSize + (2 * options.HaloSize), span = (2 * window) - 1;
        DenseMap query = Convolve(x, state.Child("q"), options.Heads * width, options.Bias);
        double scale = options.ScalePositions ? 1 / Math.Sqrt(width) : 1;
        DenseMap key = Half(options, x, state, value: false);
        DenseMap weights = new(x.N, options.Heads, x.H * x.W, x.H * x.W);
        for (int n = 0; n < x.N; n++)
            for (int head = 0; head < options.Heads; head++)
                for (int y = 0; y < x.H; y++)
                    for (int column = 0; column < x.W; column++)
                    {
                        int top = (y / options.BlockSize * options.BlockSize) - options.HaloSize;
                        int left = (column / options.BlockSize * options.BlockSize) - options.HaloSize;
                        double sum = 0;
                        for (int i = 0; i < window * window; i++)
                        {
                            (int keyY, int keyX) = (top + (i / window), left + (i % window));
                            bool inside = keyY >= 0 && keyY < x.H && keyX >= 0 && keyX < x.W;
                            double logit = scale * RelativeOracle.Logit(
                                state.Child("pos_embed"), query, span, span, n, head, width, (y, column), (keyY - y + options.HaloSize, keyX - column + options.HaloSize), (window, window));
                            for (int c = head * width; inside && c < (head + 1) * width; c++)
                            {
                                logit += query[n, c, y, column] * key[n, c, keyY, keyX] / Math.Sqrt(width);
                            }

                            sum += Math.Exp(logit);
                            if (inside) weights[n, head, (y * x.W) + column, (keyY * x.W) + keyX] = Math.Exp(logit);
                        }

                        for (int j = 0; j < x.H * x.W; j++) weights[n, head, (y * x.W) + column, j] /= sum;
                    }

        return weights;
    }

    /// <summary>A head's keys and values stand one after the other.</summary>
    private static DenseMap Half(HaloAttentionOptions options, DenseMap x, OracleState state, bool value)
    {
        int valueWidth = x.C / options.Heads, keyWidth = options.KeyWidth ?? valueWidth, width = value ? valueWidth : keyWidth;
        DenseMap both = Convolve(x, state.Child("kv"), (options.Heads * keyWidth) + x.C, options.Bias);
        return DenseMap.Of(
            x.N, options.Heads * width, x.H, x.W,
            (n, c, y, column) => both[n, (c / width * (keyWidth + valueWidth)) + (value ? keyWidth : 0) + (c % width), y, column]);
    }
}

/// <summary>q_nᵀ (Σ σ(k)_m v_mᵀ + Σ E_{m−n} v_mᵀ + b).</summary>
internal static class LambdaOracle
{
    public static DenseMap Context(LambdaLayerOptions options, DenseMap x, OracleState state, bool training)
    {
        int width = x.C / options.Heads, keyWidth = options.KeyWidth;
        (DenseMap query, DenseMap key) = QueryAndKey(options, x, state, training);
        DenseMap value = Normalize(ContextOracle.Channels(Project(options, x, state), (options.Heads + 1) * keyWidth, width), state.Child("norm_v"), training);
        DenseMap weights = Weights(options, x, query, key, state);
        double[] shift = state.Child("conv_lambda").Get("bias", keyWidth);
        return DenseMap.Of(x.N, x.C, x.H, x.W, (n, c, y, column) =>
        {
            int head = c / width;
            double sum = 0;
            for (int i = 0; i < keyWidth; i++) sum += query[n, (head * keyWidth) + i, y, column] * shift[i];
            for (int j = 0; j < x.H * x.W; j++) sum += weights[n, head, (y * x.W) + column, j] * value[n, c % width, j / x.W, j % x.W];
            return sum;
        });
    }

    public static DenseMap Weights(LambdaLayerOptions options, DenseMap x, OracleState state)
    {
        (DenseMap query, DenseMap key) = QueryAndKey(options, x, state, training: false);
        return Weights(options, x, query, key, state);
    }

    private static DenseMap Weights(LambdaLayerOptions options, DenseMap x, DenseMap query, DenseMap key, OracleState state)
    {
        int size = options.KernelSize, keyWidth = options.KeyWidth;
        double[] table = state.Child("conv_lambda").Get("weight", keyWidth * size * size);
        return DenseMap.Of(x.N, options.Heads, x.H * x.W, x.H * x.W, (n, head, i, j) =>
        {
            int down = (j / x.W) - (i / x.W) + (size / 2), across = (j % x.W) - (i % x.W) + (size / 2);
            bool near = down >= 0 && down < size && across >= 0 && across < size;
            double sum = 0;
            for (int k = 0; k < keyWidth; k++)
            {
                double embedding = near ? table[(k * size * size) + (down * size) + across] : 0;
                sum += query[n, (head * keyWidth) + k, i / x.W, i % x.W] * (key[n, 0, k, j] + embedding);
            }

            return sum;
        });
    }

    private static (DenseMap Query, DenseMap Key) QueryAndKey(LambdaLayerOptions options, DenseMap x, OracleState state, bool training)
    {
        int keyWidth = options.KeyWidth;
        DenseMap all = Project(options, x, state);
        DenseMap query = Normalize(ContextOracle.Channels(all, 0, options.Heads * keyWidth), state.Child("norm_q"), training);
        DenseMap key = SelfAttentionOracle.Softmax(
            DenseMap.Of(x.N, 1, keyWidth, x.H * x.W, (n, _, k, p) => all[n, (options.Heads * keyWidth) + k, p / x.W, p % x.W]));
        return (query, key);
    }

    private static DenseMap Project(LambdaLayerOptions options, DenseMap x, OracleState state)
        => Convolve(x, state.Child("qkv"), ((options.Heads + 1) * options.KeyWidth) + (x.C / options.Heads), options.Bias);
}

/// <summary>f₂(g(P X Q)), block by block.</summary>
internal static class BatOracle
{
    public static DenseMap Context(BatAttentionOptions options, DenseMap x, OracleState state, bool training)
    {
        DenseMap reduced = Layer(x, state.Child("conv1"), Width(options, x), training);
        DenseMap weights = Mix(options, reduced, state.Child("ba"), training);
        DenseMap mixed = ContextOracle.Gather(weights, reduced, x.H, x.W);
        return Layer(Layer(mixed, state.Child("ba").Child("conv2"), reduced.C, training), state.Child("conv2"), x.C, training);
    }

    public static DenseMap Weights(BatAttentionOptions options, DenseMap x, OracleState state)
        => Mix(options, Layer(x, state.Child("conv1"), Width(options, x), training: false), state.Child("ba"), training: false);

    private static DenseMap Mix(BatAttentionOptions options, DenseMap reduced, OracleState state, bool training)
    {
        int blocks = options.BlockSize, groups = options.Groups;
        int down = (reduced.H + blocks - 1) / blocks, across = (reduced.W + blocks - 1) / blocks;
        DenseMap map = Layer(reduced, state.Child("conv1"), groups, training);
        DenseMap p = Matrix("conv_p", (n, g, block) => Max(n, g, y => y / down == block, _ => true));
        DenseMap q = Matrix("conv_q", (n, g, block) => Max(n, g, _ => true, column => column / across == block));
        return DenseMap.Of(reduced.N, groups, reduced.H * reduced.W, reduced.H * reduced.W, (n, g, i, j) =>
        {
            (int y, int column) = (i / reduced.W, i % reduced.W);
            (int fromY, int fromX) = (j / reduced.W, j % reduced.W);
            if (y % down != fromY % down || column % across != fromX % across) return 0;
            double row = p[n, g, y / down, fromY / down] / Enumerable.Range(0, blocks).Sum(k => p[n, g, y / down, k]);
            double line = q[n, g, fromX / across, column / across] / Enumerable.Range(0, blocks).Sum(k => q[n, g, k, column / across]);
            return row * line;
        });

        double Max(int n, int g, Func<int, bool> rows, Func<int, bool> columns)
        {
            double max = 0;
            for (int y = 0; y < map.H; y++)
                for (int column = 0; column < map.W; column++)
                {
                    if (rows(y) && columns(column)) max = Math.Max(max, map[n, g, y, column]);
                }

            return max;
        }

        DenseMap Matrix(string name, Func<int, int, int, double> pooled)
        {
            double[] weight = state.Child(name).Get("weight", blocks * blocks * groups * groups * blocks);
            double[] shift = state.Child(name).Get("bias", blocks * blocks * groups);
            return DenseMap.Of(reduced.N, groups, blocks, blocks, (n, g, i, j) =>
            {
                int output = (((g * blocks) + i) * blocks) + j;
                double sum = shift[output];
                for (int c = 0; c < groups; c++)
                    for (int k = 0; k < blocks; k++)
                    {
                        sum += weight[(((output * groups) + c) * blocks) + k] * pooled(n, c, k);
                    }

                return Functions.Sigmoid(sum);
            });
        }
    }

    private static DenseMap Layer(DenseMap x, OracleState state, int outputs, bool training)
        => Normalize(Convolve(x, state.Child("conv"), outputs, bias: false), state.Child("bn"), training).Select(Functions.ReLU);

    private static int Width(BatAttentionOptions options, DenseMap x)
        => ReducedWidth(x.C, options.Reduction, options.ReducedChannels, options.RoundingDivisor);
}
