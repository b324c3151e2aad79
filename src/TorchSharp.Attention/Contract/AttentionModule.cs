using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// An attention on feature maps: (N, C, H, W) to the same shape. The base checks the input, keeps memory exact, and applies
/// stochastic attention drop; a subclass writes only the attention itself.
/// </summary>
/// <remarks>
/// Most attentions are a <see cref="GateModule"/> (a tensor that multiplies the input) or a <see cref="ContextModule"/> (a
/// weighted sum over positions that is added to the input or replaces it). Derive from those.
/// </remarks>
public abstract class AttentionModule : nn.Module<Tensor, Tensor>, IAttentionModule, ICountsFunctions, IPlaced
{
    [ComponentName(Name = "alpha")]
    private readonly Modules.Parameter? _alpha;

    private readonly ParameterPlace _place;

    /// <summary>Validates the settings; a subclass then creates its layers and calls <see cref="Complete"/>.</summary>
    /// <param name="channels">Number of channels of the map to refine.</param>
    /// <param name="options">The settings.</param>
    /// <param name="ownsIdentityScale">
    /// False where something else makes the identity start, such as the children of a composition.
    /// </param>
    /// <exception cref="ArgumentException">
    /// A setting is out of range, or does not go with <paramref name="channels"/>.
    /// </exception>
    protected AttentionModule(int channels, AttentionOptions options, bool ownsIdentityScale = true)
        : base(IdentityStart.NameOf(options))
    {
        options.Validate(channels);
        _place = new ParameterPlace(this);
        Channels = channels;
        Options = options;
        if (ownsIdentityScale) _alpha = IdentityStart.IdentityScale(options);
    }

    /// <inheritdoc/>
    public int Channels { get; }

    /// <inheritdoc/>
    public AttentionOptions Options { get; }

    /// <summary>Refines a feature map.</summary>
    /// <param name="input">The map, (N, C, H, W). It is neither changed nor disposed.</param>
    /// <returns>A new tensor of the same shape, owned by the caller.</returns>
    /// <exception cref="ArgumentException">
    /// The input's rank, channels, type or device do not fit; the message says what would.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The input or the module was disposed.</exception>
    public sealed override Tensor forward(Tensor input)
    {
        CheckInput(input);
        using DisposeScope scope = NewDisposeScope();
        Tensor output = StochasticAttentionDrop.Apply(input, Attend(input), Options.AttentionDropPath, training);
        return (ReferenceEquals(output, input) ? input.alias() : output).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public void ResetParameters()
    {
        AttentionWeightsInitializer.Reset(this, Options.Initialization, InitializeAsPaper);
        using IDisposable quiet = no_grad();
        ResetScales();
    }

    /// <summary>A short line for printouts: the module's name, its channels and its settings.</summary>
    public override string ToString() => $"{GetName()}({Channels}, {Options})";

    /// <summary>
    /// Which dimensions of the module's weights run along the channels, so that pruning (<see cref="GatePruning"/>) can remove
    /// channels. Null if it cannot. Default null.
    /// </summary>
    public virtual ChannelLayout? ChannelLayout => null;

    /// <summary>
    /// Called by pruning, without gradients, on a new module that has just received the weights of a larger one. It corrects what
    /// depends on the number of channels, such as the weights of a mean over them.
    /// </summary>
    /// <param name="channelsBefore">Channels of the larger one.</param>
    protected internal virtual void OnChannelsRemoved(int channelsBefore)
    {
    }

    /// <summary>
    /// Computes the attention. It runs in a dispose scope of the base class, which disposes all intermediate tensors.
    /// </summary>
    /// <param name="input">A checked feature map, (N, C, H, W).</param>
    /// <returns>The refined map, of the same shape.</returns>
    protected abstract Tensor Attend(Tensor input);

    /// <summary>
    /// Initializes the weights as the paper or its released code does. Without an override they are initialized as PyTorch's
    /// layers are.
    /// </summary>
    protected virtual void InitializeAsPaper()
    {
    }

    /// <summary>Resets the module's own scalars to their start values. An override must call the base method.</summary>
    protected virtual void ResetScales() => AttentionWeightsInitializer.Zero(_alpha);

    /// <summary>Registers and initializes the layers. Every concrete constructor must call it at its end.</summary>
    protected void Complete()
    {
        RegisterComponents();
        IdentityStart.Complete(this, Options, ResetParameters);
    }

    /// <summary>The learnable scale of an identity start. Null if the module does not start as the identity.</summary>
    protected Tensor? IdentityScale => _alpha;

    /// <summary>Whether somebody listens to this module's calls.</summary>
    internal bool HasHooks => pre_hooks.Count + post_hooks.Count + module_pre_hooks.Count + module_post_hooks.Count > 0;

    ParameterPlace IPlaced.Place => _place;

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) _place.End();
        base.Dispose(disposing);
    }

    void ICountsFunctions.Count(FunctionCount count, Tensor[] inputs) => CountFunctions(count, inputs[0]);

    /// <summary>Counts the functions of <see cref="Attend"/> for an input.</summary>
    private protected virtual void CountFunctions(FunctionCount count, Tensor input)
    {
    }

    /// <summary>
    /// The learnable scale of the identity initialization, for the kernels; null where the module starts otherwise.
    /// </summary>
    internal Tensor? StartScale => _alpha;

    internal void CheckInput(Tensor input) => Check.FeatureMap(input, Channels, _place);
}
