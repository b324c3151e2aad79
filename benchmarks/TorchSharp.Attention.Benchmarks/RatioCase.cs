using TorchSharp.Attention.TestSupport;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Benchmarks;

/// <summary>Ways to do one and the same thing, the first being the baseline; and, where it is known, the floor: its bytes, moved and no more.</summary>
internal sealed record RatioCase(string Name, string Shape, string Layout, IReadOnlyList<(string Name, Action Run)> Ways, Action? Floor, Action Dispose)
{
    /// <summary>Called before each sample, outside the time.</summary>
    public Action Reset { get; init; } = () => { };

    /// <summary>The largest difference between the ways' results, relative to the largest value.</summary>
    public Func<double> Difference { get; init; } = () => 0;

    /// <summary>From which difference on a case is left out: rounding does not reach it, convolutions gone wrong do.</summary>
    public double MostDifference { get; init; } = 1e-2;
}

/// <summary>The cases of the paired comparison.</summary>
internal static class RatioCases
{
    /// <summary>Every kind with fused kernels, and two settings that take another way through them.</summary>
    public static readonly string[] Kinds = [.. FusableGates.Kinds, "gct-l1", "cbam-parallel"];

    public static readonly string[] Maps = ["64x112x112", "256x56x56", "512x28x28", "1024x14x14", "2048x7x7", "96x56x56", "160x7x7"];

    /// <summary>Every case that a name may match, built only when it is.</summary>
    public static IEnumerable<(string Name, Func<RatioCase> Create)> All()
    {
        foreach (string kind in Kinds)
        {
            foreach (string map in Maps)
            {
                foreach (int batch in (int[])[1, 8])
                {
                    foreach (string layout in (string[])["nchw", "nhwc"])
                    {
                        string shape = $"{batch}x{map}";
                        yield return ($"inference/{kind}/{shape}/{layout}", () => Inference(kind, shape, layout));
                        yield return ($"training/{kind}/{shape}/{layout}", () => Training(kind, shape, layout));
                    }
                }
            }
        }

        foreach (string map in (string[])["512x28x28", "1024x14x14", "2048x7x7"])
        {
            foreach (int batch in (int[])[1, 8])
            {
                foreach (string layout in (string[])["nchw", "nhwc"])
                {
                    string shape = $"{batch}x{map}";
                    yield return ($"inference/self/{shape}/{layout}", () => SelfAttention(shape, layout, training: false));
                    yield return ($"training/self/{shape}/{layout}", () => SelfAttention(shape, layout, training: true));
                }
            }
        }

        foreach (string network in (string[])["resnet50", "mobilenetv2"])
        {
            foreach (string kind in (string[])["se", "eca", "cbam"])
            {
                foreach (int batch in (int[])[1, 8])
                {
                    yield return ($"network/{network}/{kind}/{batch}", () => Network(network, kind, batch, training: false));
                    yield return ($"network-training/{network}/{kind}/{batch}", () => Network(network, kind, batch, training: true));
                }
            }
        }
    }

    private static RatioCase Inference(string kind, string shape, string layout)
    {
        GateModule module = Module(kind, shape), owner = Module(kind, shape);
        module.eval();
        owner.eval();
        Tensor x = Map(shape, layout), scratch = x.clone();
        int reads = Reads(kind);
        return new RatioCase(
            $"inference/{kind}",
            shape,
            layout,
            [
                ("composed", () => Infer(module, x, fused: false)),
                ("fused", () => Infer(module, x, fused: true)),
                ("in place", () => InferOver(owner, scratch)),
            ],
            () =>
            {
                using IDisposable quiet = no_grad();
                using Tensor written = x.clone();
                for (int i = 1; i < reads; i++) x.sum().Dispose();
            },
            () => Free(module, owner, x, scratch))
        {
            Difference = () =>
            {
                using IDisposable quiet = no_grad();
                return Between(fused => Computed(module, x, fused));
            },
            Reset = () =>
            {
                using IDisposable quiet = no_grad();
                scratch.copy_(x);
            },
        };
    }

    private static RatioCase Training(string kind, string shape, string layout)
    {
        GateModule module = Module(kind, shape);
        Tensor x = Map(shape, layout).requires_grad_(), dy = Map(shape, layout);
        int reads = Reads(kind);
        return new RatioCase(
            $"training/{kind}",
            shape,
            layout,
            [("composed", () => Step(module, x, dy, fused: false)), ("fused", () => Step(module, x, dy, fused: true))],
            () =>
            {
                using IDisposable quiet = no_grad();
                x.clone().Dispose();
                x.clone().Dispose();
                for (int i = 0; i < reads - 1 + ((2 * reads) - 1); i++) x.sum().Dispose();
            },
            () => Free(module, x, dy))
        {
            Difference = () => Between(fused =>
            {
                Step(module, x, dy, fused);
                return x.grad!.detach().clone();
            }),
        };
    }

    /// <summary>Eight heads over all positions; composed: a convolution, two matrix products around a softmax, a convolution, an addition.</summary>
    private static RatioCase SelfAttention(string shape, string layout, bool training)
    {
        manual_seed(0);
        int channels = int.Parse(shape.Split('x')[1]);
        SelfAttention2d module = new(channels, new SelfAttention2dOptions { Heads = 8 });
        module.train(training);
        Dictionary<string, Tensor> weights = module.named_parameters().ToDictionary(one => one.name, one => (Tensor)one.parameter);
        Tensor x = Map(shape, layout).requires_grad_(training), dy = Map(shape, layout);
        Tensor scale = tensor(1 / Math.Sqrt(channels / 8));
        return new RatioCase(
            $"{(training ? "training" : "inference")}/self",
            shape,
            layout,
            [("composed", () => Run(false)), ("fused", () => Run(true))],
            null,
            () => Free(module, x, dy, scale))
        {
            Difference = () => Between(fused =>
            {
                if (!training)
                {
                    using IDisposable quiet = no_grad();
                    return Forward(fused);
                }

                Run(fused);
                return x.grad!.detach().clone();
            }),
        };

        void Run(bool fused)
        {
            using DisposeScope scope = NewDisposeScope();
            if (training)
            {
                x.grad = null;
                module.zero_grad();
                Forward(fused).backward([dy]);
                return;
            }

            using IDisposable quiet = no_grad();
            Forward(fused);
        }

        Tensor Forward(bool fused)
        {
            if (fused) return module.call(x);
            long n = x.size(0), positions = x.size(2) * x.size(3);
            Tensor[] parts = nn.functional.conv2d(x, weights["qkv.weight"], weights["qkv.bias"]).reshape(n, 3, 8, channels / 8, positions).unbind(1);
            Tensor shares = parts[0].transpose(2, 3).mul(scale).matmul(parts[1]).softmax(-1);
            Tensor gathered = parts[2].matmul(shares.transpose(2, 3)).reshape(n, channels, x.size(2), x.size(3));
            return x.add(nn.functional.conv2d(gathered, weights["proj.weight"], weights["proj.bias"]));
        }
    }

    private static RatioCase Network(string network, string kind, int batch, bool training)
    {
        manual_seed(0);
        FeatureNetwork plain = Build(network, AttentionPlan.None), refined = Build(network, AttentionPlan.Of(Options(kind)));
        FeatureNetwork plainCopy = Copy(plain), refinedCopy = Copy(refined);
        plain.train(training);
        refined.train(training);
        Tensor images = randn(batch, 3, 224, 224);
        List<(string, Action)> ways =
        [
            ("plain", () => Run(plain, images, true)),
            ("composed", () => Run(refined, images, false)),
            ("fused", () => Run(refined, images, true)),
        ];
        if (!training) ways.AddRange([("plain copy", () => Run(plainCopy, images, true)), ("copy", () => Run(refinedCopy, images, true))]);
        return new RatioCase(
            $"{(training ? "network-training" : "network")}/{network}/{kind}",
            $"{batch}x3x224x224",
            "nchw",
            ways,
            null,
            () => Free(plain, refined, plainCopy, refinedCopy, images))
        {
            // Through fifty layers rounding turns some rectifiers on or off: a first layer's gradient was 1.3 % off float64's.
            MostDifference = training ? 5e-2 : 1e-2,
            Difference = () => FromDouble(refined, Build(network, AttentionPlan.Of(Options(kind))), images),
        };
    }

    /// <summary>In training forward and backward, else logits.</summary>
    public static void Run(FeatureNetwork network, Tensor images, bool fused)
    {
        AttentionKernels.Enabled = fused;
        if (network.training)
        {
            using DisposeScope scope = NewDisposeScope();
            network.zero_grad();
            network.call(images).square().mean().backward();
            return;
        }

        using IDisposable quiet = no_grad();
        using Tensor logits = network.call(images);
    }

    public static FeatureNetwork Build(string network, AttentionPlan plan)
        => network == "resnet50" ? ResNet.ResNet50(attention: plan) : new MobileNetV2(new MobileNetV2Options { Attention = plan, Dropout = 0 });

    public static FeatureNetwork Copy(FeatureNetwork network)
        => network is ResNet resnet ? resnet.FuseForInference() : ((MobileNetV2)network).FuseForInference();

    public static GateModule Module(string kind, string shape)
    {
        manual_seed(0);
        return (GateModule)Options(kind).Create(int.Parse(shape.Split('x')[1]));
    }

    public static AttentionOptions Options(string kind) => kind switch
    {
        "cbam" => CbamOptions.Timm,
        "cbam-parallel" => CbamOptions.Timm with { Order = CbamOrder.Parallel },
        "gct-l1" => new GatedChannelTransformationOptions { Norm = GctNorm.L1 },
        _ => AttentionCatalog.Create(kind),
    };

    public static Tensor Map(string shape, string layout)
    {
        Tensor map = randn([.. shape.Split('x').Select(long.Parse)]);
        return layout == "nchw" ? map : map.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2);
    }

    private static int Reads(string kind) => kind switch
    {
        "cbam" or "lcbam" or "cbam-parallel" or "triplet" or "bam" or "scse" => 3,
        _ => 2,
    };

    private static Tensor Computed(nn.Module<Tensor, Tensor> module, Tensor x, bool fused)
    {
        AttentionKernels.Enabled = fused;
        return module.call(x);
    }

    /// <summary>How far logits, or in training a gradient of the first layer, are from those of a copy in float64.</summary>
    private static double FromDouble(FeatureNetwork network, FeatureNetwork copy, Tensor images)
    {
        using FeatureNetwork exact = copy;
        using DisposeScope scope = NewDisposeScope();
        exact.load_state_dict(network.state_dict());
        exact.to(ScalarType.Float64);
        exact.train(network.training);
        return Between(fused => Result(fused ? network : exact, fused ? images : images.to_type(ScalarType.Float64)));

        static Tensor Result(FeatureNetwork one, Tensor x)
        {
            AttentionKernels.Enabled = true;
            if (!one.training)
            {
                using IDisposable quiet = no_grad();
                return one.call(x);
            }

            one.zero_grad();
            one.call(x).square().mean().backward();
            return one.parameters().First().grad!.clone();
        }
    }

    private static double Between(Func<bool, Tensor> compute)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor composed = compute(false), fused = compute(true);
        double difference = composed.sub(fused).abs().max().ToDouble() / composed.abs().max().ToDouble();
        return double.IsNaN(difference) ? double.PositiveInfinity : difference;
    }

    public static void Infer(GateModule module, Tensor x, bool fused)
    {
        AttentionKernels.Enabled = fused;
        using IDisposable quiet = no_grad();
        using Tensor y = module.call(x);
    }

    /// <summary>Over and over a gate below one would end in denormal numbers, which are slow: hence the reset before each sample.</summary>
    public static void InferOver(GateModule module, Tensor x)
    {
        AttentionKernels.Enabled = true;
        using IDisposable quiet = no_grad();
        using Tensor y = module.RefineOwned(x);
    }

    public static void Step(GateModule module, Tensor x, Tensor dy, bool fused)
    {
        AttentionKernels.Enabled = fused;
        using DisposeScope scope = NewDisposeScope();
        x.grad = null;
        module.zero_grad();
        module.call(x).backward([dy]);
    }

    private static void Free(params IDisposable[] held)
    {
        foreach (IDisposable one in held) one.Dispose();
    }
}
