namespace TorchSharp.Attention.Tests;

/// <summary>Exceptions that stand within others bring their message and not what .NET adds to it.</summary>
public sealed class ExceptionTextTests
{
    [Fact]
    public void The_tail_of_an_exception_stands_once()
    {
        using DisposeScope scope = NewDisposeScope();
        SqueezeExcitationOptions options = new() { Reduction = 128 };
        using nn.Module<Tensor, Tensor> network = nn.Sequential(("conv", nn.Conv2d(3, 8, 3)));
        DynamicAttentionOptions dynamic = new() { Attentions = [options, new SimAmOptions()] };
        foreach (Action act in new Action[]
        {
            () => ResNet.ResNet18(10, AttentionPlan.Of(options)),
            () => ResNet.ResNet18(10, AttentionPlan.Of(dynamic)),
            () => _ = new UNet(new UNetOptions { Widths = [4, 8], Attention = AttentionPlan.Of(options, AttentionPosition.Bottleneck) }),
            () => network.InsertAttention(InsertionPlan.After("conv", options), ones(1, 3, 8, 8)),
            () => network.InsertAttention(InsertionPlan.After("conv", new SimAmOptions()), ones(1, 4, 8, 8)),
            () => Cases.Networks["resnet basic"]().InsertAttention(InsertionPlan.After("conv1", new SimAmOptions()), ones(1, 4, 8, 8)),
        })
        {
            ArgumentException error = Assert.ThrowsAny<ArgumentException>(act);
            Assert.True(Count(error.Message, "(Parameter ") <= 1, error.Message);
            Assert.DoesNotContain("Actual value", error.Message, StringComparison.Ordinal);
        }

        static int Count(string text, string part) => text.Split(part).Length - 1;
    }

    [Fact]
    public void Text_is_the_message_alone()
    {
        Assert.Equal("a is 3.", Check.Text(new ArgumentOutOfRangeException("a", 3, "a is 3.")));
        Assert.Equal("a is null.", Check.Text(new ArgumentOutOfRangeException("a", null, "a is null.")));
        Assert.Equal("b.", Check.Text(new ArgumentException("b.", "a")));
        Assert.Equal("b.", Check.Text(new ArgumentException("b.")));
        Assert.Equal("(Parameter 'a') is part of it.", Check.Text(new ArgumentException("(Parameter 'a') is part of it.", "a")));
        Assert.Equal("c", Check.Text(new IOException("c")));
    }
}
