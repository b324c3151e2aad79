namespace TorchSharp.Attention.Tests;

/// <summary>A dense (N, C, H, W) array of doubles: the only data that the oracles know.</summary>
internal sealed class DenseMap(int n, int c, int h, int w, double[]? values = null)
{
    public int N { get; } = n;

    public int C { get; } = c;

    public int H { get; } = h;

    public int W { get; } = w;

    public double[] Values { get; } = values ?? new double[n * c * h * w];

    public double this[int n, int c, int y, int x]
    {
        get => Values[Index(n, c, y, x)];
        set => Values[Index(n, c, y, x)] = value;
    }

    public static DenseMap Of(int n, int c, int h, int w, Func<int, int, int, int, double> value)
    {
        DenseMap map = new(n, c, h, w);
        for (int i = 0; i < n; i++)
            for (int k = 0; k < c; k++)
                for (int y = 0; y < h; y++)
                    for (int x = 0; x < w; x++)
                    {
                        map[i, k, y, x] = value(i, k, y, x);
                    }

        return map;
    }

    public DenseMap Select(Func<double, double> function) => new(N, C, H, W, [.. Values.Select(function)]);

    public DenseMap Plus(DenseMap other) => Combine(other, (a, b) => a + b);

    public DenseMap Minus(DenseMap other) => Combine(other, (a, b) => a - b);

    public DenseMap Times(DenseMap other) => Combine(other, (a, b) => a * b);

    public DenseMap Copy() => new(N, C, H, W, (double[])Values.Clone());

    /// <summary>Element by element; an axis of length 1 stands for every place of the other's axis.</summary>
    private DenseMap Combine(DenseMap other, Func<double, double, double> function)
        => Of(Math.Max(N, other.N), Math.Max(C, other.C), Math.Max(H, other.H), Math.Max(W, other.W),
            (n, c, y, x) => function(Stretched(n, c, y, x), other.Stretched(n, c, y, x)));

    private double Stretched(int n, int c, int y, int x)
        => this[N == 1 ? 0 : n, C == 1 ? 0 : c, H == 1 ? 0 : y, W == 1 ? 0 : x];

    private int Index(int n, int c, int y, int x) => (((((n * C) + c) * H) + y) * W) + x;
}
