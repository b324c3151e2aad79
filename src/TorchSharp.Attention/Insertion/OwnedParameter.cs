using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// A parameter by the module that it belongs to and its name there, which a conversion of the network does not change.
/// </summary>
internal readonly record struct OwnedParameter(nn.Module Owner, string Name);
