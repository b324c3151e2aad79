// Restores the packages, builds a CBAM-ResNet, trains two watched steps, compares two variants, writes a report, exports to ONNX and quantizes.
using System.Reflection;
using System.Runtime.InteropServices;
using TorchSharp;
using TorchSharp.Attention;
using TorchSharp.Attention.Onnx;
using TorchSharp.Attention.Training;
using TorchSharp.Attention.Visualization;
using static TorchSharp.torch;

bool keepsFreed = NativeHeap.RetainFreedMemory();
torch.manual_seed(0);
using ResNet network = ResNet.ResNet18(classes: 10, AttentionPlan.Of(new CbamOptions { Reduction = 8 }).InStages(3, 4));
using optim.Optimizer optimizer = optim.SGD(network.parameters(), learningRate: 0.01, momentum: 0.9);
using Tensor images = randn(4, 3, 64, 64);
using Tensor labels = tensor(new long[] { 1, 3, 5, 7 });
using GateMonitor monitor = GateMonitor.Attach(network, new GateMonitorOptions { Every = 1 });
List<float> losses = [];
for (int step = 0; step < 2; step++)
{
    using DisposeScope scope = NewDisposeScope();
    optimizer.zero_grad();
    Tensor loss = nn.functional.cross_entropy(network.call(images), labels);
    loss.backward();
    optimizer.step();
    losses.Add(loss.item<float>());
    monitor.Step();
}

string folder = Directory.CreateTempSubdirectory("package-consumer").FullName;
AblationReport ablation = Ablation.Run(
    [new("plain", AttentionPlan.None), new("eca", AttentionPlan.Parse("eca"))], [1, 2],
    (variant, seed, _) => new AblationOutcome(0.5 + (seed / 10.0) + (variant.Plan.Rules.Count / 100.0), 1, 1), new AblationOptions { Folder = folder });
using Picture front = AblationPicture.Draw(ablation);
string report = Path.Combine(folder, "report.html");
new HtmlReport("Package consumer").GateHistory(monitor).Overlays(network, images, layer: "layer3").Picture(front, "An ablation").Save(report);
long size = new FileInfo(report).Length;
string file = Path.Combine(folder, "network.onnx");
OnnxExportReport export = network.ExportOnnx(file, images, new OnnxExportOptions { DynamicAxes = OnnxDynamicAxes.Batch | OnnxDynamicAxes.Size });
QuantizationReport quantized = OnnxQuantizer.Quantize(file, Path.Combine(folder, "network.int8.onnx"), [OnnxBatch.From(images)]);
Directory.Delete(folder, recursive: true);

string version = typeof(ResNet).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion;
Console.WriteLine(FormattableString.Invariant(
    $"{RuntimeInformation.FrameworkDescription}, TorchSharp.Attention {version}: loss {losses[0]:F4} -> {losses[1]:F4}, {monitor.Readings.Count} readings, {ablation.Runs.Count} runs, report of {size} bytes, exported with an error of {export.MaxRelativeError:E1}, {quantized.IntegerConvolutions} integer convolutions, freed memory {(keepsFreed ? "kept" : "returned")}"));
return losses.All(float.IsFinite) && losses[1] < losses[0] && monitor.Readings.Count == 16 && ablation.Runs.Count == 4 && size > 50_000
    && export.MaxRelativeError < 1e-4 && quantized.IntegerConvolutions > 0 && keepsFreed == OperatingSystem.IsLinux() ? 0 : 1;
