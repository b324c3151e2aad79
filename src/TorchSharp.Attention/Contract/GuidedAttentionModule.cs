using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A gate that depends on a second map, the guide: y = x · g(x, guide). The inputs are the map to refine, (N, C, H, W), and the
/// guide, (N, G, h, w). A guide of another size is resized bilinearly to H × W.
/// </summary>
public abstract class GuidedAttentionModule : nn.Module<Tensor, Tensor, Tensor>, IAttentionModule, ICountsFunctions, IPlaced
{
    [ComponentName(Name = "alpha")]
    private readonly Modules.Parameter? _alpha;

    private readonly ParameterPlace _place;

    /// <summary>Validates the settings; a subclass then creates its layers and calls <see cref="Complete"/>.</summary>
    /// <param name="channels">Channels of the map to refine.</param>
    /// <param name="guideChannels">Channels of the map that steers.</param>
    /// <param name="options">The settings.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with the channels.</exception>
    protected GuidedAttentionModule(int channels, int guideChannels, GuidedAttentionOptions options)
        : base(IdentityStart.NameOf(options))
    {
        options.Validate(channels, guideChannels);
        _place = new ParameterPlace(this);
        Channels = channels;
        GuideChannels = guideChannels;
        Options = options;
        _alpha = IdentityStart.IdentityScale(options);
    }

    /// <inheritdoc/>
    public int Channels { get; }

    /// <summary>Number of channels of the guide, the second input.</summary>
    public int GuideChannels { get; }

    /// <inheritdoc/>
    public AttentionOptions Options { get; }

    /// <summary>Refines a feature map with a guide.</summary>
    /// <param name="input">The map to refine, (N, C, H, W). It is neither changed nor disposed.</param>
    /// <param name="guide">The map that steers, (N, G, h, w). It is neither changed nor disposed.</param>
    /// <returns>A new tensor of the shape of <paramref name="input"/>, owned by the caller.</returns>
    /// <exception cref="ArgumentException">
    /// An input's rank, channels, type or device do not fit; the message says what would.
    /// </exception>
    /// <exception cref="ObjectDisposedException">An input or the module was disposed.</exception>
    public sealed override Tensor forward(Tensor input, Tensor guide)
    {
        CheckInputs(input, guide);
        using DisposeScope scope = NewDisposeScope();
        Tensor refined = input.mul(EffectiveGate(input, guide));
        if (training && Options.Dropout > 0) refined = nn.functional.dropout(refined, Options.Dropout, training: true);
        Tensor output = StochasticAttentionDrop.Apply(input, refined, Options.AttentionDropPath, training);
        return (ReferenceEquals(output, input) ? input.alias() : output).MoveToOuterDisposeScope();
    }

    /// <summary>Computes the gate: the factor that <c>forward</c> multiplies the input by.</summary>
    /// <param name="input">The map to refine, (N, C, H, W).</param>
    /// <param name="guide">The map that steers, (N, G, h, w).</param>
    /// <returns>A tensor that broadcasts to the input, owned by the caller.</returns>
    /// <exception cref="ArgumentException">An input's rank, channels or type do not fit.</exception>
    public Tensor Gate(Tensor input, Tensor guide)
    {
        CheckInputs(input, guide);
        using DisposeScope scope = NewDisposeScope();
        return EffectiveGate(input, guide).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public void ResetParameters()
    {
        AttentionWeightsInitializer.Reset(this, Options.Initialization, InitializeAsPaper);
        using IDisposable quiet = no_grad();
        AttentionWeightsInitializer.Zero(_alpha);
    }

    /// <summary>A short line for printouts: the module's name, its channels and its settings.</summary>
    public override string ToString() => $"{GetName()}({Channels}, guide {GuideChannels}, {Options})";

    /// <summary>
    /// Computes the gate, which broadcasts to <paramref name="input"/>. It runs in a dispose scope of the base class, which
    /// disposes intermediate tensors.
    /// </summary>
    /// <param name="input">A checked feature map, (N, C, H, W).</param>
    /// <param name="guide">The guide, already of the input's height and width.</param>
    protected abstract Tensor ComputeGate(Tensor input, Tensor guide);

    /// <summary>Weights as the paper or its released code starts them. Without an override: as PyTorch's layers start.</summary>
    protected virtual void InitializeAsPaper()
    {
    }

    /// <summary>To be called at the end of every concrete constructor: registers the layers and initialises them.</summary>
    protected void Complete()
    {
        RegisterComponents();
        IdentityStart.Complete(this, Options, ResetParameters);
    }

    ParameterPlace IPlaced.Place => _place;

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) _place.End();
        base.Dispose(disposing);
    }

    void ICountsFunctions.Count(FunctionCount count, Tensor[] inputs)
    {
        (Tensor input, Tensor guide) = (inputs[0], inputs[1]);
        long values = input.numel(), sized = guide.size(0) * guide.size(1) * input.size(2) * input.size(3);
        if (sized != guide.numel() || input.size(2) != guide.size(2)) count.Resize(guide.numel(), sized, 7);
        long gate = CountGate(count, input);
        IdentityStart.CountBlend(count, gate, _alpha);
        count.Combine(values, values, gate);
    }

    /// <summary>
    /// Counts the functions of <see cref="ComputeGate"/>; returns the number of the gate's values, 0 where nobody says.
    /// </summary>
    private protected virtual long CountGate(FunctionCount count, Tensor input) => 0;

    private Tensor EffectiveGate(Tensor input, Tensor guide)
    {
        Tensor sized = input.size(2) == guide.size(2) && input.size(3) == guide.size(3)
            ? guide
            : nn.functional.interpolate(
                guide, size: [input.size(2), input.size(3)], mode: InterpolationMode.Bilinear, align_corners: false);
        return IdentityStart.Blend(ComputeGate(input, sized), _alpha);
    }

    private void CheckInputs(Tensor input, Tensor guide)
    {
        Check.FeatureMap(input, Channels, _place);
        Check.FeatureMap(guide, GuideChannels, _place);
        if (guide.size(0) != input.size(0))
        {
            throw new ArgumentException(
                $"{GetName()} got a batch of {input.size(0)} and a guide for {guide.size(0)}; both must have the same batch.",
                nameof(guide));
        }
    }
}
