namespace TorchSharp.Attention;

/// <summary>What is wrong with a pickle; the archive says in which file.</summary>
internal sealed class PickleException(string message) : Exception(message);
