using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Which readings are worth a warning, and what the field does about them.</summary>
internal static class GateAlertRules
{
    private const double Rounding = 1e-6;

    /// <summary>Everything that is the matter with a map, worst first.</summary>
    public static IEnumerable<GateAlert> Of(GateReading reading, nn.Module module, GateMonitorOptions options)
    {
        if (reading.NotFinite > 0)
        {
            yield return Alert(GateAlertKind.NotFinite, "number of values that are not finite", reading.NotFinite, 0,
                "The training has diverged: lower the learning rate, clip gradients, and look for the first module in call " +
                "order that shows it.");
        }

        IEnumerable<GateAlert> others = reading.Map switch
        {
            AttentionMapKind.Pairwise => Pairwise(),
            AttentionMapKind.Branch => Branches(),
            _ => Gate(),
        };
        foreach (GateAlert alert in others) yield return alert;

        IEnumerable<GateAlert> Gate()
        {
            if (reading is not
                {
                    StandardDeviation: double deviation, Minimum: double minimum, Maximum: double maximum,
                    ClosedShare: double shut, OpenShare: double open
                })
            {
                yield break;
            }

            double fromOne = Math.Max(Math.Abs(minimum - 1), Math.Abs(maximum - 1));
            bool identity = StartsAsIdentity(module);
            if (identity && fromOne <= options.UniformDeviation)
            {
                yield return Alert(GateAlertKind.Identity, "largest distance from 1", fromOne, options.UniformDeviation,
                    "The gate started as the identity and still is: give alpha and the attention a higher learning rate, train " +
                    "longer, and check that the optimizer " +
                    "was made after the insertion. If it stays so, the network does without attention here.");
                yield break;
            }

            // Below 0 or above 1 the gate is no sigmoid, and its ends are elsewhere; what starts as the identity leaves
            // from 1, where it passes its gradient.
            bool sigmoid = minimum >= -Rounding && maximum <= 1 + Rounding;
            if (sigmoid && shut >= options.SaturatedShare)
            {
                yield return Alert(
                    GateAlertKind.Closed, $"share of values below {Text(GateStatistics.Low)}", shut, options.SaturatedShare,
                    "Saturated: little of the map passes, and hardly any gradient. " +
                    "Start as the identity or with the framework's initialization, lower the learning " +
                    "rate of the attention, clip gradients.");
            }
            else if (sigmoid && !identity && open >= options.SaturatedShare)
            {
                yield return Alert(
                    GateAlertKind.Open, $"share of values above {Text(GateStatistics.High)}", open, options.SaturatedShare,
                    "Saturated: the map passes as it is, and hardly any gradient. " +
                    "Check the initialization (large biases), lower the learning rate of the attention, " +
                    "clip gradients; or the network does without attention here.");
            }
            else if (sigmoid && !identity && shut + open >= options.SaturatedShare)
            {
                yield return Alert(
                    GateAlertKind.Saturated,
                    $"share of values below {Text(GateStatistics.Low)} or above {Text(GateStatistics.High)}", shut + open,
                    options.SaturatedShare,
                    "Saturated at both ends: the gate switches, and hardly any gradient reaches what computes it. " +
                    "Use a smaller initialization, lower the learning rate of the " +
                    "attention, clip gradients, or decay its weights.");
            }
            else if (deviation <= options.UniformDeviation)
            {
                yield return Alert(
                    GateAlertKind.Uniform, "deviation over channels, positions and samples", deviation, options.UniformDeviation,
                    "Uniform: the gate is one factor for everything and has no effect that a norm could not undo. " +
                    "Try another place (a later stage, before the " +
                    "addition) or a smaller reduction, or leave it out.");
            }

            if (sigmoid && reading.DeadShare is double dead && dead >= options.DeadShare && shut < options.SaturatedShare)
            {
                yield return Alert(GateAlertKind.Sparse, "share of channels that no sample opens", dead, options.DeadShare,
                    "Sparse: many channels are shut for every sample, and what computes them is wasted. " +
                    "The reduction may be too large: choose a smaller one, or a gate " +
                    "without a bottleneck (ECA); or prune the channels.");
            }
        }

        IEnumerable<GateAlert> Pairwise()
        {
            if (reading.Entropy is not double entropy) yield break;
            if (entropy >= options.UniformEntropy)
            {
                yield return Alert(GateAlertKind.UniformWeights, "entropy over its maximum", entropy, options.UniformEntropy,
                    "Uniform: every query takes the mean of the map, as pooling would. " +
                    "Train longer or with a higher learning rate, use fewer heads (wider ones) or " +
                    "position embeddings, or try a later stage.");
            }
            else if (entropy <= options.CollapsedEntropy)
            {
                yield return Alert(GateAlertKind.CollapsedWeights, "entropy over its maximum", entropy, options.CollapsedEntropy,
                    "Collapsed: each query looks at hardly more than one key, and the softmax passes hardly any gradient. " +
                    "Lower the learning rate or warm it up, clip " +
                    "gradients, normalise in front of the attention, add dropout or weight decay.");
            }
        }

        IEnumerable<GateAlert> Branches()
        {
            if (reading is not { Peak: double peak, StandardDeviation: double deviation }) yield break;
            if (peak >= options.CollapsedBranch)
            {
                yield return Alert(
                    GateAlertKind.CollapsedWeights, "largest mean weight of a branch", peak, options.CollapsedBranch,
                    "Collapsed: one branch does it all. Lower the learning rate, balance the load (DynamicAttention has a loss " +
                    "for it), or keep that branch alone.");
            }
            else if (deviation <= options.UniformDeviation)
            {
                yield return Alert(
                    GateAlertKind.UniformWeights, "deviation over branches, channels and samples", deviation,
                    options.UniformDeviation,
                    "Uniform: the branches are averaged whatever the input. Train longer, use a smaller reduction, or keep one " +
                    "branch.");
            }
        }

        GateAlert Alert(GateAlertKind kind, string statistic, double value, double threshold, string advice)
            => new(reading.Step, reading.Module, reading.Map, kind, statistic, value, threshold, advice);
    }

    private static bool StartsAsIdentity(nn.Module module)
        => module.modules().OfType<IAttentionModule>().Prepend(module as IAttentionModule).Any(
            attention => attention?.Options.Initialization == AttentionInitialization.Identity);

    private static string Text(double value) => value.ToString(System.Globalization.CultureInfo.InvariantCulture);
}
