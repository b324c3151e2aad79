using TorchSharp.Utils;

namespace TorchSharp.Attention.Visualization.Tests;

/// <summary>
/// A network whose class activation maps can be worked out by hand: A_k = w_k · x + b_k, a ReLU that writes over A, the mean over positions m_k,
/// logits s_c = Σ_k V_ck · m_k.
/// </summary>
internal sealed class TinyNetwork : nn.Module<Tensor, Tensor>
{
    public static readonly double[] W = [1.0, -0.5, 2.0], B = [0.1, 0.6, -1.0];
    public static readonly double[,] V = { { 1.0, 0.5, -0.25 }, { -0.75, 2.0, 0.3 } };

    [ComponentName(Name = "conv")]
    private readonly Modules.Conv2d _conv = nn.Conv2d(1, 3, 1, dtype: ScalarType.Float64);

    [ComponentName(Name = "fc")]
    private readonly Modules.Linear _fc = nn.Linear(3, 2, hasBias: false, dtype: ScalarType.Float64);

    /// <summary>Reached, but without influence on the logits.</summary>
    [ComponentName(Name = "side")]
    private readonly Modules.Conv2d _side = nn.Conv2d(1, 2, 1, dtype: ScalarType.Float64);

    /// <summary>Never reached.</summary>
    [ComponentName(Name = "lost")]
    private readonly Modules.Conv2d _lost = nn.Conv2d(1, 2, 1, dtype: ScalarType.Float64);

    [ComponentName(Name = "drop")]
    private readonly Modules.Dropout _drop = nn.Dropout(0.5);

    public TinyNetwork()
        : base(nameof(TinyNetwork))
    {
        RegisterComponents();
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        _conv.weight!.copy_(tensor(W, [3, 1, 1, 1]));
        _conv.bias!.copy_(tensor(B));
        _fc.weight!.copy_(tensor(V));
    }

    public override Tensor forward(Tensor input)
    {
        using DisposeScope scope = NewDisposeScope();
        _side.call(input);
        Tensor seen = _conv.call(input).relu_();
        return _fc.call(_drop.call(seen.mean([2, 3]))).MoveToOuterDisposeScope();
    }
}
