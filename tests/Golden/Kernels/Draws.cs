namespace TorchSharp.Attention.Golden;

/// <summary>Draws out of lists.</summary>
internal static class Draws
{
    /// <summary>The generator of one trial: the same for the same seed and number on every machine.</summary>
    public static Random Generator(int seed, int trial) => new(unchecked((seed * 1_000_003) ^ (trial * 7919) ^ (trial >> 16)));

    /// <summary>One of the items.</summary>
    public static T Pick<T>(this Random random, params ReadOnlySpan<T> items) => items[random.Next(items.Length)];

    /// <summary>A whole number from 1 to <paramref name="most"/>, small ones more often: its logarithm is uniform.</summary>
    public static int Size(this Random random, int most) => (int)Math.Min(most, Math.Exp(random.NextDouble() * Math.Log(most + 1.0)));
}
