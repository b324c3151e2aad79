using System.Reflection;
using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace TorchSharp.Attention;

/// <summary>
/// The training modes of a network's modules, and the way back to exactly these. A network in which one
/// Sequential stands in another is walked once: TorchSharp's own <c>train</c> visits the children of each
/// Sequential twice, which doubles with every level.
/// </summary>
internal sealed class TrainingModes : IDisposable
{
    private static readonly FieldInfo? Handle = typeof(nn.Module).GetField(
        "handle", BindingFlags.Instance | BindingFlags.NonPublic);

    private readonly (nn.Module Module, bool Training)[] _modes;

    /// <summary>Notes the mode of a network and of every module in it.</summary>
    public TrainingModes(nn.Module model)
        => _modes = [.. model.modules().Prepend(model).Distinct().Select(module => (module, module.training))];

    /// <summary>Sets the mode of a network as its own <c>train</c> would.</summary>
    public static void Set(nn.Module model, bool training)
        => Set(model, training, new HashSet<nn.Module>(ReferenceEqualityComparer.Instance));

    /// <summary>The handle of a module's native part; null where this version of TorchSharp keeps it elsewhere.</summary>
    public static SafeHandle? HandleOf(nn.Module module) => Handle?.GetValue(module) as SafeHandle;

    /// <summary>Gives every module its mode back.</summary>
    public void Dispose()
    {
        // Parents stand before their children, so what a parent sets for its children is put right after.
        foreach ((nn.Module module, bool training) in _modes)
        {
            if (module.training != training && !SetNative(module, training)) SetManaged(module, training);
        }
    }

    private static void Set(nn.Module module, bool training, HashSet<nn.Module> seen)
    {
        if (!seen.Add(module)) return;
        if (!SetNative(module, training))
        {
            SetManaged(module, training);
            return;
        }

        foreach (nn.Module child in module.children()) Set(child, training, seen);
    }

    private static void SetManaged(nn.Module module, bool training)
    {
        if (training) module.train();
        else module.eval();
    }

    /// <summary>
    /// Sets the mode without TorchSharp's walk over the children; false where a class has a <c>train</c> of
    /// its own, which is then to be called.
    /// </summary>
    private static bool SetNative(nn.Module module, bool training)
    {
        if (!IsOfTorchSharp(module, nameof(nn.Module.train), typeof(bool)) || !IsOfTorchSharp(module, nameof(nn.Module.eval)))
        {
            return false;
        }

        if (HandleOf(module) is not { IsInvalid: false } handle) return false;
        THSNN_Module_train(handle.DangerousGetHandle(), training);
        GC.KeepAlive(module);
        return module.training == training;
    }

    private static bool IsOfTorchSharp(nn.Module module, string method, params Type[] arguments)
        => module.GetType().GetMethod(method, arguments)?.DeclaringType?.Assembly == typeof(nn.Module).Assembly;

    [DllImport("LibTorchSharp")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories | DllImportSearchPath.AssemblyDirectory)]
    private static extern void THSNN_Module_train(nint module, [MarshalAs(UnmanagedType.U1)] bool on);
}
