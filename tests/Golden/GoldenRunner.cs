using static TorchSharp.torch;

namespace TorchSharp.Attention.Golden;

/// <summary>
/// Runs a case: builds what it names, loads the state, and compares the output in evaluation mode; then, unless the case is forward
/// only, the output in training mode, the gradients of Σ y_train ⊙ cotangent, and the running statistics after both passes.
/// </summary>
public static class GoldenRunner
{
    /// <summary>Runs the case of a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="name">The case's name; null for the file's.</param>
    /// <returns>The result. Whatever is wrong with the file makes a result that failed, not an exception.</returns>
    public static GoldenResult Run(string path, string? name = null)
    {
        name ??= Path.GetFileNameWithoutExtension(path);
        int threads = get_num_threads();
        set_num_threads(1); // The maps are small: more threads cost more than they bring. And sums are in the same order everywhere.
        try
        {
            using DisposeScope scope = NewDisposeScope();
            GoldenCase golden = GoldenCase.Read(path);
            Blueprint blueprint = Blueprints.For(golden);
            golden.Validate();
            return Judge(golden, blueprint, name);
        }
        catch (NotCoveredException e)
        {
            return new GoldenResult(name, GoldenOutcome.Skip, OneLine(e.Message));
        }
        catch (Exception e) when (e is InvalidDataException or WeightsFormatException)
        {
            return new GoldenResult(name, GoldenOutcome.Fail, OneLine(e.Message));
        }
        catch (Exception e)
        {
            return new GoldenResult(name, GoldenOutcome.Fail, OneLine($"{e.GetType().Name}: {e.Message}"));
        }
        finally
        {
            set_num_threads(threads);
        }
    }

    private static GoldenResult Judge(GoldenCase golden, Blueprint blueprint, string name)
    {
        ScalarType type = golden["x"].dtype;
        Measurement actual = Measurement.Take(golden, blueprint, type);
        Measurement reference = Measurement.OfReference(golden, blueprint.Keys, actual);
        Measurement exact = type == ScalarType.Float64 || !golden.HasTraining ? actual : Measurement.Take(golden, blueprint, ScalarType.Float64);
        return new Comparison(actual, exact, reference).Judge(name, GoldenTolerance.For(blueprint.IsNetwork, reference.Evaluation));
    }

    private static string OneLine(string message) => message.ReplaceLineEndings(" ");
}
