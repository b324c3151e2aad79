using System.Globalization;
namespace TorchSharp.Attention;

/// <summary>
/// What is taken for one operation: every tool counts by rules of its own. <c>docs/cost.md</c> has the formulas of each layer.
/// </summary>
public enum CostConvention
{
    /// <summary>
    /// Multiply-accumulates of convolutions and matrix products alone, products called as functions included where
    /// <see cref="IFunctionalCost"/> declares them. What papers as a rule call FLOPs.
    /// </summary>
    Strict,

    /// <summary>
    /// As <c>thop</c> (pytorch-OpCounter) counts: modules alone, so no product that is a function; norms cost 4 a value, average
    /// pooling and interpolation count too, and transposed convolutions are counted by their output.
    /// </summary>
    Thop,

    /// <summary>
    /// As <c>fvcore</c> counts (timm's tables): strict, and norms (batch norm 2 a value, others 5), 2-D adaptive average pooling
    /// and 2-D interpolation. It skips fused attention, which is counted here as its explicit form would be.
    /// </summary>
    Fvcore,
}

/// <summary>How much of a module's own work the counts hold.</summary>
public enum CostCoverage
{
    /// <summary>Multiply-accumulates are complete: a layer with a formula, or a module of this library.</summary>
    Counted,

    /// <summary>
    /// A network's own class: its children are counted; functions that its <c>forward</c> calls (a product, an addition) cannot
    /// be seen. <see cref="IFunctionalCost"/> declares products.
    /// </summary>
    PartlyCounted,

    /// <summary>
    /// There is no formula for it: a layer of a user, a recurrent or a transformer layer, or a
    /// class that uses parameters of its own.
    /// </summary>
    NotCounted,

    /// <summary>
    /// It was never called: it takes no part, or its <c>forward</c> is called directly, which nobody can watch; call <c>call</c>.
    /// </summary>
    NotCalled,
}

/// <summary>What one module of a network costs, the modules below it included.</summary>
public sealed record ModuleCost
{
    internal ModuleCost()
    {
    }

    /// <summary>Where it stands, as <c>named_modules</c> names it: <c>layer1.0.conv1</c>; empty for the network itself.</summary>
    public string Path { get; internal init; } = "";

    /// <summary>What it is, for people: <c>Conv2d(64 → 64, 3×3)</c>.</summary>
    public string Description { get; internal init; } = "";

    /// <summary>Whether it is an attention.</summary>
    public bool IsAttention { get; internal init; }

    /// <summary>How much of its own work the counts hold.</summary>
    public CostCoverage Coverage { get; internal init; }

    /// <summary>How often it was called in one forward pass.</summary>
    public int Calls { get; internal init; }

    /// <summary>Trainable and frozen parameters; one that several modules share counts where it stands first.</summary>
    public long Parameters { get; internal init; }

    /// <summary>Multiply-accumulates of convolutions and matrix products: <see cref="CostConvention.Strict"/>.</summary>
    public long MultiplyAccumulates => Operations(CostConvention.Strict);

    /// <summary>
    /// Operations on single values: biases, norms, activations, pooling, softmax, interpolation, and the functions of
    /// this library's own modules and networks (additions of shortcuts, means, applying a gate). Functions in the
    /// <c>forward</c> of other classes are not seen.
    /// </summary>
    public long ElementwiseOperations { get; internal init; }

    /// <summary>
    /// Bytes that its layers and functions read (inputs, parameters, buffers) and write (outputs), every call from and to memory.
    /// Views move nothing, nor do indices and masks count. Functions as for <see cref="ElementwiseOperations"/>.
    /// </summary>
    public long BytesMoved { get; internal init; }

    /// <summary>
    /// Bytes of the outputs of its layers and functions, all calls together, but for those written over their input: what a
    /// training step keeps for its backward pass, about. Functions as for <see cref="ElementwiseOperations"/>.
    /// </summary>
    public long ActivationBytes { get; internal init; }

    /// <summary>Shape of the output of its last call; null where it was not called or has several outputs.</summary>
    public ValueList<long>? OutputShape { get; internal init; }

    /// <summary>
    /// Milliseconds of one forward pass, all its calls together: the median of <see cref="CostOptions.Repetitions"/>; null where
    /// none were asked for, and inside an attention that is timed as it runs.
    /// </summary>
    public double? Milliseconds { get; internal init; }

    /// <summary>The modules right below it. One that stands at several places is at the first.</summary>
    public ValueList<ModuleCost> Children { get; internal init; } = [];

    internal ValueList<long> Counts { get; init; } = [0, 0, 0];

    /// <summary>Whether it is a layer or a mere container: no function of its forward escapes the counts.</summary>
    internal bool IsPlain { get; init; }

    /// <summary>Operations in a convention.</summary>
    /// <param name="convention">Which.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such convention.</exception>
    public long Operations(CostConvention convention) => Counts[(int)Check.Defined(convention)];

    /// <summary>This module and all below it, parents first.</summary>
    public IEnumerable<ModuleCost> All() => Children.SelectMany(child => child.All()).Prepend(this);

    /// <summary>One line: path, description, parameters and multiply-accumulates.</summary>
    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"{(Path.Length == 0 ? "" : Path + ": ")}{Description}, {Parameters:N0} parameters, {MultiplyAccumulates:N0} " +
        $"multiply-accumulates");
}
