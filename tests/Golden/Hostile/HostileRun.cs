using System.Buffers.Binary;
using System.Globalization;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>
/// Damages files of weights and reads them, at positions and through a memory map. Each must read or be refused with
/// <see cref="WeightsFormatException"/>, both ways alike, must not allocate far more than the file holds, and must be closed afterwards.
/// </summary>
internal static class HostileRun
{
    private const int LongestSeed = 64 * 1024;

    // Objects of a pickle take some sixty bytes for each byte that makes them; a message and the runtime's own buffers take the rest.
    private const int BytesForAByte = 128, BytesForNothing = 4 << 20;

    /// <summary>What came of the files.</summary>
    internal sealed record Outcome(int Read, int Refused, IReadOnlyList<string> Problems);

    /// <summary>Files to damage: the small ones of a folder, each also as a PyTorch archive, and archives that PyTorch wrote itself.</summary>
    public static IReadOnlyList<(string Name, byte[] Bytes, Range[] Structure)> Seeds(string folder)
    {
        List<(string, byte[], Range[])> seeds = [];
        foreach (string path in Directory.GetFiles(folder, "*.safetensors", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
        {
            byte[] bytes = File.ReadAllBytes(path);
            if (bytes.Length > LongestSeed) continue;
            string name = Path.GetFileNameWithoutExtension(path);
            seeds.Add((name + ".safetensors", bytes, [new Range(0, 8), new Range(8, 8 + (int)BinaryPrimitives.ReadInt64LittleEndian(bytes))]));
            (byte[] archive, Range pickle) = Archive(path);
            seeds.Add((name + ".pth", archive, [pickle, pickle, ^600..]));
        }

        foreach (string path in Directory.GetFiles(folder, "*.pth", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
        {
            byte[] bytes = File.ReadAllBytes(path);
            if (bytes.Length > LongestSeed) continue;

            // The pickle comes first, the directory of a zip archive last. Written down a few times, since there is so little of what is real.
            for (int i = 0; i < 8; i++) seeds.Add(($"{Path.GetFileNameWithoutExtension(path)}{i}.pth", bytes, [new Range(0, bytes.Length / 2), new Range(^(bytes.Length / 3), ^0)]));
        }

        return seeds;
    }

    /// <summary>Reads so many damaged files.</summary>
    public static Outcome Run(int count, int seed, IReadOnlyList<(string Name, byte[] Bytes, Range[] Structure)> seeds, TextWriter? progress = null)
    {
        string folder = Directory.CreateTempSubdirectory("hostile").FullName;
        try
        {
            int read = 0;
            List<string> problems = [];
            for (int i = 0; i < count; i++)
            {
                (string name, byte[] bytes, Range[] structure) = seeds[i % seeds.Count];
                byte[] damaged = new Mutator(unchecked((seed * 1_000_003) + i)).Damage(bytes, structure);
                string path = Path.Combine(folder, name);
                File.WriteAllBytes(path, damaged);
                string? problem = Judge(path, damaged.Length, memoryMap: false, out bool isRead) ?? Judge(path, damaged.Length, memoryMap: true, out bool isMapped)
                    ?? (isRead == isMapped ? null : $"read: {isRead}; read through a memory map: {isMapped}");
                if (problem is not null) problems.Add($"{name}, seed {seed}, number {i}: {problem}");
                else if (isRead) read++;
                if ((i + 1) % 1000 == 0) progress?.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{i + 1} files"));
            }

            return new Outcome(read, count - read - problems.Count, problems);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Reads a file whole; returns what is wrong with how the reader took it, if anything.</summary>
    public static string? Judge(string path, long length, bool memoryMap, out bool isRead)
    {
        isRead = false;
        long before = GC.GetAllocatedBytesForCurrentThread();
        try
        {
            using WeightsFile file = WeightsFile.Open(path, section: null, memoryMap);
            foreach (WeightsEntry entry in file.Entries.Values)
            {
                using Tensor tensor = file.Load(entry.Name);
                if (tensor.numel() * tensor.element_size() > length) return $"'{entry.Name}' has more bytes than the file";
            }

            isRead = true;
        }
        catch (WeightsFormatException)
        {
            // What it should be.
        }
        catch (Exception e)
        {
            return $"{e.GetType().Name}: {e.Message}";
        }

        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        if (allocated > (length * BytesForAByte) + BytesForNothing) return $"{allocated} bytes were allocated for a file of {length}";
        try
        {
            using FileStream alone = new(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None);
            return null;
        }
        catch (IOException e)
        {
            return $"the file is still open: {e.Message}";
        }
    }

    private static (byte[] Archive, Range Pickle) Archive(string path)
    {
        using DisposeScope scope = NewDisposeScope();
        using SafetensorsFile file = SafetensorsFile.Open(path);
        TorchWriter writer = new();
        PickledState state = writer.State(file.Entries.Keys.Select(name => KeyValuePair.Create(name, file.Load(name))));
        byte[] pickle = PickleWriter.Write(state), archive = writer.Archive(pickle);
        int start = archive.AsSpan().IndexOf(pickle);
        return (archive, start..(start + pickle.Length));
    }
}
