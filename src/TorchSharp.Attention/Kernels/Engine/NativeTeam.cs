using System.Diagnostics;
using System.Runtime.InteropServices;

namespace TorchSharp.Attention.Kernels;

/// <summary>
/// Runs a kernel on libtorch's own threads. libtorch's idle OpenMP workers spin; a second pool beside them would wait for a core.
/// Where no such library is loaded (Windows, macOS) the .NET pool takes over.
/// </summary>
internal static unsafe class NativeTeam
{
    /// <summary>Below this many bytes waking a second thread costs more than it brings. Tests set it to 1.</summary>
    internal static long BytesWorthAThread { get; set; } = 48 * 1024;

    private static readonly OpenMp? _openMp = OpenMp.Find();

    private static int _warned;

    public static bool IsOpenMp => _openMp is not null && !WithoutOpenMp;

    /// <summary>Whether to run on the .NET pool although libtorch's threads could be had. For tests.</summary>
    internal static bool WithoutOpenMp { get; set; }

    /// <summary>
    /// The threads that a team has at most, however many are asked for, as where the system grants fewer. For tests.
    /// </summary>
    internal static int MostGranted { get; set; } = int.MaxValue;

    /// <summary>How many threads are worth waking for so many items and bytes.</summary>
    public static int ThreadsFor(long items, long bytes)
        => (int)Math.Min(Math.Min(torch.get_num_threads(), items), 1 + (bytes / BytesWorthAThread));

    /// <summary>
    /// Writes a warning to <see cref="Trace"/>, once per process, where OpenMP may grant fewer threads than libtorch asks for.
    /// The kernels are right on such a team, and libtorch's own depthwise convolutions are not.
    /// </summary>
    public static void WarnOfSmallerTeams()
    {
        if (_warned != 0 || _openMp is null
            || Warning(_openMp.Limit(), _openMp.IsDynamic(), torch.get_num_threads()) is not { } warning)
        {
            return;
        }

        if (Interlocked.Exchange(ref _warned, 1) == 0) Trace.TraceWarning(warning);
    }

    /// <summary>
    /// The warning for a limit of threads, dynamic teams, and the threads that libtorch asks for; null where teams are whole.
    /// </summary>
    internal static string? Warning(int limit, bool isDynamic, int threads)
    {
        if (threads <= 1 || (limit >= threads && !isDynamic)) return null;
        string cause = limit < threads
            ? $"OMP_THREAD_LIMIT is {limit} and torch.get_num_threads() is {threads}"
            : "OMP_DYNAMIC is set";
        string remedy = limit < threads ? $"Call torch.set_num_threads({limit})" : "Unset OMP_DYNAMIC";
        return $"{cause}: OpenMP may grant fewer threads than libtorch asks for, and the weight gradients of libtorch's " +
            $"depthwise convolutions are then wrong. {remedy}.";
    }

    /// <summary>
    /// Calls <paramref name="body"/> with ranges that cover 0 to <paramref name="items"/>, on as many threads as libtorch may
    /// use. A body must not throw. Which range goes to which thread changes no result.
    /// </summary>
    public static void Run<TArguments>(delegate*<TArguments*, int, int, void> body, TArguments* arguments, int items, long bytes)
        where TArguments : unmanaged
    {
        int threads = ThreadsFor(items, bytes);
        if (threads <= 1)
        {
            body(arguments, 0, items);
            return;
        }

        Work work = new((delegate*<void*, int, int, void>)body, arguments, items, Math.Min(threads, MostGranted));
        if (IsOpenMp) _openMp!.Run(&work);
        else RunOnPool(&work);
    }

    /// <summary>
    /// Calls <paramref name="body"/> with (phase, thread, threads) for every thread of a team, phase after phase: no thread
    /// begins one before all have done the last. On libtorch's threads that is one parallel call with barriers, whatever the
    /// number of phases. The system may grant a team of fewer threads than <paramref name="threads"/>, and only the body learns
    /// how many there are: what it does must be right for any number.
    /// </summary>
    public static void RunPhases<TArguments>(
        delegate*<TArguments*, int, int, int, void> body, TArguments* arguments, int phases, int threads)
        where TArguments : unmanaged
    {
        PhasedWork work = new((delegate*<void*, int, int, int, void>)body, arguments, phases);
        threads = Math.Min(threads, MostGranted);
        if (threads <= 1) work.Alone();
        else if (IsOpenMp) _openMp!.RunPhases(&work, threads);
        else RunPhasesOnPool(&work, phases, threads);
    }

    private static void RunPhasesOnPool(PhasedWork* work, int phases, int threads)
    {
        nint address = (nint)work;
        ParallelOptions options = new() { MaxDegreeOfParallelism = threads };
        for (int phase = 0; phase < phases; phase++)
        {
            int current = phase;
            Parallel.For(0, threads, options, thread => ((PhasedWork*)address)->Part(current, thread, threads));
        }
    }

    private static void RunOnPool(Work* work)
    {
        nint address = (nint)work;
        Parallel.For(
            0, work->Threads, new ParallelOptions { MaxDegreeOfParallelism = work->Threads },
            thread => ((Work*)address)->Part(thread));
    }

    /// <summary>One parallel call; lives on the caller's stack until all threads are done.</summary>
    private readonly struct Work(delegate*<void*, int, int, void> body, void* arguments, int items, int threads)
    {
        private readonly delegate*<void*, int, int, void> _body = body;
        private readonly void* _arguments = arguments;
        private readonly int _items = items;

        public int Threads { get; } = threads;

        public void Part(int thread) => Part(thread, Threads);

        public void Part(int thread, int threads)
        {
            (long from, long to) = Partition.Of(_items, thread, threads);
            if (from < to) _body(_arguments, (int)from, (int)to);
        }
    }

    /// <summary>One call in phases; lives on the caller's stack until all threads are done.</summary>
    private readonly struct PhasedWork(delegate*<void*, int, int, int, void> body, void* arguments, int phases)
    {
        private readonly delegate*<void*, int, int, int, void> _body = body;
        private readonly void* _arguments = arguments;

        public int Phases { get; } = phases;

        public void Part(int phase, int thread, int threads) => _body(_arguments, phase, thread, threads);

        public void Alone()
        {
            for (int phase = 0; phase < Phases; phase++) Part(phase, 0, 1);
        }
    }

    /// <summary>The OpenMP library that libtorch has loaded.</summary>
    private sealed class OpenMp
    {
        private readonly delegate* unmanaged<delegate* unmanaged<void*, void>, void*, uint, uint, void> _parallel;
        private readonly delegate* unmanaged[SuppressGCTransition]<int> _threadNumber;
        private readonly delegate* unmanaged[SuppressGCTransition]<int> _threads;
        private readonly delegate* unmanaged<void> _barrier;
        private static OpenMp? _running;

        private readonly delegate* unmanaged<int> _limit;
        private readonly delegate* unmanaged<int> _dynamic;

        private OpenMp(nint parallel, nint threadNumber, nint threads, nint barrier, nint limit, nint isDynamic)
        {
            _limit = (delegate* unmanaged<int>)limit;
            _dynamic = (delegate* unmanaged<int>)isDynamic;
            _barrier = (delegate* unmanaged<void>)barrier;
            _parallel = (delegate* unmanaged<delegate* unmanaged<void*, void>, void*, uint, uint, void>)parallel;
            _threadNumber = (delegate* unmanaged[SuppressGCTransition]<int>)threadNumber;
            _threads = (delegate* unmanaged[SuppressGCTransition]<int>)threads;
        }

        public static OpenMp? Find()
        {
            if (!OperatingSystem.IsLinux()) return null;
            torch.InitializeDeviceType(DeviceType.CPU);
            using Process process = Process.GetCurrentProcess();
            List<string> loaded = [.. process.Modules.Cast<ProcessModule>().Select(module => module.FileName)];
            string? folder = Path.GetDirectoryName(
                loaded.Find(file => Path.GetFileName(file).StartsWith("libtorch_cpu", StringComparison.Ordinal)));

            // Another program's OpenMP may be loaded too; libtorch's lies beside it, or is the only one.
            IEnumerable<string> candidates = loaded
                .Where(file => Path.GetFileName(file).StartsWith("libgomp", StringComparison.Ordinal))
                .OrderByDescending(file => Path.GetDirectoryName(file) == folder);
            foreach (string file in candidates)
            {
                if (NativeLibrary.TryLoad(file, out nint library)
                    && NativeLibrary.TryGetExport(library, "GOMP_parallel", out nint parallel)
                    && NativeLibrary.TryGetExport(library, "omp_get_thread_num", out nint number)
                    && NativeLibrary.TryGetExport(library, "omp_get_num_threads", out nint threads)
                    && NativeLibrary.TryGetExport(library, "GOMP_barrier", out nint barrier)
                    && NativeLibrary.TryGetExport(library, "omp_get_thread_limit", out nint limit)
                    && NativeLibrary.TryGetExport(library, "omp_get_dynamic", out nint isDynamic))
                {
                    return _running = new OpenMp(parallel, number, threads, barrier, limit, isDynamic);
                }
            }

            return null;
        }

        public int Limit() => _limit();

        public bool IsDynamic() => _dynamic() != 0;

        public void Run(Work* work) => _parallel(&Enter, work, (uint)work->Threads, 0);

        public void RunPhases(PhasedWork* work, int threads) => _parallel(&EnterPhases, work, (uint)threads, 0);

        /// <summary>
        /// Every thread of the team comes here. A thread that waits at a barrier does not hold up the garbage collector.
        /// </summary>
        [UnmanagedCallersOnly]
        private static void EnterPhases(void* pointer)
        {
            PhasedWork* work = (PhasedWork*)pointer;
            OpenMp openMp = _running!;
            int thread = openMp._threadNumber(), threads = openMp._threads(), last = work->Phases - 1;
            for (int phase = 0; phase < last; phase++)
            {
                work->Part(phase, thread, threads);
                openMp._barrier();
            }

            work->Part(last, thread, threads);
        }

        /// <summary>Every thread of the team comes here; the team may be smaller than asked for.</summary>
        [UnmanagedCallersOnly]
        private static void Enter(void* work) => ((Work*)work)->Part(_running!._threadNumber(), _running._threads());
    }
}
