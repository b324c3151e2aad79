#!/usr/bin/env bash
# TorchSharp 0.107.0: nn.BatchNorm2d in training, a batch of one image whose map has one position.
# Expected, from PyTorch: "Expected more than 1 value per channel when training", before anything changes. The unbiased variance of one value is 0 / 0.
# What happens: nothing is thrown. The output and all gradients of the step are finite, and the running variance becomes NaN for good. Every later
# evaluation gives NaN. nn.BatchNorm1d does the same with one sample.
# Why it matters: a ResNet at 32 x 32 has maps of one position in its last stage, and the last batch of an epoch may hold one image. The loss looks
# right until the first evaluation. Drop the last incomplete batch, or check the size before the call.
source "$(dirname "$0")/lib/dotnet.sh"
run_csharp TorchSharp-cpu@0.107.0 SharpZipLib@1.4.2 SkiaSharp@3.119.4 <<'CS'
using TorchSharp;
using static TorchSharp.torch;

bool asDescribed = true;
foreach ((string name, nn.Module<Tensor, Tensor> norm, Tensor one, Tensor many) in new (string, nn.Module<Tensor, Tensor>, Tensor, Tensor)[]
{
    ("BatchNorm2d (1, 4, 1, 1)", nn.BatchNorm2d(4), randn(1, 4, 1, 1).requires_grad_(true), randn(8, 4, 3, 3)),
    ("BatchNorm1d (1, 4)", nn.BatchNorm1d(4), randn(1, 4).requires_grad_(true), randn(8, 4)),
})
{
    norm.train();
    string thrown = "nothing";
    bool stepFinite = false;
    try
    {
        using Tensor y = norm.call(one);
        y.sum().backward();
        stepFinite = y.isfinite().all().item<bool>() && one.grad.isfinite().all().item<bool>();
    }
    catch (Exception e) { thrown = e.GetType().Name; }
    for (int i = 0; i < 100; i++) norm.call(many).Dispose();
    norm.eval();
    bool evaluates = norm.call(many).isfinite().all().item<bool>(), variance = norm.state_dict()["running_var"].isfinite().all().item<bool>();
    Console.WriteLine($"{name}: expected an exception; thrown: {thrown}. Output and gradient finite: {stepFinite}. After 100 good batches the running variance is finite: {variance}, evaluation: {evaluates}.");
    asDescribed &= thrown == "nothing" && stepFinite && !variance && !evaluates;
}

Console.WriteLine(asDescribed ? "As described." : "The behaviour has changed.");
return asDescribed ? 0 : 1;
CS
