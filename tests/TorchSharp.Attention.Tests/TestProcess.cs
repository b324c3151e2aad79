using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Tests;

internal static class TestProcess
{
    /// <summary>The tests' tensors are tiny: a team of threads for each costs more than it brings, most of all on a busy machine.</summary>
    [ModuleInitializer]
    internal static void UseOneThread() => set_num_threads(1);
}
