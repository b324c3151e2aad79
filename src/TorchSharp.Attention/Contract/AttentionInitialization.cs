namespace TorchSharp.Attention;

/// <summary>How the weights of an attention module start.</summary>
public enum AttentionInitialization
{
    /// <summary>As PyTorch's layers are initialized, and so as timm's: uniform in ±1/√fan-in for weights and biases.</summary>
    Default,

    /// <summary>
    /// As the paper of the module or its released code initializes it. The documentation of the module says how that is.
    /// </summary>
    Paper,

    /// <summary>Kaiming normal, fan-out, ReLU gain (He et al., 2015, arXiv:1502.01852); biases zero.</summary>
    Kaiming,

    /// <summary>Xavier uniform (Glorot and Bengio, 2010); biases zero.</summary>
    Xavier,

    /// <summary>
    /// Identity start: a learnable scalar <c>alpha</c>, which is 0 at first, blends the attention in: the gate becomes 1 + alpha
    /// · (gate − 1). So at first the module returns exactly its input, and a trained network keeps its outputs when the module is
    /// inserted. The other weights start as with <see cref="Default"/>. (The zero-scale idea of ReZero, Bachlechner et al., 2020,
    /// arXiv:2003.04887.)
    /// </summary>
    Identity,
}
