#!/usr/bin/env bash
# TorchSharp 0.107.0: a module class that overrides a property with a narrower type (a covariant return type, C# 9) or hides one with "new".
# Expected: to(ScalarType), to(Device) and half() convert the parameters, as for every other module.
# What happens: they throw ArgumentException "An item with the same key has already been added", which names the property and neither the module nor the
# conversion. Reflection returns both properties, and TorchSharp makes a dictionary of all public properties by name. Without parameters of its own the
# module fails as well, and so does every network that contains it. Construction, call, training, save and load work, so that it shows when the
# network is moved to a GPU or to bfloat16 for the first time.
# Why it matters: a family of attention modules has a base class with "AttentionOptions Options", and each module would narrow it to its own record.
# Keep the narrow property on the subclass alone, and give the one of the base class another name, or make it a method.
source "$(dirname "$0")/lib/dotnet.sh"
run_csharp TorchSharp-cpu@0.107.0 SharpZipLib@1.4.2 SkiaSharp@3.119.4 <<'CS'
using TorchSharp;
using static TorchSharp.torch;

(string Name, Func<nn.Module<Tensor, Tensor>> Make, bool Fails)[] cases =
[
    ("one property", () => new Plain(), false),
    ("narrower override", () => new Covariant(), true),
    ("hidden by new", () => new Hiding(), true),
    ("inside a Sequential", () => nn.Sequential(("a", new Covariant())), true),
];
bool asDescribed = true;
foreach ((string name, Func<nn.Module<Tensor, Tensor>> make, bool fails) in cases)
{
    using nn.Module<Tensor, Tensor> module = make();
    using Tensor y = module.call(ones(1, 2));
    string outcome;
    try { outcome = $"parameters are {module.to(ScalarType.BFloat16).parameters().First().dtype}"; }
    catch (ArgumentException e) { outcome = e.Message; }
    bool failed = outcome.Contains("same key", StringComparison.Ordinal);
    Console.WriteLine($"{name}: the call works ({y.shape[1]} values); to(BFloat16): {outcome}");
    asDescribed &= failed == fails;
}

Console.WriteLine(asDescribed ? "As described." : "The behaviour has changed.");
return asDescribed ? 0 : 1;

record Options;
record GateOptions : Options;

abstract class Gate(string name) : nn.Module<Tensor, Tensor>(name)
{
    public virtual Options Options => new();
    public override Tensor forward(Tensor x) => x.alias();
}

class Plain : Gate
{
    private readonly TorchSharp.Modules.Linear fc = nn.Linear(2, 2);
    public Plain() : base("Plain") => RegisterComponents();
}

class Covariant : Gate
{
    private readonly TorchSharp.Modules.Linear fc = nn.Linear(2, 2);
    public Covariant() : base("Covariant") => RegisterComponents();
    public override GateOptions Options => new();
}

class Hiding : Gate
{
    private readonly TorchSharp.Modules.Linear fc = nn.Linear(2, 2);
    public Hiding() : base("Hiding") => RegisterComponents();
    public new GateOptions Options => new();
}
CS
