using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Scalars that live as long as the process: implicit conversions race with the finaliser.</summary>
internal static class Scalars
{
    public static readonly Scalar Zero = 0.0.ToScalar(), One = 1.0.ToScalar();

    /// <summary>Fits whole numbers too.</summary>
    public static readonly Scalar Once = 1L.ToScalar();
}

/// <summary>Sums without the factor that TorchSharp's own <c>add</c> makes for each of them, an implicit scalar: the finaliser was seen to free it during the call.</summary>
internal static class Sums
{
    public static Tensor Plus(this Tensor left, Tensor right) => left.add(right, Scalars.Once);

    public static Tensor Plus(this Tensor left, Scalar right) => left.add(right, Scalars.Once);

    /// <summary>In place.</summary>
    public static Tensor Plus_(this Tensor left, Tensor right) => left.add_(right, Scalars.Once);

    /// <summary>In place.</summary>
    public static Tensor Plus_(this Tensor left, Scalar right) => left.add_(right, Scalars.Once);
}

/// <summary>Skips the attention of whole samples in training.</summary>
internal static class StochasticAttentionDrop
{
    public static Tensor Apply(Tensor input, Tensor attended, double probability, bool training)
    {
        if (!training || probability == 0) return attended;
        if (probability == 1) return input;
        using Tensor uniform = rand(input.size(0), 1, 1, 1, dtype: ScalarType.Float32, device: input.device);
        using Scalar threshold = probability.ToScalar();
        using Tensor skip = uniform.lt(threshold);
        return where(skip, input, attended);
    }
}

/// <summary>What the bases of one and of two inputs do alike when a module is built.</summary>
internal static class IdentityStart
{
    /// <summary>The module's name: its options' without the suffix.</summary>
    public static string NameOf(AttentionOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return options.GetType().Name.Replace("Options", "", StringComparison.Ordinal);
    }

    /// <summary>The learnable scale of an identity start, 0 at step 0; null for other starts.</summary>
    public static Modules.Parameter? IdentityScale(AttentionOptions options)
        => options.Initialization == AttentionInitialization.Identity ? new Modules.Parameter(zeros(1)) : null;

    /// <summary>1 + alpha · (gate − 1).</summary>
    public static Tensor Blend(Tensor gate, Tensor? alpha)
        => alpha is null ? gate : gate.sub(Scalars.One).mul(alpha).Plus(Scalars.One);

    /// <summary>
    /// x + alpha · change, which for alpha = 0 is x to the last bit, also where x is a negative zero: x − (−alpha · change + 0). A sum with zero is a
    /// positive zero, and taking that away changes nothing; adding a zero of unknown sign could.
    /// </summary>
    /// <param name="input">x.</param>
    /// <param name="change">What is added; it broadcasts to x.</param>
    /// <param name="alpha">The scale; null for 1, where the change is zero at first by itself.</param>
    public static Tensor Add(Tensor input, Tensor change, Tensor? alpha)
        => input.sub((alpha is null ? change.neg() : change.mul(alpha.neg())).Plus_(Scalars.Zero));

    /// <summary>The functions of <see cref="Add"/>.</summary>
    public static void CountAdd(FunctionCount count, long input, long change, Tensor? alpha)
    {
        if (alpha is null)
        {
            count.Map(change);
        }
        else
        {
            count.Map(1);
            count.Combine(change, change, 1);
        }

        count.Map(change, inPlace: true);
        count.Combine(input, input, change);
    }

    /// <summary>The functions of <see cref="Blend"/>.</summary>
    public static void CountBlend(FunctionCount count, long gate, Tensor? alpha)
    {
        if (alpha is null) return;
        count.Map(gate);
        count.Combine(gate, gate, 1);
        count.Map(gate);
    }

    /// <summary>Takes registered components into the module's keeping and starts them as the options say.</summary>
    public static void Complete(nn.Module module, AttentionOptions options, Action reset)
    {
        Keep(module);
        if (options.Initialization is not (AttentionInitialization.Default or AttentionInitialization.Identity)) reset();
    }

    /// <summary>Parameters and buffers must outlive whatever dispose scope the caller happened to build the module in.</summary>
    public static void Keep(nn.Module module)
    {
        foreach ((string _, Modules.Parameter parameter) in module.named_parameters()) parameter.DetachFromDisposeScope();
        foreach ((string _, Tensor buffer) in module.named_buffers()) buffer.DetachFromDisposeScope();
    }
}

internal static class AttentionWeightsInitializer
{
    /// <summary>
    /// Starts every convolution, linear and norm layer below a module afresh; attentions inside it do so by themselves, as their own
    /// options say.
    /// </summary>
    public static void Reset(nn.Module module, AttentionInitialization initialization, Action paper)
    {
        using IDisposable quiet = no_grad();
        foreach (nn.Module child in module.children()) Visit(child, initialization);
        if (initialization == AttentionInitialization.Paper) paper();
    }

    private static void Visit(nn.Module module, AttentionInitialization initialization)
    {
        switch (module)
        {
            case IAttentionModule attention:
                attention.ResetParameters();
                return;
            case Modules.Conv2d conv:
                Fill(conv.weight!, conv.bias, initialization);
                return;
            case Modules.Conv1d conv:
                Fill(conv.weight!, conv.bias, initialization);
                return;
            case Modules.Conv3d conv:
                Fill(conv.weight!, conv.bias, initialization);
                return;
            case Modules.Linear linear:
                Fill(linear.weight!, linear.bias, initialization);
                return;
            case Modules.GroupNorm norm:
                NormCalls.Start(norm);
                return;
            case Modules.BatchNorm2d norm:
                norm.reset_running_stats();
                if (norm.weight is not null) nn.init.ones_(norm.weight);
                Zero(norm.bias);
                return;
            case Modules.LayerNorm norm:
                if (norm.weight is not null) nn.init.ones_(norm.weight);
                Zero(norm.bias);
                return;
        }

        foreach (nn.Module child in module.children()) Visit(child, initialization);
    }

    /// <summary>A layer's weight and bias; a paper's own start comes afterwards.</summary>
    public static void Fill(Tensor weight, Tensor? bias, AttentionInitialization initialization)
    {
        switch (initialization)
        {
            case AttentionInitialization.Kaiming:
                Kaiming(weight);
                Zero(bias);
                break;
            case AttentionInitialization.Xavier:
                nn.init.xavier_uniform_(weight);
                Zero(bias);
                break;
            default:
                (long fanIn, _) = nn.init.CalculateFanInAndFanOut(weight);
                double bound = 1 / Math.Sqrt(fanIn);
                nn.init.uniform_(weight, -bound, bound);
                if (bias is not null) nn.init.uniform_(bias, -bound, bound);
                break;
        }
    }

    public static void Kaiming(Tensor weight)
        => nn.init.kaiming_normal_(weight, mode: nn.init.FanInOut.FanOut, nonlinearity: nn.init.NonlinearityType.ReLU);

    public static void Zero(Tensor? tensor)
    {
        if (tensor is not null) nn.init.zeros_(tensor);
    }
}
