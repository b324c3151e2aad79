using System.Text;

namespace TorchSharp.Attention;

/// <summary>The format of torch.save since PyTorch 1.6: a zip archive of a pickle and a file for each storage.</summary>
internal sealed class TorchZip : TorchLayout
{
    private const string PickleName = "data.pkl";

    /// <summary>A pickle of weights takes some hundred bytes a tensor.</summary>
    private const long LongestPickle = 100_000_000;

    private readonly ByteSource _source;
    private readonly ZipDirectory _files;
    private readonly string _root;

    public TorchZip(ByteSource source)
    {
        _source = source;
        _files = new ZipDirectory(source);
        _root = FindRoot();
        if (_files.Contains(_root + "constants.pkl"))
        {
            throw source.Wrong(
                "this is a TorchScript archive, a program with its weights. Save the weights alone in Python: " +
                "torch.save(torch.jit.load(path).state_dict(), new_path)");
        }

        IsBigEndian = ReadByteOrder();
        (long offset, long size) = _files.Locate(_root + PickleName);
        if (size > LongestPickle) throw source.Wrong($"{PickleName} has {size} bytes; at most {LongestPickle} are read.");
        Value = PickleReader.Read(source, offset, offset + size).Value;
    }

    public override object? Value { get; }

    public override bool IsBigEndian { get; }

    public override (long Offset, long Size) Locate(PickleStorage storage) => _files.Locate($"{_root}data/{storage.Key}");

    private string FindRoot()
    {
        string[] pickles = [
            .. _files.Names.Where(name => name == PickleName || name.EndsWith("/" + PickleName, StringComparison.Ordinal))];
        return pickles is [string pickle]
            ? pickle[..^PickleName.Length]
            : throw _source.Wrong(
                ForeignFile.DescribeArchive([.. _files.Names])
                    ?? $"the archive has {pickles.Length} files '{PickleName}'; torch.save writes one. " +
                        "It is no PyTorch archive.");
    }

    private bool ReadByteOrder()
    {
        string name = _root + "byteorder";
        if (!_files.Contains(name)) return false;
        string order = Encoding.ASCII.GetString(_files.Read(name));
        return order switch
        {
            "little" => false,
            "big" => true,
            _ => throw _source.Wrong($"its byte order is {Listing.Short(order)}; 'little' and 'big' are known."),
        };
    }
}
