namespace TorchSharp.Attention;

/// <summary>Progress of <see cref="HubCache.DownloadAsync"/>. It never decreases, and the last report has all bytes.</summary>
/// <param name="File">The file's name in the repository.</param>
/// <param name="BytesDone">Bytes that are here, those of an earlier attempt among them.</param>
/// <param name="BytesTotal">Bytes of the whole file.</param>
public readonly record struct HubDownloadProgress(string File, long BytesDone, long BytesTotal);
