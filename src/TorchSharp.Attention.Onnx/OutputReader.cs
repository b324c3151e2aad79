namespace TorchSharp.Attention.Onnx;

/// <summary>Looks at one output of a run.</summary>
internal delegate void OutputReader(string name, ReadOnlySpan<float> values, long[] shape);
