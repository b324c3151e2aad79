namespace TorchSharp.Attention.Tests;

/// <summary>Files are whole or old; modes and links stay; names may be long; dead processes' leftovers go, and no others.</summary>
public sealed class AtomicFileTests : IDisposable
{
    private readonly WeightsFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_written_file_replaces_the_old_one_and_leaves_no_other()
    {
        string path = _folder.Write("file", [1, 2, 3]);
        AtomicFile.Write(path, stream => stream.Write([4]));
        Assert.Equal([4], File.ReadAllBytes(path));
        AtomicFile.WriteText(path, "ä\n");
        Assert.Equal([0xc3, 0xa4, 10], File.ReadAllBytes(path));
        Assert.Equal([path], Directory.GetFiles(_folder.Root));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_old_file_stays_until_the_new_one_is_whole_and_when_writing_or_checking_fails(bool failsInCheck)
    {
        string path = _folder.Write("file", [1, 2, 3]);
        Assert.Throws<InvalidOperationException>(() => AtomicFile.Write(
            path,
            stream =>
            {
                stream.Write(new byte[100_000]);
                Assert.Equal([1, 2, 3], File.ReadAllBytes(path));
                if (!failsInCheck) throw new InvalidOperationException("the disk is full, say");
            },
            temporary =>
            {
                Assert.Equal(100_000, new FileInfo(temporary).Length);
                throw new InvalidOperationException("it computes something else");
            }));
        Assert.Equal([1, 2, 3], File.ReadAllBytes(path));
        Assert.Equal([path], Directory.GetFiles(_folder.Root));
    }

    [Theory]
    [InlineData(UnixFileMode.UserRead | UnixFileMode.UserWrite)]
    [InlineData(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.OtherRead | UnixFileMode.OtherWrite)]
    [InlineData(UnixFileMode.UserRead)]
    public void An_old_file_keeps_its_mode(UnixFileMode mode)
    {
        if (OperatingSystem.IsWindows()) return;
        string path = _folder.Write("file", [1]);
        File.SetUnixFileMode(path, mode);
        UnixFileMode during = default;
        AtomicFile.Write(path, stream => stream.Write([2]), temporary => during = OperatingSystem.IsWindows() ? default : File.GetUnixFileMode(temporary));
        Assert.Equal((mode, mode), (File.GetUnixFileMode(path), during));

        // A new file has what this process gives to new files.
        File.WriteAllBytes(_folder.PathOf("usual"), []);
        AtomicFile.Write(_folder.PathOf("new"), stream => stream.Write([2]));
        Assert.Equal(File.GetUnixFileMode(_folder.PathOf("usual")), File.GetUnixFileMode(_folder.PathOf("new")));
    }

    [Fact]
    public void A_link_stays_and_its_target_is_written()
    {
        if (OperatingSystem.IsWindows()) return;
        string target = _folder.Write("kept/target", [1]), link = _folder.PathOf("link"), chain = _folder.PathOf("chain"), dangling = _folder.PathOf("dangling");
        File.CreateSymbolicLink(link, Path.Combine("kept", "target"));
        File.CreateSymbolicLink(chain, "link");
        File.CreateSymbolicLink(dangling, Path.Combine("kept", "later"));
        foreach (string path in new[] { link, chain })
        {
            AtomicFile.Write(path, stream => stream.Write([2, 3]));
            Assert.NotNull(new FileInfo(path).LinkTarget);
            Assert.Equal([2, 3], File.ReadAllBytes(target));
            File.WriteAllBytes(target, [1]);
        }

        AtomicFile.Write(dangling, stream => stream.Write([4]));
        Assert.NotNull(new FileInfo(dangling).LinkTarget);
        Assert.Equal([4], File.ReadAllBytes(_folder.PathOf("kept/later")));
        File.CreateSymbolicLink(_folder.PathOf("loop"), "loop");
        Assert.ThrowsAny<IOException>(() => AtomicFile.Write(_folder.PathOf("loop"), stream => stream.Write([4])));
        Assert.Equal(2, Directory.GetFiles(_folder.PathOf("kept")).Length);
    }

    [Fact]
    public void A_name_may_be_as_long_as_names_can_be()
    {
        string path = _folder.PathOf(new string('a', 255));
        AtomicFile.Write(path, stream => stream.Write([1]));
        AtomicFile.Write(path, stream => stream.Write([2]));
        Assert.Equal([2], File.ReadAllBytes(path));
        Assert.ThrowsAny<IOException>(() => AtomicFile.Write(path + "a", stream => stream.Write([1])));
        Assert.Single(Directory.GetFiles(_folder.Root));
    }

    [Fact]
    public void What_a_killed_process_left_goes_and_nothing_else()
    {
        // No system gives this id to a process; process 1, or Windows' 4, always runs.
        const int dead = int.MaxValue - 1;
        int alive = OperatingSystem.IsWindows() ? 4 : 1;
        string own = "";
        string[] left = [TemporaryFiles.Name(dead, "01234567"), TemporaryFiles.Name(Environment.ProcessId, "another run")];
        string foreign = TemporaryFiles.Name(dead, "01234567");
        string[] kept =
        [
            TemporaryFiles.NewName(), TemporaryFiles.Name(alive, "01234567"), foreign.Replace("-" + foreign.Split('-')[1], "-00000000", StringComparison.Ordinal),
            "a.safetensors.abcdefgh.tmp", ".tsattn-x.tmp", "b.tmp", TemporaryFiles.Name(dead, "0-1"),
        ];
        foreach (string name in left.Concat(kept)) _folder.Write(name, [1]);

        // Somebody holds this one open: a process of another container, whose ids are not seen here.
        string held = TemporaryFiles.Name(dead, "01234567");
        using (FileStream holder = new(_folder.PathOf(held), FileMode.CreateNew, FileAccess.Write, FileShare.Read))
        {
            AtomicFile.Write(_folder.PathOf("a"), stream => stream.Write([1]), temporary => own = Path.GetFileName(temporary));
            Assert.Equal(kept.Append("a").Append(held).Order(StringComparer.Ordinal), Names());
        }

        AtomicFile.Write(_folder.PathOf("a"), stream => stream.Write([1]));
        Assert.Equal(kept.Append("a").Order(StringComparer.Ordinal), Names());
        Assert.StartsWith(TemporaryFiles.NewName()[..20], own, StringComparison.Ordinal);

        IEnumerable<string> Names() => Directory.GetFiles(_folder.Root).Select(file => Path.GetFileName(file)!).Order(StringComparer.Ordinal);
    }

    [Fact]
    public void Writers_of_one_folder_do_not_take_each_others_files()
    {
        Parallel.For(0, 8, thread =>
        {
            for (int i = 0; i < 20; i++)
            {
                byte[] content = [(byte)thread, (byte)i];
                AtomicFile.Write(_folder.PathOf($"{thread}"), stream => stream.Write(content));
                Assert.Equal(content, File.ReadAllBytes(_folder.PathOf($"{thread}")));
            }
        });
        Assert.Equal(8, Directory.GetFiles(_folder.Root).Length);
    }

    [Fact]
    public void A_file_that_is_too_large_is_an_error_of_writing()
    {
        WriteStream stream = new(new Small(), "model.safetensors");
        stream.Write(new byte[8]);
        IOException e = Assert.Throws<IOException>(() => stream.Write(new byte[8]));
        Assert.Contains("'model.safetensors' cannot be written: at 8 bytes it is larger than its file system", e.Message, StringComparison.Ordinal);
        Assert.Throws<IOException>(stream.Flush);
        Assert.Throws<IOException>(stream.FlushToDisk);
        Assert.Equal(8, stream.Position);
    }

    [Fact]
    public void A_folder_that_is_not_there_is_named()
    {
        Assert.Contains("'" + _folder.PathOf("none/a") + "'", Assert.Throws<DirectoryNotFoundException>(
            () => AtomicFile.Write(_folder.PathOf("none/a"), stream => stream.Write([1]))).Message, StringComparison.Ordinal);
    }

    /// <summary>As .NET's file streams on a file system whose files end at eight bytes.</summary>
    private sealed class Small : MemoryStream
    {
        public override void Write(ReadOnlySpan<byte> buffer)
        {
            if (Length + buffer.Length > 8) throw new ArgumentOutOfRangeException(nameof(buffer), "Specified file length was too large for the file system.");
            base.Write(buffer);
        }

        public override void Flush()
        {
            if (Length == 8) throw new ArgumentOutOfRangeException(paramName: "value");
        }
    }
}
