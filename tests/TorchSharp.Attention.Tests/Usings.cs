global using TorchSharp.Attention.TestSupport;
global using Xunit;
global using static TorchSharp.torch;
