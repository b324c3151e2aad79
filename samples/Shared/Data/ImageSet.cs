namespace Samples.Data;

/// <summary>Size of an image.</summary>
public sealed record ImageShape(int Channels, int Height, int Width)
{
    public int Bytes => Channels * Height * Width;

    public override string ToString() => $"{Channels} x {Height} x {Width}";
}

/// <summary>Images as bytes, (count, channels, height, width), and their labels.</summary>
public sealed record ImageSet(byte[] Pixels, byte[] Labels, ImageShape Shape)
{
    public int Count => Labels.Length;

    public ReadOnlySpan<byte> Image(int index) => Pixels.AsSpan(index * Shape.Bytes, Shape.Bytes);

    /// <summary>The first images, or all where there are fewer.</summary>
    public ImageSet Take(int count) => count >= Count ? this : new(Pixels[..(count * Shape.Bytes)], Labels[..count], Shape);
}
