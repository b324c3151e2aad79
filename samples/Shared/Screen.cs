using System.Diagnostics;
using System.Globalization;
using Spectre.Console;

namespace Samples;

/// <summary>Where the program writes: a terminal with live progress, or plain lines without a single escape code.</summary>
public sealed class Screen(TextWriter output, bool live)
{
    public void Line(string text = "") => output.WriteLine(text);

    /// <summary>A table, numbers to the right; Markdown where output is not a terminal, or one too narrow.</summary>
    public void Table(IReadOnlyList<string> head, IReadOnlyList<string[]> rows)
    {
        int[] widths = [.. head.Select((name, i) => rows.Max(row => Math.Max(row[i].Length, name.Length)))];
        string title = Row(head);
        if (!live || title.Length > AnsiConsole.Profile.Width)
        {
            Line(title);
            Line(Row(head.Select((_, i) => i == 0 ? "-" : ":"), '-'));
            foreach (string[] row in rows) Line(Row(row));
            return;
        }

        Table table = new() { Border = TableBorder.Rounded };
        for (int i = 0; i < head.Count; i++)
        {
            TableColumn column = new(new Text(head[i]));
            table.AddColumn(i == 0 ? column.LeftAligned() : column.RightAligned());
        }

        foreach (string[] row in rows) table.AddRow(row.Select(cell => new Text(cell)));
        AnsiConsole.Write(table);

        string Row(IEnumerable<string> cells, char fill = ' ') =>
            "| " + string.Join(" | ", cells.Select((cell, i) => i == 0 ? cell.PadRight(widths[i], fill) : cell.PadLeft(widths[i], fill))) + " |";
    }

    /// <summary>Runs the training with a view of its progress, on this thread.</summary>
    public void Watch(Action<IProgressView> train)
    {
        if (!live)
        {
            train(new PlainView(this));
            return;
        }

        // Without automatic refresh no second thread draws while libtorch works: see Trainer.
        new Progress(AnsiConsole.Console) { AutoRefresh = false }
            .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn { Width = 24 }, new PercentageColumn())
            .Start(context => train(new LiveView(context)));
    }
}

/// <summary>Shows how training goes.</summary>
public interface IProgressView
{
    void Begin(string variant);

    void Batch(string variant, TrainingStep reached, TimeSpan left);

    void Epoch(string variant, int epoch, int epochs, EpochResult result);
}

/// <summary>A line at every epoch's end, and every ten seconds between.</summary>
public sealed class PlainView(Screen screen) : IProgressView
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(10);

    private long _last = Stopwatch.GetTimestamp();

    public void Begin(string variant) => screen.Line($"training {variant}");

    public void Batch(string variant, TrainingStep reached, TimeSpan left)
    {
        if (Stopwatch.GetElapsedTime(_last) < Interval) return;
        _last = Stopwatch.GetTimestamp();
        screen.Line($"  {Describe(reached, left)}");
    }

    public void Epoch(string variant, int epoch, int epochs, EpochResult result)
    {
        _last = Stopwatch.GetTimestamp();
        screen.Line(string.Create(
            CultureInfo.InvariantCulture,
            $"  epoch {epoch}/{epochs} done, loss {result.Loss:F4}, accuracy {result.TrainAccuracy:P1}, test accuracy {result.TestAccuracy:P1}, {result.Seconds:F1} s"));
    }

    /// <summary>For both views: epoch 2/5, batch 60/156, loss 0.5123, accuracy 81.2 %, 1:40 left.</summary>
    public static string Describe(TrainingStep reached, TimeSpan left) => string.Create(
        CultureInfo.InvariantCulture,
        $"epoch {reached.Epoch}/{reached.Epochs}, batch {reached.Batch}/{reached.Batches}, loss {reached.Loss:F4}, accuracy {reached.Accuracy:P1}, {(int)left.TotalMinutes}:{left.Seconds:D2} left");
}

/// <summary>A bar for each network, redrawn a few times a second by the training thread itself.</summary>
public sealed class LiveView(ProgressContext context) : IProgressView
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(200);

    private ProgressTask? _task;
    private long _last;

    public void Begin(string variant) => _task = context.AddTask(Markup.Escape(variant));

    public void Batch(string variant, TrainingStep reached, TimeSpan left)
    {
        if (Stopwatch.GetElapsedTime(_last) < Interval) return;
        _last = Stopwatch.GetTimestamp();
        double done = reached.Epoch - 1 + ((double)reached.Batch / reached.Batches);
        Show($"{variant}: {PlainView.Describe(reached, left)}", 100 * done / reached.Epochs);
    }

    public void Epoch(string variant, int epoch, int epochs, EpochResult result) => Show(
        string.Create(
            CultureInfo.InvariantCulture,
            $"{variant}: epoch {epoch}/{epochs}, loss {result.Loss:F4}, accuracy {result.TrainAccuracy:P1}, test accuracy {result.TestAccuracy:P1}"),
        100.0 * epoch / epochs);

    private void Show(string text, double percent)
    {
        _task!.Description = Markup.Escape(text);
        _task.Value = percent;
        context.Refresh();
    }
}
