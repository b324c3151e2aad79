using System.Globalization;
namespace TorchSharp.Attention;

/// <summary>
/// The rules by which operations are counted, which differ from tool to tool. <c>docs/cost.md</c> has the formulas of each layer.
/// </summary>
public enum CostConvention
{
    /// <summary>
    /// Counts only multiply-accumulates of convolutions and matrix products, including products called as functions if
    /// <see cref="IFunctionalCost"/> declares them. Papers usually call this number FLOPs.
    /// </summary>
    Strict,

    /// <summary>
    /// Counts as <c>thop</c> (pytorch-OpCounter) does: only modules, so products called as functions are missing. Norms cost 4
    /// operations per value. Average pooling and interpolation count too. Transposed convolutions are counted by their output.
    /// </summary>
    Thop,

    /// <summary>
    /// Counts as <c>fvcore</c> does (timm's tables): the strict count, plus norms (2 operations per value for batch norm, 5 for
    /// others), 2-D adaptive average pooling and 2-D interpolation. fvcore skips fused attention; here it is counted like its
    /// explicit form.
    /// </summary>
    Fvcore,
}

/// <summary>How completely the work of a module itself is counted.</summary>
public enum CostCoverage
{
    /// <summary>Multiply-accumulates are complete: a layer with a formula, or a module of this library.</summary>
    Counted,

    /// <summary>
    /// A custom class: its child modules are counted, but functions that its <c>forward</c> calls (a product, an addition) are
    /// not. Products are counted if <see cref="IFunctionalCost"/> declares them.
    /// </summary>
    PartlyCounted,

    /// <summary>
    /// The module is not counted, because it has no formula: a custom layer, a recurrent or transformer layer, or a class with
    /// parameters of its own.
    /// </summary>
    NotCounted,

    /// <summary>
    /// The module is not counted, because it was not called. Either the network does not use it, or the network calls its
    /// <c>forward</c> directly, which cannot be observed. Use <c>call</c> instead.
    /// </summary>
    NotCalled,
}

/// <summary>The cost of one module of a network, including its child modules.</summary>
public sealed record ModuleCost
{
    internal ModuleCost()
    {
    }

    /// <summary>Path of the module, as in <c>named_modules</c>: <c>layer1.0.conv1</c>; empty for the network itself.</summary>
    public string Path { get; internal init; } = "";

    /// <summary>A readable description of the module: <c>Conv2d(64 → 64, 3×3)</c>.</summary>
    public string Description { get; internal init; } = "";

    /// <summary>Whether the module is an attention.</summary>
    public bool IsAttention { get; internal init; }

    /// <summary>How completely the work of the module itself is counted.</summary>
    public CostCoverage Coverage { get; internal init; }

    /// <summary>How often the module was called in one forward pass.</summary>
    public int Calls { get; internal init; }

    /// <summary>
    /// Number of trainable and frozen parameters. A parameter that several modules share is counted only in the first of them.
    /// </summary>
    public long Parameters { get; internal init; }

    /// <summary>Multiply-accumulates of convolutions and matrix products: <see cref="CostConvention.Strict"/>.</summary>
    public long MultiplyAccumulates => Operations(CostConvention.Strict);

    /// <summary>
    /// Element-wise operations: biases, norms, activations, pooling, softmax, interpolation, and the functions of this library's
    /// modules and networks (additions of shortcuts, means, the application of a gate). Functions in the <c>forward</c> of other
    /// classes are not counted.
    /// </summary>
    public long ElementwiseOperations { get; internal init; }

    /// <summary>
    /// Bytes that layers and functions of the module read (inputs, parameters, buffers) and write (outputs). Every call is
    /// counted as access to memory. Views, indices and masks are not counted. Functions are counted as in
    /// <see cref="ElementwiseOperations"/>.
    /// </summary>
    public long BytesMoved { get; internal init; }

    /// <summary>
    /// Bytes of the outputs of all calls of the module's layers and functions, except outputs written over their input. This is
    /// roughly what a training step keeps for its backward pass. Functions are counted as in <see cref="ElementwiseOperations"/>.
    /// </summary>
    public long ActivationBytes { get; internal init; }

    /// <summary>Shape of the output of the module's last call. Null if it was not called or has several outputs.</summary>
    public ValueList<long>? OutputShape { get; internal init; }

    /// <summary>
    /// Milliseconds of all calls of the module in one forward pass, as the median of <see cref="CostOptions.Repetitions"/>
    /// passes. Null without timed passes, and for modules inside an attention if <see cref="CostOptions.FusedKernels"/> is true.
    /// </summary>
    public double? Milliseconds { get; internal init; }

    /// <summary>The direct child modules. A module that occurs at several places is listed only at the first.</summary>
    public ValueList<ModuleCost> Children { get; internal init; } = [];

    internal ValueList<long> Counts { get; init; } = [0, 0, 0];

    /// <summary>Whether it is a layer or a mere container: no function of its forward escapes the counts.</summary>
    internal bool IsPlain { get; init; }

    /// <summary>Number of operations by the rules of a convention.</summary>
    /// <param name="convention">Which.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such convention.</exception>
    public long Operations(CostConvention convention) => Counts[(int)Check.Defined(convention)];

    /// <summary>This module and all modules inside it, parents first.</summary>
    public IEnumerable<ModuleCost> All() => Children.SelectMany(child => child.All()).Prepend(this);

    /// <summary>Formats the cost in one line: path, description, parameters and multiply-accumulates.</summary>
    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"{(Path.Length == 0 ? "" : Path + ": ")}{Description}, {Parameters:N0} parameters, {MultiplyAccumulates:N0} " +
        $"multiply-accumulates");
}
