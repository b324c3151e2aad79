using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>Inputs of another type or on another device than the parameters, and what was disposed: exceptions of the library's own, before libtorch sees it.</summary>
public sealed class RefusedInputTests
{
    public static TheoryData<string> Kinds => Row.Kinds;

    public static TheoryData<string> NetworkNames => Cases.NetworkNames;

    public static TheoryData<string> Branches => [.. BranchRow.All.Select(row => row.Name)];

    private static readonly ScalarType[] Types = [ScalarType.Float64, ScalarType.Float32, ScalarType.Float16, ScalarType.BFloat16];

    /// <summary>An exception with the line that would be right, or a result of the input's type: in inference and training, fused and composed.</summary>
    [Theory]
    [MemberData(nameof(Kinds))]
    public void Another_type_is_refused_or_kept(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        Row row = Row.Named(name);
        foreach (ScalarType own in new[] { ScalarType.Float32, ScalarType.Float64, ScalarType.BFloat16 })
        {
            using Subject subject = new(row, own);
            bool free = !subject.Module.parameters().Any();
            foreach (bool training in new[] { false, true })
            {
                subject.Mode(training);
                foreach (ScalarType type in Types.Where(type => type != own))
                {
                    Tensor x = ones(3, row.Channels, 40, 40, ScalarType.Float32).to_type(type);
                    Tensor? guide = row.GuideChannels == 0 ? null : ones(3, row.GuideChannels, 4, 5, ScalarType.Float32).to_type(type);
                    if (free)
                    {
                        Assert.Equal(type, subject.Forward(x, guide).dtype);
                        continue;
                    }

                    Refused(() => subject.Forward(x, guide), "input", own, type);
                    Refused(() => _ = subject.Gate(x, guide) ?? subject.Forward(x, guide), "input", own, type);
                    if (guide is not null) Refused(() => subject.Forward(x.to_type(own), guide), "guide", own, type);
                }
            }
        }
    }

    /// <summary>float16 runs on the CPU, too, and its results have its type.</summary>
    [Theory]
    [InlineData(ScalarType.Float16)]
    [InlineData(ScalarType.BFloat16)]
    public void A_converted_module_takes_its_own_type_and_returns_it(ScalarType type)
    {
        foreach (string name in Row.Kinds.Select(row => row.Data))
        {
            using DisposeScope scope = NewDisposeScope();
            Row row = Row.Named(name);
            using Subject subject = Subject.Random(row, seed: 3, training: false, type);
            Tensor x = randn(2, row.Channels, 4, 3).to_type(type);
            Tensor? guide = row.GuideChannels == 0 ? null : randn(2, row.GuideChannels, 4, 3).to_type(type);
            Assert.Equal(type, subject.Forward(x, guide).dtype);
            Assert.True(subject.Forward(x, guide).isfinite().all().item<bool>(), name);

            // There and back: the check follows the conversion.
            subject.Module.to(ScalarType.Float32);
            Assert.Equal(ScalarType.Float32, subject.Forward(x.to_type(ScalarType.Float32), guide?.to_type(ScalarType.Float32)).dtype);
            if (subject.Module.parameters().Any()) Refused(() => subject.Forward(x, guide), "input", ScalarType.Float32, type);
        }
    }

    [Fact]
    public void Norms_kept_in_float32_inside_a_bfloat16_module_still_work()
    {
        using DisposeScope scope = NewDisposeScope();
        using ResNet network = new(Cases.TinyResNet);
        network.to(ScalarType.BFloat16);
        foreach (nn.Module module in network.modules().OfType<BatchNorm2d>()) module.to(ScalarType.Float32);
        Assert.Equal(ScalarType.BFloat16, network.call(randn(2, 3, 16, 16).to_type(ScalarType.BFloat16)).dtype);
    }

    [Theory]
    [MemberData(nameof(Branches))]
    public void Branches_refuse_another_type(string name)
    {
        BranchRow row = BranchRow.All.Single(row => row.Name == name);
        using DisposeScope scope = NewDisposeScope();
        using BranchModule module = row.Options.Create(row.Convolution);
        Tensor x = ones(2, row.Convolution.Channels, 6, 6, ScalarType.Float64);
        Refused(() => module.call(x), "input", ScalarType.Float32, ScalarType.Float64);
        Refused(() => module.Weights(x), "input", ScalarType.Float32, ScalarType.Float64);
    }

    [Fact]
    public void Sequences_and_contexts_refuse_another_type()
    {
        using DisposeScope scope = NewDisposeScope();
        using MultiHeadAttention sequences = new(8, new() { Heads = 2 });
        Tensor single = ones(2, 5, 8), wide = ones(2, 5, 8, ScalarType.Float64);
        Refused(() => sequences.call(wide), "query", ScalarType.Float32, ScalarType.Float64);
        Refused(() => sequences.call(single, wide, wide), "key", ScalarType.Float32, ScalarType.Float64);
        Refused(() => sequences.call(single, single, wide), "value", ScalarType.Float32, ScalarType.Float64);
        using CrossAttention cross = new(8, 6, new() { Heads = 2 });
        Refused(() => cross.call(ones(2, 8, 3, 3, ScalarType.Float16), ones(2, 5, 6, ScalarType.Float16)), "input", ScalarType.Float32, ScalarType.Float16);
        cross.to(ScalarType.Float64);
        Assert.Equal(ScalarType.Float64, cross.call(ones(2, 8, 3, 3, ScalarType.Float64), ones(2, 5, 6, ScalarType.Float64)).dtype);
    }

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public void Networks_refuse_another_type_and_their_fused_copies_too(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        using FeatureNetwork network = Cases.Networks[name](), fused = network.FuseForInference();
        foreach (FeatureNetwork one in new[] { network, fused })
        {
            foreach (ScalarType type in new[] { ScalarType.Float64, ScalarType.Float16, ScalarType.BFloat16 })
            {
                Tensor x = ones(2, 3, 16, 16, ScalarType.Float32).to_type(type);
                Refused(() => one.call(x), "input", ScalarType.Float32, type);
                Refused(() => one.Features(x), "input", ScalarType.Float32, type);
                one.to(type);
                Assert.Equal(type, one.call(x).dtype);
                one.to(ScalarType.Float32);
            }
        }
    }

    /// <summary>The meta device stands for every other one.</summary>
    [Fact]
    public void Another_device_is_refused()
    {
        using DisposeScope scope = NewDisposeScope();
        using SqueezeExcitation module = new(8, new() { Reduction = 2 });
        using ResNet network = new(Cases.TinyResNet);
        foreach (Action act in new Action[] { () => module.call(ones(1, 8, 4, 4, device: META)), () => network.call(ones(1, 3, 16, 16, device: META)) })
        {
            ArgumentException error = Assert.Throws<ArgumentException>(act);
            Assert.Equal("input", error.ParamName);
            Assert.Contains("are on cpu; input is on meta. Move the input with input.to(device(\"cpu\"))", error.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Disposed_inputs_and_modules_are_named(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        Row row = Row.Named(name);
        Subject subject = new(row, ScalarType.Float32);
        Tensor x = ones(2, row.Channels, 4, 3), gone = x.clone();
        Tensor? guide = row.GuideChannels == 0 ? null : ones(2, row.GuideChannels, 4, 3);
        gone.Dispose();
        Disposed(() => subject.Forward(gone, guide), "input", subject.Module.GetName());
        if (guide is not null) Disposed(() => subject.Forward(x, gone), "guide", subject.Module.GetName());
        subject.Forward(x, guide);
        subject.Dispose();
        Disposed(() => subject.Forward(x, guide), subject.Module.GetName(), "build a new one");
        Subject neverCalled = new(row, ScalarType.Float32);
        neverCalled.Dispose();
        Disposed(() => neverCalled.Forward(x, guide), subject.Module.GetName(), "build a new one");
    }

    [Theory]
    [MemberData(nameof(NetworkNames))]
    public void Disposed_networks_and_copies_are_named(string name)
    {
        using DisposeScope scope = NewDisposeScope();
        FeatureNetwork network = Cases.Networks[name](), fused = network.FuseForInference();
        Tensor x = ones(2, 3, 16, 16), gone = x.clone();
        gone.Dispose();
        foreach (FeatureNetwork one in new[] { network, fused })
        {
            Disposed(() => one.call(gone), "input", one.GetName());
            Disposed(() => one.Features(gone), "input", one.GetName());
            one.Dispose();
            Disposed(() => one.call(x), one.GetName(), "build a new one");
            Disposed(() => one.Features(x), one.GetName(), "build a new one");
        }

        Disposed(() => network.FuseForInference(), network.GetName(), "fusing");
        Disposed(() => AttentionRecorder.Attach(network), network.GetName(), "disposed");
        Disposed(() => GateMonitor.Attach(network), network.GetName(), "disposed");
        Disposed(() => network.FreezeAllButAttention(), network.GetName(), "disposed");
    }

    [Fact]
    public void Other_disposed_things_are_named()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor gone = ones(2, 5, 8), mask = ones(2, 5, ScalarType.Bool), good = ones(2, 5, 8);
        gone.Dispose();
        mask.Dispose();
        MultiHeadAttention sequences = new(8, new() { Heads = 2 });
        Disposed(() => sequences.call(gone), "query", "MultiHeadAttention");
        Disposed(() => sequences.call(good, good, gone), "value", "MultiHeadAttention");
        Disposed(() => sequences.call(good, good, good, mask, null), "keyPaddingMask", "MultiHeadAttention");
        Disposed(() => sequences.call(good, good, good, null, mask), "attentionMask", "MultiHeadAttention");
        sequences.Dispose();
        Disposed(() => sequences.call(good), "MultiHeadAttention", "build a new one");
        using CrossAttention cross = new(8, 8, new() { Heads = 2 });
        Disposed(() => cross.call(ones(2, 8, 3, 3), gone), "context", "CrossAttention");
        using SelectiveKernel branch = new SelectiveKernelOptions().Create(8);
        Disposed(() => branch.call(gone), "input", "SelectiveKernel");
        Disposed(() => new GateStatistics().Add(gone), "gate", "GateStatistics");
        Disposed(() => new PairwiseStatistics().Add(gone), "weights", "PairwiseStatistics");

        // An attention that was taken out of a network, and maps of a recorder that ended.
        nn.Module<Tensor, Tensor> network = nn.Sequential(("conv", nn.Conv2d(3, 8, 3)), ("relu", nn.ReLU()));
        InsertionHandle handle = network.InsertAttention(InsertionPlan.After("conv", new SqueezeExcitationOptions { Reduction = 2 }), ones(1, 3, 8, 8));
        AttentionModule attention = handle.Attentions[0];
        AttentionRecorder recorder = AttentionRecorder.Attach(network);
        network.call(ones(1, 3, 8, 8));
        AttentionMaps maps = recorder[recorder.Names[0]];
        recorder.Dispose();
        Disposed(() => _ = maps.ChannelGate, "AttentionMaps", "clone");
        handle.Remove();
        Disposed(() => attention.call(ones(1, 8, 4, 4)), "SqueezeExcitation", "build a new one");
        InsertionHandle second = network.InsertAttention(InsertionPlan.After("conv", new SqueezeExcitationOptions { Reduction = 2 }), ones(1, 3, 8, 8));
        network.Dispose();
        Disposed(() => second.FreezeAllButAttention(), "Sequential", "disposed");
        second.Remove();
    }

    private static void Refused(Action act, string parameter, ScalarType own, ScalarType given)
    {
        ArgumentException error = Assert.Throws<ArgumentException>(act);
        Assert.Equal(parameter, error.ParamName);
        Assert.Contains(
            $"are {own}; {parameter} is {given}. Convert the input with {parameter}.to_type(ScalarType.{own}), or the module with module.to(ScalarType.{given}).",
            error.Message, StringComparison.Ordinal);
    }

    private static void Disposed(Action act, string what, string text)
    {
        ObjectDisposedException error = Assert.Throws<ObjectDisposedException>(act);
        Assert.Contains(what, error.ObjectName, StringComparison.Ordinal);
        Assert.Contains(text, error.Message, StringComparison.Ordinal);
    }
}
