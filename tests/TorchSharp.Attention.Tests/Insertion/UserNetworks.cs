using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>A network as people write it: layers in fields, a class for the block, no dispose scopes.</summary>
internal sealed class FieldNetwork : nn.Module<Tensor, Tensor>
{
    private readonly Conv2d conv1 = nn.Conv2d(3, 8, 3, padding: 1);
    private readonly BatchNorm2d bn1 = nn.BatchNorm2d(8);
    private readonly UserBlock block;
    private readonly Dropout dropout = nn.Dropout(0.3);
    private readonly Linear fc = nn.Linear(16, 4);

    public FieldNetwork()
        : base("FieldNetwork")
    {
        block = new UserBlock(8, 16);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        Tensor y = nn.functional.relu(bn1.call(conv1.call(x)));
        y = block.call(y);
        return fc.call(dropout.call(y.mean([2, 3])));
    }
}

internal sealed class UserBlock : nn.Module<Tensor, Tensor>
{
    private readonly Conv2d conv1;
    private readonly ReLU relu = nn.ReLU(inplace: true);
    private readonly Conv2d conv2;
    private readonly Sequential shortcut;

    public UserBlock(int input, int output)
        : base("UserBlock")
    {
        conv1 = nn.Conv2d(input, output, 3, padding: 1);
        conv2 = nn.Conv2d(output, output, 3, padding: 1);
        shortcut = nn.Sequential(nn.Conv2d(input, output, 1), nn.BatchNorm2d(output));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x) => conv2.call(relu.call(conv1.call(x))).add(shortcut.call(x));
}

/// <summary>Blocks in a ModuleList, and a dispose scope around the forward.</summary>
internal sealed class ListNetwork : nn.Module<Tensor, Tensor>
{
    private readonly ModuleList<UserBlock> blocks = new(new UserBlock(3, 8), new UserBlock(8, 8), new UserBlock(8, 12));
    private readonly Linear head = nn.Linear(12, 4);

    public ListNetwork()
        : base("ListNetwork") => RegisterComponents();

    public override Tensor forward(Tensor x)
    {
        using DisposeScope scope = NewDisposeScope();
        foreach (UserBlock block in blocks) x = block.call(x);
        return head.call(x.mean([2, 3])).MoveToOuterDisposeScope();
    }
}

/// <summary>Runs a child by forward, and another by call.</summary>
internal sealed class ForwardNetwork : nn.Module<Tensor, Tensor>
{
    private readonly Conv2d first = nn.Conv2d(3, 8, 3);
    private readonly UserBlock hidden = new(8, 8);
    private readonly Conv2d unused = nn.Conv2d(8, 8, 3);

    public ForwardNetwork()
        : base("ForwardNetwork") => RegisterComponents();

    public override Tensor forward(Tensor x) => hidden.forward(first.forward(x));
}

/// <summary>
/// One layer at two paths, called three times; a layer that hands back its input; a table made at the first forward; random numbers in
/// evaluation, too.
/// </summary>
internal sealed class OddNetwork : nn.Module<Tensor, Tensor>
{
    private readonly Conv2d stem = nn.Conv2d(3, 8, 3, padding: 1);
    private readonly Conv2d shared = nn.Conv2d(8, 8, 3, padding: 1);
    private readonly Sequential tail;
    private readonly PassOn same = new();
    private Tensor? _table;

    public OddNetwork()
        : base("OddNetwork")
    {
        tail = nn.Sequential(shared, nn.ReLU());
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using DisposeScope scope = NewDisposeScope();
        _table ??= arange(8).to_type(ScalarType.Float32).reshape(1, 8, 1, 1).DetachFromDisposeScope();
        rand(1);
        Tensor y = same.call(stem.call(x));
        y = shared.call(shared.call(y)).add(_table);
        return tail.call(y).MoveToOuterDisposeScope();
    }

    internal sealed class PassOn : nn.Module<Tensor, Tensor>
    {
        public PassOn()
            : base("PassOn") => RegisterComponents();

        public override Tensor forward(Tensor x) => x;
    }
}

/// <summary>No dispose scopes at all, a map that is used again after a layer handed it back, and a table kept for later.</summary>
internal sealed class LooseNetwork : nn.Module<Tensor, Tensor>
{
    private readonly Conv2d stem = nn.Conv2d(3, 8, 3, padding: 1);
    private readonly OddNetwork.PassOn same = new();
    private Tensor? _table;

    public LooseNetwork()
        : base("LooseNetwork") => RegisterComponents();

    public override Tensor forward(Tensor x)
    {
        _table ??= zeros(1, 8, 1, 1);
        Tensor y = stem.call(x);
        return same.call(y).add(y).add(_table);
    }
}

/// <summary>No dispose scopes; tables for each size in a dictionary, a table as a buffer that is a submodule's output, and an encoder that keeps its map for a skip.</summary>
internal sealed class KeepingNetwork : nn.Module<Tensor, Tensor>
{
    private readonly Encoder encoder = new();
    private readonly Table table = new();
    private readonly Conv2d last = nn.Conv2d(8, 8, 1);
    private readonly Dictionary<(long, long), Tensor> _grids = [];
    private readonly List<Tensor[]> _ramps = [];
    private Context? _context;

    public KeepingNetwork()
        : base("KeepingNetwork") => RegisterComponents();

    public override Tensor forward(Tensor x)
    {
        (long, long) size = (x.size(2), x.size(3));
        if (!_grids.TryGetValue(size, out Tensor? grid)) _grids[size] = grid = ones(1, 8, x.size(2), x.size(3));
        if (_ramps.Count == 0) _ramps.Add([arange(8).to_type(ScalarType.Float32).reshape(1, 8, 1, 1)]);
        _context ??= new Context(zeros(1, 8, 1, 1));
        Tensor y = encoder.call(x).mul(grid).add(_ramps[0][0]).add(_context.Value.Zero);
        return last.call(y).add(encoder.Skip!).mul(table.call(x)).add(encoder.Given!.mean());
    }

    internal sealed class Encoder : nn.Module<Tensor, Tensor>
    {
        private readonly Conv2d conv = nn.Conv2d(3, 8, 3, padding: 1);

        public Encoder()
            : base("Encoder") => RegisterComponents();

        public Tensor? Skip { get; private set; }

        public Tensor? Given { get; private set; }

        public override Tensor forward(Tensor x)
        {
            Given = x;
            Skip = conv.call(x);
            return Skip;
        }
    }

    internal sealed class Table : nn.Module<Tensor, Tensor>
    {
        public Table()
            : base("Table")
        {
            register_buffer("positions", rand(1, 8, 1, 1));
            RegisterComponents();
        }

        public override Tensor forward(Tensor x) => get_buffer("positions")!;
    }

    /// <summary>Hands out a parameter that is no field.</summary>
    internal sealed class Weight : nn.Module<Tensor, Tensor>
    {
        public Weight()
            : base("Weight")
        {
            register_parameter("w", new Parameter(rand(1, 3, 1, 1)));
            RegisterComponents();
        }

        public override Tensor forward(Tensor x) => get_parameter("w")!;
    }

    /// <summary>Knows a log that another thread writes, and a long list of samples.</summary>
    internal sealed class Busy : nn.Module<Tensor, Tensor>
    {
        private readonly Log _log = new();
        private readonly Sample[] _samples = [.. Enumerable.Range(0, 100_000).Select(i => new Sample(i, new object()))];

        public Busy()
            : base("Busy") => RegisterComponents();

        public override Tensor forward(Tensor x) => _samples.Length > 0 ? x.clone() : x;

        public void Fill(CancellationToken stop)
        {
            for (int i = 0; !stop.IsCancellationRequested; i++) _log.Write(i);
        }

        private sealed class Log
        {
            private readonly Queue<Sample> _entries = new();

            public void Write(int number)
            {
                _entries.Enqueue(new Sample(number, number));
                if (_entries.Count > 500) _entries.Dequeue();
            }
        }

        private sealed record Sample(int Number, object What);
    }

    private readonly record struct Context(Tensor Zero);
}

/// <summary>Two inputs, and a child of two inputs.</summary>
internal sealed class TwoInputNetwork : nn.Module<Tensor, Tensor, Tensor>
{
    private readonly Conv2d left = nn.Conv2d(3, 6, 3, padding: 1);
    private readonly Conv2d right = nn.Conv2d(1, 6, 3, padding: 1);
    private readonly Merge merge = new();
    private readonly LSTM sequence = nn.LSTM(6, 6);

    public TwoInputNetwork()
        : base("TwoInputNetwork") => RegisterComponents();

    public override Tensor forward(Tensor a, Tensor b) => merge.call(left.call(a), right.call(b));

    internal sealed class Merge : nn.Module<Tensor, Tensor, Tensor>
    {
        public Merge()
            : base("Merge") => RegisterComponents();

        public override Tensor forward(Tensor a, Tensor b) => a.mul(b);
    }
}

/// <summary>The networks by name, each with an insertion that suits it.</summary>
internal static class UserNetworks
{
    private static readonly CbamOptions Cbam = new() { Reduction = 2, KernelSize = 3 };
    private static readonly SelfAttention2dOptions Self = new() { Heads = 2 };

    public static readonly IReadOnlyDictionary<string, (Func<nn.Module<Tensor, Tensor>> Create, InsertionPlan Plan, string[] Keys)> All =
        new Dictionary<string, (Func<nn.Module<Tensor, Tensor>>, InsertionPlan, string[])>
        {
            ["fields"] = (() => new FieldNetwork(),
                InsertionPlan.After("block.conv?", Cbam).AddBefore("block", Self).AddAfter("block.shortcut.0", new SqueezeExcitationOptions { Reduction = 2 }),
                ["block.conv1_attn", "block.conv2_attn", "block_attn_before", "block.shortcut_0_attn"]),
            ["module list"] = (() => new ListNetwork(),
                InsertionPlan.After("blocks.*", Cbam).AddBefore((path, module) => path == "blocks.1.conv2" && module is Conv2d, new EfficientChannelAttentionOptions()),
                ["blocks.0_attn", "blocks.1_attn", "blocks.2_attn", "blocks.1.conv2_attn_before"]),
            ["sequential"] = (Sequence,
                InsertionPlan.After<BatchNorm2d>(Cbam).AddBefore("features.1", new SimAmOptions()).AddAfter("features.2", new GlobalContextOptions { Reduction = 2 }),
                ["attention.features_1_attn", "attention.features_1_attn_before", "attention.features_2_attn"]),
            ["odd"] = (() => new OddNetwork(),
                InsertionPlan.After("shared", Cbam).AddBefore("same", Cbam).AddAfter("same", new BamOptions { Reduction = 2 }).AddBefore("tail", Cbam),
                ["shared_attn", "same_attn_before", "same_attn", "tail_attn_before"]),
            ["resnet of ours with a plan"] = (() => new ResNet(Cases.TinyResNet with { Attention = AttentionPlan.Of(Cbam).Add(Self, AttentionPosition.StageEnd) }),
                InsertionPlan.After("layer2.*.conv1", Cbam).AddAfter("**.bn2", new EfficientChannelAttentionOptions()).AddAfter("layer1", Cbam),
                ["layer2.0.conv1_attn", "layer1.0.bn2_attn", "layer2.0.bn2_attn", "layer3.0.bn2_attn", "layer1_attn2"]),
            ["mobilenet of ours"] = (() => new MobileNetV2(Cases.TinyMobileNet),
                InsertionPlan.After("features.*", Cbam).AddAfter<BatchNorm2d>(new SimAmOptions()),
                []),
        };

    public static TheoryData<string> Names => [.. All.Keys];

    public static Sequential Sequence() => nn.Sequential(
        ("features", nn.Sequential(nn.Conv2d(3, 8, 3, padding: 1), nn.BatchNorm2d(8), nn.ReLU(inplace: true))),
        ("pool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
        ("fc", nn.Linear(8, 4)));

    /// <summary>The network with running statistics that are not those of the start.</summary>
    public static nn.Module<Tensor, Tensor> Create(string name, int seed = 1)
    {
        manual_seed(seed);
        nn.Module<Tensor, Tensor> network = All[name].Create();
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        network.train();
        network.call(randn(4, 3, 9, 8));
        return network;
    }
}
