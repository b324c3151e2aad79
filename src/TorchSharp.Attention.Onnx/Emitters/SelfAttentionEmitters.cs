using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>Attentions over pairs of positions (or channels) of a whole map, and of sequences.</summary>
internal static class SelfAttentionEmitters
{
    public static OnnxEmitters WithSelfAttentions(this OnnxEmitters emitters) => emitters
        .WithContext<GlobalContext>(Context)
        .WithContext<NonLocal>(Context)
        .WithContext<PositionAttention>(Context)
        .WithContext<ChannelSelfAttention>(Context)
        .WithContext<CrissCrossAttention>(Context)
        .WithContext<LinearAttention>(Context)
        .WithContext<LambdaLayer>(Context)
        .WithContext<SelfAttention2d>(Context)
        .WithMultiple<MultiHeadAttention>((context, module, inputs) => [Sequences(context, module, inputs)])
        .WithMultiple<CrossAttention>((context, module, inputs) => [Across(context, module, inputs)])
        .WithBlockAttentions();

    private static OnnxValue Context(OnnxContext context, GlobalContext module, OnnxValue x)
    {
        GlobalContextOptions options = (GlobalContextOptions)module.Options;
        OnnxLength positions = x[2] * x[3];
        OnnxValue pooled;
        if (options.AttentionPooling)
        {
            OnnxValue weights = context.Softmax(context.Reshape(context.Emit("conv_attn", x), x[0], 1, 1, positions), -1);
            context.Map(AttentionMapKind.Pairwise, weights);
            pooled = context.Reshape(
                context.MatMul(context.Flatten(x, 2), context.Reshape(weights, x[0], positions, 1)), x[0], x[1], 1, 1);
        }
        else
        {
            pooled = context.Mean(x, 2, 3);
            if (context.WantsMaps)
            {
                context.Map(
                    AttentionMapKind.Pairwise,
                    context.Expand(context.Div(context.Scalar(1), context.Number(positions)), x[0], 1, 1, positions));
            }
        }

        if (options.Fusion == GlobalContextFusion.Add) return Bottleneck("mlp_add");
        OnnxValue scaled = context.Mul(x, context.Activate(options.Gate, Bottleneck("mlp_scale")));
        return options.Fusion == GlobalContextFusion.Scale ? scaled : context.Add(scaled, Bottleneck("mlp_add"));

        OnnxValue Bottleneck(string key) => context.Within(key, () =>
        {
            OnnxValue hidden = context.Emit("fc1", pooled);
            OnnxValue normed = context.Reshape(context.Emit("norm", context.Reshape(hidden, x[0], hidden[1])), hidden.Shape);
            return context.Emit("fc2", context.Activate(options.Activation, normed));
        });
    }

    private static OnnxValue Context(OnnxContext context, NonLocal module, OnnxValue x)
    {
        OnnxValue query = context.Turn(context.Columns(context.Emit("t", x))[0]), key = context.Columns(context.Emit("p", x))[0];
        OnnxValue value = context.Turn(context.Columns(context.Emit("g", x))[0]), gathered;
        if (((NonLocalOptions)module.Options).Pairwise == NonLocalPairwise.DotProduct)
        {
            OnnxValue shared = context.Mul(query, context.Div(context.Scalar(module.Scale), context.Number(x[2] * x[3])));
            if (context.WantsMaps) context.Map(AttentionMapKind.Pairwise, context.MatMul(shared, key));
            gathered = context.MatMul(shared, context.MatMul(key, value));
        }
        else
        {
            gathered = context.Attend(query, key, value, scale: module.Scale);
        }

        return context.Emit("norm", context.Emit("z", context.ToMap(gathered, x)));
    }

    private static OnnxValue Context(OnnxContext context, PositionAttention module, OnnxValue x)
    {
        OnnxValue query = context.Turn(context.Columns(context.Emit("query_conv", x))[0]), key = context.Columns(
            context.Emit("key_conv", x))[0];
        OnnxValue value = context.Turn(context.Columns(context.Emit("value_conv", x))[0]);
        return context.Mul(context.ToMap(context.Attend(query, key, value, scale: 1), x), context.Parameter("gamma"));
    }

    private static OnnxValue Context(OnnxContext context, ChannelSelfAttention module, OnnxValue x)
    {
        OnnxValue rows = context.Reshape(x, x[0], 1, x[1], x[2] * x[3]);
        double scale = ((ChannelSelfAttentionOptions)module.Options).NegateSimilarity ? -1 : 1;
        return context.Mul(
            context.Reshape(context.Attend(rows, context.Turn(rows), rows, scale: scale), x.Shape), context.Parameter("gamma"));
    }

    private static OnnxValue Context(OnnxContext context, CrissCrossAttention module, OnnxValue x)
    {
        OnnxValue total = Pass(x, mapped: true);
        for (int i = 1; i < ((CrissCrossAttentionOptions)module.Options).Recurrence; i++)
        {
            total = context.Add(total, Pass(context.Add(x, total), mapped: false));
        }

        return total;

        OnnxValue Pass(OnnxValue map, bool mapped)
        {
            OnnxValue query = Last("query_conv", map), key = Last("key_conv", map), value = Last("value_conv", map);
            OnnxValue vertical = context.Transpose(
                context.MatMul(context.Transpose(query, 0, 2, 1, 3), context.Transpose(key, 0, 2, 3, 1)), 0, 2, 1, 3);
            OnnxValue itself = context.Unsqueeze(context.Diagonal(x[2]), 0, 2);
            vertical = context.Node("Where", [itself, context.Scalar(double.NegativeInfinity), vertical], vertical.Shape);
            OnnxValue horizontal = context.MatMul(query, context.Turn(key));

            // One softmax over both, without laying them side by side.
            OnnxValue most = context.Broadcasting("Max", context.Max(vertical, -1), context.Max(horizontal, -1));
            OnnxValue column = context.Elementwise("Exp", context.Sub(vertical, most)), row = context.Elementwise(
                "Exp", context.Sub(horizontal, most));
            OnnxValue sum = context.Add(context.Sum(column, -1), context.Sum(row, -1));
            (column, row) = (context.Div(column, sum), context.Div(row, sum));
            if (mapped && context.WantsMaps) context.Map(AttentionMapKind.Pairwise, Dense(column, row));
            OnnxValue down = context.Transpose(
                context.MatMul(context.Transpose(column, 0, 2, 1, 3), context.Transpose(value, 0, 2, 1, 3)), 0, 2, 1, 3);
            return context.Mul(
                context.Transpose(context.Add(down, context.MatMul(row, value)), 0, 3, 1, 2), context.Parameter("gamma"));
        }

        OnnxValue Last(string key, OnnxValue map) => context.Transpose(context.Emit(key, map), 0, 2, 3, 1);

        OnnxValue Dense(OnnxValue column, OnnxValue row)
        {
            OnnxValue down = context.Mul(
                context.Unsqueeze(column, 4), context.Unsqueeze(context.AsNumbers(context.Diagonal(x[3])), 0, 1, 3));
            OnnxValue across = context.Mul(
                context.Unsqueeze(row, 3), context.Unsqueeze(context.AsNumbers(context.Diagonal(x[2])), 0, 2, 4));
            return context.Reshape(context.Add(down, across), x[0], 1, x[2] * x[3], x[2] * x[3]);
        }
    }

    private static OnnxValue Context(OnnxContext context, LinearAttention module, OnnxValue x)
    {
        IReadOnlyList<OnnxValue> parts = context.Columns(
            context.Emit("qkv", x), 3, ((LinearAttentionOptions)module.Options).Heads);
        OnnxValue query = Feature(parts[0]), key = Feature(parts[1]), value = parts[2];
        if (context.WantsMaps)
        {
            OnnxValue products = context.MatMul(context.Turn(query), key);
            context.Map(AttentionMapKind.Pairwise, context.Div(products, context.Clip(context.Sum(products, -1), 1e-30)));
        }

        OnnxValue sums = context.MatMul(context.MatMul(value, context.Turn(key)), query);
        OnnxValue totals = context.MatMul(context.Turn(context.Sum(key, -1)), query);
        return context.Emit("proj", context.Reshape(context.Div(sums, context.Clip(totals, 1e-30)), x.Shape));

        OnnxValue Feature(OnnxValue map)
            => context.Add(context.Elementwise("Exp", context.Broadcasting("Min", map, context.Scalar(0))), context.Relu(map));
    }

    private static OnnxValue Context(OnnxContext context, LambdaLayer module, OnnxValue x)
    {
        LambdaLayerOptions options = (LambdaLayerOptions)module.Options;
        long heads = options.Heads, keys = options.KeyWidth, values = module.Channels / heads, size = options.KernelSize;
        IReadOnlyList<OnnxValue> parts = context.Split(context.Emit("qkv", x), 1, heads * keys, keys, values);
        OnnxLength positions = x[2] * x[3];
        OnnxValue query = context.Turn(context.Reshape(context.Emit("norm_q", parts[0]), x[0], heads, keys, positions));
        OnnxValue key = context.Softmax(context.Reshape(parts[1], x[0], 1, keys, positions), -1);
        OnnxValue map = context.Emit("norm_v", parts[2]);
        OnnxValue content = context.MatMul(
            query, context.MatMul(key, context.Turn(context.Reshape(map, x[0], 1, values, positions))));

        // Each position's own map from queries to outputs: (N, L, K, V).
        OnnxValue local = context.Within("conv_lambda", () =>
        {
            Modules.Conv3d convolution = (Modules.Conv3d)context.Module;
            using Tensor plane = convolution.weight!.squeeze(-1);
            return context.Conv(
                context.Reshape(map, x[0] * values, 1, x[2], x[3]), context.Parameter(plane, "weight_2d"),
                context.Parameter("bias"), pads: [size / 2, size / 2]);
        });
        local = context.Transpose(context.Reshape(local, x[0], values, keys, positions), 0, 3, 2, 1);
        OnnxValue position = context.Transpose(context.MatMul(context.Transpose(query, 0, 2, 1, 3), local), 0, 2, 1, 3);
        if (context.WantsMaps)
        {
            long height = context.RequireStatic(x[2], "weights of pairs are made for one size"), width = context.RequireStatic(
                x[3], "weights of pairs are made for one size");
            using Tensor embeddings = module.Embeddings(height, width);
            OnnxValue near = context.Squeeze(
                context.MatMul(context.Unsqueeze(query, 3), context.Parameter(embeddings, "embeddings")), 3);
            context.Map(AttentionMapKind.Pairwise, context.Add(context.MatMul(query, key), near));
        }

        return context.Reshape(context.Turn(context.Add(content, position)), x.Shape);
    }

    private static OnnxValue Context(OnnxContext context, SelfAttention2d module, OnnxValue x)
    {
        IReadOnlyList<OnnxValue> parts = context.Columns(context.Emit("qkv", x), 3, module.Heads);
        OnnxValue? bias = null;
        if (((SelfAttention2dOptions)module.Options).RelativePosition)
        {
            const string reason = "the bias of relative positions is computed for one size";
            using IDisposable quiet = no_grad();
            using Tensor between = module.PositionBias(context.RequireStatic(x[2], reason), context.RequireStatic(x[3], reason))!;
            bias = context.Parameter(between, "rel_pos_bias");
        }

        OnnxValue gathered = context.Attend(context.Turn(parts[0]), parts[1], context.Turn(parts[2]), bias);
        OnnxValue found = context.Emit("proj", context.ToMap(gathered, x));
        return context.Tensor("gamma") is null ? found : context.Mul(found, context.Parameter("gamma"));
    }

    private static OnnxValue Sequences(OnnxContext context, MultiHeadAttention module, IReadOnlyList<OnnxValue> inputs)
    {
        if (inputs.Count is not (1 or 3))
        {
            throw context.Unsupported("it takes one sequence, or query, key and value; masks are not written.");
        }

        OnnxValue query = inputs[0], key = inputs[inputs.Count / 2], value = inputs[^1];
        long heads = module.Options.Heads, width = module.Width / heads;
        OnnxValue gathered = context.Attend(
            Part(query, 0, "q_proj_weight"), context.Turn(Part(key, 1, "k_proj_weight")), Part(value, 2, "v_proj_weight"));
        return context.Emit("out_proj", context.Reshape(context.Transpose(gathered, 0, 2, 1, 3), query.Shape));

        OnnxValue Part(OnnxValue sequence, int part, string name)
        {
            context.RequireStatic(sequence[2], "its weight has as many columns");
            using DisposeScope scope = NewDisposeScope();
            Tensor weight =
                (context.Tensor("in_proj_weight")?.narrow(0, part * module.Width, module.Width) ?? context.Tensor(name)!).t();
            OnnxValue projected = context.MatMul(sequence, context.Parameter(weight.contiguous(), $"{name}_t"));
            if (context.Tensor("in_proj_bias") is { } bias)
            {
                projected = context.Add(
                    projected, context.Parameter(bias.narrow(0, part * module.Width, module.Width), $"{name[0]}_bias"));
            }

            return context.Transpose(context.Reshape(projected, sequence[0], sequence[1], heads, width), 0, 2, 1, 3);
        }
    }

    private static OnnxValue Across(OnnxContext context, CrossAttention module, IReadOnlyList<OnnxValue> inputs)
    {
        if (inputs.Count != 2) throw context.Unsupported("it takes a map and a context; the padding mask is not written.");
        OnnxValue x = inputs[0];
        long heads = module.Options.Heads, width = module.HeadWidth;
        OnnxValue query = Heads(context.Emit("q", Places(x)), 1)[0];
        IReadOnlyList<OnnxValue> pair = Heads(context.Emit("kv", Places(inputs[1])), 2);
        OnnxValue gathered = context.Attend(query, context.Turn(pair[0]), pair[1]);
        OnnxValue rows = context.Reshape(context.Transpose(gathered, 0, 2, 1, 3), x[0], x[2] * x[3], heads * width);
        OnnxValue change = context.Reshape(context.Turn(context.Emit("proj", rows)), x.Shape);
        if (context.Tensor("gamma") is not null) change = context.Mul(change, context.Parameter("gamma"));
        return module.Options.Residual ? context.Add(x, change) : change;

        OnnxValue Places(OnnxValue value) => value.Rank == 4 ? context.Turn(context.Flatten(value, 2)) : value;

        IReadOnlyList<OnnxValue> Heads(OnnxValue projected, int parts) =>
        [
            .. context.Split(projected, 2, [.. Enumerable.Repeat(heads * width, parts)])
                .Select(part => context.Transpose(context.Reshape(part, part[0], part[1], heads, width), 0, 2, 1, 3)),
        ];
    }
}
