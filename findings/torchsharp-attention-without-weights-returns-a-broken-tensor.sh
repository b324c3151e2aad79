#!/usr/bin/env bash
# TorchSharp 0.107.0: nn.MultiheadAttention called with need_weights: false.
# Expected, from PyTorch and the name: the second value is null (None in PyTorch), as nothing was computed.
# What happens: it is a Tensor object without a handle. It is not null, and its shape, dtype or numel throw "Tensor invalid -- empty handle".
# Disposing it is harmless.
# Why it matters: every hook that looks at the outputs of modules (cost, maps, statistics, logging of shapes) fails on a network with this layer, although
# the network runs. Ask IsInvalid before anything else.
source "$(dirname "$0")/lib/dotnet.sh"
run_csharp TorchSharp-cpu@0.107.0 SharpZipLib@1.4.2 SkiaSharp@3.119.4 <<'CS'
using TorchSharp;
using static TorchSharp.torch;

using var attention = nn.MultiheadAttention(8, 2);
using Tensor x = randn(5, 2, 8);
var (output, weights) = attention.call(x, x, x, null, false, null);
string shape;
try { shape = string.Join(", ", weights.shape); }
catch (Exception e) { shape = $"{e.GetType().Name}: {e.Message}"; }
Console.WriteLine($"need_weights: false. Expected null; is null: {weights is null}, IsInvalid: {weights?.IsInvalid}. Its shape: {shape}");
bool asDescribed = weights is { IsInvalid: true } && shape.Contains("empty handle");
weights?.Dispose();
var (_, wanted) = attention.call(x, x, x, null, true, null);
Console.WriteLine($"need_weights: true. Expected (2, 5, 5): ({string.Join(", ", wanted.shape)})");
asDescribed &= wanted.shape is [2, 5, 5];
Console.WriteLine(asDescribed ? "As described." : "The behaviour has changed.");
return asDescribed ? 0 : 1;
CS
