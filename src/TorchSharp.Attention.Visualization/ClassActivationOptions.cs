using static TorchSharp.torch;

namespace TorchSharp.Attention.Visualization;

/// <summary>
/// Settings of <see cref="ClassActivation.Compute(nn.Module{Tensor, Tensor}, Tensor, string, ClassActivationOptions)"/>.
/// </summary>
public sealed record ClassActivationOptions
{
    /// <summary>How the channels of the layer are weighted. Default Grad-CAM.</summary>
    public ClassActivationMethod Method { get; init; }

    /// <summary>
    /// The class to explain, one per sample, for a network with logits (N, classes). Default null: the class with the largest
    /// logit.
    /// </summary>
    public IReadOnlyList<long>? Classes { get; init; }

    /// <summary>
    /// The score to explain, for a network whose output is not (N, classes), such as a segmentation or a sequence of tokens.
    /// The function gets outputs of one sample, (B, …), and the index of that sample in the batch. It returns one score per
    /// output, (B), made of differentiable operations. <see cref="ClassActivationTargets"/> has functions for usual outputs.
    /// Default null: the logit of the class.
    /// </summary>
    public Func<Tensor, int, Tensor>? Target { get; init; }

    /// <summary>
    /// Which call of the layer to explain, counted from 0, for a network that runs the layer several times in one pass.
    /// Default null: the layer must run once.
    /// </summary>
    public int? Call { get; init; }

    /// <summary>
    /// Rows and columns of the map that the layer's tokens (N, L, channels) form, row by row. If L is larger than Height · Width,
    /// the first tokens are ignored, such as a class token. Default null: the layer returns maps, (N, channels, h, w).
    /// </summary>
    public (int Height, int Width)? TokenGrid { get; init; }

    /// <summary>Score-CAM: how many images run in one forward pass. Default 32.</summary>
    public int ChannelsAtOnce { get; init; } = 32;

    internal void Validate()
    {
        if (!Enum.IsDefined(Method))
        {
            throw new ArgumentOutOfRangeException(
                nameof(Method), Method, $"Method is {Method}; ClassActivationMethod has no such value.");
        }

        if (ChannelsAtOnce < 1)
        {
            throw new ArgumentOutOfRangeException(
                nameof(ChannelsAtOnce), ChannelsAtOnce, $"ChannelsAtOnce is {ChannelsAtOnce}; it must be at least 1.");
        }

        if (Call < 0)
        {
            throw new ArgumentOutOfRangeException(nameof(Call), Call, $"Call is {Call}; calls of the layer count from 0.");
        }

        if (TokenGrid is { } grid && (grid.Height < 1 || grid.Width < 1))
        {
            throw new ArgumentOutOfRangeException(
                nameof(TokenGrid), grid, $"TokenGrid is {grid}; rows and columns must be at least 1.");
        }

        if (Classes is not null && Target is not null)
        {
            throw new ArgumentException(
                "Classes and Target are both set; a target function chooses its class itself.", nameof(Target));
        }
    }
}
