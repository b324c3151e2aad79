namespace TorchSharp.Attention;

/// <summary>How the factors of an element, f and s, become its gate.</summary>
internal enum CombinationKind
{
    /// <summary>f · s.</summary>
    Product,

    /// <summary>f + s.</summary>
    Sum,

    /// <summary>f + s + t.</summary>
    SumOfThree,

    /// <summary>σ(f + s).</summary>
    SigmoidOfSum,

    /// <summary>σ(f · s).</summary>
    SigmoidOfProduct,

    /// <summary>What makes x · g the larger of x · f and x · s.</summary>
    Larger,

    /// <summary>σ((x − f)² · s + ½), both factors of the channel.</summary>
    Energy,
}
