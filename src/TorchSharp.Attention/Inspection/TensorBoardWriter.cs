using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>Readings for TensorBoard: a group of scalars and a histogram for each map.</summary>
internal static class TensorBoardWriter
{
    private const int Bins = 64;

    /// <summary>Runs in the caller's dispose scope, which also frees what the writer leaves behind.</summary>
    public static void Write(Modules.SummaryWriter board, GateReading reading, Tensor map)
    {
        int step = (int)Math.Min(reading.Step, int.MaxValue);
        string group = reading.Name.Replace(' ', '.');
        foreach ((string name, double? value) in reading.Numbers)
        {
            if (value is double number) board.add_scalar($"{group}/{name}", (float)number, step);
        }

        // The histogram of weights of pairs is nearly all zeros and says nothing; one of values that are not finite is an error.
        if (reading is { Map: AttentionMapKind.Pairwise } or { NotFinite: > 0 } || map.numel() == 0) return;
        board.add_histogram($"{group}/values", map.cpu(), step, max_bins: Bins);
    }
}
