namespace TorchSharp.Attention.Tests;

/// <summary>Every argument out of range: the documented exception, naming parameter, value and remedy.</summary>
public sealed class ErrorTests
{
    private static readonly (string What, Action Act, string Parameter, string Message)[] Table =
    [
        // Settings of every module.
        Bad("se channels", () => new SqueezeExcitation(0), "channels", "channels is 0; it must be at least 1."),
        Bad("se channels below", () => new SqueezeExcitation(-3), "channels", "channels is -3"),
        Bad("se reduction 0", () => new SqueezeExcitation(8, new() { Reduction = 0 }), "Reduction", "is 0; it must be at least 1"),
        Bad("se reduction above channels", () => new SqueezeExcitation(8), "Reduction", "Reduction is 16, which leaves no channel of 8. Use a Reduction of at most 8"),
        Bad("se reduced channels", () => new SqueezeExcitation(8, new() { ReducedChannels = 0 }), "ReducedChannels", "ReducedChannels is 0"),
        Bad("se divisor", () => new SqueezeExcitation(8, new() { RoundingDivisor = 0 }), "RoundingDivisor", "is 0"),
        Bad("se gate", () => new SqueezeExcitation(8, new() { Reduction = 2, Gate = (GateFunction)9 }), "Gate", "GateFunction has Sigmoid, HardSigmoid"),
        Bad("se activation", () => new SqueezeExcitation(8, new() { Reduction = 2, Activation = (GateActivation)9 }), "Activation", "ReLU, ReLU6"),
        Bad("initialization", () => new SqueezeExcitation(8, new() { Reduction = 2, Initialization = (AttentionInitialization)9 }), "Initialization", "Identity"),
        Bad("dropout 1", () => new SqueezeExcitation(8, new() { Reduction = 2, Dropout = 1 }), "Dropout", "Dropout is 1; it is a probability and must lie in [0, 1)"),
        Bad("dropout below 0", () => new SqueezeExcitation(8, new() { Reduction = 2, Dropout = -0.1 }), "Dropout", "-0.1"),
        Bad("dropout NaN", () => new SqueezeExcitation(8, new() { Reduction = 2, Dropout = double.NaN }), "Dropout", "NaN"),
        Bad("stochastic drop", () => new SqueezeExcitation(8, new() { Reduction = 2, StochasticDrop = 1.5 }), "StochasticDrop", "[0, 1]"),
        Bad("eca even kernel", () => new EfficientChannelAttention(8, new() { KernelSize = 4 }), "KernelSize", "KernelSize is 4; a kernel must be odd and at least 1, for example 5."),
        Bad("eca kernel 0", () => new EfficientChannelAttention(8, new() { KernelSize = 0 }), "KernelSize", "is 0"),
        Bad("eca gamma", () => new EfficientChannelAttention(8, new() { Gamma = 0 }), "Gamma", "above 0"),
        Bad("eca beta", () => new EfficientChannelAttention(8, new() { Beta = double.PositiveInfinity }), "Beta", "finite"),
        Bad("eca padding", () => new EfficientChannelAttention(8, new() { Padding = (ChannelPadding)5 }), "Padding", "Zeros, Circular"),
        Bad("eca circular kernel", () => new EfficientChannelAttention(2, new() { KernelSize = 7, Padding = ChannelPadding.Circular }), "KernelSize", "at most 5"),
        Bad("eca hidden width", () => new EfficientChannelAttention(8, new() { Mlp = true, HiddenWidth = 0 }), "HiddenWidth", "at least 1"),
        Bad("eca hidden width alone", () => new EfficientChannelAttention(8, new() { HiddenWidth = 4 }), "HiddenWidth", "Set Mlp = true"),
        Bad("ese gate", () => new EffectiveSqueezeExcitation(8, new() { Gate = (GateFunction)9 }), "Gate", "Sigmoid, HardSigmoid"),
        Bad("simam lambda", () => new SimAm(8, new() { Lambda = 0 }), "Lambda", "above 0"),
        Bad("lcbam reduction", () => new LightCbam(8, new() { RoundingDivisor = null }), "Reduction", "16"),
        Bad("lcbam kernel", () => new LightCbam(8, new() { KernelSize = 4 }), "KernelSize", "for example 5"),
        Bad("lcbam momentum", () => new LightCbam(8, new() { SpatialNormMomentum = 0 }), "SpatialNormMomentum", "(0, 1]"),
        Bad("ge extent", () => new GatherExcite(8, new() { Extent = 3 }), "Extent", "even, for example 4"),
        Bad("ge extent below", () => new GatherExcite(8, new() { Extent = -2 }), "Extent", "at least 0"),
        Bad("ge extent, parameters", () => new GatherExcite(8, new() { Extent = 6, GatherParameters = true }), "Extent", "power of two"),
        Bad("ge map size", () => new GatherExcite(8, new() { GatherParameters = true, MapHeight = 4 }), "MapWidth", "Set it, or an Extent"),
        Bad("ge map size 0", () => new GatherExcite(8, new() { GatherParameters = true, MapHeight = 4, MapWidth = 0 }), "MapWidth", "is 0"),
        Bad("ge map size unused", () => new GatherExcite(8, new() { MapHeight = 4 }), "MapHeight", "Leave it null"),
        Bad("ge max pool", () => new GatherExcite(8, GatherExciteOptions.Theta with { MaxPool = true }), "MaxPool", "Set GatherParameters = false"),
        Bad("ge reduction", () => new GatherExcite(8, new() { Mlp = true }), "Reduction", "16"),
        Bad("ge other map", () => new GatherExcite(2, new() { GatherParameters = true, MapHeight = 4, MapWidth = 5 }).call(zeros(1, 2, 5, 4)), "input", "whole maps of 4×5"),
        Bad("coord reduction", () => new CoordinateAttention(8, new() { Reduction = 0 }), "Reduction", "at least 1"),
        Bad("coord reduced", () => new CoordinateAttention(8, new() { ReducedChannels = 0 }), "ReducedChannels", "at least 1"),
        Bad("coord least", () => new CoordinateAttention(8, new() { MinReducedChannels = 0 }), "MinReducedChannels", "at least 1"),
        Bad("scoord reduction", () => new SimpleCoordinateAttention(4, new() { RoundingDivisor = null }), "Reduction", "Reduction is 6"),
        Bad("ela norm groups", () => new EfficientLocalAttention(8), "NormGroups", "NormGroups is 16, which does not divide 8 channels"),
        Bad("ela groups", () => new EfficientLocalAttention(16, new() { ChannelsPerGroup = 3 }), "ChannelsPerGroup", "does not divide 16"),
        Bad("ela kernel", () => new EfficientLocalAttention(16, new() { KernelSize = 2 }), "KernelSize", "for example 3"),
        Bad("strip kernel", () => new StripAttention(8, new() { KernelSize = 0 }), "KernelSize", "at least 1"),
        Bad("strip bias", () => new StripAttention(8, new() { Convolution = false, Bias = true }), "Bias", "Set Convolution = true"),
        Bad("scse reduction", () => new ConcurrentSqueezeExcitation(1), "Reduction", "Reduction is 2"),
        Bad("scse merge", () => new ConcurrentSqueezeExcitation(8, new() { Merge = (ScseMerge)4 }), "Merge", "Add, Maximum"),
        Bad("scse parts", () => new ConcurrentSqueezeExcitation(8, new() { Parts = (ScseParts)4 }), "Parts", "Both, Channel, Spatial"),
        Bad("gct norm", () => new GatedChannelTransformation(8, new() { Norm = (GctNorm)4 }), "Norm", "L2, L1"),
        Bad("gct epsilon", () => new GatedChannelTransformation(8, new() { Epsilon = 0 }), "Epsilon", "above 0"),
        Bad("srm momentum", () => new StyleRecalibration(8, new() { NormMomentum = 2 }), "NormMomentum", "(0, 1]"),
        Bad("triplet kernel", () => new TripletAttention(8, new() { KernelSize = 2 }), "KernelSize", "for example 3"),
        Bad("triplet momentum", () => new TripletAttention(8, new() { NormMomentum = 0 }), "NormMomentum", "(0, 1]"),
        Bad("lka kernel", () => new LargeKernelAttention(8, new() { KernelSize = 4 }), "KernelSize", "for example 5"),
        Bad("lka dilated kernel", () => new LargeKernelAttention(8, new() { DilatedKernelSize = 4 }), "DilatedKernelSize", "for example 5"),
        Bad("lka dilation", () => new LargeKernelAttention(8, new() { Dilation = 0 }), "Dilation", "at least 1"),
        Bad("shuffle groups", () => new ShuffleAttention(12, new() { Groups = 4 }), "Groups", "8 must divide the 12 channels. Use a divisor of 6."),
        Bad("shuffle odd channels", () => new ShuffleAttention(7, new() { Groups = 1 }), "Groups", "Use an even number of channels"),
        Bad("shuffle groups 0", () => new ShuffleAttention(8, new() { Groups = 0 }), "Groups", "at least 1"),
        Bad("shuffle identity", () => new ShuffleAttention(8, new() { Groups = 2, Initialization = AttentionInitialization.Identity }), "Initialization", "Set Shuffle = false"),
        Bad("shuffle drop", () => new ShuffleAttention(8, new() { Groups = 2, StochasticDrop = 0.1 }), "StochasticDrop", "Set Shuffle = false"),
        Bad("separable kernel", () => new SeparableSpatialAttention(8, new() { KernelSize = 8 }), "KernelSize", "for example 9"),
        Bad("separable momentum", () => new SeparableSpatialAttention(8, new() { NormMomentum = 0 }), "NormMomentum", "(0, 1]"),
        Bad("multi-scale kernel", () => new MultiScaleSpatialAttention(8, new() { KernelSizes = [3, 4] }), "KernelSizes", "is 4"),
        Bad("multi-scale without scales", () => new MultiScaleSpatialAttention(8, new() { KernelSizes = [] }), "KernelSizes", "is empty"),
        Bad("multi-scale dilations", () => new MultiScaleSpatialAttention(8, new() { Dilations = [1, 2] }), "Dilations", "there must be as many"),
        Bad("multi-scale dilation 0", () => new MultiScaleSpatialAttention(8, new() { Dilations = [1, 0, 1] }), "Dilations", "at least 1"),
        Bad("multi-scale json", () => AttentionOptions.FromJson("""{"kind":"multiscale-spatial","kernelSizes":3}"""), "kernelSizes", "an array of integers"),
        Bad("channel reduction", () => new ChannelAttention(8), "Reduction", "Reduction is 16"),
        Bad("spatial kernel", () => new SpatialAttention(8, new() { KernelSize = 6 }), "KernelSize", "for example 7"),
        Bad("spatial momentum", () => new SpatialAttention(8, new() { NormMomentum = 0 }), "NormMomentum", "(0, 1]"),
        Bad("spatial order", () => new SpatialAttention(8, new() { MapOrder = (SpatialMapOrder)7 }), "MapOrder", "MeanMax, MaxMean"),
        Bad("cbam kernel", () => new Cbam(8, new() { Reduction = 2, KernelSize = -1 }), "KernelSize", "-1"),
        Bad("cbam momentum", () => new Cbam(8, new() { Reduction = 2, SpatialNormMomentum = 2 }), "NormMomentum", "2"),
        Bad("cbam order", () => new Cbam(8, new() { Reduction = 2, Order = (CbamOrder)3 }), "Order", "ChannelFirst, SpatialFirst, Parallel"),
        Bad("cbam reduction", () => new Cbam(8), "Reduction", "set RoundingDivisor = 1"),
        Bad("bam reduction", () => new Bam(8), "Reduction", "16"),
        Bad("bam dilation", () => new Bam(8, new() { Reduction = 2, Dilation = 0 }), "Dilation", "at least 1"),
        Bad("bam convolutions", () => new Bam(8, new() { Reduction = 2, DilatedConvolutions = -1 }), "DilatedConvolutions", "at least 0"),
        Bad("bam merge", () => new Bam(8, new() { Reduction = 2, Merge = (BamMerge)2 }), "Merge", "Add, Multiply"),
        Bad("bam norm", () => new Bam(8, new() { Reduction = 2, Norm = (BamNorm)2 }), "Norm", "Output, Hidden"),
        Bad("self heads", () => new SelfAttention2d(12), "Heads", "Heads is 8, which does not divide 12 channels"),
        Bad("self heads 0", () => new SelfAttention2d(8, new() { Heads = 0 }), "Heads", "at least 1"),
        Bad("self head width", () => new SelfAttention2d(12, new() { HeadWidth = 5 }), "HeadWidth", "does not divide 12 channels"),
        Bad("self attention dropout", () => new SelfAttention2d(8, new() { AttentionDropout = 1 }), "AttentionDropout", "[0, 1)"),
        Bad("self zero scale", () => new SelfAttention2d(8, new() { ZeroInitScale = true, Residual = false }), "ZeroInitScale", "Set Residual = true"),
        Bad("gc reduction", () => new GlobalContext(8), "Reduction", "Reduction is 16"),
        Bad("gc fusion", () => new GlobalContext(8, new() { Reduction = 2, Fusion = (GlobalContextFusion)3 }), "Fusion", "Add, Scale, ScaleAndAdd"),
        Bad("gc epsilon", () => new GlobalContext(8, new() { Reduction = 2, NormEpsilon = 0 }), "NormEpsilon", "above 0"),
        Bad("gc gate", () => new GlobalContext(8, new() { Reduction = 2, Gate = (GateFunction)9 }), "Gate", "HardSigmoid"),
        Bad("gc activation", () => new GlobalContext(8, new() { Reduction = 2, Activation = (GateActivation)9 }), "Activation", "ReLU"),
        Bad("nl reduction", () => new NonLocal(8, new() { Reduction = 9 }), "Reduction", "at most 8"),
        Bad("nl pairwise", () => new NonLocal(8, new() { Pairwise = (NonLocalPairwise)2 }), "Pairwise", "EmbeddedGaussian, DotProduct"),
        Bad("pam reduction", () => new PositionAttention(4), "Reduction", "Reduction is 8, which leaves no channel of 4"),
        Bad("cam channels", () => new ChannelSelfAttention(0), "channels", "channels is 0"),
        Bad("criss-cross reduction", () => new CrissCrossAttention(4), "Reduction", "Reduction is 8"),
        Bad("criss-cross recurrence", () => new CrissCrossAttention(8, new() { Recurrence = 0 }), "Recurrence", "at least 1"),
        Bad("window heads", () => new WindowAttention(6), "Heads", "Heads is 4, which does not divide 6 channels"),
        Bad("window size", () => new WindowAttention(8, new() { WindowSize = 0 }), "WindowSize", "at least 1"),
        Bad("window shift", () => new WindowAttention(8, new() { Shift = 7 }), "Shift", "it must lie in [0, 7), for example 3"),
        Bad("window attention dropout", () => new WindowAttention(8, new() { AttentionDropout = 1 }), "AttentionDropout", "[0, 1)"),
        Bad("windows cut", () => new WindowAttention(8, new() { WindowSize = 2 }).AttendWindows(randn(3, 5, 8)), "windows", "(windows, 4, 8); windows has shape (3, 5, 8)"),
        Bad("bottleneck heads", () => new BottleneckAttention(6), "Heads", "does not divide 6 channels"),
        Bad("bottleneck height", () => new BottleneckAttention(8, new() { FeatureHeight = 0 }), "FeatureHeight", "at least 1"),
        Bad("bottleneck width", () => new BottleneckAttention(8, new() { FeatureWidth = 0 }), "FeatureWidth", "at least 1"),
        Bad("halo heads", () => new HaloAttention(12), "Heads", "does not divide 12 channels"),
        Bad("halo block", () => new HaloAttention(8, new() { BlockSize = 0 }), "BlockSize", "at least 1"),
        Bad("halo size", () => new HaloAttention(8, new() { HaloSize = -1 }), "HaloSize", "at least 0"),
        Bad("sparse heads", () => new SparseAttention(6), "Heads", "Heads is 4, which does not divide 6 channels"),
        Bad("sparse pattern", () => new SparseAttention(8, new() { Pattern = (SparsePattern)9 }), "Pattern", "Strided, TopK"),
        Bad("sparse block", () => new SparseAttention(8, new() { BlockLength = 0 }), "BlockLength", "at least 1"),
        Bad("sparse keys", () => new SparseAttention(8, new() { TopKeys = 0 }), "TopKeys", "at least 1"),
        Bad("sparse dropout", () => new SparseAttention(8, new() { AttentionDropout = 1 }), "AttentionDropout", "[0, 1)"),
        Bad("linear heads", () => new LinearAttention(6), "Heads", "Heads is 4, which does not divide 6 channels"),
        Bad("lambda heads", () => new LambdaLayer(6), "Heads", "does not divide 6 channels"),
        Bad("lambda key width", () => new LambdaLayer(8, new() { KeyWidth = 0 }), "KeyWidth", "at least 1"),
        Bad("lambda kernel", () => new LambdaLayer(8, new() { KernelSize = 4 }), "KernelSize", "for example 5"),
        Bad("bat block", () => new BatAttention(8, new() { BlockSize = 0 }), "BlockSize", "at least 1"),
        Bad("bat groups", () => new BatAttention(8, new() { Groups = 3 }), "Groups", "does not divide the reduced width 8"),
        Bad("bat groups 0", () => new BatAttention(8, new() { Groups = 0 }), "Groups", "at least 1"),
        Bad("bat reduction", () => new BatAttention(8, new() { Reduction = 9, RoundingDivisor = null }), "Reduction", "at most 8"),
        Bad("gate channels", () => new AttentionGate(0, 4), "channels", "0"),
        Bad("gate guide", () => new AttentionGate(4, 0), "guideChannels", "0"),
        Bad("gate reduced", () => new AttentionGate(4, 4, new() { ReducedChannels = 0 }), "ReducedChannels", "0"),
        Bad("gate without guide", () => new AttentionGateOptions().Create(4), "channels", "Call Create(channels, guideChannels)"),
        Bad("branch as an attention", () => ((AttentionOptions)new SelectiveKernelOptions()).Create(4), "channels", "place it at ReplaceSpatialConv of a ResNet"),
        Bad("branch channels", () => new SelectiveKernel(0), "channels", "0"),
        Bad("branch output", () => new SelectiveKernel(4, outputChannels: 0), "outputChannels", "0"),
        Bad("branch stride", () => new SplitAttention(4, stride: 0), "stride", "0"),
        Bad("branch groups 0", () => new SelectiveKernel(4, new() { Groups = 0 }), "Groups", "at least 1"),
        Bad("branch dilation", () => new SplitAttention(4, new() { Dilation = 0 }), "Dilation", "at least 1"),
        Bad("branch identity", () => new SelectiveKernel(4, new() { Initialization = AttentionInitialization.Identity }), "Initialization", "no identity to start from"),
        Bad("branch drop", () => new SplitAttention(4, new() { StochasticDrop = 0.1 }), "StochasticDrop", "cannot be skipped. Set it to 0"),
        Bad("sk kernels", () => new SelectiveKernel(4, new() { KernelSizes = [3] }), "KernelSizes", "2 to 16 paths"),
        Bad("sk kernel even", () => new SelectiveKernel(4, new() { KernelSizes = [3, 4] }), "KernelSizes", "for example 5"),
        Bad("sk kernel 1", () => new SelectiveKernel(4, new() { KernelSizes = [1, 3] }), "KernelSizes", "at least 3"),
        Bad("sk split", () => new SelectiveKernel(5, SelectiveKernelOptions.Timm), "SplitInput", "5 channels among 2 paths"),
        Bad("sk groups", () => new SelectiveKernel(6, new() { Groups = 2, SplitInput = true }), "Groups", "do not divide the 3 input channels of a path"),
        Bad("sk groups of the output", () => new SelectiveKernel(4, new() { Groups = 2 }, outputChannels: 5), "Groups", "5 output channels"),
        Bad("sk reduction", () => new SelectiveKernel(4, new() { Reduction = 0 }), "Reduction", "at least 1"),
        Bad("sk minimum", () => new SelectiveKernel(4, new() { MinimumReducedChannels = 0 }), "MinimumReducedChannels", "at least 1"),
        Bad("sk divisor", () => new SelectiveKernel(4, new() { RoundingDivisor = 0 }), "RoundingDivisor", "at least 1"),
        Bad("sk reduced", () => new SelectiveKernel(4, new() { ReducedChannels = 0 }), "ReducedChannels", "is 0"),
        Bad("splat radix", () => new SplitAttention(4, new() { Radix = 0 }), "Radix", "1 to 16"),
        Bad("splat kernel", () => new SplitAttention(4, new() { KernelSize = 2 }), "KernelSize", "for example 3"),
        Bad("splat groups", () => new SplitAttention(6, new() { Groups = 2 }), "Groups", "makes 4 groups that do not divide the 6 input channels"),
        Bad("splat bottleneck", () => new SplitAttention(8, new() { Groups = 2, ReducedChannels = 5 }), "Groups", "5 channels of the bottleneck"),
        Bad("branch input", () => new SplitAttention(4).call(randn(1, 3, 2, 2)), "input", "built for 4 channels"),
        Bad("branch weights input", () => new SplitAttention(4).Weights(randn(4, 2, 2)), "input", "unsqueeze(0)"),
        Bad("dynamic one attention", () => new DynamicAttention(16, new() { Attentions = [new CbamOptions()] }), "Attentions", "among 2 to 16"),
        Bad("dynamic guided", () => new DynamicAttention(16, new() { Attentions = [new CbamOptions(), new AttentionGateOptions()] }), "Attentions", "holds 'attention-gate'"),
        Bad("dynamic branch", () => new DynamicAttention(16, new() { Attentions = [new SelectiveKernelOptions(), new CbamOptions()] }), "Attentions", "gates and contexts"),
        Bad("dynamic member", () => new DynamicAttention(8, new() { Attentions = [new CbamOptions(), new BamOptions()] }), "Reduction", "leaves no channel of 8"),
        Bad("dynamic temperature", () => new DynamicAttention(16, new() { Temperature = 0 }), "Temperature", "above 0"),
        Bad("dynamic temperature later", () => new DynamicAttention(16).Temperature = -1, "value", "above 0"),
        Bad("dynamic router", () => new DynamicAttention(16, new() { ReducedChannels = 0 }), "ReducedChannels", "is 0"),
        Bad("dynamic reduction", () => new DynamicAttention(16, new() { Reduction = 0 }), "Reduction", "at least 1"),
        Bad("dynamic weights input", () => new DynamicAttention(16).Weights(randn(1, 3, 2, 2)), "input", "built for 16 channels"),

        // Shapes of networks.
        Bad("resnet layers", () => new ResNet(new() { Layers = [] }), "Layers", "1 to 8 stages"),
        Bad("resnet layer 0", () => new ResNet(new() { Layers = [1, 0] }), "Layers", "0"),
        Bad("resnet planes count", () => new ResNet(new() { StagePlanes = [8, 8] }), "StagePlanes", "one number a stage"),
        Bad("resnet planes 0", () => new ResNet(new() { StagePlanes = [8, 8, 8, 0] }), "StagePlanes", "0"),
        Bad("resnet stem width", () => new ResNet(new() { StemWidth = 0 }), "StemWidth", "0"),
        Bad("resnet input", () => new ResNet(new() { InputChannels = 0 }), "InputChannels", "0"),
        Bad("resnet classes", () => new ResNet(new() { Classes = 0 }), "Classes", "0"),
        Bad("resnet drop path", () => new ResNet(new() { DropPath = 1 }), "DropPath", "[0, 1)"),
        Bad("resnet block", () => new ResNet(new() { Block = (ResNetBlock)5 }), "Block", "Basic, Bottleneck"),
        Bad("resnet stem", () => new ResNet(new() { Stem = (ResNetStem)5 }), "Stem", "Standard, Small"),
        Bad("mobilenet width", () => new MobileNetV2(new() { WidthMultiplier = 0 }), "WidthMultiplier", "above 0"),
        Bad("mobilenet width, absurd", () => new MobileNetV2(new() { WidthMultiplier = 1e9 }), "WidthMultiplier", "at most 100"),
        Bad("mobilenet divisor", () => new MobileNetV2(new() { RoundingDivisor = 0 }), "RoundingDivisor", "0"),
        Bad("mobilenet dropout", () => new MobileNetV2(new() { Dropout = 1 }), "Dropout", "[0, 1)"),
        Bad("mobilenet classes", () => new MobileNetV2(new() { Classes = -1 }), "Classes", "-1"),
        Bad("unet depth", () => new UNet(new() { Depth = 0 }), "Depth", "1 to 8"),
        Bad("unet widths", () => new UNet(new() { Depth = 2, Widths = [4, 8] }), "Widths", "has 3 levels"),
        Bad("unet width 0", () => new UNet(new() { Widths = [4, 0] }), "Widths", "0"),
        Bad("unet classes", () => new UNet(new() { Classes = 0 }), "Classes", "0"),
        Bad("unet norm groups", () => new UNet(new() { Widths = [6, 8], Norm = UNetNorm.Group }), "NormGroups", "does not divide the width 6"),
        Bad("unet depth with encoder", () => new UNet(new() { Depth = 3, Encoder = new ResNetOptions() }), "Depth", "Leave Depth null"),
        Bad("unet widths with encoder", () => new UNet(new() { Widths = [4], Encoder = new ResNetOptions() }), "Widths", "the decoder has 5 levels"),
        Bad("unet strides", () => new UNet(new() { Widths = [4, 8], Strides = [2, 2] }), "Strides", "a depth of 1 has 1 steps"),
        Bad("unet stride 0", () => new UNet(new() { Widths = [4, 8], Strides = [0] }), "Strides", "each must be 1 to 8"),
        Bad("unet kernel", () => new UNet(new() { Widths = [4, 8], KernelSize = 4 }), "KernelSize", "for example 5"),
        Bad("unet up kernel", () => new UNet(new() { Widths = [4, 8], UpKernelSize = 2 }), "UpKernelSize", "for example 3"),
        Bad("unet dropout", () => new UNet(new() { Widths = [4, 8], Dropout = 1 }), "Dropout", "[0, 1)"),
        Bad("unet down-sampling", () => new UNet(new() { DownSampling = (UNetDownSampling)4 }), "DownSampling", "MaxPool, Strided"),
        Bad("unet decoder", () => new UNet(new() { Decoder = (UNetDecoder)4 }), "Decoder", "DoubleConvolution, Merge"),
        Bad("unet strides with encoder", () => new UNet(new() { Strides = [2], Encoder = new ResNetOptions() }), "Strides", "in its own way"),
        Bad("unet strided with encoder", () => new UNet(new() { DownSampling = UNetDownSampling.Strided, Encoder = new ResNetOptions() }), "DownSampling", "in its own way"),
        Bad("plan position", () => AttentionPlan.Of(new CbamOptions(), (AttentionPosition)99), "position", "BeforeAdd"),
        Bad("plan stages", () => AttentionPlan.Of(new CbamOptions()).InStages(), "stages", "empty"),
        Bad("plan blocks", () => AttentionPlan.Of(new CbamOptions()).InBlocks(-1), "blocks", "count from 0"),
        Bad("cost shape", () => ModelCost.Measure(new SpatialAttention(4), 1, 0, 3, 3), "inputShape", "each at least 1"),

        // Inputs.
        Bad("rank 3", () => Call(8, randn(8, 4, 4)), "input", "shape (8, 4, 4). Add a batch dimension"),
        Bad("rank 2", () => Call(8, randn(8, 4)), "input", "takes a feature map (N, C, H, W)"),
        Bad("channels", () => Call(8, randn(1, 6, 4, 4)), "input", "built for 8 channels; input has 6 (shape (1, 6, 4, 4))"),
        Bad("no positions", () => Call(8, zeros(1, 8, 0, 4)), "input", "at least one position"),
        Bad("integers", () => Call(8, zeros(1, 8, 2, 2, dtype: ScalarType.Int64)), "input", "is Int64. Convert it"),
        Bad("gate of a wrong map", () => new SqueezeExcitation(8, new() { Reduction = 2 }).Gate(randn(1, 4, 2, 2)), "input", "8 channels"),
        Bad("weights of a wrong map", () => new SelfAttention2d(8).Weights(randn(1, 4, 2, 2)), "input", "8 channels"),
        Bad("guide's channels", () => new AttentionGate(8, 4).call(randn(1, 8, 2, 2), randn(1, 5, 2, 2)), "guide", "built for 4 channels; guide has 5"),
        Bad("guide's batch", () => new AttentionGate(8, 4).call(randn(2, 8, 2, 2), randn(1, 4, 2, 2)), "guide", "batch of 2 and a guide for 1"),
        Bad("resnet image", () => new ResNet(Cases.TinyResNet).call(randn(1, 1, 8, 8)), "input", "ResNet was built for 3 channels"),
        Bad("mobilenet image", () => new MobileNetV2(Cases.TinyMobileNet).call(randn(3, 8, 8)), "input", "unsqueeze(0)"),
        Bad("unet image", () => new UNet(new() { Widths = [4, 4, 4] }).call(randn(1, 3, 3, 9)), "input", "at least 4; input has shape (1, 3, 3, 9)"),
    ];

    private static readonly (string What, Action Act)[] Nulls =
    [
        ("forward", () => new SpatialAttention(4).call(null!)),
        ("windows", () => new WindowAttention(8).AttendWindows(null!)),
        ("rule", () => _ = new AttentionRule(null!)),
        ("plan", () => _ = new AttentionPlan(null!)),
        ("parse", () => AttentionPlan.Parse(null!)),
        ("json", () => AttentionPlan.FromJson(null!)),
        ("options json", () => AttentionOptions.FromJson(null!)),
        ("kind", () => AttentionCatalog.Create(null!)),
        ("predicate", () => AttentionPlan.Of(new CbamOptions()).Where(null!)),
        ("resnet plan", () => _ = new ResNet(new() { Attention = null! })),
        ("dynamic attentions", () => _ = new DynamicAttention(16, new() { Attentions = null! })),
        ("dynamic member", () => _ = new DynamicAttention(16, new() { Attentions = [new CbamOptions(), null!] })),
        ("dynamic losses", () => DynamicAttention.TakeLoadBalanceLoss(null!)),
        ("sk kernels", () => _ = new SelectiveKernel(4, new() { KernelSizes = null! })),
        ("cost", () => ModelCost.Measure(null!, 1)),
    ];

    public static TheoryData<string> Rows => [.. Table.Select(row => row.What)];

    public static TheoryData<string> NullRows => [.. Nulls.Select(row => row.What)];

    [Theory]
    [MemberData(nameof(Rows))]
    public void Bad_input_is_refused_by_name_value_and_remedy(string what)
    {
        (_, Action act, string parameter, string message) = Table.Single(row => row.What == what);
        ArgumentException e = Assert.ThrowsAny<ArgumentException>(act);
        Assert.Equal(parameter, e.ParamName);
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(NullRows))]
    public void Null_is_refused(string what) => Assert.Throws<ArgumentNullException>(Nulls.Single(row => row.What == what).Act);

    [Fact]
    public void A_refused_input_leaves_the_module_as_it_was()
    {
        using AttentionModule module = new Cbam(8, CbamOptions.Official with { Reduction = 4 });
        Dictionary<string, Tensor> before = module.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.clone());
        using Tensor wrong = randn(1, 4, 3, 3);
        Assert.ThrowsAny<ArgumentException>(() => module.call(wrong));
        foreach ((string key, Tensor value) in module.state_dict()) Assert.True(value.equal(before[key]).all().item<bool>(), key);
    }

    private static void Call(int channels, Tensor input) => new SqueezeExcitation(channels, new() { Reduction = 2 }).call(input);

    private static (string What, Action Act, string Parameter, string Message) Bad(string what, Func<object> act, string parameter, string message)
        => (what, () => act(), parameter, message);

    private static (string What, Action Act, string Parameter, string Message) Bad(string what, Action act, string parameter, string message)
        => (what, act, parameter, message);
}
