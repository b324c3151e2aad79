namespace TorchSharp.Attention;
/// <summary>stub</summary>
public sealed class UNet { }
