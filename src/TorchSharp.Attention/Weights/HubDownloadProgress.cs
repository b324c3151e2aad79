namespace TorchSharp.Attention;

/// <summary>How far <see cref="HubCache.DownloadAsync"/> has come. It never goes back, and ends with all bytes.</summary>
/// <param name="File">The file's name in the repository.</param>
/// <param name="BytesDone">Bytes that are here, those of an earlier attempt among them.</param>
/// <param name="BytesTotal">Bytes of the whole file.</param>
public readonly record struct HubDownloadProgress(string File, long BytesDone, long BytesTotal);
