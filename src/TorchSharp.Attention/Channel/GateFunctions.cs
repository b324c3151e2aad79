namespace TorchSharp.Attention;

internal static class GateFunctions
{
    public static torch.Tensor Apply(this GateFunction function, torch.Tensor logits) => function switch
    {
        GateFunction.HardSigmoid => torch.nn.functional.hardsigmoid(logits),
        _ => logits.sigmoid(),
    };

    public static torch.Tensor Apply(this GateActivation activation, torch.Tensor x) => activation switch
    {
        GateActivation.ReLU6 => torch.nn.functional.relu6(x),
        GateActivation.SiLU => torch.nn.functional.silu(x),
        GateActivation.HardSwish => torch.nn.functional.hardswish(x),
        GateActivation.GELU => torch.nn.functional.gelu(x),
        _ => torch.nn.functional.relu(x),
    };
}
