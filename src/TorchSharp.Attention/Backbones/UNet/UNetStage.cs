using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>One level above the bottleneck: its encoder if it is a plain one, its decoder, and its attentions.</summary>
internal sealed class UNetStage
{
    private readonly int _number;
    private readonly int _skipChannels;
    private readonly DoubleConvolution? _encoder;
    private readonly UpSampling _up;
    private readonly nn.Module<Tensor, Tensor> _decoder;
    private readonly nn.Module<Tensor, Tensor>? _encoderEnd;
    private readonly nn.Module<Tensor, Tensor, Tensor>? _skip;
    private readonly nn.Module<Tensor, Tensor>? _afterConcat;
    private readonly nn.Module<Tensor, Tensor>? _decoderEnd;

    public UNetStage(
        UNetLevel level, int number, int above, int below, int stride, UNetOptions options, AttentionPlacement placement,
        bool fused)
    {
        _number = number;
        _skipChannels = level.SkipChannels;
        Feature = level.Feature;
        Stride = level.Stride;
        if (options.Encoder is null) _encoder = new DoubleConvolution(above, level.Width, stride, options, fused);
        _up = new UpSampling(below, level, options, fused);
        _decoder = options.Decoder == UNetDecoder.Merge
            ? new MergeConvolution(level.Width + level.SkipChannels, level.Width, options.Dropout)
            : new DoubleConvolution(level.Width + level.SkipChannels, level.Width, 1, options, fused);
        _encoderEnd = placement.Create(AttentionPosition.EncoderEnd, number);
        _skip = placement.CreateGuided(AttentionPosition.Skip, number);
        _afterConcat = placement.Create(AttentionPosition.AfterConcat, number);
        _decoderEnd = placement.Create(AttentionPosition.DecoderEnd, number);
    }

    /// <summary>Index of the level's map among the encoder's; null where there is none.</summary>
    public int? Feature { get; }

    /// <summary>How many times smaller the next level's map is.</summary>
    public int Stride { get; }

    public void RegisterIn(UNet network)
    {
        Register(_encoder, $"encoder{_number}");
        Register(_encoderEnd, $"encoder{_number}_attn");
        Register(_up, $"up{_number}");
        Register(_skip, $"skip{_number}_attn");
        Register(_afterConcat, $"concat{_number}_attn");
        Register(_decoder, $"decoder{_number}");
        Register(_decoderEnd, $"decoder{_number}_attn");

        void Register(nn.Module? module, string name)
        {
            if (module is not null) network.register_module(name, module);
        }
    }

    /// <summary>Counts the functions of <see cref="Decode"/> and of the pooling after <see cref="Encode"/>.</summary>
    public void Count(FunctionCount count, bool pools)
    {
        ValueList<long> up = count.Shape(_up);
        if (_skipChannels > 0) count.Copy(count.Values(_up) / up[1] * (up[1] + _skipChannels));
        if (!pools) return;
        ValueList<long> map = count.Shape(_encoder!);
        count.Pool(count.Values(_encoder!), map[0] * map[1] * (map[2] / Stride) * (map[3] / Stride), (long)Stride * Stride);
    }

    public Tensor Encode(Tensor map)
    {
        if (_encoder is not null) map = _encoder.call(map);
        return _encoderEnd is null ? map : _encoderEnd.call(map);
    }

    public Tensor Decode(Tensor deeper, Tensor? skip, Tensor image)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor size = skip ?? image;
        Tensor map = _up.call(deeper, size);
        if (skip is not null)
        {
            map = cat([_skip is null ? skip : _skip.call(skip, map), map], 1);
            if (_afterConcat is not null) map = _afterConcat.call(map);
        }

        map = _decoder.call(map);
        if (_decoderEnd is not null) map = _decoderEnd.call(map);
        return map.MoveToOuterDisposeScope();
    }
}
