using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>A view of a storage.</summary>
internal sealed record PickleTensor(PickleStorage Storage, long Offset, long[] Shape, long[] Strides)
{
    public ScalarType Type => Storage.Type!.Value;

    public bool IsContiguous
    {
        get
        {
            long expected = 1;
            for (int i = Shape.Length - 1; i >= 0; i--)
            {
                if (Shape[i] != 1 && Strides[i] != expected) return false;
                expected *= Shape[i];
            }

            return true;
        }
    }

    /// <summary>How many values of the storage the view spans, from its offset on.</summary>
    public long Span
    {
        get
        {
            if (Shape.Contains(0)) return 0;
            long last = 0;
            for (int i = 0; i < Shape.Length; i++) last = checked(last + checked((Shape[i] - 1) * Strides[i]));
            return checked(last + 1);
        }
    }
}
