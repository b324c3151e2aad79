#!/usr/bin/env bash
# TorchSharp 0.107.0 (libtorch 2.10, oneDNN): the weight gradient of a depthwise convolution where OpenMP grants fewer threads than libtorch asks for.
# Here OMP_THREAD_LIMIT=1 and torch.set_num_threads(2); OMP_DYNAMIC=true on a busy machine does the same.
# Expected: the sum over samples and positions of input times output gradient, as without the limit.
# What happens: nothing is thrown. The forward pass and the input's gradient are right. The weight's gradient is whatever lay in memory: in 100 of 100
# steps with channels-last input, and with oneDNN's AVX2 kernels in NCHW too. Without the limit all are right.
# Why it matters: shared servers and checking farms cap programs with OMP_THREAD_LIMIT (XGBoost had to handle it: dmlc/xgboost#7390), and every MobileNet and
# every depthwise attention (ELA, strip attention, large kernels) trains on such gradients. Call torch.set_num_threads with the limit, or set OMP_NUM_THREADS to it.
source "$(dirname "$0")/lib/dotnet.sh"
export DNNL_MAX_CPU_ISA=SSE41
run_csharp TorchSharp-cpu@0.107.0 SharpZipLib@1.4.2 SkiaSharp@3.119.4 <<'CS'
using System.Diagnostics;
using TorchSharp;
using static TorchSharp.torch;

// The limit is read once, when the process starts: each row is a process of its own.
if (args.Length == 0)
{
    bool asDescribed = true;
    foreach ((string limit, string layout, int wrongExpected) in new[] { ("", "nchw", 0), ("", "channels-last", 0), ("1", "channels-last", 100) })
    {
        ProcessStartInfo start = new(Environment.ProcessPath!, [System.Reflection.Assembly.GetEntryAssembly()!.Location, layout]) { RedirectStandardOutput = true };
        if (limit.Length > 0) start.Environment["OMP_THREAD_LIMIT"] = limit;
        else start.Environment.Remove("OMP_THREAD_LIMIT");
        using Process child = Process.Start(start)!;
        string[] words = child.StandardOutput.ReadToEnd().Split();
        child.WaitForExit();
        int weight = int.Parse(words[0]), input = int.Parse(words[1]);
        Console.WriteLine($"OMP_THREAD_LIMIT={(limit.Length > 0 ? limit : "(unset)")}, {layout}: weight gradient wrong in {weight} of 100 steps (expected 0), input gradient in {input}.");
        asDescribed &= input == 0 && (wrongExpected == 0 ? weight == 0 : weight >= 90);
    }

    Console.WriteLine(asDescribed ? "As described." : "The behaviour has changed.");
    return asDescribed ? 0 : 1;
}

set_num_threads(2);
(int weightWrong, int inputWrong) = (0, 0);
for (int step = 0; step < 100; step++)
{
    using DisposeScope scope = NewDisposeScope();
    manual_seed(3);
    var convolution = nn.Conv2d(106, 106, 1L, groups: 106, bias: false);
    Tensor x = randn(1, 106, 6, 1), g = randn(1, 106, 6, 1);
    if (args[0] == "channels-last") x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2);
    x.requires_grad_();
    convolution.call(x).mul(g).sum().backward();
    Tensor wanted = x.detach().mul(g).sum([0L, 2, 3]).view(106, 1, 1, 1);
    if (!(convolution.weight.grad.sub(wanted).abs().max().item<float>() < 1e-3)) weightWrong++;
    if (!(x.grad.sub(convolution.weight.detach().view(1, 106, 1, 1).mul(g)).abs().max().item<float>() < 1e-3)) inputWrong++;
}

Console.WriteLine($"{weightWrong} {inputWrong}");
return 0;
CS
