using System.Collections.Concurrent;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using static TorchSharp.Attention.Tests.HubServer;

namespace TorchSharp.Attention.Tests;

/// <summary>Downloads from a hub that the tests themselves are, on this machine.</summary>
public sealed class HubDownloadTests : IDisposable
{
    private const string Commit = "0123456789abcdef0123456789abcdef01234567", Name = "timm/seresnet50.a1_in1k";
    private const string Resolve = $"/{Name}/resolve/main/model.safetensors", Pinned = $"/{Name}/resolve/{Commit}/model.safetensors";

    private readonly WeightsFolder _folder = new();
    private readonly byte[] _bytes = new byte[700_000];
    private readonly string _sum;

    public HubDownloadTests()
    {
        new Random(1).NextBytes(_bytes);
        _sum = Convert.ToHexString(SHA256.HashData(_bytes)).ToLowerInvariant();
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private string Model => _folder.PathOf("cache/models--timm--seresnet50.a1_in1k");

    private string Blob => Path.Combine(Model, "blobs", _sum);

    private string Part => Blob + ".incomplete";

    private string Snapshot => Path.Combine(Model, "snapshots", Commit, "model.safetensors");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_download_is_found_and_loaded_and_not_fetched_again()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor values = randn(300, 500);
        byte[] bytes = await File.ReadAllBytesAsync(_folder.Safetensors("source", new Dictionary<string, Tensor> { ["w"] = values }), Token);
        string sum = Convert.ToHexString(SHA256.HashData(bytes)).ToLowerInvariant();
        using HubServer server = new(request => Hub(request, bytes));
        Steps steps = new();
        string path = await HubCache.DownloadAsync(Name, Options(server), steps, Token);
        Assert.Equal(path, HubCache.Find(Name, _folder.PathOf("cache")));
        Assert.Equal(bytes, await File.ReadAllBytesAsync(Path.Combine(Model, "blobs", sum), Token));
        Assert.Equal(Commit, await File.ReadAllTextAsync(Path.Combine(Model, "refs", "main"), Token));
        using (WeightsFile file = WeightsFile.Open(path)) Assert.Equal(WeightsFolder.Bytes(values), WeightsFolder.Bytes(file.Load("w")));

        List<long> done = [.. steps.Reports.Select(step => step.BytesDone)];
        Assert.Equal(0, done[0]);
        Assert.True(done.Count > 2);
        Assert.Equal(done.Order(), done);
        Assert.Equal(new HubDownloadProgress("model.safetensors", bytes.Length, bytes.Length), steps.Reports.Last());
        Assert.DoesNotContain(Directory.EnumerateFiles(Model, "*", SearchOption.AllDirectories), name => name.EndsWith(".incomplete", StringComparison.Ordinal) || name.EndsWith(".tmp", StringComparison.Ordinal));

        Assert.Equal(path, await HubCache.DownloadAsync(Name, Options(server), null, Token));
        Assert.Single(server.Bodies);
        int before = server.Requests.Count;
        Assert.Equal(path, await HubCache.DownloadAsync(Name, Options(server, revision: Commit), null, Token));
        Assert.Equal(before, server.Requests.Count);
    }

    [Fact]
    public async Task A_link_that_is_lost_comes_back_without_the_contents()
    {
        using HubServer server = new(request => Hub(request, _bytes));
        File.Delete(await HubCache.DownloadAsync(Name, Options(server), null, Token));
        Assert.Equal(_bytes, await File.ReadAllBytesAsync(await HubCache.DownloadAsync(Name, Options(server), null, Token), Token));
        Assert.Single(server.Bodies);
    }

    [Theory]
    [InlineData("main")]
    [InlineData(Commit)]
    public async Task A_blob_that_is_lost_is_fetched_again(string revision)
    {
        using HubServer server = new(request => Hub(request, _bytes));
        string path = await HubCache.DownloadAsync(Name, Options(server, revision), null, Token);
        File.Delete(Blob);
        Assert.Throws<FileNotFoundException>(() => HubCache.Find(Name, _folder.PathOf("cache"), revision));
        Assert.Equal(path, await HubCache.DownloadAsync(Name, Options(server, revision), null, Token));
        Assert.Equal(_bytes, await File.ReadAllBytesAsync(path, Token));
        Assert.Equal(2, server.Bodies.Count());
        Assert.Equal(path, HubCache.Find(Name, _folder.PathOf("cache"), revision));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(699_999)]
    [InlineData(700_000)]
    [InlineData(700_001)]
    public async Task By_commit_a_file_that_is_not_what_its_blob_is_named_after_is_fetched_again(int length)
    {
        using HubServer server = new(request => Hub(request, _bytes));
        string path = await HubCache.DownloadAsync(Name, Options(server, Commit), null, Token);
        byte[] damaged = new byte[length];
        _bytes.AsSpan(0, Math.Min(length, _bytes.Length)).CopyTo(damaged);
        if (length > 0) damaged[length / 2]++;
        await File.WriteAllBytesAsync(Blob, damaged, Token);
        Assert.Equal(path, await HubCache.DownloadAsync(Name, Options(server, Commit), null, Token));
        Assert.Equal(_bytes, await File.ReadAllBytesAsync(path, Token));
        Assert.Equal(2, server.Bodies.Count());
    }

    [Fact]
    public async Task By_commit_a_copy_is_compared_with_the_servers_size_where_there_is_a_network()
    {
        string copy = _folder.Write($"cache/models--timm--seresnet50.a1_in1k/snapshots/{Commit}/model.safetensors", _bytes[..1000]);
        Uri gone;
        using (HubServer server = new(request => Hub(request, _bytes)))
        {
            gone = server.Address;
            Assert.Equal(copy, await HubCache.DownloadAsync(Name, Options(server, Commit), null, Token));
            Assert.Equal(_bytes, await File.ReadAllBytesAsync(copy, Token));
            File.Delete(copy);
            await File.WriteAllBytesAsync(copy, _bytes, Token);
            Assert.Equal(copy, await HubCache.DownloadAsync(Name, Options(server, Commit), null, Token));
            Assert.Single(server.Bodies);
        }

        Assert.Equal(copy, await HubCache.DownloadAsync(Name, new() { Folder = _folder.PathOf("cache"), Endpoint = gone, Revision = Commit }, null, Token));
    }

    [Fact]
    public async Task A_reference_that_is_right_is_not_written_again()
    {
        using HubServer server = new(request => Hub(request, _bytes));
        string path = await HubCache.DownloadAsync(Name, Options(server), null, Token), reference = Path.Combine(Model, "refs", "main");
        DateTime old = new(2001, 2, 3, 4, 5, 6, DateTimeKind.Utc);
        File.SetLastWriteTimeUtc(reference, old);
        Assert.Equal(path, await HubCache.DownloadAsync(Name, Options(server), null, Token));
        Assert.Equal(old, File.GetLastWriteTimeUtc(reference));
        await File.WriteAllTextAsync(reference, "something else", Token);
        await HubCache.DownloadAsync(Name, Options(server), null, Token);
        Assert.Equal(Commit, await File.ReadAllTextAsync(reference, Token));
    }

    [Fact]
    public async Task A_complete_cache_may_be_read_only()
    {
        if (OperatingSystem.IsWindows() || Environment.IsPrivilegedProcess)
        {
            Assert.Skip("nothing is read-only for this user");
            return;
        }

        using HubServer server = new(request => Hub(request, _bytes));
        string path = await HubCache.DownloadAsync(Name, Options(server), null, Token), reference = Path.Combine(Model, "refs", "main");
        string[] folders = [.. Directory.GetDirectories(_folder.PathOf("cache"), "*", SearchOption.AllDirectories), _folder.PathOf("cache")];
        try
        {
            foreach (string folder in folders) File.SetUnixFileMode(folder, UnixFileMode.UserRead | UnixFileMode.UserExecute);
            Assert.Equal(path, await HubCache.DownloadAsync(Name, Options(server), null, Token));
            Assert.Equal(path, await HubCache.DownloadAsync(Name, Options(server, "v1.0"), null, Token));
            await Assert.ThrowsAsync<UnauthorizedAccessException>(() => HubCache.DownloadAsync(Name, Options(server, file: "other.safetensors"), null, Token));
        }
        finally
        {
            foreach (string folder in folders) File.SetUnixFileMode(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Nothing_is_written_through_a_link(bool exists)
    {
        string precious = _folder.PathOf("precious"), relative = Path.GetRelativePath(_folder.Root, Model);
        byte[] old = _bytes[..1000];
        if (exists) await File.WriteAllBytesAsync(precious, old, Token);
        _folder.Link(Path.Combine(relative, "blobs", _sum + ".incomplete"), precious);
        _folder.Link(Path.Combine(relative, "refs", "main"), precious);
        _folder.Link(Path.Combine("cache", ".locks", Path.GetFileName(Model), _sum + ".lock"), precious);
        using HubServer server = new(request => Hub(request, _bytes));
        Assert.Equal(_bytes, await File.ReadAllBytesAsync(await HubCache.DownloadAsync(Name, Options(server), null, Token), Token));
        Assert.Equal(exists, File.Exists(precious));
        if (exists) Assert.Equal(old, await File.ReadAllBytesAsync(precious, Token));
        Assert.Null(new FileInfo(Blob).LinkTarget);
        Assert.Equal(Commit, await File.ReadAllTextAsync(Path.Combine(Model, "refs", "main"), Token));
    }

    [Fact]
    public async Task Another_process_that_fetches_the_same_is_waited_for()
    {
        if (!OperatingSystem.IsLinux() || !File.Exists("/usr/bin/flock")) Assert.Skip("needs flock");
        string held = Path.Combine(_folder.PathOf("cache"), ".locks", Path.GetFileName(Model), _sum + ".lock");
        Directory.CreateDirectory(Path.GetDirectoryName(held)!);
        System.Diagnostics.ProcessStartInfo start = new("/usr/bin/flock", [held, "sh", "-c", "echo held; read line"]) { RedirectStandardInput = true, RedirectStandardOutput = true };
        using System.Diagnostics.Process other = System.Diagnostics.Process.Start(start)!;
        Assert.Equal("held", await other.StandardOutput.ReadLineAsync(Token));
        using HubServer server = new(request => Hub(request, _bytes));
        Task<string> mine = Task.Run(() => HubCache.DownloadAsync(Name, Options(server), null, Token), Token);
        while (server.Requests.IsEmpty) await Task.Delay(10, Token);
        Directory.CreateDirectory(Path.GetDirectoryName(Blob)!);
        await Task.Delay(300, Token);
        Assert.Empty(server.Bodies);

        // The other one brings it and lets go.
        await File.WriteAllBytesAsync(Blob, _bytes, Token);
        await other.StandardInput.WriteLineAsync("go");
        Assert.Equal(_bytes, await File.ReadAllBytesAsync(await mine, Token));
        Assert.Empty(server.Bodies);
        await other.WaitForExitAsync(Token);
    }

    [Fact]
    public async Task The_older_format_and_checksums_of_git_will_do()
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA1);
        hash.AppendData(Encoding.ASCII.GetBytes($"blob {_bytes.Length}\0"));
        hash.AppendData(_bytes);
        string git = Convert.ToHexString(hash.GetHashAndReset()).ToLowerInvariant();
        using HubServer server = new(request => request.Path.EndsWith(".bin", StringComparison.Ordinal)
            ? Hub(request, _bytes, tag: null, more: ("ETag", $"\"{git}\""))
            : Text(404));
        string path = await HubCache.DownloadAsync(Name, Options(server, revision: "refs/pr/1"), null, Token);
        Assert.Equal("pytorch_model.bin", Path.GetFileName(path));
        Assert.Equal(path, HubCache.Find(Name, _folder.PathOf("cache"), "refs/pr/1"));
        Assert.True(File.Exists(Path.Combine(Model, "blobs", git)));
        Assert.Contains(server.Requests, request => request.Path == $"/{Name}/resolve/refs%2Fpr%2F1/pytorch_model.bin");
    }

    [Fact]
    public async Task A_connection_that_is_cut_is_continued()
    {
        bool cut = true;
        using HubServer server = new(request => Hub(request, _bytes) with { Cut = cut ? 300_000 : int.MaxValue });
        HubDownloadException e = await Assert.ThrowsAsync<HubDownloadException>(() => HubCache.DownloadAsync(Name, Options(server), null, Token));
        Assert.Contains("continues", e.Message, StringComparison.Ordinal);
        Nothing();
        long there = new FileInfo(Part).Length;
        Assert.InRange(there, 1, 300_000);
        cut = false;
        Steps steps = new();
        Assert.Equal(_bytes, await File.ReadAllBytesAsync(await HubCache.DownloadAsync(Name, Options(server), steps, Token), Token));
        Assert.Equal((int)there, server.Bodies.Last().From);
        Assert.Equal(there, steps.Reports.First().BytesDone);
        Assert.False(File.Exists(Part));
    }

    [Theory]
    [InlineData("ignores")]
    [InlineData("refuses")]
    [InlineData("mistakes")]
    [InlineData("longer")]
    public async Task What_does_not_continue_starts_again(string server)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Part)!);
        await File.WriteAllBytesAsync(Part, server == "longer" ? new byte[_bytes.Length + 1] : _bytes[..1000], Token);
        using HubServer hub = new(request => (server, request.From) switch
        {
            ("refuses", not null) => Text(416),
            ("mistakes", { } from) => new(206, _bytes[(from + 1)..], new Dictionary<string, string> { ["Content-Range"] = $"bytes {from + 1}-{_bytes.Length - 1}/{_bytes.Length}" }),
            _ => Hub(request with { Headers = new Dictionary<string, string>() }, _bytes),
        });
        Assert.Equal(_bytes, await File.ReadAllBytesAsync(await HubCache.DownloadAsync(Name, Options(hub), null, Token), Token));
        Assert.Equal(server is "ignores" or "longer" ? 1 : 2, hub.Bodies.Count());
    }

    [Fact]
    public async Task Another_checksum_leaves_nothing()
    {
        byte[] other = [.. _bytes];
        other[5]++;
        using HubServer server = new(request => Hub(request, other, _sum));
        HubDownloadException e = await Assert.ThrowsAsync<HubDownloadException>(() => HubCache.DownloadAsync(Name, Options(server), null, Token));
        Assert.Contains(_sum, e.Message, StringComparison.Ordinal);
        Assert.Contains(Convert.ToHexString(SHA256.HashData(other)).ToLowerInvariant(), e.Message, StringComparison.Ordinal);
        Nothing();
        Assert.False(File.Exists(Part));
    }

    [Theory]
    [InlineData(401, "Token")]
    [InlineData(403, "terms")]
    [InlineData(404, "Check the name")]
    [InlineData(429, "later")]
    [InlineData(503, "later")]
    public async Task A_refusal_says_what_would_do(int status, string remedy)
    {
        using HubServer server = new(_ => Text(status));
        HubDownloadException e = await Assert.ThrowsAsync<HubDownloadException>(() => HubCache.DownloadAsync(Name, Options(server), null, Token));
        Assert.Equal((HttpStatusCode)status, e.StatusCode);
        Assert.Contains(remedy, e.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(Model));
    }

    [Fact]
    public async Task A_redirect_is_followed_and_the_token_stays()
    {
        using HubServer store = new(request => Hub(request, _bytes));
        using HubServer server = new(request => request.Path switch
        {
            Resolve => Text(307, ("Location", "/moved")),
            _ => Text(302, ("Location", $"{store.Address}elsewhere?secret=1"), ("X-Repo-Commit", Commit), ("X-Linked-Etag", $"\"{_sum}\""), ("X-Linked-Size", $"{_bytes.Length}")),
        });
        string path = await HubCache.DownloadAsync(Name, Options(server, token: "hf_x"), null, Token);
        Assert.Equal(_bytes, await File.ReadAllBytesAsync(path, Token));
        Assert.Equal(["HEAD " + Resolve, "HEAD /moved", "GET " + Pinned], server.Requests.Select(request => $"{request.Method} {request.Path}"));
        Assert.All(server.Requests, request => Assert.Equal("Bearer hf_x", request["Authorization"]));
        Assert.Equal("/elsewhere?secret=1", Assert.Single(store.Requests).Path);
        Assert.Null(store.Requests.Single()["Authorization"]);
    }

    [Theory]
    [InlineData("http://hub.invalid/file")]
    [InlineData("ftp://127.0.0.1/file")]
    [InlineData("file:///etc/passwd")]
    public async Task A_redirect_away_from_https_is_refused(string location)
    {
        using HubServer server = new(request => Text(302, ("Location", location)));
        HubDownloadException e = await Assert.ThrowsAsync<HubDownloadException>(() => HubCache.DownloadAsync(Name, Options(server), null, Token));
        Assert.Contains(location.Split(':')[0], e.Message, StringComparison.Ordinal);
        Assert.Contains("not followed", e.Message, StringComparison.Ordinal);
        Assert.Null(e.InnerException);
        Assert.Single(server.Requests);
    }

    [Fact]
    public async Task Circles_end()
    {
        using HubServer server = new(request => Text(302, ("Location", request.Path)));
        HubDownloadException e = await Assert.ThrowsAsync<HubDownloadException>(() => HubCache.DownloadAsync(Name, Options(server), null, Token));
        Assert.Contains("redirects more than", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Plain_http_is_refused_before_anything_is_sent()
    {
        ArgumentException e = await Assert.ThrowsAsync<ArgumentException>(() =>
            HubCache.DownloadAsync(Name, new() { Folder = _folder.Root, Endpoint = new("http://hub.invalid") }, null, Token));
        Assert.Contains("https", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("../x", "main", null)]
    [InlineData("a/..", "main", null)]
    [InlineData(Name, "../../x", null)]
    [InlineData(Name, "main", "../model.safetensors")]
    [InlineData(Name, "main", "/model.safetensors")]
    [InlineData(Name, "main", "a\\b")]
    [InlineData(Name, "main", "")]
    public async Task Names_that_lead_elsewhere_are_refused(string name, string revision, string? file)
    {
        using HubServer server = new(request => Hub(request, _bytes));
        await Assert.ThrowsAsync<ArgumentException>(() => HubCache.DownloadAsync(name, Options(server, revision, file: file), null, Token));
        Assert.Empty(server.Requests);
    }

    [Theory]
    [InlineData("../../../x", null, "commit")]
    [InlineData("", null, "commit")]
    [InlineData(Commit, "../../../x", "checksum")]
    [InlineData(Commit, "abc", "checksum")]
    public async Task What_a_server_says_never_leads_elsewhere(string commit, string? tag, string what)
    {
        using HubServer server = new(request => Hub(request, _bytes, tag ?? _sum, commit));
        HubDownloadException e = await Assert.ThrowsAsync<HubDownloadException>(() => HubCache.DownloadAsync(Name, Options(server), null, Token));
        Assert.Contains(what, e.Message, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder.Root));
    }

    [Fact]
    public async Task Sizes_are_limited_and_kept()
    {
        using HubServer server = new(request => Hub(request, _bytes));
        HubDownloadException e = await Assert.ThrowsAsync<HubDownloadException>(() =>
            HubCache.DownloadAsync(Name, new() { Folder = _folder.PathOf("cache"), Endpoint = server.Address, MaximumBytes = 699_999 }, null, Token));
        Assert.Contains("MaximumBytes", e.Message, StringComparison.Ordinal);
        Assert.Empty(server.Bodies);

        using HubServer liar = new(request => Hub(request, _bytes, more: ("X-Linked-Size", "1000")));
        e = await Assert.ThrowsAsync<HubDownloadException>(() => HubCache.DownloadAsync(Name, Options(liar), null, Token));
        Assert.Contains("1000", e.Message, StringComparison.Ordinal);
        Nothing();
    }

    [Fact]
    public async Task A_cancelled_download_keeps_what_came_and_nothing_has_the_final_name()
    {
        bool hold = true;
        using HubServer server = new(request => Hub(request, _bytes) with { Cut = hold ? 500_000 : int.MaxValue, Hold = hold });
        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(Token);
        Steps steps = new(step =>
        {
            if (step.BytesDone == 0) return;
            Nothing();
            stop.Cancel();
        });
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => HubCache.DownloadAsync(Name, Options(server), steps, stop.Token));
        Nothing();
        Assert.InRange(new FileInfo(Part).Length, 1, 500_000);
        hold = false;
        Assert.Equal(_bytes, await File.ReadAllBytesAsync(await HubCache.DownloadAsync(Name, Options(server), null, Token), Token));
        Assert.True(server.Bodies.Last().From > 0);
    }

    [Fact]
    public async Task Silence_and_missing_servers_are_errors()
    {
        using HubServer server = new(request => Hub(request, _bytes) with { Cut = 400_000, Hold = true });

        // The limit is on every step, the first connection and what came before the silence too.
        HubDownloadException e = await Assert.ThrowsAsync<HubDownloadException>(() =>
            HubCache.DownloadAsync(Name, new() { Folder = _folder.PathOf("cache"), Endpoint = server.Address, Timeout = TimeSpan.FromSeconds(3) }, null, Token));
        Assert.Contains("silent", e.Message, StringComparison.Ordinal);
        Assert.True(File.Exists(Part));
        Uri gone;
        using (HubServer closed = new(_ => Text(200))) gone = closed.Address;
        e = await Assert.ThrowsAsync<HubDownloadException>(() => HubCache.DownloadAsync(Name, new() { Folder = _folder.Root, Endpoint = gone }, null, Token));
        Assert.Contains("cannot be reached", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Many_at_once_fetch_it_once()
    {
        using HubServer server = new(request => Hub(request, _bytes));
        string[] paths = await Task.WhenAll(Enumerable.Range(0, 6).Select(_ => Task.Run(() => HubCache.DownloadAsync(Name, Options(server), null, Token), Token)));
        Assert.All(paths, path => Assert.Equal(Snapshot, path));
        Assert.Equal(_bytes, await File.ReadAllBytesAsync(Snapshot, Token));
        Assert.Single(server.Bodies);
    }

    [Fact]
    public async Task A_client_of_ones_own_must_not_follow_redirects()
    {
        using HubServer server = new(request => request.Path == Resolve ? Text(302, ("Location", "/moved")) : Hub(request, _bytes));
        using HttpClient client = new();
        HubDownloadOptions options = new() { Folder = _folder.PathOf("cache"), Endpoint = server.Address, HttpClient = client };
        HubDownloadException e = await Assert.ThrowsAsync<HubDownloadException>(() => HubCache.DownloadAsync(Name, options, null, Token));
        Assert.Contains("AllowAutoRedirect", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("hf_x\r\nHost: y")]
    public async Task A_token_that_is_none_is_refused_and_not_shown(string token)
    {
        using HubServer server = new(request => Hub(request, _bytes));
        ArgumentException e = await Assert.ThrowsAsync<ArgumentException>(() => HubCache.DownloadAsync(Name, Options(server, token: token), null, Token));
        Assert.DoesNotContain("hf_x", e.Message, StringComparison.Ordinal);
        Assert.Empty(server.Requests);
    }

    private static Answer Text(int status, params (string Name, string Value)[] headers) =>
        new(status, [], headers.ToDictionary(header => header.Name, header => header.Value));

    /// <summary>A file as the hub serves it, ranges included.</summary>
    private static Answer Hub(Request request, byte[] bytes, string? tag = "", string commit = Commit, params (string Name, string Value)[] more)
    {
        Dictionary<string, string> headers = new() { ["X-Repo-Commit"] = commit, ["Accept-Ranges"] = "bytes" };
        if (tag is not null) headers["X-Linked-Etag"] = $"\"{(tag.Length > 0 ? tag : Convert.ToHexString(SHA256.HashData(bytes)).ToLowerInvariant())}\"";
        foreach ((string name, string value) in more) headers[name] = value;
        if (request.From is not { } from) return new(200, bytes, headers);
        headers["Content-Range"] = $"bytes {from}-{bytes.Length - 1}/{bytes.Length}";
        return new(206, bytes[from..], headers);
    }

    private HubDownloadOptions Options(HubServer server, string revision = "main", string? file = null, string? token = null) =>
        new() { Folder = _folder.PathOf("cache"), Endpoint = server.Address, Revision = revision, File = file, Token = token };

    /// <summary>Nothing has a name under which it would be taken for whole.</summary>
    private void Nothing()
    {
        Assert.False(File.Exists(Blob));
        Assert.False(File.Exists(Snapshot));
        Assert.Throws<FileNotFoundException>(() => HubCache.Find(Name, _folder.PathOf("cache")));
    }

    /// <summary>What was reported, in order and at once.</summary>
    private sealed class Steps(Action<HubDownloadProgress>? each = null) : IProgress<HubDownloadProgress>
    {
        public ConcurrentQueue<HubDownloadProgress> Reports { get; } = new();

        public void Report(HubDownloadProgress value)
        {
            Reports.Enqueue(value);
            each?.Invoke(value);
        }
    }
}
