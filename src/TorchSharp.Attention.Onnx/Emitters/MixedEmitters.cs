namespace TorchSharp.Attention.Onnx;

/// <summary>Attentions over channels and positions.</summary>
internal static class MixedEmitters
{
    public static OnnxEmitters WithMixedAttentions(this OnnxEmitters emitters) => emitters
        .WithGate<Bam>(Gate)
        .With<Cbam>(Halves)
        .With<LightCbam>(Halves)
        .WithGate<ConcurrentSqueezeExcitation>(Gate)
        .WithGate<CoordinateAttention>(Gate)
        .WithGate<SimpleCoordinateAttention>(Gate)
        .WithGate<EfficientLocalAttention>(Gate)
        .WithGate<StripAttention>(Gate)
        .WithGate<GatherExcite>(Gate)
        .WithGate<PolarizedSelfAttention>(Gate)
        .WithGate<SimAm>(Gate)
        .WithGate<TripletAttention>(Gate)
        .WithGate<ShuffleAttention>(Gate, Write)
        .With<DynamicAttention>(Write);

    private static OnnxValue Gate(OnnxContext context, Bam module, OnnxValue x)
    {
        OnnxValue channel = context.Within("channel", () =>
        {
            OnnxValue hidden = context.EmitOptional("bn", context.Emit("fc1", context.Mean(x, 2, 3)));
            return context.EmitOptional("bn_out", context.Emit("fc2", context.Relu(hidden)));
        });
        OnnxValue spatial = context.Within("spatial", () =>
        {
            OnnxValue map = Hidden("reduce", x);
            int dilated = context.Child("dilated")!.children().Count();
            for (int i = 0; i < dilated; i++) map = context.Within("dilated", () => Hidden($"{i}", map));
            return context.EmitOptional("bn_out", context.Emit("final", map));
        });
        OnnxValue logits = ((BamOptions)module.Options).Merge == BamMerge.Multiply
            ? context.Mul(channel, spatial)
            : context.Add(channel, spatial);
        return context.Add(context.Sigmoid(logits), 1);

        OnnxValue Hidden(string key, OnnxValue map)
            => context.Within(key, () => context.Relu(context.EmitOptional("bn", context.Emit("conv", map))));
    }

    private static OnnxValue Halves(OnnxContext context, GateModule module, OnnxValue x)
    {
        GateModule channelHalf = (GateModule)context.Child("channel")!, spatialHalf = (GateModule)context.Child("spatial")!;
        CbamOrder order = module.Options is CbamOptions options ? options.Order : CbamOrder.ChannelFirst;
        (GateModule first, GateModule second) = order == CbamOrder.SpatialFirst
            ? (spatialHalf, channelHalf)
            : (channelHalf, spatialHalf);
        OnnxValue one = context.Gate(first, x), half = context.Mul(x, one);
        OnnxValue other = context.Gate(second, order == CbamOrder.Parallel ? x : half);
        (OnnxValue channel, OnnxValue spatial) = order == CbamOrder.SpatialFirst ? (other, one) : (one, other);
        if (context.WantsMaps)
        {
            context.Map(AttentionMapKind.Channel, context.Flatten(channel));
            context.Map(AttentionMapKind.Spatial, context.Squeeze(spatial, 1));
        }

        return context.Mul(half, other);
    }

    private static OnnxValue Gate(OnnxContext context, ConcurrentSqueezeExcitation module, OnnxValue x)
    {
        ConcurrentSqueezeExcitationOptions options = (ConcurrentSqueezeExcitationOptions)module.Options;
        OnnxValue? channel = context.Child("cSE") is GateModule part ? context.Gate(part, x) : null;
        OnnxValue? spatial = context.Child("sSE") is null
            ? null
            : context.Activate(options.Gate, context.Within("sSE", () => context.Emit("conv", x)));
        if (channel is null) return spatial!;
        if (spatial is null) return channel;
        if (options.Merge != ScseMerge.Maximum) return context.Add(channel, spatial);
        OnnxValue positive = context.Node("GreaterOrEqual", [x, context.Scalar(0)], [(x.Shape, OnnxElementType.Bool)])[0];
        return context.Node(
            "Where", [positive, context.Broadcasting("Max", channel, spatial), context.Broadcasting("Min", channel, spatial)],
            x.Shape);
    }

    private static OnnxValue Gate(OnnxContext context, CoordinateAttention module, OnnxValue x)
    {
        // The paper lays both strips side by side for a 1×1 convolution and parts them again; each alone gives the same.
        CoordinateAttentionOptions options = (CoordinateAttentionOptions)module.Options;
        OnnxValue gate = context.Mul(Strip("conv_h", context.Mean(x, 3)), Strip("conv_w", context.Mean(x, 2)));
        return options.Residual ? context.Add(gate, 1) : gate;

        OnnxValue Strip(string key, OnnxValue strip) => context.Activate(
            options.Gate,
            context.Emit(key, context.Activate(options.Activation, context.EmitOptional("bn1", context.Emit("conv1", strip)))));
    }

    private static OnnxValue Gate(OnnxContext context, SimpleCoordinateAttention module, OnnxValue x)
    {
        SimpleCoordinateAttentionOptions options = (SimpleCoordinateAttentionOptions)module.Options;
        OnnxValue rows = context.Unsqueeze(Strip("fc_h", 3), 3), columns = context.Unsqueeze(Strip("fc_w", 2), 2);
        OnnxValue gate = context.Activate(options.Gate, context.Add(rows, columns));
        return options.Residual ? context.Add(gate, 1) : gate;

        OnnxValue Strip(string key, int axis)
        {
            OnnxValue strip = context.Transpose(context.Reduce("ReduceMean", x, [axis], keep: false), 0, 2, 1);
            return context.Transpose(
                context.Emit(key, context.Activate(options.Activation, context.Emit("fc1", strip))), 0, 2, 1);
        }
    }

    private static OnnxValue Gate(OnnxContext context, EfficientLocalAttention module, OnnxValue x)
    {
        EfficientLocalAttentionOptions options = (EfficientLocalAttentionOptions)module.Options;
        OnnxValue gate = context.Mul(Strip("h", context.Mean(x, 3)), Strip("w", context.Mean(x, 2)));
        return options.Residual ? context.Add(gate, 1) : gate;

        OnnxValue Strip(string side, OnnxValue strip)
        {
            OnnxValue logits = context.Emit($"norm_{side}", context.Emit($"conv_{side}", strip));
            return context.Activate(
                options.Gate, options.Activation is GateActivation activation ? context.Activate(activation, logits) : logits);
        }
    }

    private static OnnxValue Gate(OnnxContext context, StripAttention module, OnnxValue x)
    {
        StripAttentionOptions options = (StripAttentionOptions)module.Options;
        OnnxValue rows = context.EmitOptional("conv_h", context.Mean(x, 3)), columns = context.EmitOptional(
            "conv_w", context.Mean(x, 2));
        OnnxValue gate = context.Activate(options.Gate, context.Add(rows, columns));
        return options.Residual ? context.Add(gate, 1) : gate;
    }

    private static OnnxValue Gate(OnnxContext context, GatherExcite module, OnnxValue x)
    {
        GatherExciteOptions options = (GatherExciteOptions)module.Options;
        OnnxValue gathered = x;
        if (context.Child("gather") is { } gather)
        {
            if (options.Extent == 0 && !options.PadWholeMap)
            {
                context.RequireStatic(x[2], "its kernel is as high as the map");
                context.RequireStatic(x[3], "its kernel is as wide as the map");
            }

            int steps = gather.children().Count() / 2;
            gathered = context.Within("gather", () =>
            {
                OnnxValue map = x;
                for (int i = 1; i <= steps; i++)
                {
                    if (i > 1) map = context.Activate(options.Activation, map);
                    map = context.Emit($"norm{i}", context.Emit($"conv{i}", map));
                }

                return map;
            });
        }
        else if (options.Extent == 0)
        {
            gathered = context.Squeezed(x, options.MaxPool);
        }
        else
        {
            long stride = options.Extent, kernel = 2 * stride - 1, pad = stride - 1;
            gathered = context.AveragePool(x, [kernel], [stride], [pad], countPads: false);
            if (options.MaxPool)
            {
                gathered = context.Mul(context.Add(gathered, context.MaxPool(x, [kernel], [stride], [pad])), 0.5);
            }
        }

        if (options.Mlp)
        {
            OnnxValue given = gathered;
            gathered = context.Within(
                "mlp", () => context.Emit("fc2", context.Activate(options.Activation, context.Emit("fc1", given))));
        }

        if (options.Extent > 0 || options.PadWholeMap) gathered = context.Resize(gathered, x[2], x[3], bilinear: false);
        return context.Activate(options.Gate, gathered);
    }

    private static OnnxValue Gate(OnnxContext context, PolarizedSelfAttention module, OnnxValue x)
    {
        PolarizedSelfAttentionOptions options = (PolarizedSelfAttentionOptions)module.Options;
        OnnxValue shares = context.Softmax(context.Flatten(context.Emit("conv_q_right", x), 2), 2);
        OnnxValue values = context.Flatten(context.Emit("conv_v_right", x), 2);
        OnnxValue gathered = context.Unsqueeze(context.MatMul(values, context.Transpose(shares, 0, 2, 1)), 3);
        OnnxValue channel = context.Activate(options.Gate, context.Emit("conv_up", gathered));
        return options.Layout == PolarizedLayout.Sequential
            ? context.Mul(channel, Spatial(context.Mul(x, channel)))
            : context.Add(channel, Spatial(x));

        OnnxValue Spatial(OnnxValue map)
        {
            OnnxValue query = context.Transpose(
                context.Flatten(context.Emit("conv_q_left", context.Mean(map, 2, 3)), 2), 0, 2, 1);
            OnnxValue places = context.Flatten(context.Emit("conv_v_left", map), 2);
            if (options.SpatialSoftmax == PolarizedSoftmax.Query) query = context.Softmax(query, 2);
            if (options.SpatialSoftmax == PolarizedSoftmax.Values) places = context.Softmax(places, 2);
            OnnxValue logits = context.MatMul(query, places);
            if (options.SpatialSoftmax == PolarizedSoftmax.Product) logits = context.Softmax(logits, 2);
            return context.Reshape(context.Activate(options.Gate, logits), x[0], 1, x[2], x[3]);
        }
    }

    private static OnnxValue Gate(OnnxContext context, SimAm module, OnnxValue x)
    {
        OnnxValue centred = context.Sub(x, context.Mean(x, 2, 3)), squares = context.Mul(centred, centred);
        OnnxValue spread = context.Div(context.Mul(context.Sum(squares, 2, 3), 4), context.PositionsLessOne(x));
        return context.Sigmoid(
            context.Add(context.Div(squares, context.Add(spread, 4 * ((SimAmOptions)module.Options).Lambda)), 0.5));
    }

    private static OnnxValue Gate(OnnxContext context, TripletAttention module, OnnxValue x)
    {
        OnnxValue gate = context.Add(Turned("cw", 0, 2, 1, 3), Turned("hc", 0, 3, 2, 1));
        return context.Child("hw") is GateModule branch
            ? context.Mul(context.Add(gate, context.Gate(branch, x)), 1.0 / 3)
            : context.Mul(gate, 0.5);

        OnnxValue Turned(string key, params int[] order)
            => context.Transpose(context.Gate((GateModule)context.Child(key)!, context.Transpose(x, order)), order);
    }

    private static OnnxValue Gate(OnnxContext context, ShuffleAttention module, OnnxValue x)
    {
        ShuffleAttentionOptions options = (ShuffleAttentionOptions)module.Options;
        long half = module.Channels / (2 * options.Groups);
        IReadOnlyList<OnnxValue> halves = context.Split(
            context.Reshape(x, x[0] * options.Groups, 2 * half, x[2], x[3]), 1, half, half);
        OnnxValue channel = context.Add(
            context.Mul(context.Mean(halves[0], 2, 3), context.Parameter("cweight")), context.Parameter("cbias"));
        OnnxValue spatial = context.Add(
            context.Mul(context.Emit("gn", halves[1]), context.Parameter("sweight")), context.Parameter("sbias"));
        return context.Reshape(
            context.Activate(options.Gate, context.Concat(1, context.Expand(channel, spatial.Shape), spatial)), x.Shape);
    }

    private static OnnxValue Write(OnnxContext context, ShuffleAttention module, OnnxValue x)
    {
        OnnxValue refined = context.Refine(x, Gate(context, module, x), module.StartScale);
        if (!((ShuffleAttentionOptions)module.Options).Shuffle) return refined;
        OnnxValue rows = context.Transpose(context.Reshape(refined, x[0], 2, module.Channels / 2, x[2], x[3]), 0, 2, 1, 3, 4);
        return context.Reshape(rows, x.Shape);
    }

    private static OnnxValue Write(OnnxContext context, DynamicAttention module, OnnxValue x)
    {
        DynamicAttentionOptions options = (DynamicAttentionOptions)module.Options;
        int count = options.Attentions.Count;
        OnnxValue logits = context.Within(
            "router", () => context.Emit("fc2", context.Relu(context.Emit("fc1", context.Mean(x, 2, 3)))));
        OnnxValue weights = context.Softmax(context.Mul(context.Flatten(logits), 1 / module.Temperature), 1);
        if (context.WantsMaps) context.Map(AttentionMapKind.Branch, context.Unsqueeze(weights, 2));
        if (options.HardRouting)
        {
            // Every attention runs, and the chosen one counts.
            OnnxValue choice = context.Node(
                "ArgMax", [weights], [([x[0], 1], OnnxElementType.Int64)], ("axis", 1L), ("keepdims", 1L))[0];
            OnnxValue places = context.Constant([.. Enumerable.Range(0, count).Select(i => (long)i)], 1, count);
            OnnxValue chosen = context.Node("Equal", [choice, places], [(weights.Shape, OnnxElementType.Bool)])[0];
            weights = context.Node("Cast", [chosen], weights.Shape, ("to", (long)OnnxElementType.Float));
        }

        OnnxValue? sum = null;
        int next = 0;
        foreach (torch.nn.Module attention in context.Child("attentions")!.children())
        {
            OnnxValue share = context.Reshape(context.Slice(weights, 1, next, next + 1), x[0], 1, 1, 1);
            // Who is chosen for some samples alone has no map of them all.
            OnnxValue refined = options.HardRouting
                ? context.WithoutMaps(() => context.Emit(attention, x))
                : context.Emit(attention, x);
            OnnxValue part = context.Mul(refined, share);
            sum = sum is null ? part : context.Add(sum, part);
            next++;
        }

        return module.StartScale is { } scale
            ? context.Add(x, context.Mul(context.Sub(sum!, x), context.Parameter(scale, "alpha")))
            : sum!;
    }
}
