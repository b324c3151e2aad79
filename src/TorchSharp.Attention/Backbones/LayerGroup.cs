using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// Layers under torchvision's keys: a block calls them one by one, and the group only gives them
/// their names. It is never called itself.
/// </summary>
internal sealed class LayerGroup : nn.Module
{
    public LayerGroup()
        : base(nameof(LayerGroup))
    {
    }

    /// <summary>Registers a layer under a key and returns it.</summary>
    public TModule Add<TModule>(int key, TModule layer)
        where TModule : nn.Module
    {
        register_module($"{key}", layer);
        return layer;
    }
}
