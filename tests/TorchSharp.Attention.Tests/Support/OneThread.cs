using System.Runtime.CompilerServices;

namespace TorchSharp.Attention.Tests;

/// <summary>The maps of these tests are tiny: waking a team of threads for each operation costs more than it brings.</summary>
internal static class OneThread
{
    /// <summary>Before anything runs: a thread keeps the number that its first operation finds.</summary>
    [ModuleInitializer]
    internal static void Use() => set_num_threads(1);
}
