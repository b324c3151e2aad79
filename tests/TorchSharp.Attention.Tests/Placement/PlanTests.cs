using System.Text.Json;

namespace TorchSharp.Attention.Tests;

/// <summary>Options and plans as values: JSON, the short form, selection, messages.</summary>
public sealed class PlanTests
{
    /// <summary>Every options record with every property away from its default, found by reflection, so that a new kind is covered.</summary>
    public static TheoryData<string> Kinds => [.. AttentionCatalog.Kinds];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Json_of_options_is_lossless_in_every_property(string kind)
    {
        AttentionOptions options = AttentionCatalog.Create(kind);
        Assert.Equal(options, AttentionOptions.FromJson(options.ToJson()));
        foreach (System.Reflection.PropertyInfo property in options.GetType().GetProperties().Where(p => p.CanWrite && p.GetIndexParameters().Length == 0))
        {
            AttentionOptions changed = AttentionOptions.FromJson(options.ToJson(indented: true));
            property.SetValue(changed, OtherValue(property.PropertyType, property.GetValue(changed)));
            Assert.NotEqual(options, changed);
            AttentionOptions read = AttentionOptions.FromJson(changed.ToJson());
            Assert.Equal(changed, read);
            Assert.Equal(property.GetValue(changed), property.GetValue(read));
        }
    }

    [Fact]
    public void Json_of_options_reads_as_documented()
    {
        Assert.Equal(
            """{"kind":"se","reduction":8,"reducedChannels":null,"roundingDivisor":null,"bias":true,"activation":"reLU","gate":"hardSigmoid","norm":false,"maxPool":false,"initialization":"identity","dropout":0.1,"attentionDropPath":0}""",
            new SqueezeExcitationOptions
            {
                Reduction = 8,
                Gate = GateFunction.HardSigmoid,
                Initialization = AttentionInitialization.Identity,
                Dropout = 0.1,
            }.ToJson());
    }

    [Theory]
    [InlineData("""{"kind":"sse"}""", "There is no attention 'sse'. Known kinds: attention-gate, ba")]
    [InlineData("""{"reduction":8}""", "no 'kind'")]
    [InlineData("""{"kind":"se","reducton":8}""", "no property 'reducton'. Known: activation, attentionDropPath, bias, dropout, gate, initialization, kind, maxPool, norm, reducedChannels, reduction, roundingDivisor.")]
    [InlineData("""{"kind":"se","reduction":"8"}""", "reduction of the attention 'se' is \"8\"; it must be an integer.")]
    [InlineData("""{"kind":"se","reduction":2.5}""", "reduction of the attention 'se' is 2.5; it must be an integer.")]
    [InlineData("""{"kind":"se","bias":null}""", "bias of the attention 'se' is null; it must be true or false.")]
    [InlineData("""{"kind":"se","gate":"tanh"}""", "must be one of sigmoid, hardSigmoid")]
    [InlineData("[1]", "not a JSON object")]
    public void Json_of_options_rejects_what_it_does_not_know(string json, string message)
        => Assert.Contains(message, Assert.ThrowsAny<ArgumentException>(() => AttentionOptions.FromJson(json)).Message, StringComparison.Ordinal);

    [Fact]
    public void Text_that_is_not_json_says_so() => Assert.ThrowsAny<JsonException>(() => AttentionPlan.FromJson("{"));

    [Fact]
    public void Json_of_a_plan_is_lossless()
    {
        AttentionPlan plan = AttentionPlan.Of(CbamOptions.Official with { KernelSize = 3 }).InStages(3, 4)
            .Add(new SelfAttention2dOptions { HeadWidth = 16, ZeroInitScale = true }, AttentionPosition.StageEnd).InStages(4)
            .Add(BamOptions.Official, AttentionPosition.Before).InBlocks(0, 2)
            .Add(new EfficientChannelAttentionOptions());
        AttentionPlan read = AttentionPlan.FromJson(plan.ToJson());
        Assert.Equal(plan, read);
        Assert.Equal(plan.GetHashCode(), read.GetHashCode());
        Assert.Equal(plan, AttentionPlan.FromJson(plan.ToJson(indented: true)));
        Assert.NotEqual(plan, plan.InBlocks(1));
        Assert.Equal(AttentionPlan.None, AttentionPlan.FromJson("""{"rules":[]}"""));
        Assert.Equal("cbam at BeforeAdd of stages [3, 4]; self at StageEnd of stages [4]; bam at Before, blocks [0, 2]; eca at BeforeAdd", read.ToString());
    }

    [Theory]
    [InlineData("""{"rule":[]}""", "has no property 'rule'. Known: rules.")]
    [InlineData("""{"rules":[{"attention":{"kind":"se"},"place":"after"}]}""", "Rule 1 has no property 'place'. Known: attention, blocks, position, stages.")]
    [InlineData("""{"rules":[{"attention":{"kind":"se"},"position":"inside"}]}""", "must be one of beforeAdd, before, afterConv1")]
    [InlineData("""{"rules":[{"attention":{"kind":"se"},"stages":["a"]}]}""", "must be an array of integers")]
    [InlineData("""{"rules":[{"attention":{"kind":"se"},"stages":[]}]}""", "The list of stages is empty")]
    [InlineData("""{"rules":[{"attention":{"kind":"se"},"stages":[0]}]}""", "stages count from 1")]
    [InlineData("""{"rules":[{}]}""", "Rule 1's attention is not a JSON object")]
    public void Json_of_a_plan_rejects_what_it_does_not_know(string json, string message)
        => Assert.Contains(message, Assert.ThrowsAny<ArgumentException>(() => AttentionPlan.FromJson(json)).Message, StringComparison.Ordinal);

    [Fact]
    public void A_predicate_cannot_be_written_as_json()
    {
        AttentionPlan plan = AttentionPlan.Of(new CbamOptions()).Where(site => site.IsLastBlock);
        Assert.Contains("predicate", Assert.Throws<InvalidOperationException>(() => plan.ToJson()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Short_form_of_the_readme()
    {
        Assert.Equal(
            AttentionPlan.Of(new CbamOptions { Reduction = 8, KernelSize = 3 }).InStages(3, 4),
            AttentionPlan.Parse("cbam:reduction=8,kernel=3@before-add:3,4"));
        Assert.Equal(
            AttentionPlan.Of(new SqueezeExcitationOptions { Gate = GateFunction.HardSigmoid, RoundingDivisor = 8 }, AttentionPosition.AfterDepthwise)
                .Add(new EfficientChannelAttentionOptions { KernelSize = 5, Dropout = 0.25 }),
            AttentionPlan.Parse("SE : gate=hard-sigmoid, rounding=8 @ AfterDepth ; eca:kernel-size=5,dropout=0.25"));
        Assert.Equal(AttentionPlan.Of(new SelfAttention2dOptions { Heads = null, Residual = false }), AttentionPlan.Parse("self:heads=null,residual=false"));
    }

    [Theory]
    [InlineData("", "empty rule")]
    [InlineData("cbam;", "empty rule")]
    [InlineData("cbm", "There is no attention 'cbm'. Known: attention-gate, ba")]
    [InlineData("s", "'s' could be s")]
    [InlineData("cbam:size=3", "There is no property of 'cbam' 'size'. Known: reduction")]
    [InlineData("cbam:reduc=3", "could be reduction or reducedChannels")]
    [InlineData("cbam:kernel", "'kernel' in 'cbam:kernel' is not property=value")]
    [InlineData("cbam:kernel=", "is not property=value")]
    [InlineData("cbam:kernel=3,kernelSize=5", "sets kernelSize twice")]
    [InlineData("cbam:kernel=three", "kernelSize of the attention 'cbam' is \"three\"; it must be an integer.")]
    [InlineData("cbam@inside", "There is no position 'inside'. Known: BeforeAdd, Before")]
    [InlineData("cbam@after", null)]
    [InlineData("cbam@before-add:x", "'x' in 'cbam@before-add:x' is not a stage")]
    [InlineData("cbam@before-add:0", "stages count from 1")]
    public void Short_form_errors_name_the_word_and_the_known_ones(string text, string? message)
    {
        if (message is null)
        {
            Assert.Equal(AttentionPosition.After, AttentionPlan.Parse(text).Rules[0].Position);
            return;
        }

        Assert.Contains(message, Assert.ThrowsAny<ArgumentException>(() => AttentionPlan.Parse(text)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_rule_that_matches_nothing_is_an_error_that_names_what_exists()
    {
        string message = Error(AttentionPlan.Of(new CbamOptions(), AttentionPosition.AfterDepthwise));
        Assert.Contains("Rule 1 of the plan (cbam at AfterDepthwise) matches nothing in ResNet.", message, StringComparison.Ordinal);
        Assert.Contains("Before, AfterConv1, AfterConv2, BeforeAdd, Shortcut, After, StageEnd", message, StringComparison.Ordinal);

        message = Error(AttentionPlan.Of(new CbamOptions()).Add(new EfficientChannelAttentionOptions()).InStages(5));
        Assert.Contains("Rule 2 of the plan (eca at BeforeAdd of stages [5]) matches nothing", message, StringComparison.Ordinal);
        Assert.Contains("BeforeAdd exists in stages 1 (blocks 0, 1); 2 (blocks 0, 1); 3 (blocks 0, 1); 4 (blocks 0, 1)", message, StringComparison.Ordinal);

        message = Error(AttentionPlan.Of(new CbamOptions()).InBlocks(2));
        Assert.Contains("blocks [2]", message, StringComparison.Ordinal);

        // One number that is not there among others that are.
        message = Error(AttentionPlan.Of(new CbamOptions { Reduction = 4 }).InStages(3, 9));
        Assert.Contains("names stage 9, which ResNet does not have there. BeforeAdd exists in stages 1 (blocks 0, 1); 2", message, StringComparison.Ordinal);
        message = Error(AttentionPlan.Of(new CbamOptions { Reduction = 4 }).InBlocks(1, 2));
        Assert.Contains("names block 2, which ResNet does not have there", message, StringComparison.Ordinal);

        static string Error(AttentionPlan plan) => Assert.ThrowsAny<ArgumentException>(() => ResNet.ResNet18(attention: plan)).Message;
    }

    [Fact]
    public void Settings_that_do_not_fit_a_place_are_an_error_that_names_the_place()
    {
        ArgumentException e = Assert.ThrowsAny<ArgumentException>(
            () => ResNet.ResNet18(attention: AttentionPlan.Of(new CbamOptions { Reduction = 100 })));
        Assert.Contains("'cbam' does not fit ResNet at stage 1, block 0, BeforeAdd (64 channels): Reduction is 100", e.Message, StringComparison.Ordinal);

        e = Assert.ThrowsAny<ArgumentException>(() => ResNet.ResNet18(attention: AttentionPlan.Of(new AttentionGateOptions())));
        Assert.Contains("place it at Skip of a UNet", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Restricting_an_empty_plan_says_what_to_call()
        => Assert.Contains("AttentionPlan.Of", Assert.Throws<InvalidOperationException>(() => AttentionPlan.None.InStages(1)).Message, StringComparison.Ordinal);

    [Fact]
    public void Stages_blocks_and_predicates_select_together()
    {
        AttentionPlan plan = AttentionPlan.Of(new EfficientChannelAttentionOptions()).InStages(2, 3).InBlocks(0, 1).Where(site => site.Channels > 128)
            .Where(site => site.IsLastBlock);
        AttentionPlacement placement = plan.Resolve("ResNet", new ResNetOptions().Sites());
        AttentionSite only = Assert.Single(placement.Placed).Site;
        Assert.Equal((AttentionPosition.BeforeAdd, 3, 1, 256), (only.Position, only.Stage, only.Block, only.Channels));
    }

    [Fact]
    public void A_programs_own_attention_is_known_after_registration()
    {
        AttentionCatalog.Register<HalvingOptions>();
        AttentionCatalog.Register<HalvingOptions>();
        AttentionPlan plan = AttentionPlan.Parse("test-halving:times=2@stage-end:1");
        Assert.Equal(plan, AttentionPlan.FromJson(plan.ToJson()));
        using ResNet plain = new(Tiny(AttentionPlan.None));
        using ResNet network = new(Tiny(plan));
        using Tensor x = randn(1, 3, 8, 8);
        network.load_state_dict(plain.state_dict());
        plain.eval();
        network.eval();
        using Tensor expected = plain.Features(x)[1];
        using Tensor actual = network.Features(x)[1];
        using Tensor quarter = expected.div(4.0.ToScalar());
        Assert.True(actual.allclose(quarter));

        Assert.Contains("has no kind", Assert.Throws<ArgumentException>(AttentionCatalog.Register<Nameless>).Message, StringComparison.Ordinal);
        Assert.Contains("another name", Assert.Throws<ArgumentException>(AttentionCatalog.Register<Usurper>).Message, StringComparison.Ordinal);

        static ResNetOptions Tiny(AttentionPlan plan) =>
            new() { Layers = [1, 1], StagePlanes = [4, 8], StemWidth = 4, Stem = ResNetStem.Small, Classes = 2, Attention = plan };
    }

    private static object OtherValue(Type type, object? current) => (Nullable.GetUnderlyingType(type) ?? type) switch
    {
        { IsEnum: true } e => Enum.GetValues(e).Cast<object>().First(value => !value.Equals(current)),
        Type t when t == typeof(int) => 4 + (current as int? ?? 0),
        Type t when t == typeof(double) => 0.1 + (current as double? ?? 0),
        Type t when t == typeof(ValueList<int>) => ValueList.Create<int>([7, 9]),
        Type t when t == typeof(ValueList<AttentionOptions>) => ValueList.Create<AttentionOptions>(
            [CbamOptions.Official with { KernelSize = 3 }, new DynamicAttentionOptions { Attentions = [new BamOptions(), new SelfAttention2dOptions { Heads = 2 }] }]),
        Type t when t == typeof(bool) => !(bool)current!,
        Type t when t == typeof(ValueList<int>) => ValueList.Create<int>([9, 11]),
        _ => throw new NotSupportedException(type.Name),
    };

    [AttentionKind("test-halving")]
    public sealed record HalvingOptions : AttentionOptions
    {
        public int Times { get; init; } = 1;

        public override AttentionModule Create(int channels) => new Halving(channels, this);
    }

    public sealed record Nameless : AttentionOptions
    {
        public override AttentionModule Create(int channels) => throw new NotSupportedException();
    }

    [AttentionKind("se")]
    public sealed record Usurper : AttentionOptions
    {
        public override AttentionModule Create(int channels) => throw new NotSupportedException();
    }

    public sealed class Halving : GateModule
    {
        public Halving(int channels, HalvingOptions options)
            : base(channels, options) => Complete();

        protected override Tensor ComputeGate(Tensor input) => full([1, 1, 1, 1], Math.Pow(0.5, ((HalvingOptions)Options).Times));
    }
}
