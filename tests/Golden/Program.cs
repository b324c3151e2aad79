using TorchSharp;
using TorchSharp.Attention;

using var x = torch.randn(2, 64, 9, 7);
foreach (string kind in AttentionCatalog.Kinds)
{
    if (kind == "attention-gate") continue;
    using var m = AttentionCatalog.Create(kind).Create(64);
    using var y = m.call(x);
    Console.WriteLine($"{m} {y.mean().ToSingle()} {AttentionOptions.FromJson(m.Options.ToJson()) == m.Options} {m.Options.ToJson()}");
}
using var net = ResNet.ResNet50(10, AttentionPlan.Parse("cbam:reduction=8,kernel=3@before-add:3,4"));
using var z = net.call(torch.randn(2, 3, 64, 64));
Console.WriteLine(net);
Console.WriteLine(ModelCost.Measure(net, 1, 3, 224, 224));
