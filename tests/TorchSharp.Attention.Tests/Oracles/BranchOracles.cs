namespace TorchSharp.Attention.Tests;

/// <summary>What branch modules should compute, in plain loops: the branches of a sample, their weights, the weighted sum.</summary>
internal static class BranchOracle
{
    public static DenseMap Forward(BranchAttentionOptions options, DenseMap x, ConvolutionSpec convolution, OracleState state, bool training)
    {
        (DenseMap[] branches, double[,,] weights) = Run(options, x, convolution, state, training);
        return DenseMap.Of(x.N, convolution.OutputChannels, branches[0].H, branches[0].W, (n, c, row, column) =>
        {
            double sum = 0;
            for (int m = 0; m < branches.Length; m++) sum += weights[n, m, c] * branches[m][n, c, row, column];
            return sum;
        });
    }

    /// <summary>Weights by sample, branch and channel, in the order of the module's (N, M, C).</summary>
    public static double[] Weights(BranchAttentionOptions options, DenseMap x, ConvolutionSpec convolution, OracleState state)
        => [.. Run(options, x, convolution, state, training: false).Weights.Cast<double>()];

    private static (DenseMap[] Branches, double[,,] Weights) Run(
        BranchAttentionOptions options, DenseMap x, ConvolutionSpec convolution, OracleState state, bool training) => options switch
        {
            SelectiveKernelOptions kernel => SelectiveKernel(kernel, x, convolution, state, training),
            SplitAttentionOptions split => SplitAttention(split, x, convolution, state, training),
            _ => throw new NotSupportedException(options.GetType().Name),
        };

    private static (DenseMap[] Branches, double[,,] Weights) SelectiveKernel(
        SelectiveKernelOptions options, DenseMap x, ConvolutionSpec convolution, OracleState state, bool training)
    {
        (_, int outputs, int stride) = convolution;
        int paths = options.KernelSizes.Count, groups = options.Groups ?? Math.Max(1, options.SplitInput ? convolution.Groups / paths : convolution.Groups);
        DenseMap[] branches = new DenseMap[paths];
        for (int m = 0; m < paths; m++)
        {
            OracleState path = state.Child("paths").Child($"{m}");
            int size = options.KernelSizes[m];
            DenseMap seen = options.SplitInput ? Channels(x, m * x.C / paths, x.C / paths) : x;
            DenseMap map = options.DilatedKernels
                ? Convolve(seen, path.Child("conv"), outputs, false, 3, options.Dilation * (size - 1) / 2, stride, groups)
                : Convolve(seen, path.Child("conv"), outputs, false, size, options.Dilation, stride, groups);
            branches[m] = Layers.Normalize(map, path.Child("bn"), training).Select(value => Functions.Of(convolution.Activation, value));
        }

        OracleState attention = state.Child("attn");
        int width = Width(outputs, options.Reduction, options.ReducedChannels, options.MinimumReducedChannels, options.RoundingDivisor);
        DenseMap hidden = Layers.Convolve(Squeeze(branches), attention.Child("fc_reduce"), width, bias: false);
        hidden = Layers.Normalize(hidden, attention.Child("bn"), training).Select(Functions.ReLU);
        DenseMap logits = Layers.Convolve(hidden, attention.Child("fc_select"), paths * outputs, bias: false);
        return (branches, Softmax(x.N, paths, outputs, (n, m, c) => logits[n, (m * outputs) + c, 0, 0]));
    }

    private static (DenseMap[] Branches, double[,,] Weights) SplitAttention(
        SplitAttentionOptions options, DenseMap x, ConvolutionSpec convolution, OracleState state, bool training)
    {
        (int inputs, int outputs, int stride) = convolution;
        bool depthwise = options.Groups is null && convolution.Groups > 1 && convolution.Groups == inputs;
        int radix = options.Radix, groups = options.Groups ?? 1, share = outputs / groups, multiple = outputs / inputs;
        int convolutionGroups = depthwise ? inputs : (options.Groups ?? convolution.Groups) * radix;
        DenseMap map = Convolve(
            x, state.Child("conv"), outputs * radix, options.Bias, options.KernelSize, options.Dilation, stride, convolutionGroups);
        if (options.Norm) map = Layers.Normalize(map, state.Child("bn0"), training);
        map = map.Select(value => Functions.Of(convolution.Activation, value));

        // Depthwise: what an input channel yields lies together, its outputs of the first split, then of the second, ….
        int Place(int m, int c) => depthwise ? (c / multiple * multiple * radix) + (m * multiple) + (c % multiple) : (m * outputs) + c;
        DenseMap[] branches = [.. Enumerable.Range(0, radix).Select(m =>
            DenseMap.Of(x.N, outputs, map.H, map.W, (n, c, row, column) => map[n, Place(m, c), row, column]))];

        int width = Width(x.C * radix, options.Reduction, options.ReducedChannels, options.MinimumReducedChannels, options.RoundingDivisor);
        DenseMap hidden = Convolve(Squeeze(branches), state.Child("fc1"), width, bias: true, groups: groups);
        if (options.Norm) hidden = Layers.Normalize(hidden, state.Child("bn1"), training);
        DenseMap logits = Convolve(hidden.Select(Functions.ReLU), state.Child("fc2"), radix * outputs, bias: true, groups: groups);

        // Cardinal group k's logits: its channels of the first split, then of the second, ….
        double Logit(int n, int m, int c) => logits[n, (c / share * radix * share) + (m * share) + (c % share), 0, 0];
        if (radix > 1) return (branches, Softmax(x.N, radix, outputs, Logit));
        double[,,] gate = new double[x.N, 1, outputs];
        for (int n = 0; n < x.N; n++)
            for (int c = 0; c < outputs; c++)
            {
                gate[n, 0, c] = Functions.Sigmoid(Logit(n, 0, c));
            }

        return (branches, gate);
    }

    private static int Width(int channels, int reduction, int? explicitly, int minimum, int? divisor)
    {
        if (explicitly is int width) return width;
        double wanted = (double)channels / reduction;
        if (divisor is not int d) return Math.Max(minimum, (int)Math.Floor(wanted));
        int rounded = Math.Max(d, d * (int)Math.Floor((wanted / d) + 0.5));
        return Math.Max(minimum, rounded < 0.9 * wanted ? rounded + d : rounded);
    }

    private static DenseMap Channels(DenseMap x, int first, int count)
        => DenseMap.Of(x.N, count, x.H, x.W, (n, c, row, column) => x[n, first + c, row, column]);

    private static DenseMap Squeeze(DenseMap[] branches) => Layers.MeanOverPositions(branches.Aggregate((a, b) => a.Plus(b)));

    private static double[,,] Softmax(int samples, int branches, int channels, Func<int, int, int, double> logit)
    {
        double[,,] weights = new double[samples, branches, channels];
        for (int n = 0; n < samples; n++)
            for (int c = 0; c < channels; c++)
            {
                double total = 0;
                for (int m = 0; m < branches; m++) total += Math.Exp(logit(n, m, c));
                for (int m = 0; m < branches; m++) weights[n, m, c] = Math.Exp(logit(n, m, c)) / total;
            }

        return weights;
    }

    private static DenseMap Convolve(
        DenseMap x, OracleState state, int outputs, bool bias, int kernel = 1, int dilation = 1, int stride = 1, int groups = 1)
    {
        int perGroup = x.C / groups;
        double[] weight = state.Get("weight", outputs * perGroup * kernel * kernel);
        double[]? shift = bias ? state.Get("bias", outputs) : null;
        int padding = dilation * (kernel / 2);
        return DenseMap.Of(x.N, outputs, (x.H + stride - 1) / stride, (x.W + stride - 1) / stride, (n, o, row, column) =>
        {
            double sum = shift?[o] ?? 0;
            int first = o / (outputs / groups) * perGroup;
            for (int c = 0; c < perGroup; c++)
                for (int i = 0; i < kernel; i++)
                    for (int j = 0; j < kernel; j++)
                    {
                        int fromY = (row * stride) + (i * dilation) - padding;
                        int fromX = (column * stride) + (j * dilation) - padding;
                        bool inside = fromY >= 0 && fromY < x.H && fromX >= 0 && fromX < x.W;
                        if (inside) sum += weight[(((((o * perGroup) + c) * kernel) + i) * kernel) + j] * x[n, first + c, fromY, fromX];
                    }

            return sum;
        });
    }
}
