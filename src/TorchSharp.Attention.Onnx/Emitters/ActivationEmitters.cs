using TorchSharp.Modules;

namespace TorchSharp.Attention.Onnx;

/// <summary>TorchSharp's activations.</summary>
internal static class ActivationEmitters
{
    public static OnnxEmitters WithActivations(this OnnxEmitters emitters) => emitters
        .With<ReLU>((context, _, x) => context.Relu(x))
        .With<ReLU6>((context, _, x) => context.Clip(x, 0, 6))
        .With<Hardtanh>(
            (context, module, x) => Clips(module) ? context.Clip(x, module.min_val, module.max_val) : throw context.Unsupported(
            "TorchSharp's Hardtanh leaves values beyond its bounds as they are. Use ReLU6, or a class of your own that clamps."))
        .With<LeakyReLU>((context, module, x) => context.Elementwise("LeakyRelu", x, ("alpha", module.negative_slope)))
        .With<PReLU>((context, module, x) => context.PRelu(x, module.weight))
        .With<ELU>((context, module, x) => context.Elementwise("Elu", x, ("alpha", module.alpha)))
        .With<CELU>((context, module, x) => context.Elementwise("Celu", x, ("alpha", module.alpha)))
        .With<SELU>((context, _, x) => context.Elementwise("Selu", x))
        .With<GELU>((context, module, x) => module.approximate == GELU.Approximate.tanh ? TanhGelu(context, x) : context.Gelu(x))
        .With<SiLU>((context, _, x) => context.Mul(x, context.Sigmoid(x)))
        .With<Sigmoid>((context, _, x) => context.Sigmoid(x))
        .With<LogSigmoid>((context, _, x) => context.Mul(context.Elementwise("Softplus", context.Mul(x, -1)), -1))
        .With<Hardsigmoid>((context, _, x) => context.HardSigmoid(x))
        .With<Hardswish>((context, _, x) => context.HardSwish(x))
        .With<Tanh>((context, _, x) => context.Elementwise("Tanh", x))
        .With<Softmax>((context, module, x) => context.Softmax(x, (int)module.dim))
        .With<Softmax2d>((context, _, x) => context.Softmax(x, -3))
        .With<LogSoftmax>((context, module, x) => context.Elementwise("LogSoftmax", x, ("axis", module.dim)))
        .With<Softplus>(Softplus)
        .With<Softmin>((context, module, x) => context.Softmax(context.Mul(x, -1), (int)module.dim))
        .With<Hardshrink>((context, module, x) => context.Elementwise("Shrink", x, ("lambd", module.lambda), ("bias", 0f)))
        .With<Softshrink>(
            (context, module, x) => context.Elementwise("Shrink", x, ("lambd", module.lambda), ("bias", module.lambda)))
        .With<Tanhshrink>((context, _, x) => context.Sub(x, context.Elementwise("Tanh", x)))
        .With<Threshold>(
            (context, module, x) => context.Node(
                "Where", [Above(context, x, module.threshold), x, context.Scalar(module.value)], x.Shape))
        .With<RReLU>((context, module, x) => context.Elementwise("LeakyRelu", x, ("alpha", (module.lower + module.upper) / 2)))
        .With<Softsign>((context, _, x) => context.Elementwise("Softsign", x))
        .With<Mish>((context, _, x) => context.Mul(x, context.Elementwise("Tanh", context.Elementwise("Softplus", x))))
        .With<GLU>((context, module, x) =>
        {
            long half = context.RequireStatic(x[(int)module.dim], "GLU halves this axis") / 2;
            IReadOnlyList<OnnxValue> halves = context.Split(x, (int)module.dim, half, half);
            return context.Mul(halves[0], context.Sigmoid(halves[1]));
        });

    /// <summary>Whether this TorchSharp's layer does what its name says; that of 0.107 does not.</summary>
    private static bool Clips(Hardtanh module)
    {
        using torch.Tensor beyond = torch.tensor([(float)module.max_val + 1]), clipped = module.call(beyond);
        return clipped.item<float>() <= (float)module.max_val;
    }

    /// <summary>log(1 + e^(β x)) / β, and x itself where β x is above the threshold.</summary>
    private static OnnxValue Softplus(OnnxContext context, Softplus module, OnnxValue x)
    {
        OnnxValue scaled = context.Mul(x, module.beta);
        OnnxValue soft = context.Mul(context.Elementwise("Softplus", scaled), 1 / module.beta);
        return context.Node("Where", [Above(context, scaled, module.threshold), x, soft], x.Shape);
    }

    private static OnnxValue Above(OnnxContext context, OnnxValue x, double threshold)
        => context.Node("Greater", [x, context.Scalar(threshold)], [(x.Shape, OnnxElementType.Bool)])[0];

    /// <summary>x / 2 · (1 + tanh(√(2 / π) · (x + 0.044715 x³))).</summary>
    private static OnnxValue TanhGelu(OnnxContext context, OnnxValue x)
    {
        OnnxValue cube = context.Mul(context.Mul(x, x), x);
        OnnxValue inner = context.Mul(context.Add(x, context.Mul(cube, 0.044715)), Math.Sqrt(2 / Math.PI));
        return context.Mul(context.Mul(x, 0.5), context.Add(context.Elementwise("Tanh", inner), 1));
    }
}
