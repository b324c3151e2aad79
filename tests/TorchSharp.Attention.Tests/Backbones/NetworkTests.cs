namespace TorchSharp.Attention.Tests;

/// <summary>Builders: keys, plainness, positions, pyramids, sizes, printing, threads.</summary>
public sealed class NetworkTests
{
    private static readonly Scalar Half = 0.5.ToScalar();

    [Fact]
    public void An_encoder_for_other_images_than_the_unets_is_refused()
    {
        UNetOptions options = new() { Encoder = Cases.TinyResNet with { InputChannels = 1 } };
        foreach (UNetOptions wrong in new[] { options, options with { InputChannels = 2 }, options with { Encoder = Cases.TinyMobileNet with { InputChannels = 4 } } })
        {
            ArgumentException error = Assert.Throws<ArgumentException>(wrong.Validate);
            Assert.Equal("Encoder", error.ParamName);
            int own = wrong.Encoder!.InputChannels;
            Assert.Contains($"Encoder.InputChannels is {own} and InputChannels is {wrong.InputChannels}", error.Message, StringComparison.Ordinal);
            Assert.Contains($"Set InputChannels = {own}", error.Message, StringComparison.Ordinal);
            Assert.Throws<ArgumentException>(() => new UNet(wrong));
            Assert.Throws<ArgumentException>(() => wrong.Sites());
        }

        using UNet said = new(options with { InputChannels = 1 }), left = new(options with { InputChannels = 1, Encoder = Cases.TinyResNet });
        using DisposeScope scope = NewDisposeScope();
        Assert.Equal([1, 1, 16, 16], said.call(randn(1, 1, 16, 16)).shape);
        Assert.Equal([1, 1, 16, 16], left.call(randn(1, 1, 16, 16)).shape);
    }

    public static TheoryData<string> NetworkNames => Cases.NetworkNames;

    [Fact]
    public void A_resnet_without_a_plan_has_torchvisions_keys()
    {
        using ResNet network = ResNet.ResNet50();
        HashSet<string> keys = [.. network.state_dict().Keys];
        Assert.Equal(320, keys.Count);
        Assert.Superset(
            new HashSet<string>
            {
                "conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked",
                "layer1.0.conv1.weight", "layer1.0.conv3.weight", "layer1.0.bn3.running_var", "layer1.0.downsample.0.weight",
                "layer1.0.downsample.1.running_mean", "layer4.2.bn3.bias", "fc.weight", "fc.bias",
            },
            keys);
        Assert.DoesNotContain(keys, key => key.Contains("attn", StringComparison.Ordinal));
        Assert.Equal("conv1.weight", network.state_dict().Keys.First());
        Assert.Equal("fc.bias", network.named_parameters().Last().name);
    }

    [Fact]
    public void A_mobilenet_without_a_plan_has_torchvisions_keys()
    {
        using MobileNetV2 network = new();
        HashSet<string> keys = [.. network.state_dict().Keys];
        Assert.Equal(314, keys.Count);
        Assert.Superset(
            new HashSet<string>
            {
                "features.0.0.weight", "features.0.1.running_mean", "features.1.conv.0.0.weight", "features.1.conv.1.weight", "features.1.conv.2.bias",
                "features.2.conv.0.0.weight", "features.2.conv.1.1.num_batches_tracked", "features.2.conv.2.weight", "features.2.conv.3.running_var",
                "features.18.0.weight", "features.18.1.bias", "classifier.1.weight", "classifier.1.bias",
            },
            keys);
    }

    [Theory]
    [InlineData("mobilenet")]
    [InlineData("resnet")]
    public void A_plan_changes_nothing_but_its_own_keys(string kind)
    {
        AttentionPlan plan = AttentionPlan.Of(new CbamOptions { Reduction = 4, Initialization = AttentionInitialization.Identity });
        using FeatureNetwork plain = kind == "mobilenet" ? new MobileNetV2(Cases.TinyMobileNet) : new ResNet(Cases.TinyResNet);
        using FeatureNetwork refined = kind == "mobilenet"
            ? new MobileNetV2(Cases.TinyMobileNet with { Attention = plan })
            : new ResNet(Cases.TinyResNet with { Attention = plan });
        string[] added = [.. refined.state_dict().Keys.Except(plain.state_dict().Keys)];
        Assert.Empty(plain.state_dict().Keys.Except(refined.state_dict().Keys));
        Assert.NotEmpty(added);
        Assert.All(added, key => Assert.Contains(".attn.", key, StringComparison.Ordinal));

        // With the plain network's weights and an identity start, the outputs are equal to the last bit.
        (IList<string> missing, IList<string> unexpected) = refined.load_state_dict(plain.state_dict(), strict: false);
        Assert.Equal(added.Order(), missing.Order());
        Assert.Empty(unexpected);
        using Tensor x = randn(2, 3, 13, 11);
        foreach (bool training in new[] { false, true })
        {
            plain.train(training);
            refined.train(training);
            manual_seed(1);
            using Tensor expected = plain.call(x);
            manual_seed(1);
            using Tensor actual = refined.call(x);
            Assert.True(expected.equal(actual).all().item<bool>());
        }
    }

    [Fact]
    public void An_empty_plan_is_the_plain_network_and_seeds_repeat()
    {
        manual_seed(7);
        using ResNet first = new(Cases.TinyResNet);
        manual_seed(7);
        using ResNet second = new(Cases.TinyResNet with { Attention = AttentionPlan.FromJson("""{"rules":[]}""") });
        Assert.Equal(first.state_dict().Keys, second.state_dict().Keys);
        foreach ((string key, Tensor value) in first.state_dict()) Assert.True(value.equal(second.state_dict()[key]).all().item<bool>(), key);
    }

    [Theory]
    [InlineData(AttentionPosition.Before, "attn_before", 4)]
    [InlineData(AttentionPosition.AfterConv1, "attn_conv1", 8)]
    [InlineData(AttentionPosition.AfterConv2, "attn_conv2", 8)]
    [InlineData(AttentionPosition.BeforeAdd, "attn", 8)]
    [InlineData(AttentionPosition.Shortcut, "attn_shortcut", 8)]
    [InlineData(AttentionPosition.After, "attn_after", 8)]
    public void Every_position_of_a_residual_block_acts_where_it_says(AttentionPosition position, string key, int channels)
    {
        // A gate that halves, put at one position of the second stage, must equal the block computed by hand.
        AttentionCatalog.Register<PlanTests.HalvingOptions>();
        ResNetOptions options = Cases.TinyResNet with { Layers = [1, 1], StagePlanes = [4, 8] };
        using ResNet network = new(options with
        {
            Attention = AttentionPlan.Of(new PlanTests.HalvingOptions(), position).InStages(2),
        });
        network.eval();
        Dictionary<string, nn.Module> modules = network.named_modules().ToDictionary(m => m.name, m => m.module);
        Assert.Equal(channels, Assert.IsAssignableFrom<IAttentionModule>(modules[$"layer2.0.{key}"]).Channels);

        using DisposeScope scope = NewDisposeScope();
        Tensor image = randn(2, 3, 8, 8);
        IReadOnlyList<Tensor> features = network.Features(image);
        Tensor x = features[1];
        if (position == AttentionPosition.Before) x = x.mul(Half);
        Tensor y = Call("bn1", Call("conv1", x)).relu();
        if (position == AttentionPosition.AfterConv1) y = y.mul(Half);
        y = Call("bn2", Call("conv2", y));
        if (position is AttentionPosition.AfterConv2 or AttentionPosition.BeforeAdd) y = y.mul(Half);
        Tensor shortcut = Call("downsample", x);
        if (position == AttentionPosition.Shortcut) shortcut = shortcut.mul(Half);
        y = y.add(shortcut).relu();
        if (position == AttentionPosition.After) y = y.mul(Half);
        Assert.True(y.allclose(features[2], 1e-6, 1e-6));

        Tensor Call(string name, Tensor input) => ((nn.Module<Tensor, Tensor>)modules[$"layer2.0.{name}"]).call(input);
    }

    [Theory]
    [InlineData(AttentionPosition.Before)]
    [InlineData(AttentionPosition.AfterExpand)]
    [InlineData(AttentionPosition.AfterDepthwise)]
    [InlineData(AttentionPosition.BeforeAdd)]
    [InlineData(AttentionPosition.Shortcut)]
    [InlineData(AttentionPosition.After)]
    public void Every_position_of_an_inverted_residual_block_acts_where_it_says(AttentionPosition position)
    {
        AttentionCatalog.Register<PlanTests.HalvingOptions>();
        using MobileNetV2 network = new(Cases.TinyMobileNet with
        {
            Attention = AttentionPlan.Of(new PlanTests.HalvingOptions(), position).InStages(2).InBlocks(1),
        });
        network.eval();
        Dictionary<string, nn.Module> modules = network.named_modules().ToDictionary(m => m.name, m => m.module);

        using DisposeScope scope = NewDisposeScope();
        Tensor x = randn(2, 8, 6, 6);
        Tensor actual = ((nn.Module<Tensor, Tensor>)modules["features.3"]).call(x);
        if (position == AttentionPosition.Before) x = x.mul(Half);
        Tensor y = Call("conv.0", x);
        if (position == AttentionPosition.AfterExpand) y = y.mul(Half);
        y = Call("conv.1", y);
        if (position == AttentionPosition.AfterDepthwise) y = y.mul(Half);
        y = Call("conv.3", Call("conv.2", y));
        if (position == AttentionPosition.BeforeAdd) y = y.mul(Half);
        y = y.add(position == AttentionPosition.Shortcut ? x.mul(Half) : x);
        if (position == AttentionPosition.After) y = y.mul(Half);
        Assert.True(y.allclose(actual, 1e-6, 1e-6));

        Tensor Call(string name, Tensor input) => ((nn.Module<Tensor, Tensor>)modules[$"features.3.{name}"]).call(input);
    }

    [Fact]
    public void Rules_at_one_place_act_in_their_order()
    {
        AttentionPlan plan = AttentionPlan.Of(new SqueezeExcitationOptions { Reduction = 4 }).InStages(2)
            .Add(new SpatialAttentionOptions()).InStages(2);
        using ResNet network = new(Cases.TinyResNet with { Attention = plan });
        Dictionary<string, nn.Module> modules = network.named_modules().ToDictionary(m => m.name, m => m.module);
        Assert.IsType<SqueezeExcitation>(modules["layer2.0.attn.0"]);
        Assert.IsType<SpatialAttention>(modules["layer2.0.attn.1"]);
        Assert.False(modules.ContainsKey("layer1.0.attn"));
    }

    [Fact]
    public void Zero_initialised_last_norms_make_every_block_its_shortcut()
    {
        using ResNet network = new(Cases.TinyResNet with { Layers = [2, 1], StagePlanes = [4, 4], ZeroInitLastNorm = true });
        network.eval();
        using Tensor x = randn(1, 3, 8, 8);
        IReadOnlyList<Tensor> maps = network.Features(x);
        Assert.True(maps[0].equal(maps[1]).all().item<bool>()); // stage 1 keeps its input: both blocks have identity shortcuts
    }

    [Fact]
    public void Drop_path_drops_whole_residual_branches_and_rescales_the_others()
    {
        using ResNet network = new(Cases.TinyResNet with { Layers = [1, 1], StagePlanes = [4, 4], DropPath = 0.5 });
        Dictionary<string, nn.Module> modules = network.named_modules().ToDictionary(m => m.name, m => m.module);
        nn.Module<Tensor, Tensor> last = (nn.Module<Tensor, Tensor>)modules["layer2.0"];
        foreach (string norm in new[] { "bn1", "bn2", "downsample.1" }) modules["layer2.0." + norm].eval();
        nn.Module<Tensor, Tensor> downsample = (nn.Module<Tensor, Tensor>)modules["layer2.0.downsample"];
        using DisposeScope scope = NewDisposeScope();
        manual_seed(3);
        Tensor x = randn(256, 4, 6, 6);
        network.eval();
        Tensor branch = Branch(x);
        Tensor shortcut = downsample.call(x);
        last.train();
        foreach (string norm in new[] { "bn1", "bn2", "downsample", "downsample.0", "downsample.1" }) modules["layer2.0." + norm].eval();
        Tensor y = last.call(x);
        Tensor dropped = shortcut.relu();
        Tensor kept = shortcut.add(branch.mul(2.0.ToScalar())).relu();
        int drops = 0;
        for (int i = 0; i < 256; i++)
        {
            bool isDropped = y[i].allclose(dropped[i], 1e-5, 1e-5), isKept = y[i].allclose(kept[i], 1e-5, 1e-5);
            Assert.True(isDropped || isKept);
            if (isDropped) drops++;
        }

        Assert.InRange(drops, 96, 160);

        Tensor Branch(Tensor input)
        {
            Tensor map = Call("bn1", Call("conv1", input)).relu();
            return Call("bn2", Call("conv2", map));
        }

        Tensor Call(string name, Tensor input) => ((nn.Module<Tensor, Tensor>)modules[$"layer2.0.{name}"]).call(input);
    }

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public void The_pyramid_has_the_channels_and_sizes_that_it_says(string name)
    {
        using FeatureNetwork network = Cases.Networks[name]();
        network.eval();
        using Tensor x = randn(1, 3, 32, 64);
        IReadOnlyList<Tensor> maps = network.Features(x);
        Assert.Equal(network.FeatureChannels.Count, maps.Count);
        for (int i = 0; i < maps.Count; i++)
        {
            long reduction = network.FeatureReductions[i];
            Assert.Equal([1, network.FeatureChannels[i], 32 / reduction, 64 / reduction], maps[i].shape);
            maps[i].Dispose();
        }
    }

    [Theory]
    [InlineData(UNetUpSampling.Transposed, false)]
    [InlineData(UNetUpSampling.Bilinear, false)]
    [InlineData(UNetUpSampling.Transposed, true)]
    [InlineData(UNetUpSampling.Bilinear, true)]
    public void A_unet_returns_the_images_size_whatever_it_is(UNetUpSampling upSampling, bool backbone)
    {
        using UNet network = new(new UNetOptions
        {
            Widths = backbone ? [4, 4, 4, 4] : [4, 4, 4, 4],
            Classes = 2,
            UpSampling = upSampling,
            Encoder = backbone ? Cases.TinyResNet with { Stem = ResNetStem.Standard } : null,
        });
        network.eval();
        foreach ((long height, long width) in new (long, long)[] { (8, 8), (9, 15), (17, 8), (31, 33), (16, 24), (11, 13) })
        {
            using Tensor x = randn(1, 3, height, width);
            using Tensor y = network.call(x);
            Assert.Equal([1, 2, height, width], y.shape);
        }
    }

    [Theory]
    [InlineData(UNetDownSampling.MaxPool, UNetUpSampling.Transposed, UNetDecoder.DoubleConvolution)]
    [InlineData(UNetDownSampling.Strided, UNetUpSampling.Bilinear, UNetDecoder.DoubleConvolution)]
    [InlineData(UNetDownSampling.Strided, UNetUpSampling.TransposedBlock, UNetDecoder.Merge)]
    [InlineData(UNetDownSampling.MaxPool, UNetUpSampling.TransposedBlock, UNetDecoder.Merge)]
    public void A_unet_with_strides_returns_the_images_size_whatever_it_is(UNetDownSampling down, UNetUpSampling up, UNetDecoder decoder)
    {
        using UNet network = new(new UNetOptions
        {
            Widths = [2, 3, 4, 4],
            Strides = [1, 3, 2],
            DownSampling = down,
            UpSampling = up,
            Decoder = decoder,
        });
        Assert.Equal([1, 1, 3, 6], network.FeatureReductions);
        foreach ((long height, long width) in new (long, long)[] { (6, 6), (7, 13), (12, 11) })
        {
            using Tensor x = randn(2, 3, height, width);
            using Tensor y = network.call(x);
            Assert.Equal([2, 1, height, width], y.shape);
        }
    }

    [Fact]
    public void A_unet_drops_out_in_training_alone_and_its_prelus_start_at_a_quarter()
    {
        using UNet network = new(UNetOptions.AttentionUNet with { Widths = [4, 4], Dropout = 0.5 });
        Assert.Equal([0.25], network.state_dict()["decoder1.act.weight"].Doubles());
        using Tensor x = randn(2, 3, 8, 8);
        Assert.False(Same());
        network.eval();
        Assert.True(Same());

        bool Same()
        {
            using Tensor first = network.call(x);
            using Tensor second = network.call(x);
            return first.equal(second).all().ToBoolean();
        }
    }

    [Fact]
    public void A_unet_on_a_backbone_shares_its_keys_and_has_no_classifier()
    {
        using ResNet backbone = new(Cases.TinyResNet with { Stem = ResNetStem.Standard, InputChannels = 5 });
        using UNet network = new(new UNetOptions { Encoder = Cases.TinyResNet with { Stem = ResNetStem.Standard }, InputChannels = 5, Widths = [4, 4, 4, 4] });
        IEnumerable<string> expected = backbone.state_dict().Keys.Where(key => !key.StartsWith("fc.", StringComparison.Ordinal)).Select(key => "encoder." + key);
        Assert.Equal(expected.Order(), network.state_dict().Keys.Where(key => key.StartsWith("encoder.", StringComparison.Ordinal)).Order());

        using UNet mobile = new(new UNetOptions { Encoder = Cases.TinyMobileNet with { SmallImages = false } });
        Assert.DoesNotContain(mobile.state_dict().Keys, key => key.Contains("classifier", StringComparison.Ordinal) || key.Contains("features.18", StringComparison.Ordinal));
        Assert.Equal([1, 2, 4, 8, 16, 32], mobile.FeatureReductions);
    }

    [Fact]
    public void An_attention_gate_at_the_skip_takes_its_gating_signal_from_the_decoder()
    {
        using UNet network = new(new UNetOptions
        {
            Widths = [4, 6, 8],
            Attention = AttentionPlan.Of(new AttentionGateOptions(), AttentionPosition.Skip).InStages(2),
        });
        network.eval();
        Dictionary<string, nn.Module> modules = network.named_modules().ToDictionary(m => m.name, m => m.module);
        AttentionGate gate = Assert.IsType<AttentionGate>(modules["skip2_attn"]);
        Assert.Equal((6, 6), (gate.Channels, gate.GuideChannels));

        using DisposeScope scope = NewDisposeScope();
        Tensor x = randn(1, 3, 8, 8);
        Tensor skip = Call("encoder2", nn.functional.max_pool2d(Call("encoder1", x), 2, 2));
        Tensor deepest = Call("bottleneck", nn.functional.max_pool2d(skip, 2, 2));
        Tensor up = ((nn.Module<Tensor, Tensor, Tensor>)modules["up2"]).call(deepest, skip);
        Tensor expected = Call("decoder2", cat([gate.call(skip, up), up], 1));
        Assert.True(expected.allclose(network.Features(x)[1], 1e-6, 1e-6));

        Tensor Call(string name, Tensor input) => ((nn.Module<Tensor, Tensor>)modules[name]).call(input);
    }

    /// <summary>What the size check lets through, an instance norm must take: two positions are enough, and one is without such a norm.</summary>
    [Fact]
    public void A_unet_takes_every_image_that_its_instance_norms_can()
    {
        using DisposeScope scope = NewDisposeScope();
        ResNetOptions encoder = Cases.TinyResNet with { Layers = [1, 1], StagePlanes = [4, 8] };
        Takes(new() { Widths = [4, 8, 8], Norm = UNetNorm.Instance }, 4, 8);
        Takes(new() { Widths = [4, 8, 8], Norm = UNetNorm.Instance, DownSampling = UNetDownSampling.Strided }, 4, 5);
        Takes(new() { Widths = [4, 8, 8], Norm = UNetNorm.Group, NormGroups = 4 }, 4, 5);
        Takes(new() { Widths = [4], Norm = UNetNorm.Instance, Encoder = encoder }, 1, 2);
        Takes(new() { Widths = [4], Norm = UNetNorm.Batch, Encoder = encoder }, 1, 1);
        Takes(UNetOptions.AttentionUNet with { Widths = [4, 8, 8], Strides = [2, 1] }, 2, 3);
        Takes(UNetOptions.AttentionUNet with { Widths = [4, 8, 8] }, 4, 4);

        static void Takes(UNetOptions options, long height, long width)
        {
            using UNet network = new(options);
            network.eval();
            Assert.Equal([2, 1, height, width], network.call(randn(2, 3, height, width)).shape);
        }
    }

    [Theory]
    [InlineData(UNetNorm.Batch)]
    [InlineData(UNetNorm.Instance)]
    [InlineData(UNetNorm.Group)]
    [InlineData(UNetNorm.None)]
    public void A_unet_learns_with_every_norm(UNetNorm norm)
    {
        manual_seed(0);
        using UNet network = new(new UNetOptions { Widths = [8, 8, 8], Norm = norm, NormGroups = 4, InputChannels = 1 });
        using optim.Optimizer optimizer = optim.Adam(network.parameters(), 0.02);
        using Tensor x = randn(4, 1, 12, 12);
        using Tensor target = x.gt(0.0.ToScalar()).to_type(ScalarType.Float32);
        double first = 0, last = 0;
        for (int i = 0; i < 30; i++)
        {
            using DisposeScope scope = NewDisposeScope();
            optimizer.zero_grad();
            Tensor loss = nn.functional.binary_cross_entropy_with_logits(network.call(x), target);
            loss.backward();
            optimizer.step();
            last = loss.item<float>();
            if (i == 0) first = last;
        }

        Assert.True(last < 0.5 * first, $"{norm}: loss {first} → {last}");
    }

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public void Every_parameter_of_a_network_gets_a_gradient(string name)
    {
        using FeatureNetwork network = Cases.Networks[name]();
        using Tensor x = randn(4, 3, 16, 16);
        using Tensor y = network.call(x);
        using Tensor weights = randn_like(y);
        using Tensor loss = y.mul(weights).sum();
        loss.backward();
        Assert.All(network.named_parameters(), p => Assert.True(p.parameter.grad is { } g && g.isfinite().all().item<bool>(), p.name));
    }

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public void Networks_change_type_and_keep_their_keys(string name)
    {
        manual_seed(7);
        using FeatureNetwork network = Cases.Networks[name]();
        network.eval();
        string[] keys = [.. network.state_dict().Keys];
        using Tensor x = randn(1, 3, 16, 16);
        using Tensor before = network.call(x);
        network.to(ScalarType.Float64);
        Assert.Equal(keys, network.state_dict().Keys);
        using Tensor wide = x.to_type(ScalarType.Float64);
        using Tensor after = network.call(wide);
        Assert.Equal(ScalarType.Float64, after.dtype);
        using Tensor same = after.to_type(ScalarType.Float32);
        Assert.True(same.allclose(before, 1e-4, 1e-5));
        network.to(ScalarType.BFloat16);
        using Tensor narrow = x.to_type(ScalarType.BFloat16);
        using Tensor rough = network.call(narrow);
        Assert.Equal(ScalarType.BFloat16, rough.dtype);
        Assert.True(rough.isfinite().all().item<bool>());
    }

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public void Saving_and_loading_restores_the_outputs(string name)
    {
        using FeatureNetwork first = Cases.Networks[name]();
        using FeatureNetwork second = Cases.Networks[name]();
        using MemoryStream stream = new();
        using (BinaryWriter writer = new(stream, System.Text.Encoding.UTF8, leaveOpen: true)) first.save(writer);
        stream.Position = 0;
        using (BinaryReader reader = new(stream)) second.load(reader);
        first.eval();
        second.eval();
        using Tensor x = randn(2, 3, 16, 16);
        using Tensor a = first.call(x);
        using Tensor b = second.call(x);
        Assert.True(a.equal(b).all().item<bool>());
    }

    [Fact]
    public void A_network_prints_as_a_tree_with_its_attention_marked()
    {
        using ResNet network = new(Cases.TinyResNet with
        {
            Layers = [1],
            StagePlanes = [4],
            Attention = AttentionPlan.Of(new CbamOptions { Reduction = 4 }),
        });
        string expected = """
            ResNet  541
            ├─ conv1: Conv2d(3 → 4, 3×3)  108
            ├─ bn1: BatchNorm2d(4)  8
            ├─ layer1: Sequential  410
            │  └─ 0: BasicBlock  410
            │     ├─ conv1: Conv2d(4 → 4, 3×3)  144
            │     ├─ bn1: BatchNorm2d(4)  8
            │     ├─ conv2: Conv2d(4 → 4, 3×3)  144
            │     ├─ bn2: BatchNorm2d(4)  8
            │     └─ ◆ attn: Cbam(4)  106
            └─ fc: Linear(4 → 3)  15
            """;
        Assert.Equal(expected.ReplaceLineEndings("\n"), network.ToString());
    }

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public async Task Eight_threads_over_one_network_give_the_results_of_one(string name)
    {
        using FeatureNetwork network = Cases.Networks[name]();
        network.eval();
        Tensor[] inputs = [.. Enumerable.Range(0, 8).Select(_ => randn(1, 3, 16, 12))];
        Tensor[] expected = [.. inputs.Select(Infer)];
        await Task.WhenAll(Enumerable.Range(0, 8).Select(thread => Task.Run(
            () =>
            {
                for (int round = 0; round < 10; round++)
                {
                    using Tensor actual = Infer(inputs[thread]);
                    using Tensor same = actual.equal(expected[thread]).all();
                    Assert.True(same.item<bool>());
                }
            },
            TestContext.Current.CancellationToken)));
        foreach (Tensor tensor in inputs.Concat(expected)) tensor.Dispose();

        Tensor Infer(Tensor x)
        {
            using IDisposable quiet = no_grad();
            return network.call(x);
        }
    }
}
