using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Attentions at a place with a guide, one after the other; keys 0, 1, ….</summary>
internal sealed class GuidedSequence : nn.Module<Tensor, Tensor, Tensor>
{
    private readonly nn.Module[] _modules;

    public GuidedSequence(nn.Module[] modules)
        : base("Sequential")
    {
        _modules = modules;
        for (int i = 0; i < modules.Length; i++) register_module($"{i}", modules[i]);
        RegisterComponents();
    }

    public override Tensor forward(Tensor input, Tensor guide)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor refined = input;
        foreach (nn.Module module in _modules)
        {
            refined = module is nn.Module<Tensor, Tensor, Tensor> guided
                ? guided.call(refined, guide)
                : ((nn.Module<Tensor, Tensor>)module).call(refined);
        }

        return refined.MoveToOuterDisposeScope();
    }
}
