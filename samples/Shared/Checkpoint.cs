using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Samples.Data;
using TorchSharp;
using TorchSharp.Attention;
using static TorchSharp.torch;

namespace Samples;

/// <summary>
/// A trained network as two files: the weights as TorchSharp saves them, and best.json with all that is needed to build the
/// network, to normalise an image, and to name the classes.
/// </summary>
public sealed record Checkpoint
{
    public const string FileName = "best.json";

    public required string Variant { get; init; }

    public required double TestAccuracy { get; init; }

    /// <summary>File of the weights, beside best.json.</summary>
    public required string WeightsFile { get; init; }

    /// <summary><see cref="Checksum"/> of the weights.</summary>
    public required string WeightsChecksum { get; init; }

    public required ResNetStem Stem { get; init; }

    public required ResNetBlock Block { get; init; }

    public required int StemWidth { get; init; }

    public required ValueList<int> StagePlanes { get; init; }

    public required ValueList<int> Layers { get; init; }

    /// <summary>The plan, as <see cref="AttentionPlan.ToJson"/> writes it.</summary>
    public required JsonNode Attention { get; init; }

    public required ImageShape Image { get; init; }

    public required Normalisation Normalisation { get; init; }

    public required IReadOnlyList<string> Classes { get; init; }

    /// <summary>Writes the weights, then best.json, each whole or not at all.</summary>
    public static void Save(
        string folder, string variant, double testAccuracy, ResNet network, DataSet data, Normalisation normalisation)
    {
        ResNetOptions options = network.Options;
        Checkpoint checkpoint = new()
        {
            Variant = variant,
            TestAccuracy = testAccuracy,
            WeightsFile = $"best-{string.Concat(variant.Select(c => char.IsAsciiLetterOrDigit(c) ? c : '-'))}.dat",
            WeightsChecksum = Checksum(network),
            Stem = options.Stem,
            Block = options.Block,
            StemWidth = options.StemWidth,
            StagePlanes = options.PlanesOfStages(),
            Layers = options.Layers,
            Attention = JsonNode.Parse(options.Attention.ToJson())!,
            Image = data.Train.Shape,
            Normalisation = normalisation,
            Classes = data.Classes,
        };
        WholeFile.Write(Path.Combine(folder, checkpoint.WeightsFile), stream =>
        {
            using BinaryWriter writer = new(stream, Encoding.UTF8, leaveOpen: true);
            network.save(writer);
        });
        WholeFile.Write(Path.Combine(folder, FileName), stream => JsonSerializer.Serialize(stream, checkpoint, SampleJson.Format));
    }

    /// <summary>Builds the network anew from the files.</summary>
    public static (Checkpoint Checkpoint, ResNet Network) Load(string folder)
    {
        Checkpoint checkpoint = JsonSerializer.Deserialize<Checkpoint>(File.ReadAllText(Path.Combine(folder, FileName)), SampleJson.Format)!;
        ResNet network = new(new ResNetOptions
        {
            Stem = checkpoint.Stem,
            Block = checkpoint.Block,
            StemWidth = checkpoint.StemWidth,
            StagePlanes = checkpoint.StagePlanes,
            Layers = checkpoint.Layers,
            InputChannels = checkpoint.Image.Channels,
            Classes = checkpoint.Classes.Count,
            Attention = AttentionPlan.FromJson(checkpoint.Attention.ToJsonString()),
        });
        try
        {
            network.load(Path.Combine(folder, checkpoint.WeightsFile));
            network.eval();
            return Checksum(network) == checkpoint.WeightsChecksum
                ? (checkpoint, network)
                : throw new IOException($"{checkpoint.WeightsFile} does not hold the weights that {FileName} describes.");
        }
        catch
        {
            network.Dispose();
            throw;
        }
    }

    /// <summary>The first 12 hexadecimal digits of SHA-256 over names, sizes and bytes of all weights and buffers.</summary>
    public static string Checksum(nn.Module network)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach ((string name, Tensor tensor) in network.state_dict().OrderBy(entry => entry.Key, StringComparer.Ordinal))
        {
            using DisposeScope scope = NewDisposeScope();
            hash.AppendData(Encoding.UTF8.GetBytes($"{name} {tensor.dtype} [{string.Join(", ", tensor.shape)}]\n"));
            hash.AppendData(tensor.detach().contiguous().bytes);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset())[..12];
    }
}
