namespace TorchSharp.Attention.Visualization.Tests;

/// <summary>The C# of docs/pictures.md is compiled and run here, and the page must show exactly what is.</summary>
public sealed class PicturesPageTests
{
    [Fact]
    public void The_page_shows_what_runs_here() => DocSnippets.AreShown("docs/pictures.md");

    [Fact]
    public void The_report_snippet_runs()
    {
        string folder = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName()), path = Path.Combine(folder, "photo.png");
        using ResNet network = ResNet.ResNet18(classes: 10);
        using (Tensor pixels = rand(3, 260, 300))
        using (Picture photo = Picture.FromTensor(pixels)) photo.SavePng(path);

        // begin report
        using Tensor input = ImageTransform.ImageNet.Load(path);                    // PNG or JPEG: resize, crop, normalise
        using Picture image = ImageTransform.ImageNet.ToPicture(input);
        using ClassActivationMaps cam = ClassActivation.Compute(network, input, "layer4", ClassActivationMethod.GradCamPlusPlus);
        using Picture overlay = HeatMap.Overlay(image, cam.Maps[0], new HeatMapOptions { Colors = ColorMap.Inferno });
        overlay.SavePng(Path.Combine(folder, "cam.png"));
        new HtmlReport("What it sees").Picture(overlay, "Grad-CAM++").Save(Path.Combine(folder, "report.html"));
        // end report
        Assert.True(new FileInfo(Path.Combine(folder, "report.html")).Length > 1000);
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void The_target_snippet_runs()
    {
        using UNet unet = new(new UNetOptions { InputChannels = 1, Classes = 2, Widths = [4, 8, 16] });
        using Tensor scan = rand(1, 1, 32, 32);

        // begin target
        ClassActivationOptions options = new() { Target = ClassActivationTargets.Pixels(1) };          // the sum of class 1 over all pixels of (N, K, H, W)
        using ClassActivationMaps lesion = ClassActivation.Compute(unet, scan, "bottleneck", options);
        // end target
        Assert.Equal([1, 8, 8], lesion.Maps.shape);
    }
}
