#!/usr/bin/env bash
# TorchSharp 0.107.0: an optimizer made of network.parameters() before a further module is registered in the network.
# Expected, from PyTorch: the optimizer keeps the parameters that existed when it was made. What comes later is not trained, and steps go on.
# What happens: parameters() is a lazy sequence and the optimizer enumerates it anew at every step, while its states stand in a dictionary filled
# at construction. The first step after the registration throws KeyNotFoundException, and the key in its message is a number, a native handle.
# SGD without momentum does so too. With parameters().ToList() the behaviour is PyTorch's.
# Why it matters: attention that is inserted into a network, a new head, adapters: whoever makes the optimizer first gets a message that names nothing.
source "$(dirname "$0")/lib/dotnet.sh"
run_csharp TorchSharp-cpu@0.107.0 SharpZipLib@1.4.2 SkiaSharp@3.119.4 <<'CS'
using TorchSharp;
using static TorchSharp.torch;

bool asDescribed = true;
foreach (bool list in new[] { false, true })
{
    foreach (string kind in new[] { "AdamW", "Adam", "SGD" })
    {
        Net network = new();
        IEnumerable<TorchSharp.Modules.Parameter> parameters = list ? network.parameters().ToList() : network.parameters();
        optim.Optimizer optimizer = kind switch { "AdamW" => optim.AdamW(parameters, 0.1), "Adam" => optim.Adam(parameters, 0.1), _ => optim.SGD(parameters, 0.1) };
        network.Grow();
        Tensor before = network.added.weight.clone();
        string thrown = "nothing";
        network.call(ones(1, 3)).sum().backward();
        try { optimizer.step(); }
        catch (Exception e) { thrown = $"{e.GetType().Name}: {e.Message}"; }
        bool trained = !before.equal(network.added.weight).all().item<bool>();
        Console.WriteLine($"{kind}, {(list ? "parameters().ToList()" : "parameters()")}: expected no exception; thrown: {thrown}. The later parameter moved: {trained}.");
        asDescribed &= !trained && (list ? thrown == "nothing" : thrown.StartsWith("KeyNotFoundException"));
    }
}

Console.WriteLine(asDescribed ? "As described." : "The behaviour has changed.");
return asDescribed ? 0 : 1;

sealed class Net : nn.Module<Tensor, Tensor>
{
    public readonly TorchSharp.Modules.Linear first = nn.Linear(3, 3);
    public TorchSharp.Modules.Linear added;
    public Net() : base("net") => RegisterComponents();
    public void Grow() => register_module("added", added = nn.Linear(3, 3));
    public override Tensor forward(Tensor x) => added is null ? first.call(x) : added.call(first.call(x));
}
CS
