namespace TorchSharp.Attention.Onnx;

/// <summary>
/// Writes one kind of backbone: its blocks, its logits and its pyramid. A subclass is found by its type; no other file names it.
/// A new backbone adds a file with its subclass to this folder.
/// </summary>
internal abstract class BackboneEmitter
{
    private static readonly Dictionary<Type, BackboneEmitter> ByNetwork = typeof(BackboneEmitter).Assembly.GetTypes()
        .Where(type => !type.IsAbstract && type.IsSubclassOf(typeof(BackboneEmitter)))
        .Select(type => (BackboneEmitter)Activator.CreateInstance(type)!)
        .ToDictionary(emitter => emitter.Network);

    /// <summary>The emitter of every kind of backbone, by name.</summary>
    public static IEnumerable<BackboneEmitter> All
        => ByNetwork.Values.OrderBy(emitter => emitter.Network.Name, StringComparer.Ordinal);

    /// <summary>The type of network that it writes.</summary>
    public abstract Type Network { get; }

    /// <summary>Adds the emitters of the network and of its blocks.</summary>
    public abstract OnnxEmitters AddTo(OnnxEmitters emitters);

    /// <summary>
    /// The pyramid of a backbone, which is the current module. Each map is refined before the next level reads it.
    /// </summary>
    public static List<OnnxValue> Pyramid(
        OnnxContext context, Backbone network, OnnxValue image, Func<int, OnnxValue, OnnxValue> refine)
        => ByNetwork.TryGetValue(network.GetType(), out BackboneEmitter? emitter)
            ? emitter.WritePyramid(context, network, image, refine)
            : throw context.Unsupported($"{network.GetName()} is unknown as an encoder.");

    protected abstract List<OnnxValue> WritePyramid(
        OnnxContext context, Backbone network, OnnxValue image, Func<int, OnnxValue, OnnxValue> refine);
}

/// <summary>Writes backbones of one type.</summary>
/// <typeparam name="TNetwork">The type of network.</typeparam>
internal abstract class BackboneEmitter<TNetwork> : BackboneEmitter
    where TNetwork : Backbone
{
    /// <inheritdoc/>
    public sealed override Type Network => typeof(TNetwork);

    /// <inheritdoc/>
    public sealed override OnnxEmitters AddTo(OnnxEmitters emitters)
        => AddBlocks(emitters).With<TNetwork>(
            (context, network, x) => Logits(context, network, Pyramid(context, network, x, (_, map) => map)[^1]));

    /// <summary>Adds the emitters of the network's blocks.</summary>
    protected abstract OnnxEmitters AddBlocks(OnnxEmitters emitters);

    /// <summary>Writes the pyramid of the current module. Each map is refined before the next level reads it.</summary>
    protected abstract List<OnnxValue> Pyramid(
        OnnxContext context, TNetwork network, OnnxValue image, Func<int, OnnxValue, OnnxValue> refine);

    /// <summary>Writes what follows the last map of the pyramid.</summary>
    protected abstract OnnxValue Logits(OnnxContext context, TNetwork network, OnnxValue map);

    /// <summary>The mean over the spatial positions, (N, C).</summary>
    protected static OnnxValue Pooled(OnnxContext context, OnnxValue map)
        => context.Reduce("ReduceMean", map, [2, 3], keep: false);

    protected sealed override List<OnnxValue> WritePyramid(
        OnnxContext context, Backbone network, OnnxValue image, Func<int, OnnxValue, OnnxValue> refine)
        => Pyramid(context, (TNetwork)network, image, refine);
}
