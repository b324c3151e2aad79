using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace TorchSharp.Attention.Kernels;

/// <summary>A feature map in memory as the kernels see it.</summary>
internal readonly unsafe struct MapView
{
    /// <summary>Rows, columns or values of channels or positions of all samples that a map may have.</summary>
    internal const long MostCounted = 1 << 28;

    private MapView(Tensor map, bool pixels)
    {
        IsChannelsLast = pixels;
        IsBFloat16 = map.dtype == ScalarType.BFloat16;
        Batch = (int)map.size(0);
        Channels = (int)map.size(1);
        Positions = (int)(map.size(2) * map.size(3));
        Values = Pointer(map);
    }

    /// <summary>Memory of whatever origin.</summary>
    internal MapView(void* values, int batch, int channels, int positions, bool pixels, bool half)
    {
        Values = values;
        Batch = batch;
        Channels = channels;
        Positions = positions;
        IsChannelsLast = pixels;
        IsBFloat16 = half;
    }

    /// <summary>Whether the channels of a position lie side by side.</summary>
    public bool IsChannelsLast { get; }

    /// <summary>Whether values are bfloat16 instead of float32.</summary>
    public bool IsBFloat16 { get; }

    public ScalarType Type => IsBFloat16 ? ScalarType.BFloat16 : ScalarType.Float32;

    public int Batch { get; }

    public int Channels { get; }

    public int Positions { get; }

    public void* Values { get; }

    /// <summary>What a deferred norm makes of the values; null where the map is the values themselves.</summary>
    public float* Norm { get; private init; }

    public long Elements => (long)Batch * Channels * Positions;

    /// <summary>One value per channel and sample.</summary>
    public long ChannelValues => (long)Batch * Channels;

    /// <summary>One value per position and sample.</summary>
    public long PositionValues => (long)Batch * Positions;

    public long Bytes => Elements * (IsBFloat16 ? 2 : 4);

    /// <summary>The view, where the map is of a type, place and layout that the kernels know.</summary>
    public static bool TryOf(Tensor map, out MapView view)
    {
        view = default;
        if (map.device_type != DeviceType.CPU || map.dtype is not (ScalarType.Float32 or ScalarType.BFloat16)) return false;
        long channels = map.size(1), height = map.size(2), width = map.size(3);
        if (!Counts(map.size(0), channels, height, width)) return false;
        if (height * width > 1 && map.is_contiguous()) view = new MapView(map, pixels: false);
        else if (LiesInPixels(map, channels, height, width)) view = new MapView(map, pixels: true);
        else return false;
        return true;
    }

    /// <summary>A new map like another, same strides; its values are not set.</summary>
    public MapView Like(Tensor map, out Tensor created)
    {
        created = empty_like(map);
        if (AttentionKernels.Checked)
        {
            using Tensor plain = created;
            created = KernelCheck.New(plain.shape, plain.stride(), plain.dtype);
        }

        return new MapView(created, IsChannelsLast);
    }

    /// <summary>Whether another map has the same shape, type and layout.</summary>
    public bool Matches(Tensor map)
        => map.dim() == 4 && TryOf(map, out MapView other)
            && (other.IsChannelsLast, other.IsBFloat16, other.Batch, other.Channels, other.Positions)
            == (IsChannelsLast, IsBFloat16, Batch, Channels, Positions);

    /// <summary>A gradient in the same layout; copied, in the caller's dispose scope, if it lies otherwise.</summary>
    public Tensor Align(Tensor map)
    {
        if (Matches(map)) return map;
        Tensor typed = map.to_type(Type);
        return IsChannelsLast ? typed.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) : typed.contiguous();
    }

    /// <summary>
    /// A view of the same values after a deferred batch norm: (<see cref="DeferredBatchNorm.Arrays"/>, N, C) values of channels.
    /// </summary>
    public MapView AfterNorm(float* norm) => new(Values, Batch, Channels, Positions, IsChannelsLast, IsBFloat16) { Norm = norm };

    public MapArguments Arguments()
    {
        MapArguments a = new()
        {
            X = Values,
            Matrices = Batch,
            Parts = 1,
            Rows = IsChannelsLast ? Positions : Channels,
            Columns = IsChannelsLast ? Channels : Positions,
        };
        if (Norm is not null) DeferredBatchNorm.Describe(this, ref a);
        return a;
    }

    /// <summary>A new float32 tensor on the CPU, whatever the process's defaults; its values are not set.</summary>
    public static Tensor New(long[] size)
    {
        if (!AttentionKernels.Checked || size.Length == 0) return empty(size, ScalarType.Float32, CPU);
        using Tensor plain = empty(size, ScalarType.Float32, CPU);
        return KernelCheck.New(size, plain.stride(), ScalarType.Float32);
    }

    /// <summary>The first value of a tensor. The caller keeps the tensor alive.</summary>
    public static float* Pointer(Tensor tensor) => (float*)THSTensor_data(tensor.Handle);

    /// <summary>
    /// Whether the kernels can count a map's rows, columns and values of channels and positions in 32 bits, small multiples of
    /// them included. Products of these counts, which say where an element stands, are in 64 bits.
    /// </summary>
    private static bool Counts(long batch, long channels, long height, long width)
    {
        if (Math.Min(Math.Min(batch, channels), Math.Min(height, width)) == 0) return false;
        return height <= MostCounted && width <= MostCounted && channels <= MostCounted && height * width <= MostCounted
            && batch <= MostCounted && batch * Math.Max(channels, height * width) <= MostCounted;
    }

    private static bool LiesInPixels(Tensor map, long channels, long height, long width) =>
        map.stride(1) == 1
        && (width == 1 || map.stride(3) == channels)
        && (height == 1 || map.stride(2) == channels * width)
        && (map.size(0) == 1 || map.stride(0) == channels * height * width);

    [DllImport("LibTorchSharp")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories | DllImportSearchPath.AssemblyDirectory)]
    private static extern nint THSTensor_data(nint handle);
}
