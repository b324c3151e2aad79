using TorchSharp.Attention.Onnx.Schema;
using ElementType = TorchSharp.Attention.Onnx.Schema.TensorProto.Types.DataType;

namespace TorchSharp.Attention.Onnx;

/// <summary>
/// In which eight bits weights are stored. On x86 processors without VNNI, ONNX Runtime multiplies bytes by signed bytes and adds
/// two neighbouring products in 16 bits, which saturate beyond 32767. Both forms avoid that: products of two bytes are added in
/// 32 bits, and reduced signed bytes have no two weights whose products exceed 16 bits.
/// </summary>
internal sealed class WeightForm
{
    /// <summary>
    /// Two products of a byte and a signed byte fit 16 bits as long as the signed bytes add up to 128 at most: 255 · 128 = 32640.
    /// </summary>
    internal const int PairLimit = 128;

    /// <summary>Description of a file that is float to the end.</summary>
    internal const string NoWeights = "float weights";

    private const int Most = 127;

    private readonly bool _reduced;

    private WeightForm(bool reduced) => _reduced = reduced;

    /// <summary>Bytes around 128: levels from −127 to 127, stored as 1 to 255.</summary>
    public static WeightForm Bytes { get; } = new(reduced: false);

    /// <summary>Signed bytes of which no two of one output and one sign add up to more than <see cref="PairLimit"/>.</summary>
    public static WeightForm ReducedSignedBytes { get; } = new(reduced: true);

    /// <summary>The form that the options ask for.</summary>
    public static WeightForm Of(QuantizationOptions options) => options.ReduceRange ? ReducedSignedBytes : Bytes;

    /// <summary>What the file's metadata and the report say of it.</summary>
    public string Description => _reduced
        ? "int8 weights of reduced range, right on every processor"
        : "uint8 weights, right on every processor";

    /// <summary>
    /// The scale with which an output's weights stay inside this form, and its largest weight is a whole number of steps.
    /// </summary>
    /// <param name="weights">The largest weights of the output.</param>
    public double Scale(WeightReach weights)
    {
        if (!_reduced || weights.Largest == 0) return weights.Largest / Most;
        // Rounding adds half a level to each of the two.
        double least = Math.Max(weights.Largest / Most, weights.LargestPair / (PairLimit - 1));
        return weights.Largest / Math.Floor(weights.Largest / least * (1 + 1e-12));
    }

    /// <summary>The nearest level of a weight.</summary>
    public static int Level(float weight, float scale) => Math.Clamp(AffineParameters.Nearest(weight, scale), -Most, Most);

    /// <summary>A constant of the model with levels of weights.</summary>
    public TensorProto Tensor(string name, int[] levels, params IEnumerable<long> dims)
    {
        byte zero = (byte)(_reduced ? 0 : 128);
        byte[] bytes = [.. levels.Select(level => unchecked((byte)(level + zero)))];
        return NodeGraph.Tensor<byte>(name, _reduced ? ElementType.Int8 : ElementType.Uint8, bytes, dims);
    }

    /// <summary>The zero points that belong to scales of a shape.</summary>
    public TensorProto ZeroPoints(string name, int count, params IEnumerable<long> dims) => Tensor(name, new int[count], dims);
}
