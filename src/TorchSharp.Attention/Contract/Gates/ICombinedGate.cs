namespace TorchSharp.Attention;

/// <summary>
/// A gate whose value in each element is a formula of factors of the channel, position, row or column, as in coordinate
/// attention.
/// </summary>
internal interface ICombinedGate : IFusableGate
{
    /// <summary>
    /// Whether the settings of this module give a combination. A module whose settings can give another gate overrides it.
    /// </summary>
    bool IsCombined => true;

    /// <summary>The formula, and what the factors are computed from.</summary>
    GateCombination Combination { get; }

    /// <summary>Computes the factors, before the blend of the identity initialization.</summary>
    /// <param name="pooled">The feature map, and what was pooled of it.</param>
    CombinationFactors ComputeFactors(PooledMap pooled);
}
