namespace TorchSharp.Attention.Kernels;

/// <summary>A <see cref="CombinationKind"/> as arithmetic on vectors: m(x, f, s) and its derivatives.</summary>
internal interface ICombination
{
    /// <summary>Whether s is of the channel like f.</summary>
    static virtual bool OfChannels => false;

    /// <summary>Whether there is a third factor, added to the mix.</summary>
    static virtual bool HasThird => false;

    /// <summary>Whether m has a derivative by x.</summary>
    static virtual bool DependsOnInput => false;

    static abstract TVector Gate<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>;

    static abstract TVector ByFirst<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>;

    static abstract TVector BySecond<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>;

    /// <summary>Asked for only where m has a derivative by x.</summary>
    static virtual TVector ByInput<TVector>(TVector x, TVector first, TVector second)
        where TVector : unmanaged, ISimd<TVector>
        => TVector.All(0);
}
