namespace TorchSharp.Attention.Tests;

/// <summary>The checked build finds what is wrong, says what it found, and finds nothing where all is right.</summary>
public sealed unsafe class KernelCheckTests : IDisposable
{
    private readonly KernelSettings _kernels = KernelSettings.ForAnySize();

    public KernelCheckTests() => AttentionKernels.Checked = true;

    public void Dispose() => _kernels.Dispose();

    [Fact]
    public void A_wrong_value_is_an_exception_that_names_module_map_threads_and_difference()
    {
        using DisposeScope scope = NewDisposeScope();
        using IDisposable quiet = no_grad();
        using SqueezeExcitation module = new(8, new() { ReducedChannels = 4 });
        Tensor x = randn(2, 5, 7, 8).permute(0, 3, 1, 2);
        Tensor right = module.call(x), wrong = right.clone();
        wrong.select(0, 1).select(0, 3).fill_(9f);
        Assert.Same(right, KernelCheck.Refined(module, null, x, null, () => right));
        string message = Assert.Throws<InvalidOperationException>(() => KernelCheck.Refined(module, null, x, null, () => wrong)).Message;
        foreach (string part in (string[])["SqueezeExcitation(8)", "(2, 8, 5, 7)", "Float32", "channels last", $"{get_num_threads()} threads", "difference is", AttentionKernels.EnvironmentVariable])
        {
            Assert.Contains(part, message);
        }

        Assert.Throws<InvalidOperationException>(() => KernelCheck.Refined(module, null, x, null, () => right.mul(float.NaN)));
        Assert.Throws<InvalidOperationException>(() => KernelCheck.Refined(module, null, x, null, () => right.to_type(ScalarType.Float64)));
    }

    [Fact]
    public void A_wrong_gradient_is_an_exception()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor map = randn(2, 3, 4, 5), gradient = randn(2, 3);
        KernelCheck.Same("The gradient", map, gradient, gradient.mul(1 + 1e-5));
        string message = Assert.Throws<InvalidOperationException>(() => KernelCheck.Same("The gradient of all", map, gradient, gradient.mul(1.1))).Message;
        Assert.Contains("The gradient of all: feature map (2, 3, 4, 5)", message);
    }

    [Fact]
    public void A_value_written_beside_a_buffer_or_a_new_tensor_is_an_exception()
    {
        ScratchLayout layout = new(KernelCheck.Guard);
        long begin = layout.Length;
        Section first = layout.Add(5), parts = layout.Add(3, 4, out long pitch);
        layout.Repeat(begin, 2);
        using (Scratch scratch = new(layout))
        {
            for (int i = 0; i < 5; i++) scratch.At(first)[i] = 1;
            for (int part = 0; part < 4; part++) scratch.At(parts)[(part * pitch) + 2] = 1;
            scratch.Check();
        }

        foreach (long wrong in (long[])[first.Start - 1, first.End, parts.Start + 3, parts.Start + pitch - 1, layout.Length - 1, begin + layout.Length - 200])
        {
            using Scratch scratch = new(layout);
            scratch.Origin[wrong] = 0;
            bool thrown = false;
            try
            {
                scratch.Check();
            }
            catch (InvalidOperationException exception)
            {
                thrown = exception.Message.Contains("beside", StringComparison.Ordinal);
            }

            Assert.True(thrown || layout.Sections!.Any(section => wrong >= section.Start && wrong < section.End), $"{wrong}");
        }

        using DisposeScope scope = NewDisposeScope();
        foreach (int beside in (int[])[-1, 6])
        {
            Tensor tensor = MapView.New([2, 3]);
            Assert.True(tensor.is_contiguous());
            tensor.fill_(1f);
            KernelCheck.Verify();
            tensor = MapView.New([2, 3]);
            MapView.Pointer(tensor)[beside] = 0;
            Assert.Contains("beside a new tensor of 6 values", Assert.Throws<InvalidOperationException>(() => KernelCheck.Verify()).Message);
            KernelCheck.Verify();
        }
    }

    [Fact]
    public void Running_statistics_and_gradients_are_those_of_the_build_that_is_not_checked()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor x = randn(3, 16, 6, 5), residual = randn(3, 16, 6, 5);
        List<Tensor> plain = Run(), reviewed = Run(isChecked: true);
        Assert.Equal(plain.Count, reviewed.Count);
        foreach ((Tensor one, Tensor other) in plain.Zip(reviewed)) Near.Identical(one, other);

        List<Tensor> Run(bool isChecked = false)
        {
            AttentionKernels.Checked = isChecked;
            manual_seed(3);
            using Cbam module = new(16);
            using Bam mixed = new(16);
            using Modules.BatchNorm2d norm = nn.BatchNorm2d(16);
            Tensor input = x.clone().requires_grad_();
            Tensor y = mixed.call(module.TryFuseAfterNorm(norm, input, residual)!);
            y.square().sum().backward();
            return [y.detach(), input.grad!, .. norm.buffers().Concat(mixed.buffers()).Select(buffer => buffer.clone()), .. module.parameters().Concat(mixed.parameters()).Select(parameter => parameter.grad!.clone())];
        }
    }
}
