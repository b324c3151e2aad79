using TorchSharp.Attention.Tests;

[assembly: AssemblyFixture(typeof(OneThread))]

namespace TorchSharp.Attention.Tests;

/// <summary>The maps of these tests are tiny: waking a team of threads for each operation costs more than it brings.</summary>
public sealed class OneThread
{
    public OneThread() => set_num_threads(1);
}
