using static TorchSharp.torch;

namespace TorchSharp.Attention.Visualization;

/// <summary>Draws where a network looks: each image, its class activation map, and maps of its attentions.</summary>
public static class AttentionOverlays
{
    private const int MostAttentions = 5;

    private static readonly HeatMapOptions Look = new() { Size = 148, Legend = false };

    /// <summary>
    /// Draws one row per image: the image, Grad-CAM of the class that the network predicts, and the maps of the attentions that
    /// have a spatial map, in call order.
    /// </summary>
    /// <param name="model">
    /// A network from (N, C, H, W) to (N, classes). It runs in evaluation mode; its modes are put back.
    /// </param>
    /// <param name="images">The images, as the network takes them, with one or three channels.</param>
    /// <param name="layer">
    /// The layer whose activations Grad-CAM weighs, by name, as <c>ClassActivation.Compute</c>
    /// takes it; null to leave Grad-CAM out.
    /// </param>
    /// <param name="mean">Mean per channel that normalization subtracted from the images; null for none.</param>
    /// <param name="std">Deviation per channel that normalization divided by; null for none.</param>
    /// <param name="labels">Words to the left of the rows; null for none.</param>
    /// <returns>A new picture. At most five attentions are drawn, evenly chosen; the scale of each map is its own.</returns>
    /// <exception cref="ArgumentException">There is no such layer, or the images do not fit.</exception>
    public static Picture Draw(
        nn.Module<Tensor, Tensor> model, Tensor images, string? layer = null, IReadOnlyList<double>? mean = null,
        IReadOnlyList<double>? std = null,
        IReadOnlyList<string>? labels = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(images);
        if (images.dim() != 4 || images.size(0) < 1)
        {
            throw new ArgumentException(
                $"images has shape ({string.Join(", ", images.shape)}); it must be a batch of images, (N, C, H, W).",
                nameof(images));
        }

        using DisposeScope scope = NewDisposeScope();
        using ClassActivationMaps? cam = layer is null ? null : ClassActivation.Compute(model, images, layer);
        List<(string Name, Tensor Maps)> attentions = Attentions(model, images);
        List<IReadOnlyList<Picture>> rows = [];
        try
        {
            for (int i = 0; i < images.size(0); i++)
            {
                using Picture image = Picture.FromTensor(images[i], mean, std);
                List<Picture> row = [HeatMap.Plain(image, Look)];
                rows.Add(row);
                if (cam is not null)
                {
                    row.Add(HeatMap.Overlay(image, cam.Maps[i], Look with { Colors = ColorMap.Inferno, Opacity = 0.65 }));
                }

                row.AddRange(
                    attentions.Select(attention => HeatMap.Overlay(image, attention.Maps[i], Look with { Legend = true })));
            }

            string[] columns = [
                "image", .. cam is null ? Array.Empty<string>() : [$"Grad-CAM, {layer}"],
                .. attentions.Select(attention => attention.Name)];
            return PictureGrid.Draw(rows, columns, labels);
        }
        finally
        {
            foreach (Picture picture in rows.SelectMany(row => row)) picture.Dispose();
        }
    }

    /// <summary>Where each attention looks, (N, h, w), of those that know positions.</summary>
    private static List<(string Name, Tensor Maps)> Attentions(nn.Module<Tensor, Tensor> model, Tensor images)
    {
        if (!model.modules().Prepend(model).Any(module => module is IAttentionModule)) return [];
        using DryRunScope dry = new(model);
        using AttentionRecorder maps = AttentionRecorder.Attach(model);
        using ReachableTensors held = new(model);
        using IDisposable quiet = no_grad();
        model.call(images).Dispose();
        List<(string Name, Tensor Maps)> all = [];
        foreach (string name in maps.CallOrder)
        {
            if (maps[name].ToSpatialMap() is { } map) all.Add((name.Length == 0 ? "attention" : name, map));
        }

        return all.Count <= MostAttentions
            ? all
            : [.. Enumerable.Range(0, MostAttentions).Select(i => all[i * (all.Count - 1) / (MostAttentions - 1)])];
    }
}
