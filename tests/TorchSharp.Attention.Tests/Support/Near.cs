namespace TorchSharp.Attention.Tests;

/// <summary>Comparison of values, with the error measured in one way everywhere.</summary>
internal static class Near
{
    /// <summary>
    /// The largest |a − e| / max(|e|, share · largest |e|): relative to each element, except that elements which nearly cancelled
    /// count by a share of the largest. A share of 1 measures all by the largest.
    /// </summary>
    public static double Error(double[] expected, double[] actual, double ofLargest = 1e-3)
    {
        Assert.Equal(expected.Length, actual.Length);
        double floor = Math.Max(ofLargest * expected.Max(Math.Abs), 1e-30);
        double error = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            double relative = Math.Abs(actual[i] - expected[i]) / Math.Max(Math.Abs(expected[i]), floor);
            error = double.IsNaN(relative) ? double.PositiveInfinity : Math.Max(error, relative);
        }

        return error;
    }

    public static void Equal(double[] expected, double[] actual, double tolerance, string what, double ofLargest = 1e-3)
    {
        double error = Error(expected, actual, ofLargest);
        Assert.True(error <= tolerance, $"{what}: relative error {error:g3}, allowed {tolerance:g3}.");
    }

    public static void Equal(DenseMap expected, Tensor actual, double tolerance, string what)
    {
        Assert.Equal([expected.N, expected.C, expected.H, expected.W], actual.shape);
        Equal(expected.Values, actual.Doubles(), tolerance, what);
    }

    public static void Equal(Tensor expected, Tensor actual, double tolerance, string what)
    {
        Assert.Equal(expected.shape, actual.shape);
        Equal(expected.Doubles(), actual.Doubles(), tolerance, what);
    }

    /// <summary>Weights and running statistics, key by key.</summary>
    public static void Equal(OracleState expected, OracleState actual, double tolerance, string what)
    {
        Assert.Equal(expected.Entries.Keys.Order(), actual.Entries.Keys.Order());
        foreach ((string key, double[] values) in expected.Entries) Equal(values, actual.Entries[key], tolerance, $"{what}, {key}");
    }

    /// <summary>Equal to the last bit, zeros of either sign apart.</summary>
    public static void Identical(Tensor expected, Tensor actual)
    {
        Assert.Equal(expected.dtype, actual.dtype);
        Assert.Equal(expected.shape, actual.shape);
        Assert.Equal(expected.Doubles(), actual.Doubles());
    }
}
