namespace TorchSharp.Attention;

/// <summary>What a pickle holds.</summary>
/// <param name="Value">Its value.</param>
/// <param name="Storages">The storages that it refers to, by their keys.</param>
/// <param name="End">Position in the file after it.</param>
internal sealed record PickleResult(object? Value, IReadOnlyDictionary<string, PickleStorage> Storages, long End);
