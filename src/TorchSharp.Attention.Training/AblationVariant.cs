namespace TorchSharp.Attention.Training;

/// <summary>One network of a comparison.</summary>
/// <param name="Name">Its name in every report; unique.</param>
/// <param name="Plan">Which attention goes where; <see cref="AttentionPlan.None"/> for the plain network.</param>
public sealed record AblationVariant(string Name, AttentionPlan Plan)
{
    /// <summary>Creates a variant of your own network, with attention that is inserted into it.</summary>
    /// <param name="name">Its name in every report; unique.</param>
    /// <param name="insertion">What <c>InsertAttention</c> is to put where.</param>
    public AblationVariant(string name, InsertionPlan insertion)
        : this(name, AttentionPlan.None)
    {
        ArgumentNullException.ThrowIfNull(insertion);
        Insertion = insertion;
    }

    /// <summary>
    /// The attention to insert into an existing network. The training function inserts it: <c>if (variant.Insertion is { } plan)
    /// network.InsertAttention(plan, example);</c>. Default null: nothing.
    /// </summary>
    public InsertionPlan? Insertion { get; init; }
}
