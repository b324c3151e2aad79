namespace TorchSharp.Attention;

/// <summary>Words for what stands where no tensor does.</summary>
internal static class PickleKinds
{
    public static string Of(object? value) => value switch
    {
        null => "None",
        bool => "a truth value",
        long or System.Numerics.BigInteger => "an integer",
        double => "a number",
        string => "a text",
        object?[] => "a tuple",
        PickleList => "a list",
        PickleDictionary => "a dictionary",
        PickleTensor => "a tensor",
        PickleStorage => "a storage",
        PickleGlobal global => Listing.Short(global.ToString()),
        PickleOpaque opaque => opaque.What,
        _ => "an object",
    };
}
