namespace TorchSharp.Attention.Training;

/// <summary>The result of training and evaluating one variant with one seed.</summary>
/// <param name="Score">The figure to compare, such as the accuracy on a test set; finite.</param>
/// <param name="Parameters">Parameters of the network.</param>
/// <param name="MultiplyAccumulates">Strict multiply-accumulates for one input; the cost in the front.</param>
public sealed record AblationOutcome(double Score, long Parameters, long MultiplyAccumulates)
{
    /// <summary>A score with the cost of its network.</summary>
    /// <param name="score">The figure to compare.</param>
    /// <param name="cost">What the network costs.</param>
    /// <exception cref="ArgumentNullException">There is no cost.</exception>
    public static AblationOutcome Of(double score, ModelCost cost)
    {
        ArgumentNullException.ThrowIfNull(cost);
        return new AblationOutcome(score, cost.Parameters, cost.MultiplyAccumulates);
    }
}
