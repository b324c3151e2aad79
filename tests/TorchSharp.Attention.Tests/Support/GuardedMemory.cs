using System.Runtime.InteropServices;

namespace TorchSharp.Attention.Tests;

/// <summary>Buffers between pages that must not be touched: a read or write beyond an edge ends the process.</summary>
internal sealed unsafe class GuardedMemory(bool atEnd) : IDisposable
{
    private const int Page = 4096;

    private readonly List<(nint Address, nuint Length)> _mappings = [];

    /// <summary>Zeroed bytes that touch the guard at their end or at their beginning.</summary>
    public void* Take(int bytes)
    {
        int pages = (bytes + Page - 1) / Page;
        nuint length = (nuint)((pages + 2) * Page);
        nint mapping = mmap(0, length, 0, 0x22, -1, 0);
        if (mapping == -1) throw new InvalidOperationException("mmap failed");
        _mappings.Add((mapping, length));
        nint inside = mapping + Page;
        if (mprotect(inside, (nuint)(pages * Page), 3) != 0) throw new InvalidOperationException("mprotect failed");
        return (void*)(atEnd ? inside + (pages * Page) - bytes : inside);
    }

    public void Dispose()
    {
        foreach ((nint address, nuint length) in _mappings) _ = munmap(address, length);
    }

    [DllImport("libc")]
    private static extern nint mmap(nint address, nuint length, int protection, int flags, int file, nint offset);

    [DllImport("libc")]
    private static extern int mprotect(nint address, nuint length, int protection);

    [DllImport("libc")]
    private static extern int munmap(nint address, nuint length);
}
