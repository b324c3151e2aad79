using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// The cost of a network for one input, module by module: parameters, multiply-accumulates, element-wise operations, memory and,
/// if requested, time. It is compared by value. <c>ToString</c> formats it as a table.
/// </summary>
public sealed record ModelCost
{
    internal ModelCost(ModuleCost total, ValueList<ValueList<long>> inputShapes)
    {
        Total = total;
        InputShapes = inputShapes;
    }

    /// <summary>The whole network; its <see cref="ModuleCost.Children"/> are the tree.</summary>
    public ModuleCost Total { get; }

    /// <summary>Shape of the first input, including the batch.</summary>
    public ValueList<long> InputShape => InputShapes[0];

    /// <summary>Shapes of all inputs.</summary>
    public ValueList<ValueList<long>> InputShapes { get; }

    /// <summary>Number of trainable and frozen parameters.</summary>
    public long Parameters => Total.Parameters;

    /// <summary>
    /// Strict count: one for each multiplication of a weight (or of two activations in a matrix product) in
    /// convolutions, linear layers and <see cref="IFunctionalCost"/> products. Biases, norms, activations, pooling and
    /// element-wise products count nothing.
    /// </summary>
    public long MultiplyAccumulates => Total.MultiplyAccumulates;

    /// <summary>All modules, the network first, parents before children.</summary>
    public IEnumerable<ModuleCost> Modules => Total.All();

    /// <summary>The attentions of the network. Of nested attentions only the outermost is listed.</summary>
    public IEnumerable<ModuleCost> Attentions => Outermost(Total, module => module.IsAttention);

    /// <summary>
    /// Modules whose cost is missing in the counts, because they have no formula or were not called. Of nested modules only the
    /// outermost is listed.
    /// </summary>
    public IEnumerable<ModuleCost> NotCounted =>
        Outermost(Total, module => module.Coverage is CostCoverage.NotCounted or CostCoverage.NotCalled);

    /// <summary>
    /// Modules of custom classes, of which only the child modules are counted. Products that their <c>forward</c> calls as
    /// functions are missing, unless the class declares them (<see cref="IFunctionalCost"/>).
    /// </summary>
    public IEnumerable<ModuleCost> PartlyCounted => Modules.Where(module => module.Coverage == CostCoverage.PartlyCounted);

    /// <summary>The share of attentions in the total cost.</summary>
    public AttentionShare AttentionShare
    {
        get
        {
            return new(
                Share(module => module.Parameters), Share(module => module.MultiplyAccumulates),
                Share(module => module.ElementwiseOperations),
                Share(module => module.BytesMoved), Share(module => module.ActivationBytes),
                Total.Milliseconds is null ? null : Share(module => module.Milliseconds ?? 0));

            double Share(Func<ModuleCost, double> of) => of(Total) is var all && all > 0 ? Attentions.Sum(of) / all : 0;
        }
    }

    /// <summary>The cost of one module.</summary>
    /// <param name="path">Its name in <c>named_modules</c>; empty for the network.</param>
    /// <exception cref="ArgumentException">There is no such module.</exception>
    public ModuleCost this[string path] => Modules.FirstOrDefault(module => module.Path == path) ?? throw new ArgumentException(
        $"There is no module '{path}'. There are: " +
        $"{string.Join(", ", Modules.Skip(1).Take(20).Select(module => module.Path))}{(Modules.Count() > 21 ? ", …" : "")}.",
        nameof(path));

    /// <summary>
    /// Counts the cost by running the network once on zeros, in evaluation mode. The mode of each module is restored.
    /// </summary>
    /// <param name="model">A network from tensor to tensor.</param>
    /// <param name="inputShape">Shape of the input, the batch included: <c>[1, 3, 224, 224]</c>.</param>
    /// <exception cref="ArgumentException">The shape is empty or holds a number below 1.</exception>
    public static ModelCost Measure(nn.Module<Tensor, Tensor> model, params long[] inputShape)
        => Measure(model, new CostOptions(), inputShape);

    /// <summary>
    /// Counts the cost by running the network once on zeros, in evaluation mode, and times as many further passes as the options
    /// request. Modes, statistics and the random generator of the CPU are restored. Fused kernels are off in the whole process
    /// while it counts, so that every module runs by itself and the counts do not depend on
    /// <see cref="AttentionKernels.Enabled"/>. Whether they are used for timing depends on
    /// <see cref="CostOptions.FusedKernels"/>.
    /// </summary>
    /// <param name="model">A network from tensor to tensor.</param>
    /// <param name="options">Whether to time it, and how often.</param>
    /// <param name="inputShape">
    /// Shape of the input, the batch included: <c>[1, 3, 224, 224]</c>. Type and device are those of the first parameter.
    /// </param>
    /// <exception cref="ArgumentException">The shape is empty or holds a number below 1, or an option is negative.</exception>
    public static ModelCost Measure(nn.Module<Tensor, Tensor> model, CostOptions options, params long[] inputShape)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(inputShape);
        if (inputShape.Length == 0 || inputShape.Any(size => size < 1))
        {
            throw new ArgumentException(
                $"inputShape is [{string.Join(", ", inputShape)}]; give every size of the input, the batch first, each at " +
                "least 1.", nameof(inputShape));
        }

        Tensor? first = model.parameters().FirstOrDefault();
        using Tensor input = zeros(inputShape, dtype: first?.dtype ?? ScalarType.Float32, device: first?.device);
        return Measure(model, options, input);
    }

    /// <summary>Measures the cost of one pass of a network over a given input, such as the indices for an embedding.</summary>
    /// <param name="model">A network from tensor to tensor.</param>
    /// <param name="options">Whether to time it, and how often.</param>
    /// <param name="input">The input; it is neither changed nor disposed.</param>
    /// <exception cref="ArgumentException">An option is negative.</exception>
    public static ModelCost Measure(nn.Module<Tensor, Tensor> model, CostOptions options, Tensor input)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(input);
        return Measure(model, options, [input]);
    }

    /// <summary>Measures the cost of one pass of a network with any number of inputs and outputs.</summary>
    /// <param name="model">A network whose <c>call</c> takes tensors.</param>
    /// <param name="options">Whether to time it, and how often.</param>
    /// <param name="inputs">A tensor for each of its inputs; they are neither changed nor disposed.</param>
    /// <exception cref="ArgumentException">The network does not take so many tensors, or an option is negative.</exception>
    public static ModelCost Measure(nn.Module model, CostOptions options, IReadOnlyList<Tensor> inputs)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(inputs);
        if (inputs.Count == 0 || inputs.Any(input => input is null))
        {
            throw new ArgumentException(
                "inputs is empty or holds null; give a tensor for each input of the network.", nameof(inputs));
        }

        options.Validate();
        return new ModelCost(
            CostMeter.Run(model, [.. inputs], options),
            ValueList.Create<ValueList<long>>([.. inputs.Select(input => ValueList.Create<long>(input.shape))]));
    }

    /// <summary>
    /// Formats the cost as an aligned tree with one line per module. Modules that are not counted are listed below it.
    /// </summary>
    /// <param name="convention">How to count operations. Default strict.</param>
    /// <param name="depth">How many levels below the network to show. Default all.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such convention, or the depth is negative.</exception>
    public string ToTree(CostConvention convention = CostConvention.Strict, int depth = int.MaxValue)
        => CostReport.Tree(this, convention, depth);

    /// <summary>
    /// Formats the cost as an aligned table with one line per module without child modules, one per attention, and the sum at the
    /// end.
    /// </summary>
    /// <param name="convention">How to count operations. Default strict.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such convention.</exception>
    public string ToTable(CostConvention convention = CostConvention.Strict) => CostReport.Table(this, convention);

    /// <summary>
    /// Formats the cost as CSV with one line per module, the network first, and with the counts of every convention.
    /// </summary>
    public string ToCsv() => CostReport.Csv(this);

    /// <summary>Formats the tree of modules as JSON, with the counts of every convention.</summary>
    /// <param name="indented">Whether for people. Default false.</param>
    public string ToJson(bool indented = false) => CostReport.Json(this, indented);

    /// <summary><see cref="ToTree"/>.</summary>
    public override string ToString() => ToTree();

    private static IEnumerable<ModuleCost> Outermost(ModuleCost module, Func<ModuleCost, bool> isOne)
        => isOne(module) ? [module] : module.Children.SelectMany(child => Outermost(child, isOne));
}
