#!/usr/bin/env bash
# TorchSharp 0.107.0: nn.Mish(inplace: true) after a convolution, in training.
# Expected, as in PyTorch (nn.Mish(inplace=True) trains; run with 1.13) and as with the other in-place activations of TorchSharp: the gradients of
# nn.Mish(inplace: false).
# What happens: the forward pass gives the right values, and backward() throws "one of the variables needed for gradient computation has been modified by
# an inplace operation". TorchSharp composes x * tanh(softplus(x)) and multiplies x in place, although the product's backward needs the old x.
# Why it matters: networks with Mish (YOLO v4 and its attention blocks) port their activations with inplace: true; the exception names no module, and an
# inference test of the port passes. Use inplace: false.
source "$(dirname "$0")/lib/dotnet.sh"
run_csharp TorchSharp-cpu@0.107.0 SharpZipLib@1.4.2 SkiaSharp@3.119.4 <<'CS'
using TorchSharp;
using static TorchSharp.torch;

(float Loss, string Backward) Step(nn.Module<Tensor, Tensor> activation)
{
    manual_seed(1);
    using var convolution = nn.Conv2d(3, 4, 1L);
    Tensor loss = activation.call(convolution.call(randn(2, 3, 4, 4))).sum();
    try
    {
        loss.backward();
        return (loss.item<float>(), $"gradient of size {convolution.weight.grad.abs().sum().item<float>():0.000}");
    }
    catch (Exception e) { return (loss.item<float>(), e.Message.Split(':')[0]); }
}

bool asDescribed = true;
foreach ((string name, Func<bool, nn.Module<Tensor, Tensor>> make, bool fails) in new (string, Func<bool, nn.Module<Tensor, Tensor>>, bool)[]
{
    ("Mish", inplace => nn.Mish(inplace), true),
    ("SiLU", inplace => nn.SiLU(inplace), false),
    ("Hardswish", inplace => nn.Hardswish(inplace), false),
    ("LeakyReLU", inplace => nn.LeakyReLU(inplace: inplace), false),
})
{
    (float loss, string backward) = Step(make(false));
    (float lossInPlace, string backwardInPlace) = Step(make(true));
    Console.WriteLine($"{name}: {backward}; in place, expected the same: {backwardInPlace}. Losses {loss:0.0000} and {lossInPlace:0.0000}.");
    bool same = backward == backwardInPlace;
    asDescribed &= Math.Abs(loss - lossInPlace) < 1e-4 && same != fails && (!fails || backwardInPlace.Contains("modified by an inplace operation", StringComparison.Ordinal));
}

Console.WriteLine(asDescribed ? "As described." : "The behaviour has changed.");
return asDescribed ? 0 : 1;
CS
