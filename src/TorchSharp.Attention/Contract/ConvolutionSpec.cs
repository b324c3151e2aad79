using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// The spatial convolution that a branch module replaces, together with its norm and activation. The site in the network provides
/// it (<see cref="AttentionSite.Convolution"/>), so that the branch module fits there.
/// </summary>
/// <param name="Channels">Channels of the input.</param>
/// <param name="OutputChannels">Channels of the output.</param>
/// <param name="Stride">Stride: the output has height ⌈H / stride⌉ and width ⌈W / stride⌉. Default 1.</param>
public sealed record ConvolutionSpec(int Channels, int OutputChannels, int Stride = 1)
{
    /// <summary>
    /// Groups of the convolution, which divide the input and the output channels. A depthwise convolution has one group per
    /// channel. Default 1.
    /// </summary>
    public int Groups { get; init; } = 1;

    /// <summary>The activation after the norm of the convolution. Default ReLU.</summary>
    public GateActivation Activation { get; init; } = GateActivation.ReLU;

    /// <summary>Whether every input channel is a group of its own.</summary>
    internal bool IsDepthwise => Groups > 1 && Groups == Channels;

    internal void Validate()
    {
        Check.Positive(Channels, "channels");
        Check.Positive(OutputChannels, "outputChannels");
        Check.Positive(Stride, "stride");
        Check.Divides(Groups, Channels, "groups");
        Check.Divides(Groups, OutputChannels, "groups");
        Check.Defined(Activation, "activation");
    }

    /// <summary>Whether <see cref="Activate"/> writes over its input.</summary>
    internal bool ActivatesInPlace => Activation is GateActivation.ReLU or GateActivation.ReLU6;

    /// <summary>Applies the activation to a map that may be overwritten.</summary>
    internal Tensor Activate(Tensor map) => Activation switch
    {
        GateActivation.ReLU => map.relu_(),
        GateActivation.ReLU6 => nn.functional.relu6(map, inplace: true),
        _ => Activation.Apply(map),
    };
}
