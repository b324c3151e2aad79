using TorchSharp.Modules;

namespace TorchSharp.Attention.Tests;

/// <summary>
/// ResNet-50 as somebody writes it who does not have the library's: modules for activations and pooling, classes of one's own, and if wanted
/// the stride on the first 1×1 of a bottleneck, as the first release of the network had it.
/// </summary>
internal sealed class UserResNet : nn.Module<Tensor, Tensor>
{
    private readonly Sequential stem = nn.Sequential(
        ("conv", nn.Conv2d(3, 64, 7, stride: 2, padding: 3, bias: false)), ("bn", nn.BatchNorm2d(64)), ("relu", nn.ReLU(inplace: true)),
        ("pool", nn.MaxPool2d(3, stride: 2, padding: 1)));

    private readonly ModuleList<nn.Module<Tensor, Tensor>> blocks = [];
    private readonly AdaptiveAvgPool2d pool = nn.AdaptiveAvgPool2d(1);
    private readonly Linear fc = nn.Linear(2048, 1000);

    public UserResNet(bool strideFirst, Func<int, nn.Module<Tensor, Tensor>?> attention)
        : base(nameof(UserResNet))
    {
        int width = 64;
        int[] counts = [3, 4, 6, 3];
        for (int stage = 0; stage < 4; stage++)
        {
            for (int i = 0; i < counts[stage]; i++)
            {
                int planes = 64 << stage;
                blocks.Add(new Block(width, planes, stage > 0 && i == 0 ? 2 : 1, strideFirst, attention(4 * planes)));
                width = 4 * planes;
            }
        }

        RegisterComponents();
    }

    public override Tensor forward(Tensor input)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor x = stem.call(input);
        foreach (nn.Module<Tensor, Tensor> block in blocks) x = block.call(x);
        return fc.call(pool.call(x).flatten(1)).MoveToOuterDisposeScope();
    }

    private sealed class Block : nn.Module<Tensor, Tensor>
    {
        private readonly Sequential body;
        private readonly Sequential? shortcut;
        private readonly nn.Module<Tensor, Tensor>? attention;
        private readonly ReLU relu = nn.ReLU();

        public Block(int input, int planes, int stride, bool strideFirst, nn.Module<Tensor, Tensor>? attention)
            : base(nameof(Block))
        {
            body = nn.Sequential(
                nn.Conv2d(input, planes, 1, stride: strideFirst ? stride : 1, bias: false), nn.BatchNorm2d(planes), nn.ReLU(),
                nn.Conv2d(planes, planes, 3, stride: strideFirst ? 1 : stride, padding: 1, bias: false), nn.BatchNorm2d(planes), nn.ReLU(),
                nn.Conv2d(planes, 4 * planes, 1, bias: false), nn.BatchNorm2d(4 * planes));
            if (stride != 1 || input != 4 * planes)
            {
                shortcut = nn.Sequential(nn.Conv2d(input, 4 * planes, 1, stride: stride, bias: false), nn.BatchNorm2d(4 * planes));
            }

            this.attention = attention;
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor y = body.call(input);
            if (attention is not null) y = attention.call(y);
            return relu.call(y.add(shortcut is null ? input : shortcut.call(input))).MoveToOuterDisposeScope();
        }
    }
}
