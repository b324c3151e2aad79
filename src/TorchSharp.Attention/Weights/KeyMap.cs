using System.Text.RegularExpressions;

namespace TorchSharp.Attention;

/// <summary>
/// Maps the names of a file's tensors to the names in a model. It is an ordered list of steps. Each step is a list of rules, of
/// which the first that matches is applied. Immutable, compared by value, and composed with <see cref="Then"/>.
/// <see cref="KeyMaps"/> has the maps for published weights.
/// </summary>
public sealed class KeyMap : IEquatable<KeyMap>
{
    private readonly ValueList<ValueList<KeyRule>> _steps;
    private readonly Regex[][] _patterns;

    /// <summary>A map of one step.</summary>
    /// <param name="rules">The rules; the first that matches a name acts. Names that none matches stay.</param>
    /// <exception cref="ArgumentException">A pattern is not valid, or uses what is not supported.</exception>
    public KeyMap(params KeyRule[] rules)
        : this([ValueList.Create<KeyRule>(rules ?? throw new ArgumentNullException(nameof(rules)))])
    {
    }

    private KeyMap(ValueList<ValueList<KeyRule>> steps)
    {
        _steps = steps;
        _patterns = [.. steps.Select(step => step.Select(Compile).ToArray())];
    }

    /// <summary>The map that keeps all names.</summary>
    public static KeyMap Identity { get; } = new(steps: []);

    /// <summary>The steps, in order.</summary>
    public IReadOnlyList<IReadOnlyList<KeyRule>> Steps => _steps;

    /// <summary>Replaces the start of a name.</summary>
    /// <param name="from">The start, taken literally; names without it stay.</param>
    /// <param name="to">What stands there instead.</param>
    public static KeyMap Prefix(string from, string to)
    {
        ArgumentNullException.ThrowIfNull(from);
        ArgumentNullException.ThrowIfNull(to);
        return new KeyMap(new KeyRule("^" + Regex.Escape(from), to.Replace("$", "$$", StringComparison.Ordinal)));
    }

    /// <summary>Drops the tensors whose names match, such as those of an auxiliary head.</summary>
    /// <param name="pattern">A pattern, as in <see cref="KeyRule"/>.</param>
    /// <exception cref="ArgumentException">The pattern is not valid.</exception>
    public static KeyMap Drop(string pattern) => new(new KeyRule(pattern, null));

    /// <summary>Returns a map that applies this map and then another one to the result.</summary>
    /// <param name="next">The other.</param>
    public KeyMap Then(KeyMap next)
    {
        ArgumentNullException.ThrowIfNull(next);
        return new KeyMap([.. _steps, .. next._steps]);
    }

    /// <summary>Returns the model's name for a tensor of the file.</summary>
    /// <param name="name">The file's name.</param>
    /// <returns>The name, or null where a rule drops it.</returns>
    public string? Map(string name) => Apply(name, [])?.Name;

    /// <summary>Returns the model's shape for a tensor of the file.</summary>
    /// <param name="name">The file's name.</param>
    /// <param name="shape">The file's shape.</param>
    /// <returns>The shape, with as many values; unchanged where no rule reshapes.</returns>
    public ValueList<long> MapShape(string name, ValueList<long> shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return Apply(name, shape)?.Shape ?? shape;
    }

    /// <inheritdoc/>
    public bool Equals(KeyMap? other) => other is not null && _steps.Equals(other._steps);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as KeyMap);

    /// <inheritdoc/>
    public override int GetHashCode() => _steps.GetHashCode();

    /// <summary>Formats the rules: <c>pattern → replacement</c>.</summary>
    public override string ToString() => _steps.Count == 0
        ? "names stay"
        : string.Join(
            "; then ", _steps.Select(
                step => string.Join(", ", step.Select(rule => $"{rule.Pattern} → {rule.Replacement ?? "(dropped)"}"))));

    internal (string Name, ValueList<long> Shape)? Apply(string name, ValueList<long> shape)
    {
        ArgumentNullException.ThrowIfNull(name);
        for (int step = 0; step < _patterns.Length; step++)
        {
            int index = Array.FindIndex(_patterns[step], pattern => pattern.IsMatch(name));
            if (index < 0) continue;
            KeyRule rule = _steps[step][index];
            if (rule.Replacement is null) return null;
            name = _patterns[step][index].Replace(name, rule.Replacement);
            shape = (rule.Reshape, shape.Count) switch
            {
                (KeyReshape.LinearToConvolution, 2) => [shape[0], shape[1], 1, 1],
                (KeyReshape.ConvolutionToLinear, 4) when shape[2] == 1 && shape[3] == 1 => [shape[0], shape[1]],
                _ => shape,
            };
        }

        return (name, shape);
    }

    private static Regex Compile(KeyRule rule)
    {
        ArgumentNullException.ThrowIfNull(rule);
        Check.Defined(rule.Reshape);
        try
        {
            return new Regex(
                rule.Pattern, RegexOptions.CultureInvariant | RegexOptions.ExplicitCapture | RegexOptions.NonBacktracking);
        }
        catch (NotSupportedException e)
        {
            throw new ArgumentException($"Pattern is '{rule.Pattern}': {e.Message}", nameof(rule), e);
        }
    }
}
