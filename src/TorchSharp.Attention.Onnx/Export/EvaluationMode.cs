using static TorchSharp.torch;

namespace TorchSharp.Attention.Onnx;

/// <summary>Evaluation mode, and back to each module's own.</summary>
internal sealed class EvaluationMode : IDisposable
{
    private readonly List<(nn.Module Module, bool Training)> _modes = [];

    public EvaluationMode(nn.Module model)
    {
        foreach (nn.Module module in model.modules().Prepend(model)) _modes.Add((module, module.training));
        model.eval();
    }

    public void Dispose()
    {
        // Parents first: they set their children's.
        foreach ((nn.Module module, bool training) in _modes)
        {
            if (module.training != training) module.train(training);
        }
    }
}
