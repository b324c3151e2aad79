using System.Text.Json;
using System.Text.Json.Serialization;
using Samples;
using TorchSharp.Attention.Onnx;

namespace Deployment;

/// <summary>What was measured of one network. Accuracies are shares of the test images.</summary>
internal sealed record DeploymentResult
{
    private static readonly JsonSerializerOptions Format = new() { WriteIndented = true, NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals };

    public required string Network { get; init; }

    public required string Attention { get; init; }

    public long Parameters { get; init; }

    public long MultiplyAccumulates { get; init; }

    /// <summary>By way: eager, fused, onnx, int8.</summary>
    public Dictionary<string, double> Accuracy { get; init; } = [];

    /// <summary>Accuracy and signal-to-noise ratio of the eight-bit file by calibration method.</summary>
    public Dictionary<string, QuantizationEffect> Calibration { get; init; } = [];

    /// <summary>By file: weights (TorchSharp's, safetensors), float, int8 (ONNX).</summary>
    public Dictionary<string, long> Bytes { get; init; } = [];

    public int Convolutions { get; init; }

    public int IntegerConvolutions { get; init; }

    public SensitivityReport? Sensitivity { get; init; }

    /// <summary>By way; empty until timed.</summary>
    public IReadOnlyDictionary<string, Timing> Latency { get; init; } = new Dictionary<string, Timing>();

    /// <summary>When and where it was timed, and with how many threads and rounds.</summary>
    public string? Timed { get; init; }

    [JsonIgnore]
    public string Name => $"{Network}-{Attention}";

    public void Save(string folder)
    {
        Directory.CreateDirectory(folder);
        WholeFile.WriteText(PathOf(folder, Name), JsonSerializer.Serialize(this, Format) + "\n");
    }

    public static DeploymentResult? Load(string folder, string name)
        => File.Exists(PathOf(folder, name)) ? JsonSerializer.Deserialize<DeploymentResult>(File.ReadAllText(PathOf(folder, name)), Format) : null;

    private static string PathOf(string folder, string name) => Path.Combine(folder, $"{name}.json");
}
