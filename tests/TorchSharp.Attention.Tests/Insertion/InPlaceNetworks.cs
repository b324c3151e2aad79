using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>A convolution and a part, put together by a function: what the two do with their maps is what a test is about.</summary>
internal sealed class Wired : nn.Module<Tensor, Tensor>
{
    private readonly Conv2d conv = nn.Conv2d(3, 4, 3, padding: 1);
    private readonly nn.Module<Tensor, Tensor> part;
    private readonly Conv2d last = nn.Conv2d(4, 4, 1);
    private readonly Func<Conv2d, nn.Module<Tensor, Tensor>, Conv2d, Tensor, Tensor> _wires;

    public Wired(nn.Module<Tensor, Tensor> inner, Func<Conv2d, nn.Module<Tensor, Tensor>, Conv2d, Tensor, Tensor> wires)
        : base("Wired")
    {
        part = inner;
        _wires = wires;
        RegisterComponents();
    }

    public override Tensor forward(Tensor x) => _wires(conv, part, last, x);
}

/// <summary>A module that is a function.</summary>
internal sealed class Part(Func<Tensor, Tensor> function) : nn.Module<Tensor, Tensor>("Part")
{
    public override Tensor forward(Tensor x) => function(x);
}

/// <summary>Keeps its map in a static field.</summary>
internal sealed class StaticCache : nn.Module<Tensor, Tensor>
{
    private readonly Conv2d conv = nn.Conv2d(3, 4, 3, padding: 1);

    public StaticCache()
        : base("StaticCache") => RegisterComponents();

    public static Tensor? Last { get; set; }

    public override Tensor forward(Tensor x) => Last = conv.call(x);
}

/// <summary>Keeps its map in a static field of another class, which nothing in the network leads to.</summary>
internal sealed class FarCache : nn.Module<Tensor, Tensor>
{
    private readonly Conv2d conv = nn.Conv2d(3, 4, 3, padding: 1);

    public FarCache()
        : base("FarCache") => RegisterComponents();

    public override Tensor forward(Tensor x) => Elsewhere.Map.Value = conv.call(x);

    internal static class Elsewhere
    {
        public static readonly ThreadLocal<Tensor?> Map = new();
    }
}

/// <summary>Hands its map to a closure.</summary>
internal sealed class ClosureSkip : nn.Module<Tensor, Tensor>
{
    private readonly Conv2d conv = nn.Conv2d(3, 4, 3, padding: 1);
    private readonly Action<Tensor> _keep;

    public ClosureSkip(Action<Tensor> keep)
        : base("ClosureSkip")
    {
        _keep = keep;
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        Tensor y = conv.call(x);
        _keep(y);
        return y;
    }
}
