namespace TorchSharp.Attention.Tests;

/// <summary>Routing, grouping, the load-balance loss and nested JSON of <see cref="DynamicAttention"/>; its formula is in the common tests.</summary>
public sealed class DynamicAttentionTests
{
    private static readonly DynamicAttentionOptions Options = new()
    {
        Attentions =
        [
            new SqueezeExcitationOptions { Reduction = 2 }, new SelfAttention2dOptions { Heads = 2 }, new SpatialAttentionOptions { KernelSize = 3, Norm = true },
        ],
    };

    [Fact]
    public void Hard_routing_is_the_soft_mixture_where_the_router_is_one_hot()
    {
        using DisposeScope scope = NewDisposeScope();
        (DynamicAttention soft, DynamicAttention hard) = Pair();
        Tensor x = Batch(16);
        soft.Temperature = hard.Temperature = 1e-5; // The weights are 0 and 1 to the last bit.
        Tensor weights = soft.Weights(x);
        Assert.True(weights.eq(weights.round()).all().ToBoolean());
        Assert.Equal(3, Choices(weights).Distinct().Count());
        Near.Equal(soft.call(x), hard.call(x), 1e-12, "hard");
    }

    [Fact]
    public void Hard_routing_gives_each_sample_its_own_attention_alone()
    {
        using DisposeScope scope = NewDisposeScope();
        (_, DynamicAttention hard) = Pair();
        Tensor x = Batch(16), y = hard.call(x);
        long[] choices = Choices(hard.Weights(x));
        AttentionModule[] attentions = [.. hard.children().OfType<Modules.ModuleList<AttentionModule>>().Single()];
        for (int i = 0; i < choices.Length; i++)
        {
            Near.Equal(attentions[choices[i]].call(x.narrow(0, i, 1)), y.narrow(0, i, 1), 1e-12, $"sample {i}");
            Near.Equal(y.narrow(0, i, 1), hard.call(x.narrow(0, i, 1)), 1e-12, $"sample {i} alone");
        }

        Tensor order = tensor(Enumerable.Range(0, 16).Select(i => (long)((i * 5) + 3) % 16).ToArray());
        Near.Equal(y.index_select(0, order), hard.call(x.index_select(0, order)), 1e-12, "permuted");
        Assert.Equal([0, 6, 3, 4], hard.call(x.narrow(0, 0, 0)).shape);
        Assert.Equal([1, 6, 1, 1], hard.call(x.narrow(0, 0, 1).narrow(2, 0, 1).narrow(3, 0, 1)).shape);
    }

    [Fact]
    public void Hard_routing_runs_only_what_was_chosen_on_those_who_chose_it()
    {
        using DisposeScope scope = NewDisposeScope();
        (_, DynamicAttention hard) = Pair();
        Dictionary<string, long> seen = [];
        foreach ((string name, nn.Module module) in hard.named_modules())
        {
            if (module is not AttentionModule attention || name.Length == 0) continue;
            attention.register_forward_hook((_, input, output) =>
            {
                seen[name] = input.size(0);
                return output;
            });
        }

        Tensor x = Batch(16);
        long[] choices = Choices(hard.Weights(x));
        hard.call(x);
        Assert.Equal(choices.GroupBy(k => $"attentions.{k}").ToDictionary(group => group.Key, group => group.LongCount()), seen);
        seen.Clear();
        int chosen = Array.IndexOf(choices, choices.Max());
        hard.call(x.narrow(0, chosen, 1));
        Assert.Equal([$"attentions.{choices[chosen]}"], seen.Keys);

        // Training mixes all.
        seen.Clear();
        hard.train();
        hard.call(x);
        Assert.All(seen.Values, samples => Assert.Equal(16, samples));
        Assert.Equal(3, seen.Count);
    }

    [Fact]
    public void Hard_routing_passes_gradients_to_the_chosen_and_leaks_nothing()
    {
        (DynamicAttention soft, DynamicAttention hard) = Pair(ScalarType.Float32);
        using Tensor x = randn(8, 6, 3, 4, requires_grad: true);
        for (int i = 0; i < 3; i++) Step();
        long before = LiveTensors.OfThread;
        for (int i = 0; i < 500; i++) Step();
        Assert.Equal(before, LiveTensors.OfThread);
        Assert.True(x.grad!.isfinite().all().ToBoolean());
        soft.Dispose();
        hard.Dispose();

        void Step()
        {
            using Tensor y = hard.call(x);
            using Tensor loss = y.sum();
            loss.backward();
        }
    }

    [Fact]
    public void The_load_balance_loss_is_the_papers()
    {
        using DisposeScope scope = NewDisposeScope();
        (DynamicAttention module, _) = Pair();
        Tensor x = Batch(16);
        Assert.Null(module.TakeLoadBalanceLoss());
        module.call(x);
        Assert.Null(module.TakeLoadBalanceLoss()); // Evaluation has none.

        double[] weights = module.Weights(x).Doubles();
        double expected = 0;
        for (int k = 0; k < 3; k++)
        {
            double share = 0, mean = 0;
            for (int n = 0; n < 16; n++)
            {
                double[] row = weights[(3 * n)..((3 * n) + 3)];
                if (Array.IndexOf(row, row.Max()) == k) share += 1.0 / 16;
                mean += row[k] / 16;
            }

            expected += 3 * share * mean;
        }

        module.train();
        module.call(x);
        Tensor loss = module.TakeLoadBalanceLoss()!;
        Assert.Equal(expected, loss.ToDouble(), 1e-12);
        Assert.Null(module.TakeLoadBalanceLoss());
        loss.backward();
        Assert.All(module.named_parameters().Where(p => p.name.StartsWith("router.", StringComparison.Ordinal)), p => Assert.NotNull(p.parameter.grad));
        Assert.All(module.named_parameters().Where(p => p.name.StartsWith("attentions.", StringComparison.Ordinal)), p => Assert.Null(p.parameter.grad));

        // All to one: K. All alike: 1, whatever the ties.
        using IDisposable quiet = no_grad();
        Tensor bias = module.state_dict()["router.fc2.bias"];
        module.state_dict()["router.fc2.weight"].zero_();
        bias.copy_(tensor(new[] { 0.0, 1000.0, 0.0 }));
        module.call(x);
        Assert.Equal(3, module.TakeLoadBalanceLoss()!.ToDouble(), 1e-12);
        bias.zero_();
        module.call(x);
        Assert.Equal(1, module.TakeLoadBalanceLoss()!.ToDouble(), 1e-12);
        module.call(x.narrow(0, 0, 0));
        Assert.Null(module.TakeLoadBalanceLoss());
    }

    [Fact]
    public void A_network_hands_over_the_sum_and_a_training_leaves_nothing_behind()
    {
        using ResNet network = new(Cases.TinyResNet with { Attention = AttentionPlan.Of(Options with { ReducedChannels = 4 }) });
        using optim.Optimizer optimizer = optim.SGD(network.parameters(), 0.01);
        using Scalar factor = 0.01.ToScalar();
        using Tensor x = randn(4, 3, 8, 8);
        using Tensor labels = tensor(new long[] { 0, 1, 2, 1 });
        for (int i = 0; i < 4; i++) Step(i);
        long before = LiveTensors.OfThread; // Here and at the end the three blocks hold a loss that nobody took.
        for (int i = 0; i < 60; i++) Step(i);
        Assert.Equal(before, LiveTensors.OfThread);
        Assert.All(network.named_parameters(), p => Assert.True(p.parameter.grad!.isfinite().all().ToBoolean(), p.name));

        void Step(int i)
        {
            using DisposeScope scope = NewDisposeScope();
            optimizer.zero_grad();
            Tensor loss = nn.functional.cross_entropy(network.call(x), labels);
            if (i % 2 == 0)
            {
                Tensor balance = DynamicAttention.TakeLoadBalanceLoss(network)!;
                Assert.InRange(balance.ToDouble(), 1, 9);
                loss = loss.add(balance.mul(factor));
                Assert.Null(DynamicAttention.TakeLoadBalanceLoss(network));
            }

            loss.backward();
            optimizer.step();
        }
    }

    [Fact]
    public void A_held_loss_outlives_the_scope_of_its_forward_and_dies_with_the_module()
    {
        using Cbam earlier = new(64);
        earlier.call(randn([2, 64, 28, 28], requires_grad: true)).sum().backward(); // What a test before this one may leave to the thread.
        DynamicAttention module = new(6, Options);
        long before = LiveTensors.OfThread;
        using (NewDisposeScope()) module.call(randn(2, 6, 3, 3));
        Assert.Equal(before + 1, LiveTensors.OfThread);
        using (NewDisposeScope()) Assert.False(module.TakeLoadBalanceLoss()!.IsInvalid);
        Assert.Equal(before, LiveTensors.OfThread);
        using (NewDisposeScope())
        {
            module.call(randn(2, 6, 3, 3));
            Assert.NotNull(DynamicAttention.TakeLoadBalanceLoss((nn.Module)module));
            module.call(randn(2, 6, 3, 3));
        }

        module.Dispose();
        Assert.True(LiveTensors.OfThread <= before);
    }

    [Fact]
    public void Nested_options_are_lossless_json_and_have_a_short_form()
    {
        DynamicAttentionOptions options = Options with { Attentions = [CbamOptions.Official, Options, new BamOptions { Dilation = 2 }] };
        Assert.Equal(options, AttentionOptions.FromJson(options.ToJson()));
        Assert.Equal(options.GetHashCode(), AttentionOptions.FromJson(options.ToJson(indented: true)).GetHashCode());
        Assert.Contains("\"attentions\":[{\"kind\":\"cbam\",", options.ToJson(), StringComparison.Ordinal);
        AttentionPlan plan = AttentionPlan.Of(options, AttentionPosition.StageEnd);
        Assert.Equal(plan, AttentionPlan.FromJson(plan.ToJson()));
        Assert.Equal(
            AttentionPlan.Of(new DynamicAttentionOptions { Attentions = [new CbamOptions(), new EfficientChannelAttentionOptions()], HardRouting = true }),
            AttentionPlan.Parse("dynamic:attentions=cbam+eca,hard-routing=true"));
        Assert.Equal(
            AttentionPlan.Of(new SelectiveKernelOptions { KernelSizes = [3, 5, 7] }, AttentionPosition.ReplaceSpatialConv),
            AttentionPlan.Parse("selective:kernel-sizes=3+5+7@replace"));
    }

    [Theory]
    [InlineData("""{"kind":"dynamic","attentions":[{"kind":"sse"}]}""", "There is no attention 'sse'")]
    [InlineData("""{"kind":"dynamic","attentions":[{"kind":"se","reducton":2}]}""", "no property 'reducton'")]
    [InlineData("""{"kind":"dynamic","attentions":[{"kind":"se","reduction":"x"}]}""", "it must be an integer")]
    [InlineData("""{"kind":"dynamic","attentions":[{"reduction":2}]}""", "An attention inside the attention has no 'kind'")]
    [InlineData("""{"kind":"dynamic","attentions":7}""", "must be an array of attentions")]
    [InlineData("""{"kind":"selective-kernel","kernelSizes":["a"]}""", "must be an array of integers")]
    public void Nested_json_rejects_what_it_does_not_know(string json, string message)
        => Assert.Contains(message, Assert.ThrowsAny<ArgumentException>(() => AttentionOptions.FromJson(json)).Message, StringComparison.Ordinal);

    /// <summary>A soft and a hard module of the same weights, in evaluation, whose router spreads a random batch over all three.</summary>
    private static (DynamicAttention Soft, DynamicAttention Hard) Pair(ScalarType type = ScalarType.Float64)
    {
        DynamicAttention soft = new(6, Options), hard = new(6, Options with { HardRouting = true });
        if (type != ScalarType.Float32) soft.to(type);
        if (type != ScalarType.Float32) hard.to(type);
        Subject.Randomize(soft, 3);
        using (no_grad())
        {
            using Scalar sharp = 6.0.ToScalar();
            soft.state_dict()["router.fc2.bias"].zero_();
            soft.state_dict()["router.fc1.weight"].mul_(sharp);
        }

        hard.load_state_dict(soft.state_dict());
        soft.eval();
        hard.eval();
        return (soft, hard);
    }

    private static Tensor Batch(int samples) => Data.Random(samples, 6, 3, 4, 17).Tensor();

    private static long[] Choices(Tensor weights) => weights.argmax(1).data<long>().ToArray();
}
