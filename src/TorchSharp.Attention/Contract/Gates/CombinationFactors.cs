using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>The factors of a <see cref="GateCombination"/>.</summary>
internal readonly record struct CombinationFactors(Tensor First, Tensor Second, Tensor? Third = null);
