using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>The numbers of a case: the reference's, or what the library makes of it. Names are ours.</summary>
/// <param name="Evaluation">Output in evaluation mode.</param>
/// <param name="Training">Output in training mode; null if the case is forward only.</param>
/// <param name="Gradients">Gradients of the inputs (<c>grad_x</c>, <c>grad_x1</c>) and of the parameters (<c>grad.fc1.weight</c>).</param>
/// <param name="Statistics">Buffers after one pass in evaluation mode and one in training mode (<c>after.bn.running_mean</c>).</param>
internal sealed record Measurement(
    Tensor Evaluation, Tensor? Training, IReadOnlyDictionary<string, Tensor> Gradients, IReadOnlyDictionary<string, Tensor> Statistics)
{
    private const string Gradient = "grad.", After = "after.";
    private static readonly Dictionary<string, Tensor> None = [];

    /// <summary>Runs the case with the library. The tensors belong to the caller's dispose scope.</summary>
    /// <exception cref="InvalidDataException">The state does not fit, or a parameter gets no gradient.</exception>
    /// <param name="golden">The case.</param>
    /// <param name="blueprint">What it names.</param>
    /// <param name="type">Type of all numbers.</param>
    /// <param name="change">What becomes of the weights and inputs first; null for nothing.</param>
    public static Measurement Take(GoldenCase golden, Blueprint blueprint, ScalarType type, Func<Tensor, Tensor>? change = null)
    {
        using nn.Module module = blueprint.Create();
        if (type != ScalarType.Float32) module.to(type);
        StateLoader.Load(module, golden.State, blueprint.Keys);
        if (change is not null)
        {
            using IDisposable quiet = no_grad();
            foreach (Modules.Parameter parameter in module.parameters()) parameter.copy_(change(parameter));
        }

        Tensor x = Leaf("x")!;
        Tensor? x1 = Leaf("x1");

        module.eval();
        Tensor evaluation;
        using (no_grad()) evaluation = Run();
        if (!golden.HasTraining) return new Measurement(evaluation, null, None, None);

        module.train();
        Tensor y = Run(), cotangent = golden["cotangent"].to_type(type);
        SameShape("cotangent", y, cotangent);
        y.mul(cotangent).sum().backward();

        Dictionary<string, Tensor> gradients = new() { ["grad_x"] = Arrived("grad_x", x) };
        if (x1 is not null) gradients["grad_x1"] = Arrived("grad_x1", x1);
        foreach ((string name, Modules.Parameter parameter) in module.named_parameters())
        {
            gradients[Gradient + name] = Arrived(Gradient + name, parameter);
        }

        // Buffers are cloned: the module's own go with it.
        return new Measurement(evaluation, y, gradients, module.named_buffers().ToDictionary(b => After + b.name, b => b.buffer.clone()));

        Tensor Run() => blueprint.Forward is { } forward ? forward(module, x, x1) : Forward(module, x, x1);

        Tensor? Leaf(string name)
        {
            if (golden.Find(name) is not { } found) return null;
            Tensor leaf = found.detach().to_type(type);
            return (change is null ? leaf : change(leaf)).clone().requires_grad_(golden.HasTraining);
        }
    }

    /// <summary>The reference's numbers, under the names and in the shapes of <paramref name="actual"/>.</summary>
    /// <exception cref="InvalidDataException">A name or a shape has no counterpart.</exception>
    public static Measurement OfReference(GoldenCase golden, KeyMap keys, Measurement actual)
    {
        SameShape("y_eval", actual.Evaluation, golden["y_eval"]);
        if (actual.Training is not { } training) return new Measurement(golden["y_eval"], null, None, None);

        SameShape("y_train", training, golden["y_train"]);
        Dictionary<string, Tensor> gradients = Paired(Gradient, golden.Gradients, actual.Gradients, _ => false);
        foreach (string input in actual.Gradients.Keys.Where(name => !name.StartsWith(Gradient, StringComparison.Ordinal)))
        {
            SameShape(input, actual.Gradients[input], golden[input]);
            gradients[input] = golden[input];
        }

        return new Measurement(
            golden["y_eval"], golden["y_train"], gradients, Paired(After, golden.After, actual.Statistics, StateLoader.IsCounter));

        Dictionary<string, Tensor> Paired(
            string prefix, IReadOnlyDictionary<string, Tensor> reference, IReadOnlyDictionary<string, Tensor> ours, Func<string, bool> isOptional)
        {
            Dictionary<string, Tensor> own = ours.Where(pair => pair.Key.StartsWith(prefix, StringComparison.Ordinal))
                .ToDictionary(pair => pair.Key[prefix.Length..], pair => pair.Value);
            return StateLoader.Pair(prefix.TrimEnd('.'), reference, keys, own, isOptional).ToDictionary(pair => prefix + pair.Key, pair => pair.Value);
        }
    }

    /// <summary>One input, or for a guided attention two: <c>x</c> steers and <c>x1</c> is refined.</summary>
    private static Tensor Forward(nn.Module module, Tensor x, Tensor? x1) => (module, x1) switch
    {
        (nn.Module<Tensor, Tensor> single, null) => single.call(x),
        (GuidedAttentionModule guided, not null) => guided.call(x1, x),
        _ =>
            throw new InvalidDataException(x1 is null ? "the file has no tensor 'x1'" : "the tensor 'x1' is not understood: one input is taken"),
    };

    private static Tensor Arrived(string name, Tensor leaf) => leaf.grad
        ?? throw new InvalidDataException($"{name}: no gradient arrives here");

    private static void SameShape(string name, Tensor actual, Tensor reference)
    {
        if (!actual.shape.AsSpan().SequenceEqual(reference.shape))
        {
            throw new InvalidDataException($"{name} has shape {StateLoader.Shape(reference)}; the arguments make {StateLoader.Shape(actual)}");
        }
    }
}
