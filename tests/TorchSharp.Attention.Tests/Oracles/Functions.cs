namespace TorchSharp.Attention.Tests;

/// <summary>The scalar functions of the papers.</summary>
internal static class Functions
{
    public static double Sigmoid(double x) => 1 / (1 + Math.Exp(-x));

    public static double HardSigmoid(double x) => Math.Min(Math.Max(x + 3, 0), 6) / 6;

    public static double ReLU(double x) => Math.Max(x, 0);

    public static double Of(GateFunction function, double x) => function switch
    {
        GateFunction.Sigmoid => Sigmoid(x),
        GateFunction.HardSigmoid => HardSigmoid(x),
        _ => throw new ArgumentOutOfRangeException(nameof(function)),
    };

    public static double Of(GateActivation activation, double x) => activation switch
    {
        GateActivation.ReLU => ReLU(x),
        GateActivation.ReLU6 => Math.Min(Math.Max(x, 0), 6),
        GateActivation.SiLU => x * Sigmoid(x),
        GateActivation.HardSwish => x * HardSigmoid(x),
        GateActivation.GELU => x * 0.5 * (1 + Erf(x / Math.Sqrt(2))),
        _ => throw new ArgumentOutOfRangeException(nameof(activation)),
    };

    /// <summary>2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (1·3·5…(2n+1)): every term has the same sign, so nothing cancels.</summary>
    public static double Erf(double x)
    {
        if (Math.Abs(x) > 6) return Math.Sign(x);
        double term = x;
        double sum = x;
        for (int n = 1; Math.Abs(term) > 1e-18 * Math.Abs(sum); n++)
        {
            term *= 2 * x * x / ((2 * n) + 1);
            sum += term;
        }

        return 2 / Math.Sqrt(Math.PI) * Math.Exp(-x * x) * sum;
    }
}
