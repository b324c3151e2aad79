using System.Runtime.CompilerServices;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Refuses, in training, a map that gives a batch norm a single value per channel: its unbiased variance is 0 / 0, which
/// TorchSharp writes into the running variance, where PyTorch throws. Instance norms that keep running statistics are guarded
/// alike. The library's own networks and attentions need no guard.
/// </summary>
internal sealed class NormGuard : IDisposable
{
    private static readonly ConditionalWeakTable<nn.Module, StrongBox<int>> Guards = [];

    private readonly List<(nn.Module Norm, Action Remove)> _hooks = [];

    /// <summary>Guards every norm of a network.</summary>
    public NormGuard(nn.Module model)
    {
        HashSet<nn.Module> own = new(ReferenceEqualityComparer.Instance), seen = new(ReferenceEqualityComparer.Instance);
        foreach (nn.Module module in model.modules().Prepend(model))
        {
            if (module is IAttentionModule or FeatureNetwork) own.UnionWith(module.modules());
        }

        foreach ((string name, nn.Module module) in model.named_modules().Prepend((model.GetName(), model)))
        {
            if (module is not NormBase norm || own.Contains(module) || !seen.Add(module)) continue;
            bool batch = norm is BatchNorm;
            var hook = norm.register_forward_pre_hook((_, input) =>
            {
                if (norm.training && (batch || norm.track_running_stats) && Values(input, batch) == 1)
                {
                    throw NormCalls.SingleValue(
                        $"the norm '{name}' of {model.GetName()}", $"its map has shape {Check.Shape(input)}", nameof(input));
                }

                return input;
            });
            Guards.GetOrCreateValue(norm).Value++;
            _hooks.Add((norm, hook.remove));
        }
    }

    /// <summary>How many of the hooks on a module are guards.</summary>
    public static int HooksOn(nn.Module module) => Guards.TryGetValue(module, out StrongBox<int>? count) ? count.Value : 0;

    /// <summary>Takes the guards away.</summary>
    public void Dispose()
    {
        foreach ((nn.Module norm, Action remove) in _hooks)
        {
            remove();
            Guards.GetOrCreateValue(norm).Value--;
        }

        _hooks.Clear();
    }

    /// <summary>How many values a mean is taken over: of the whole batch, or of each sample.</summary>
    private static long Values(Tensor input, bool batch)
    {
        long values = batch && input.dim() > 1 ? input.size(0) : 1;
        for (int i = 2; i < input.dim(); i++) values *= input.size(i);
        return values;
    }
}
