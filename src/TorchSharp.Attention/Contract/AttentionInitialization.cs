namespace TorchSharp.Attention;

/// <summary>How the weights of an attention module start.</summary>
public enum AttentionInitialization
{
    /// <summary>What PyTorch's layers do by themselves (and so timm): uniform in ±1/√fan-in for weights and biases.</summary>
    Default,

    /// <summary>What the module's paper or its released code does; the module's documentation says what that is.</summary>
    Paper,

    /// <summary>Kaiming normal, fan-out, ReLU gain (He et al., 2015, arXiv:1502.01852); biases zero.</summary>
    Kaiming,

    /// <summary>Xavier uniform (Glorot and Bengio, 2010); biases zero.</summary>
    Xavier,

    /// <summary>
    /// Identity start: a learnable scalar <c>alpha</c>, 0 at step 0, blends the attention in, so that at first the module
    /// returns its input to the last bit: the gate becomes 1 + alpha · (gate − 1). A trained network keeps its outputs when
    /// such a module is inserted. Other weights start as with <see cref="Default"/>. (The zero-scale idea of ReZero,
    /// Bachlechner et al., 2020, arXiv:2003.04887.)
    /// </summary>
    Identity,
}
