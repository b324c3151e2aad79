// Restores TorchSharp.Attention from its package, builds a CBAM-ResNet and trains two steps.
using System.Reflection;
using System.Runtime.InteropServices;
using TorchSharp;
using TorchSharp.Attention;
using static TorchSharp.torch;

torch.manual_seed(0);
using ResNet network = ResNet.ResNet18(classes: 10, AttentionPlan.Of(new CbamOptions { Reduction = 8 }).InStages(3, 4));
using optim.Optimizer optimizer = optim.SGD(network.parameters(), learningRate: 0.01, momentum: 0.9);
using Tensor images = randn(4, 3, 64, 64);
using Tensor labels = tensor(new long[] { 1, 3, 5, 7 });
List<float> losses = [];
for (int step = 0; step < 2; step++)
{
    using DisposeScope scope = NewDisposeScope();
    optimizer.zero_grad();
    Tensor loss = nn.functional.cross_entropy(network.call(images), labels);
    loss.backward();
    optimizer.step();
    losses.Add(loss.item<float>());
}

string version = typeof(ResNet).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion;
Console.WriteLine(FormattableString.Invariant(
    $"{RuntimeInformation.FrameworkDescription}, TorchSharp.Attention {version}: loss {losses[0]:F4} -> {losses[1]:F4}"));
return losses.All(float.IsFinite) && losses[1] < losses[0] ? 0 : 1;
