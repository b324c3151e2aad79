using System.Text;
using System.Text.RegularExpressions;

namespace TorchSharp.Attention;

/// <summary>
/// A pattern for paths of modules: levels separated by dots, <c>*</c> and <c>?</c> within a level, <c>**</c> for any number of
/// levels.
/// </summary>
internal sealed class ModuleGlob
{
    private readonly Regex _expression;

    private ModuleGlob(Regex expression) => _expression = expression;

    /// <summary>Reads a pattern.</summary>
    /// <exception cref="ArgumentException">The pattern is empty or has an empty level.</exception>
    public static ModuleGlob Of(string pattern)
    {
        StringBuilder text = new(@"\A");
        foreach (string level in pattern.Split('.'))
        {
            if (level.Length == 0)
            {
                throw new ArgumentException(
                    $"name is '{pattern}', which has an empty level. Write levels separated by single dots, such as " +
                    "'layer3.*.conv2'; '**' is everything.",
                    "name");
            }

            // Each level brings the dot in front of it, the first one too: then "**" can stand for nothing anywhere.
            if (level == "**")
            {
                text.Append(@"(?:\.[^.]+)*");
                continue;
            }

            text.Append(@"\.");
            foreach (char letter in level)
            {
                text.Append(letter switch { '*' => "[^.]*", '?' => "[^.]", _ => Regex.Escape(letter.ToString()) });
            }
        }

        // Without backtracking, so that no pattern takes long.
        return new ModuleGlob(
            new Regex(text.Append(@"\z").ToString(), RegexOptions.CultureInvariant | RegexOptions.NonBacktracking));
    }

    public bool IsMatch(string path) => _expression.IsMatch("." + path);
}
