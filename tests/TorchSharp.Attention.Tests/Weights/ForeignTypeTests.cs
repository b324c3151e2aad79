using System.Buffers.Binary;

namespace TorchSharp.Attention.Tests;

/// <summary>Types that TorchSharp lacks: listed and skipped, and loaded to the last bit where a wider type has every value.</summary>
public sealed class ForeignTypeTests : IDisposable
{
    private readonly WeightsFolder _folder = new();
    private readonly DisposeScope _scope = NewDisposeScope();

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [InlineData("F8_E4M3")]
    [InlineData("F8_E5M2")]
    [InlineData("F8_E4M3FNUZ")]
    [InlineData("F8_E5M2FNUZ")]
    [InlineData("F8_E8M0")]
    public void All_values_of_eight_bits_are_exact(string type)
    {
        byte[] codes = [.. Enumerable.Range(0, 256).Select(code => (byte)code)];
        float[] read = Load(type, [256], codes).data<float>().ToArray();
        for (int code = 0; code < 256; code++) Same((float)Independent(type, code), read[code], $"{type} {code:x2}");
    }

    [Fact]
    public void Known_values_of_the_formats()
    {
        // From the tables of the papers and of the OCP specification.
        Known("F8_E4M3", (0x00, 0), (0x80, -0f), (0x01, 0.001953125f), (0x08, 0.015625f), (0x38, 1), (0x7e, 448), (0xfe, -448), (0x7f, float.NaN), (0xff, float.NaN));
        Known("F8_E5M2", (0x01, 1.52587890625e-5f), (0x04, 6.103515625e-5f), (0x3c, 1), (0x7b, 57344), (0x7c, float.PositiveInfinity), (0xfc, float.NegativeInfinity), (0x7d, float.NaN), (0xff, float.NaN));
        Known("F8_E4M3FNUZ", (0x00, 0), (0x80, float.NaN), (0x01, 0.0009765625f), (0x40, 1), (0x7f, 240), (0xff, -240));
        Known("F8_E5M2FNUZ", (0x80, float.NaN), (0x01, 7.62939453125e-6f), (0x40, 1), (0x7f, 57344), (0xff, -57344));
        Known("F8_E8M0", (0x00, 5.877471754111438e-39f), (0x7f, 1), (0x80, 2), (0xfe, 1.7014118346046923e38f), (0xff, float.NaN));
    }

    [Fact]
    public void Values_of_four_bits_lie_two_to_a_byte_the_first_in_the_low_half()
    {
        // Codes 0 to 15, then rows that begin within a byte.
        byte[] codes = [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe];
        float[] expected = [0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0f, -0.5f, -1, -1.5f, -2, -3, -4, -6];
        float[] read = Load("F4", [16], codes).data<float>().ToArray();
        for (int i = 0; i < 16; i++) Same(expected[i], read[i], $"F4 {i}");
        using SafetensorsFile file = SafetensorsFile.Open(Write("F4", "2,3", [0x21, 0x43, 0x65]));
        Assert.Equal([0.5f, 1, 1.5f, 2, 3, 4], file.Load("a").data<float>().ToArray());
        Assert.Equal([2f, 3, 4], file.LoadRows("a", 1, 1).data<float>().ToArray());
        Assert.Contains("12 bits, which are no whole bytes", Refused("F4", "3", new byte[2]), StringComparison.Ordinal);
    }

    [Fact]
    public void Unsigned_integers_are_widened()
    {
        Tensor u16 = Load("U16", [3], [0, 0, 0, 0x80, 0xff, 0xff]), u32 = Load("U32", [2], [0, 0, 0, 0x80, 0xff, 0xff, 0xff, 0xff]);
        Assert.Equal([0, 32768, 65535], u16.data<int>().ToArray());
        Assert.Equal([2147483648, 4294967295], u32.data<long>().ToArray());
        byte[] u64 = new byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(u64.AsSpan(8), long.MaxValue);
        Assert.Equal([0, long.MaxValue], Load("U64", [2], u64).data<long>().ToArray());
        BinaryPrimitives.WriteUInt64LittleEndian(u64.AsSpan(8), 1UL << 63);
        using SafetensorsFile file = SafetensorsFile.Open(Write("U64", "2", u64));
        Assert.Contains("is 9223372036854775808", Assert.Throws<WeightsFormatException>(() => file.Load("a")).Message, StringComparison.Ordinal);
        Assert.Equal([0], file.LoadRows("a", 0, 1).data<long>().ToArray());
    }

    [Fact]
    public void A_large_tensor_is_widened_piece_by_piece()
    {
        byte[] codes = new byte[3_000_000];
        new Random(1).NextBytes(codes);
        float[] table = Load("F8_E4M3FNUZ", [256], [.. Enumerable.Range(0, 256).Select(code => (byte)code)]).data<float>().ToArray();
        using SafetensorsFile file = SafetensorsFile.Open(Write("F8_E4M3FNUZ", "1000,3000", codes), memoryMap: true);
        float[] read = file.Load("a").data<float>().ToArray(), rows = file.LoadRows("a", 500, 2).data<float>().ToArray();
        for (int i = 0; i < codes.Length; i += 7) Same(table[codes[i]], read[i], $"{i}");
        for (int i = 0; i < rows.Length; i++) Same(table[codes[1_500_000 + i]], rows[i], $"{i}");
        byte[] halves = codes[..1_500_000];
        using SafetensorsFile four = SafetensorsFile.Open(Write("F4", "3000,1000", halves));
        float[] values = four.Load("a").data<float>().ToArray();
        float[] sixteen = [0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0f, -0.5f, -1, -1.5f, -2, -3, -4, -6];
        for (int i = 0; i < values.Length; i += 5) Same(sixteen[(halves[i / 2] >> (i % 2 * 4)) & 15], values[i], $"{i}");
    }

    [Theory]
    [InlineData("U16", "2", 4, ScalarType.Int32)]
    [InlineData("U32", "1", 4, ScalarType.Int64)]
    [InlineData("U64", "1", 8, ScalarType.Int64)]
    [InlineData("F8_E4M3", "4", 4, ScalarType.Float32)]
    [InlineData("F8_E8M0", "4", 4, ScalarType.Float32)]
    [InlineData("F4", "4", 2, ScalarType.Float32)]
    [InlineData("F6_E2M3", "4", 3, ScalarType.Float32)]
    [InlineData("F6_E3M2", "8", 6, ScalarType.Float32)]
    [InlineData("C128", "2", 32, ScalarType.Float32)]
    [InlineData("Q9", "5", 3, ScalarType.Float32)]
    public void A_file_with_such_a_tensor_opens_and_the_tensor_can_be_skipped(string type, string shape, int bytes, ScalarType listed)
    {
        using Modules.Linear linear = nn.Linear(2, 2, hasBias: false);
        string header = $$$"""{"weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"codes":{"dtype":"{{{type}}}","shape":[{{{shape}}}],"data_offsets":[16,{{{16 + bytes}}}]}}""";
        string path = _folder.Write("t.safetensors", GoldenFile.Join(header, new byte[16 + bytes]));
        using (WeightsFile file = WeightsFile.Open(path))
        {
            Assert.Equal((type, listed), (file.Entries["codes"].ForeignType, file.Entries["codes"].Type));
            Assert.Null(file.Entries["weight"].ForeignType);
        }

        Assert.Equal(["codes"], linear.LoadWeights(path, KeyMap.Drop("^codes$")).Skipped);
        Assert.Equal(["codes"], linear.LoadWeights(path, options: new WeightsLoadOptions { AllowUnexpected = true }).Skipped);
        Assert.Equal(0, linear.weight!.count_nonzero().ToInt64());
        Assert.Equal(["codes"], Assert.Throws<WeightsMismatchException>(() => linear.LoadWeights(path)).Report.Unexpected);
    }

    [Fact]
    public void Values_are_widened_into_a_model_on_request_alone()
    {
        using Modules.Linear linear = nn.Linear(2, 2, hasBias: false);
        string path = Write("F8_E4M3", "2,2", [0x38, 0x40, 0x7e, 0xb8], "weight");
        WeightsMismatchException e = Assert.Throws<WeightsMismatchException>(() => linear.LoadWeights(path));
        Assert.Contains("the file's 'weight' is F8_E4M3 [2, 2]; the network's 'weight' is Float32 [2, 2]", e.Message, StringComparison.Ordinal);
        Assert.Contains("WidenTypes = true", e.Message, StringComparison.Ordinal);
        WeightsLoadOptions widen = new() { WidenTypes = true };
        Assert.True(linear.LoadWeights(path, options: widen).IsComplete);
        Assert.Equal([1f, 2, 448, -1], linear.weight!.data<float>().ToArray());
        foreach (string type in new[] { "F6_E2M3", "Q9" })
        {
            string other = Write(type, "2,2", [0, 0, 0], "weight");
            e = Assert.Throws<WeightsMismatchException>(() => linear.LoadWeights(other, options: widen));
            Assert.Contains("KeyMap.Drop", e.Message, StringComparison.Ordinal);
            using WeightsFile file = WeightsFile.Open(other);
            Assert.Contains(type, Assert.Throws<WeightsFormatException>(() => file.Load("weight")).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_size_that_does_not_fit_the_type_is_refused_also_where_the_type_is_foreign()
    {
        Assert.Contains("needs 4 bytes and has 3", Refused("U16", "2", new byte[3]), StringComparison.Ordinal);
        Assert.Contains("needs 3 bytes and has 4", Refused("F6_E2M3", "4", new byte[4]), StringComparison.Ordinal);
        Assert.Contains("not understood", Refused("F4", "4611686018427387904", new byte[3]), StringComparison.Ordinal);
    }

    [Fact]
    public void Any_byte_but_zero_is_true()
    {
        using SafetensorsFile file = SafetensorsFile.Open(Write("BOOL", "4", [0, 1, 2, 255]));
        Tensor read = file.Load("a");
        Assert.Equal(3, read.to_type(ScalarType.Float32).sum().ToSingle());
        Assert.Equal([0, 1, 1, 1], WeightsFolder.Bytes(read));
        Assert.Equal([1, 1], WeightsFolder.Bytes(file.LoadRows("a", 2, 2)));
    }

    private Tensor Load(string type, long[] shape, byte[] data)
    {
        using SafetensorsFile file = SafetensorsFile.Open(Write(type, string.Join(',', shape), data));
        return file.Load("a");
    }

    private string Refused(string type, string shape, byte[] data) =>
        Assert.Throws<WeightsFormatException>(() => SafetensorsFile.Open(Write(type, shape, data)).Dispose()).Message;

    private string Write(string type, string shape, byte[] data, string name = "a") => _folder.Write(
        $"{type}.safetensors", GoldenFile.Join($$$"""{"{{{name}}}":{"dtype":"{{{type}}}","shape":[{{{shape}}}],"data_offsets":[0,{{{data.Length}}}]}}""", data));

    private void Known(string type, params (int Code, float Value)[] values)
    {
        float[] read = Load(type, [values.Length], [.. values.Select(value => (byte)value.Code)]).data<float>().ToArray();
        for (int i = 0; i < values.Length; i++) Same(values[i].Value, read[i], $"{type} {values[i].Code:x2}");
    }

    /// <summary>The values another way: E5M2 as the upper half of a half; the others as sums of their bits' powers of two.</summary>
    private static double Independent(string type, int code)
    {
        if (type == "F8_E5M2") return (double)BitConverter.UInt16BitsToHalf((ushort)(code << 8));
        if (type == "F8_E8M0") return code == 255 ? double.NaN : Math.Pow(2, code - 127);
        bool isFnuz = type.EndsWith("FNUZ", StringComparison.Ordinal), isE4 = type.Contains("E4M3", StringComparison.Ordinal);
        if (isFnuz ? code == 0x80 : (code & 0x7f) == 0x7f) return double.NaN;
        int fractionBits = isE4 ? 3 : 2, bias = (isE4 ? 7 : 15) + (isFnuz ? 1 : 0), exponent = (code & 0x7f) >> fractionBits;
        double value = exponent == 0 ? 0 : 1;
        for (int bit = 1; bit <= fractionBits; bit++)
        {
            if ((code >> (fractionBits - bit) & 1) == 1) value += Math.Pow(0.5, bit);
        }

        value *= Math.Pow(2, (exponent == 0 ? 1 : exponent) - bias);
        return code >= 0x80 ? -value : value;
    }

    private static void Same(float expected, float read, string what) =>
        Assert.True(float.IsNaN(expected) ? float.IsNaN(read) : BitConverter.SingleToInt32Bits(expected) == BitConverter.SingleToInt32Bits(read), $"{what}: {expected} {read}");
}
