using SkiaSharp;

namespace TorchSharp.Attention.Visualization;

/// <summary>Lays pictures out in rows and columns, such as a batch of images and what several methods see in them.</summary>
public static class PictureGrid
{
    private const int Gap = 8, MostLabel = 150;

    /// <summary>Combines pictures into one picture of rows and columns.</summary>
    /// <param name="rows">The pictures, row by row; rows may have different lengths. They stay the caller's.</param>
    /// <param name="columns">Words above the columns; null for none.</param>
    /// <param name="labels">Words to the left of the rows, line breaks allowed; null for none.</param>
    /// <returns>A new picture.</returns>
    /// <exception cref="ArgumentException">There are no pictures, or more words than rows or columns.</exception>
    public static Picture Draw(
        IReadOnlyList<IReadOnlyList<Picture>> rows, IReadOnlyList<string>? columns = null, IReadOnlyList<string>? labels = null)
    {
        ArgumentNullException.ThrowIfNull(rows);
        int count = rows.Count == 0 ? 0 : rows.Max(row => row.Count);
        if (count == 0) throw new ArgumentException("rows holds no picture.", nameof(rows));
        if (columns is not null && columns.Count > count)
        {
            throw new ArgumentException($"columns has {columns.Count} words for {count} columns.", nameof(columns));
        }

        if (labels is not null && labels.Count > rows.Count)
        {
            throw new ArgumentException($"labels has {labels.Count} words for {rows.Count} rows.", nameof(labels));
        }

        int[] widths = [.. Enumerable.Range(0, count).Select(i => rows.Max(row => i < row.Count ? row[i].Width : 0))];
        int[] heights = [.. rows.Select(row => row.Count == 0 ? 0 : row.Max(picture => picture.Height))];
        string[][] words = [.. (labels ?? []).Select(label => label.Split('\n'))];
        int left = words.Length == 0
            ? 0
            : Gap + Math.Min(MostLabel, (int)Math.Ceiling(words.Max(lines => lines.Max(line => Drawing.Width(line)))));
        int top = columns is null ? 0 : Drawing.LineHeight + 2;
        return Drawing.Draw(left + widths.Sum() + (Gap * (count + 1)), top + heights.Sum() + (Gap * (rows.Count + 1)), canvas =>
        {
            int x = left + Gap;
            for (int i = 0; i < count; i++)
            {
                if (i < columns?.Count) Drawing.Text(canvas, columns[i], x, (top + Gap) / 2f, most: widths[i] + Gap);
                x += widths[i] + Gap;
            }

            int y = top + Gap;
            for (int r = 0; r < rows.Count; r++)
            {
                if (r < words.Length)
                {
                    float middle = y + ((heights[r] - ((words[r].Length - 1) * Drawing.LineHeight)) / 2f);
                    for (int line = 0; line < words[r].Length; line++)
                    {
                        Drawing.Text(
                            canvas, words[r][line], left - 2, middle + (line * Drawing.LineHeight), SKTextAlign.Right,
                            most: MostLabel);
                    }
                }

                x = left + Gap;
                for (int i = 0; i < rows[r].Count; i++)
                {
                    canvas.DrawBitmap(rows[r][i].Bitmap, x, y);
                    x += widths[i] + Gap;
                }

                y += heights[r] + Gap;
            }
        });
    }
}
