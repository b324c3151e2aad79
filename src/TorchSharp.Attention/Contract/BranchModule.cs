using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// An attention over competing convolutions: y = Σ_m w_m(x) · b_m(x), b_1 … b_M convolutions of the input, each with its norm and
/// activation, w (N, M, C′, 1, 1) their weights. It replaces a convolution: (N, C, H, W) to (N, C′, ⌈H / stride⌉, ⌈W / stride⌉).
/// </summary>
public abstract class BranchModule : nn.Module<Tensor, Tensor>, IAttentionModule, ICountsFunctions, IPlaced
{
    private readonly ParameterPlace _place;

    /// <summary>Validates the settings; a subclass then creates its layers and calls <see cref="Complete"/>.</summary>
    /// <param name="channels">Channels of the input.</param>
    /// <param name="outputChannels">Channels of the output; null for as many.</param>
    /// <param name="stride">Stride.</param>
    /// <param name="options">The settings.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with the channels.</exception>
    protected BranchModule(int channels, int? outputChannels, int stride, BranchAttentionOptions options)
        : this(new ConvolutionSpec(channels, outputChannels ?? channels, stride), options)
    {
    }

    /// <summary>Validates the settings; a subclass then creates its layers and calls <see cref="Complete"/>.</summary>
    /// <param name="convolution">The convolution that the module replaces.</param>
    /// <param name="options">The settings.</param>
    /// <exception cref="ArgumentException">A setting is out of range, or does not go with the convolution.</exception>
    protected BranchModule(ConvolutionSpec convolution, BranchAttentionOptions options)
        : base(IdentityStart.NameOf(options))
    {
        options.Validate(convolution);
        _place = new ParameterPlace(this);
        Convolution = convolution;
        Options = options;
    }

    /// <summary>The convolution that the module replaces.</summary>
    public ConvolutionSpec Convolution { get; }

    /// <summary>Channels of the input.</summary>
    public int Channels => Convolution.Channels;

    /// <summary>Channels of the output.</summary>
    public int OutputChannels => Convolution.OutputChannels;

    /// <summary>Stride: the output is this many times smaller.</summary>
    public int Stride => Convolution.Stride;

    /// <inheritdoc/>
    public AttentionOptions Options { get; }

    /// <summary>Computes the branches and their weighted sum.</summary>
    /// <param name="input">The map, (N, C, H, W). It is neither changed nor disposed.</param>
    /// <returns>A new tensor (N, C′, ⌈H / stride⌉, ⌈W / stride⌉), owned by the caller.</returns>
    /// <exception cref="ArgumentException">
    /// The input's rank, channels, type or device do not fit; the message says what would.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The input or the module was disposed.</exception>
    public sealed override Tensor forward(Tensor input)
    {
        Check.FeatureMap(input, Channels, _place);
        using DisposeScope scope = NewDisposeScope();
        Tensor branches = ComputeBranches(input);
        Tensor output = branches.mul(ComputeWeights(branches)).sum(1);
        if (training && Options.Dropout > 0) output = nn.functional.dropout(output, Options.Dropout, training: true);
        return output.MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Computes the weights of the branches for an input, (N, M, C′, 1, 1). <c>forward</c> does not return them.
    /// </summary>
    /// <param name="input">The map, (N, C, H, W).</param>
    /// <returns>A new tensor, owned by the caller.</returns>
    /// <exception cref="ArgumentException">The input's rank, channels or type do not fit.</exception>
    public Tensor Weights(Tensor input)
    {
        Check.FeatureMap(input, Channels, _place);
        using DisposeScope scope = NewDisposeScope();
        return ComputeWeights(ComputeBranches(input)).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public void ResetParameters() => AttentionWeightsInitializer.Reset(this, Options.Initialization, InitializeAsPaper);

    /// <summary>A short line for printouts: the module's name, its channels and its settings.</summary>
    public override string ToString() =>
        $"{GetName()}({Channels} → {OutputChannels}, stride " +
        $"{Stride}{(Convolution.Groups == 1 ? "" : $", groups {Convolution.Groups}")}, {Options})";

    /// <summary>
    /// Computes the branches, (N, M, C′, H′, W′). It runs in a dispose scope of the base class, which disposes intermediate
    /// tensors.
    /// </summary>
    /// <param name="input">A checked feature map, (N, C, H, W).</param>
    protected abstract Tensor ComputeBranches(Tensor input);

    /// <summary>
    /// Computes the weights of the branches, (N, M, C′, 1, 1). It runs in a dispose scope of the base class, which disposes
    /// intermediate tensors.
    /// </summary>
    /// <param name="branches">What <see cref="ComputeBranches"/> returned.</param>
    protected abstract Tensor ComputeWeights(Tensor branches);

    ParameterPlace IPlaced.Place => _place;

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) _place.End();
        base.Dispose(disposing);
    }

    void ICountsFunctions.Count(FunctionCount count, Tensor[] inputs)
    {
        Tensor input = inputs[0];
        long size = ((input.size(2) + Stride - 1) / Stride) * ((input.size(3) + Stride - 1) / Stride);
        long output = input.size(0) * OutputChannels * size, branches = CountBranches(count, output);
        long weights = branches / size;
        count.Combine(branches, branches, weights);
        count.Reduce(branches, output);
    }

    /// <summary>
    /// Counts the functions of <see cref="ComputeBranches"/> and <see cref="ComputeWeights"/>; returns the number of the
    /// branches' values, 0 where nobody says.
    /// </summary>
    /// <param name="count">Adds them up.</param>
    /// <param name="output">Number of values of the module's output.</param>
    private protected virtual long CountBranches(FunctionCount count, long output) => 0;

    /// <summary>
    /// Weights as the paper or its released code starts them. Without an override: convolutions Kaiming normal, biases zero.
    /// </summary>
    protected virtual void InitializeAsPaper()
    {
        foreach (nn.Module module in modules())
        {
            if (module is not Modules.Conv2d conv) continue;
            AttentionWeightsInitializer.Kaiming(conv.weight!);
            AttentionWeightsInitializer.Zero(conv.bias);
        }
    }

    /// <summary>To be called at the end of every concrete constructor: registers the layers and initialises them.</summary>
    protected void Complete()
    {
        RegisterComponents();
        IdentityStart.Complete(this, Options, ResetParameters);
    }
}
