// dotnet run -c Release --project benchmarks/TorchSharp.Attention.Benchmarks -- ratios [filter] [--rounds=25] [--threads=2] [--csv=docs/benchmarks/x.csv] [--keep-freed] [--unchecked]
// dotnet run -c Release --project benchmarks/TorchSharp.Attention.Benchmarks -- report docs/benchmarks docs/benchmarks.md
// dotnet run -c Release --project benchmarks/TorchSharp.Attention.Benchmarks -- memory [filter]
// dotnet run -c Release --project benchmarks/TorchSharp.Attention.Benchmarks -- watch [--rounds=9] [--batch=16] [--size=224] [--threads=2]
// dotnet run -c Release --project benchmarks/TorchSharp.Attention.Benchmarks -- heap [none|se|eca|cbam] [--rounds=5] [--batch=8]
// dotnet run -c Release --project benchmarks/TorchSharp.Attention.Benchmarks [-- --filter '*GateInference*' --job short]
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;
using TorchSharp.Attention.Benchmarks;

if (args is ["ratios", ..]) return Ratios.Run(args[1..]);
if (args is ["memory", ..]) return KeptMemory.Run(args[1..]);
if (args is ["watch", ..]) return Watching.Run(args[1..]);
if (args is ["heap", ..]) return HeapSteps.Run(args[1..]);
if (args is ["report", ..]) return RatioReport.Run(args[1..]);

// In process: the default toolchain builds elsewhere, where libtorch is not linked.
IConfig config = DefaultConfig.Instance.AddJob(Job.Default.WithToolchain(InProcessEmitToolchain.Instance).AsDefault());
BenchmarkSwitcher.FromAssembly(typeof(GateBenchmarks).Assembly).Run(args, config);
return 0;
