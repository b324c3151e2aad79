namespace TorchSharp.Attention;

/// <summary>The activation between the two layers of a channel attention.</summary>
public enum GateActivation
{
    /// <summary>max(x, 0).</summary>
    ReLU,

    /// <summary>min(max(x, 0), 6).</summary>
    ReLU6,

    /// <summary>x · sigmoid(x).</summary>
    SiLU,

    /// <summary>x · min(max(x + 3, 0), 6) / 6.</summary>
    HardSwish,

    /// <summary>x · Φ(x).</summary>
    GELU,
}
