using System.Globalization;
using System.Text;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>A network as readable lines.</summary>
internal static class ModuleTree
{
    public static string Format(nn.Module model)
    {
        StringBuilder text = new();
        text.Append(model.GetName()).Append(Parameters(model)).Append('\n');
        Children(text, model, "");
        return text.ToString().TrimEnd('\n');
    }

    private static void Children(StringBuilder text, nn.Module parent, string indent)
    {
        (string Name, nn.Module Module)[] children = [.. parent.named_children()];
        for (int i = 0; i < children.Length; i++)
        {
            (string name, nn.Module module) = children[i];
            bool last = i == children.Length - 1;
            text.Append(indent).Append(last ? "└─ " : "├─ ");
            if (module is IAttentionModule attention)
            {
                text.Append("◆ ").Append(name).Append(": ").Append(module.GetName()).Append('(').Append(
                    attention.Channels).Append(')')
                    .Append(Parameters(module)).Append('\n');
                continue;
            }

            text.Append(name).Append(": ").Append(Describe(module)).Append(Parameters(module)).Append('\n');
            Children(text, module, indent + (last ? "   " : "│  "));
        }
    }

    public static string Describe(nn.Module module) => module switch
    {
        Conv2d { weight: { } w } conv =>
            $"Conv2d({conv.in_channels} → {conv.out_channels}, {w.size(2)}×{w.size(3)}" +
            (w.size(1) == conv.in_channels ? "" : $", groups {conv.in_channels / w.size(1)}") + ")",
        ConvTranspose2d { weight: { } w } conv =>
            $"ConvTranspose2d({conv.in_channels} → {conv.out_channels}, {w.size(2)}×{w.size(3)})",
        Linear { weight: { } w } => $"Linear({w.size(1)} → {w.size(0)})",
        BatchNorm2d { running_mean: { } mean } => $"BatchNorm2d({mean.size(0)})",
        _ => module.GetType().Assembly == typeof(ModuleTree).Assembly ? module.GetName() : module.GetType().Name,
    };

    private static string Parameters(nn.Module module)
    {
        long count = module.parameters().Sum(parameter => parameter.numel());
        return count == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $"  {count:N0}");
    }
}
