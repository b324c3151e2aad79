namespace TorchSharp.Attention.Visualization.Tests;

/// <summary>The C# of docs/pictures.md is compiled and run here, and the page must show exactly what is.</summary>
public sealed class PicturesPageTests
{
    [Fact]
    public void The_snippet_runs_and_the_page_shows_it()
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

        string root = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(root, "Attention.sln"))) root = Path.GetDirectoryName(root.TrimEnd(Path.DirectorySeparatorChar))!;
        string own = File.ReadAllText(Path.Combine(root, "tests", "TorchSharp.Attention.Visualization.Tests", "PicturesPageTests.cs")).ReplaceLineEndings("\n");
        string code = own.Split("// begin report\n")[1].Split("        // end report\n")[0].Replace("\n        ", "\n", StringComparison.Ordinal)[8..];
        string page = File.ReadAllText(Path.Combine(root, "docs", "pictures.md")).ReplaceLineEndings("\n");
        Assert.Contains("```csharp\n" + code + "```", page, StringComparison.Ordinal);
    }
}
