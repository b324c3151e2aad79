using TorchSharp.Attention.Golden;

namespace TorchSharp.Attention.Tests;

/// <summary>A temporary folder of weight files, and what tests of them need.</summary>
public sealed class WeightsFolder : TestFolder
{
    /// <summary>Makes a symbolic link; the test is skipped where the system allows none.</summary>
    public string Link(string name, string target)
    {
        string path = PathOf(name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        try
        {
            File.CreateSymbolicLink(path, target);
        }
        catch (Exception e) when (OperatingSystem.IsWindows() && e is IOException or UnauthorizedAccessException)
        {
            Assert.Skip($"this system makes no symbolic links: {e.Message}");
        }

        return path;
    }

    /// <summary>Writes tensors as safetensors.</summary>
    public string Safetensors(string name, IReadOnlyDictionary<string, Tensor> tensors)
    {
        SafetensorsFile.Write(PathOf(name), tensors);
        return PathOf(name);
    }

    /// <summary>Writes tensors as torch.save(state_dict) does.</summary>
    public string Torch(string name, IEnumerable<KeyValuePair<string, Tensor>> tensors)
    {
        TorchWriter writer = new();
        return Write(name, writer.ToBytes(writer.State(tensors)));
    }

    /// <summary>The state of a golden case under the reference's names; owned by the caller's scope.</summary>
    public static Dictionary<string, Tensor> GoldenState(string fixture)
    {
        using SafetensorsFile file = SafetensorsFile.Open(GoldenFile.PathOf(fixture));
        return file.Entries.Keys.Where(name => name.StartsWith("state.", StringComparison.Ordinal)).ToDictionary(name => name[6..], name => file.Load(name));
    }

    /// <summary>The relative error of a network's logits against a golden case.</summary>
    public static double LogitError(nn.Module<Tensor, Tensor> network, string fixture)
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        using SafetensorsFile file = SafetensorsFile.Open(GoldenFile.PathOf(fixture));
        network.eval();
        Tensor expected = file.Load("y_eval");
        return (network.call(file.Load("x")) - expected).abs().max().ToDouble() / expected.abs().max().ToDouble();
    }

    /// <summary>All values of a module, to see whether they changed.</summary>
    public static byte[] Snapshot(nn.Module module) =>
        [.. module.state_dict().OrderBy(pair => pair.Key, StringComparer.Ordinal).SelectMany(pair => Bytes(pair.Value))];

    public static byte[] Bytes(Tensor tensor)
    {
        using Tensor values = tensor.detach().contiguous();
        return values.numel() == 0 ? [] : values.bytes.ToArray();
    }
}
