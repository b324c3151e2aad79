using System.Diagnostics;
using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>The threads that a trial runs on.</summary>
internal enum TeamKind
{
    /// <summary>libtorch's OpenMP threads, as many as asked for.</summary>
    Whole,

    /// <summary>The .NET thread pool.</summary>
    Pool,

    /// <summary>Inside a parallel region of OpenMP: every team has one thread, whatever is asked for.</summary>
    Nested,

    /// <summary>OpenMP may give fewer threads than asked for (OMP_DYNAMIC=true).</summary>
    Dynamic,

    /// <summary>The process has a limit of threads (OMP_THREAD_LIMIT), which only its environment can set.</summary>
    Limited,
}

/// <summary>Runs an action on a number of threads of a kind. Where no libgomp is loaded (Windows, macOS) every kind is the .NET pool.</summary>
internal static unsafe class Teams
{
    /// <summary>The environment variable of libgomp that limits the threads of a process.</summary>
    public const string LimitVariable = "OMP_THREAD_LIMIT";

    private static readonly nint _library = Find();
    private static Action? _action;
    private static Exception? _thrown;

    /// <summary>Whether libtorch's threads are libgomp's here, so that teams can be cut short.</summary>
    public static bool HasOpenMp => _library != 0;

    /// <summary>Runs an action and puts everything back; on request the kernels run on the .NET pool and libtorch alone on the team.</summary>
    public static void Run(TeamKind kind, int threads, Action action, bool onPool = false)
    {
        int before = get_num_threads();
        bool pool = NativeTeam.WithoutOpenMp;
        set_num_threads(threads);
        try
        {
            NativeTeam.WithoutOpenMp = onPool || kind == TeamKind.Pool;
            if (kind == TeamKind.Nested && HasOpenMp) Nested(action);
            else if (kind == TeamKind.Dynamic && HasOpenMp) Dynamic(action);
            else action();
        }
        finally
        {
            NativeTeam.WithoutOpenMp = pool;
            set_num_threads(before);
        }
    }

    private static void Dynamic(Action action)
    {
        var dynamic = (delegate* unmanaged<int, void>)NativeLibrary.GetExport(_library, "omp_set_dynamic");
        dynamic(1);
        try
        {
            action();
        }
        finally
        {
            dynamic(0);
        }
    }

    private static void Nested(Action action)
    {
        var parallel = (delegate* unmanaged<delegate* unmanaged<void*, void>, void*, uint, uint, void>)NativeLibrary.GetExport(_library, "GOMP_parallel");
        var number = NativeLibrary.GetExport(_library, "omp_get_thread_num");
        _action = action;
        _thrown = null;
        parallel(&Enter, (void*)number, 2, 0);
        _action = null;
        if (_thrown is not null) throw new InvalidOperationException(_thrown.Message, _thrown);
    }

    /// <summary>Both threads of the outer team come here; the caller's own does the work.</summary>
    [UnmanagedCallersOnly]
    private static void Enter(void* number)
    {
        if (((delegate* unmanaged<int>)number)() != 0) return;
        try
        {
            _action!();
        }
#pragma warning disable CA1031 // An exception that left a native frame would end the process.
        catch (Exception e)
#pragma warning restore CA1031
        {
            _thrown = e;
        }
    }

    private static nint Find()
    {
        if (!OperatingSystem.IsLinux() || !NativeTeam.IsOpenMp) return 0;
        using Process process = Process.GetCurrentProcess();
        List<string> loaded = [.. process.Modules.Cast<ProcessModule>().Select(module => module.FileName)];
        string? folder = Path.GetDirectoryName(loaded.Find(file => Path.GetFileName(file).StartsWith("libtorch_cpu", StringComparison.Ordinal)));
        string? gomp = loaded.Where(file => Path.GetFileName(file).StartsWith("libgomp", StringComparison.Ordinal))
            .OrderByDescending(file => Path.GetDirectoryName(file) == folder).FirstOrDefault();
        return gomp is not null && NativeLibrary.TryLoad(gomp, out nint library) ? library : 0;
    }
}
