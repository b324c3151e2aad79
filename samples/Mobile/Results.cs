using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Mobile;

/// <summary>One form of a network: what it costs and what it does. The runner, which knows no TorchSharp, reads it too.</summary>
/// <param name="Network">whole or pruned.</param>
/// <param name="Form">How it runs.</param>
internal sealed record Step(string Network, string Form)
{
    public long Parameters { get; init; }

    public long MultiplyAccumulates { get; init; }

    /// <summary>Its file in the folder; null where there is none.</summary>
    public string? File { get; init; }

    public long? Bytes { get; init; }

    /// <summary>Test images that it classifies right.</summary>
    public int Right { get; init; }

    /// <summary>
    /// For an ONNX file the class that it must give each test image, one character an image ('0' is class 0): TorchSharp's for a float
    /// file, ONNX Runtime's of the program that wrote it for one in eight bits. '?' where two classes are so near to each other that the
    /// error which the export allows could swap them.
    /// </summary>
    public string? Expected { get; init; }

    /// <summary>Median time of one image; null until it is measured.</summary>
    public double? Milliseconds { get; init; }
}

/// <summary>What is left in the folder of a run.</summary>
/// <param name="TestImages">How many test images were classified, from the first.</param>
/// <param name="Steps">The forms, in the order in which they came about.</param>
/// <param name="Timed">When and how time was measured; null before.</param>
internal sealed record Results(int TestImages, IReadOnlyList<Step> Steps, string? Timed)
{
    private const string Name = "results.json";

    private static readonly JsonSerializerOptions Format = new() { WriteIndented = true };

    /// <summary>Results of a folder; null where there are none.</summary>
    /// <exception cref="IOException">The file holds something else.</exception>
    public static Results? Load(string folder)
    {
        string path = PathOf(folder);
        if (!File.Exists(path)) return null;
        try
        {
            return JsonSerializer.Deserialize<Results>(File.ReadAllText(path), Format) ?? throw new JsonException("it is null");
        }
        catch (JsonException e)
        {
            throw new IOException($"{path} holds no results ({e.Message}); delete it and run samples/Mobile again.", e);
        }
    }

    public static string PathOf(string folder) => Path.Combine(folder, Name);

    public string ToJson() => JsonSerializer.Serialize(this, Format) + "\n";

    /// <summary>A table in Markdown, one line per step.</summary>
    public override string ToString()
    {
        StringBuilder text = new("| network | form | parameters | M MACs | file, KiB | one image, ms | accuracy, % |\n|---|---|---:|---:|---:|---:|---:|\n");
        foreach (Step step in Steps)
        {
            text.Append(CultureInfo.InvariantCulture, $"| {step.Network} | {step.Form} | {step.Parameters:N0} | {step.MultiplyAccumulates / 1e6:N2} | ");
            text.Append(CultureInfo.InvariantCulture, $"{step.Bytes / 1024.0:N0} | {step.Milliseconds:N2} | {100.0 * step.Right / TestImages:N2} |\n");
        }

        if (Timed is not null) text.Append(CultureInfo.InvariantCulture, $"\nTimed {Timed}.\n");
        return text.ToString();
    }
}
