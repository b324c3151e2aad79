namespace QuickStart.Tests;

public sealed class AtomicFileTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_written_file_replaces_the_old_one_and_leaves_no_other()
    {
        _folder.Write("file", [1, 2, 3]);
        AtomicFile.Write(_folder["file"], stream => stream.Write([4]));
        Assert.Equal([4], File.ReadAllBytes(_folder["file"]));
        Assert.Equal([_folder["file"]], Directory.GetFiles(_folder.Path));
    }

    [Fact]
    public void The_old_file_stays_until_the_new_one_is_whole_and_when_writing_fails()
    {
        _folder.Write("file", [1, 2, 3]);
        Assert.Throws<InvalidOperationException>(() => AtomicFile.Write(_folder["file"], stream =>
        {
            stream.Write(new byte[100_000]);
            Assert.Equal([1, 2, 3], File.ReadAllBytes(_folder["file"]));
            throw new InvalidOperationException("the disk is full, say");
        }));
        Assert.Equal([1, 2, 3], File.ReadAllBytes(_folder["file"]));
        Assert.Equal([_folder["file"]], Directory.GetFiles(_folder.Path));
    }
}
