namespace TorchSharp.Attention.Kernels;

/// <summary>
/// What a kernel reads and writes. A map is <see cref="Matrices"/> matrices of <see cref="Rows"/> × <see cref="Columns"/>,
/// columns contiguous: with planes (NCHW) a row is a channel and a column a position, with pixels (channels last) the other way
/// round. Values of channels, (N, C), and of positions, (N, H·W), are float32 whatever the map is.
/// </summary>
internal unsafe struct MapArguments
{
    public void* X;
    public void* Y;
    public void* GradY;
    public void* Residual;

    /// <summary>The output of a residual block, and its gradient.</summary>
    public void* End;
    public void* GradEnd;

    public int Matrices;
    public int Rows;
    public int Columns;
    public int Tile;

    /// <summary>Into how many matrices each sample is cut, so that in a small batch every thread has rows of its own.</summary>
    public int Parts;

    /// <summary>
    /// The two results of a reduction, one value per channel or per position; a matrix's results begin <see cref="ResultStride"/>
    /// after the matrix before it, and the first is multiplied by <see cref="Scale"/>.
    /// </summary>
    public float* First;
    public float* Second;
    public nint ResultStride;
    public float Scale;

    /// <summary>
    /// Of channels: the gate c, the maximum of x, and the gradients of what was pooled: dx gains Shift + Slope · x + Peak at
    /// maxima.
    /// </summary>
    public float* ChannelGate;
    public float* ChannelMax;
    public float* ChannelShift;
    public float* ChannelSlope;
    public float* ChannelPeak;

    /// <summary>
    /// Of positions: the gate s, the maximum of x · c over channels, and the gradients of mean and maximum over channels.
    /// </summary>
    public float* PositionGate;
    public float* PositionMax;
    public float* PositionShift;
    public float* PositionPeak;

    /// <summary>
    /// Of a map read in strips, rows and columns of each channel: its sizes, and what results of columns are multiplied by.
    /// </summary>
    public int Channels;
    public int Height;
    public int Width;
    public float ColumnScale;

    /// <summary>
    /// The factors of a mix, g = MixOffset + MixScale · m(f, s). In strips every array holds the values of rows and of columns:
    /// the same array then stands for channels and for positions above.
    /// </summary>
    public float* FirstFactor;
    public float* SecondFactor;
    public float MixOffset;
    public float MixScale;

    /// <summary>
    /// Of positions where the map is read in strips: the third factor, the maximum over channels and the pooled gradients.
    /// </summary>
    public float* ThirdFactor;
    public float* ThirdMax;
    public float* ThirdShift;
    public float* ThirdPeak;

    /// <summary>Where a strip's first value of those stands; moves along with the loop.</summary>
    public nint Third;

    /// <summary>Of channels where X is what a deferred norm reads: x = (X − NormCentre) · NormFactor + NormShift.</summary>
    public float* NormCentre;
    public float* NormFactor;
    public float* NormShift;
}
