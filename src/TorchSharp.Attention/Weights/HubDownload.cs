using System.Net;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;

namespace TorchSharp.Attention;

/// <summary>Fetches one file into a cache of the hub, in the layout of Hugging Face's tools: blobs, snapshots and refs.</summary>
internal sealed partial class HubDownload : IDisposable
{
    private const int MostRedirects = 10, BufferBytes = 1 << 17, ReportBytes = 1 << 18, LockPauseMilliseconds = 50;

    private readonly string _name, _folder, _model;
    private readonly HubDownloadOptions _options;
    private readonly IProgress<HubDownloadProgress>? _progress;
    private readonly CancellationToken _cancellation;
    private readonly HttpClient _client;

    /// <param name="name">The model's name, checked.</param>
    /// <param name="folder">The cache.</param>
    /// <param name="model">The model's folder in it.</param>
    /// <param name="options">The options; those that are names are checked.</param>
    /// <param name="progress">Hears how far it has come.</param>
    /// <param name="cancellation">Ends it.</param>
    public HubDownload(
        string name, string folder, string model, HubDownloadOptions options, IProgress<HubDownloadProgress>? progress,
        CancellationToken cancellation)
    {
        (_name, _folder, _model, _options, _progress, _cancellation) = (name, folder, model, options, progress, cancellation);
        _ = options.Endpoint
            ?? throw new ArgumentNullException(nameof(options), "Endpoint is null; its default is https://huggingface.co.");
        if (!options.Endpoint.IsAbsoluteUri || !IsAllowed(options.Endpoint, from: null))
        {
            throw new ArgumentException(
                $"Endpoint is '{options.Endpoint}'; weights are fetched by https, by plain http only from this machine. " +
                "Write https://… instead.", nameof(options));
        }

        if (options.Token is { } token && (token.Length == 0 || token.Any(letter => letter is <= ' ' or > '~')))
        {
            throw new ArgumentException(
                "Token is empty or has blanks or letters that no token has; trim it, or leave it null.", nameof(options));
        }

        if (options.MaximumBytes <= 0)
        {
            throw new ArgumentException($"MaximumBytes is {options.MaximumBytes}; it must be positive.", nameof(options));
        }

        if ((options.Timeout <= TimeSpan.Zero && options.Timeout != Timeout.InfiniteTimeSpan)
            || options.Timeout.TotalMilliseconds > int.MaxValue)
        {
            throw new ArgumentException(
                $"Timeout is {options.Timeout}; it must be positive, or Timeout.InfiniteTimeSpan.", nameof(options));
        }

        // Plain http stays on this machine: no proxy sees it.
        _client = options.HttpClient ?? new HttpClient(
            new SocketsHttpHandler { AllowAutoRedirect = false, UseCookies = false, UseProxy = !options.Endpoint.IsLoopback })
        { Timeout = Timeout.InfiniteTimeSpan };
    }

    public void Dispose()
    {
        if (_options.HttpClient is null) _client.Dispose();
    }

    /// <summary>Fetches the first of the files that the repository has.</summary>
    /// <returns>Its path.</returns>
    public async Task<string> RunAsync(IReadOnlyList<string> files)
    {
        for (int i = 0; ; i++)
        {
            try
            {
                return await OneAsync(files[i]).ConfigureAwait(false);
            }
            catch (HubDownloadException e) when (e.StatusCode == HttpStatusCode.NotFound && i + 1 < files.Count)
            {
                // The next name.
            }
        }
    }

    /// <summary>The SHA-256 of a file for 64 digits, git's SHA-1 of it for 40.</summary>
    internal static async Task<string> ChecksumAsync(Stream stream, int digits, CancellationToken cancellation)
    {
        // Git's names of contents are SHA-1; where the hub has nothing better, it is what there is to compare with.
        bool git = digits == SHA1.HashSizeInBytes * 2;
        using IncrementalHash hash = IncrementalHash.CreateHash(git ? HashAlgorithmName.SHA1 : HashAlgorithmName.SHA256);
        if (git) hash.AppendData(Encoding.ASCII.GetBytes($"blob {stream.Length}\0"));
        byte[] buffer = new byte[BufferBytes];
        for (int read; (read = await stream.ReadAsync(buffer, cancellation).ConfigureAwait(false)) > 0;)
        {
            hash.AppendData(buffer, 0, read);
        }

        return Convert.ToHexString(hash.GetHashAndReset()).ToLowerInvariant();
    }

    private static bool IsAllowed(Uri uri, Uri? from) =>
        uri.Scheme == Uri.UriSchemeHttps
            || (uri.Scheme == Uri.UriSchemeHttp && uri.IsLoopback && from?.Scheme != Uri.UriSchemeHttps);

    /// <summary>An address without what may be secret in it.</summary>
    private static string Show(Uri uri)
        => $"'{uri.GetComponents(UriComponents.SchemeAndServer | UriComponents.Path, UriFormat.UriEscaped)}'";

    private static string? Header(HttpResponseMessage response, string name) =>
        response.Headers.TryGetValues(name, out IEnumerable<string>? values) ? values.FirstOrDefault() : null;

    private static HubDownloadException Unannounced(Uri uri, string header, string what) => new(
        $"{Show(uri)} {what}; without {header} a download cannot be verified. Is Endpoint a server of the hub's kind?");

    private async Task<string> OneAsync(string file)
    {
        // A commit never changes, so nobody needs to be asked where the file is known to be whole.
        string known = Path.Combine(_model, "snapshots", _options.Revision, file);
        long there = Commit().IsMatch(_options.Revision) ? HubFiles.LengthOf(known) : -1;
        bool? isWhole = there >= 0 ? await IsWholeAsync(known).ConfigureAwait(false) : null;
        if (isWhole == true) return There(file, known, there);
        Announced announced;
        try
        {
            announced = await AskAsync(AddressOf(file, _options.Revision)).ConfigureAwait(false);
        }
        catch (HubDownloadException e) when (there >= 0 && isWhole is null && e.InnerException is not null)
        {
            // Without a network there is nothing to compare the file with.
            return There(file, known, there);
        }

        string snapshot = Path.Combine(_model, "snapshots", announced.Commit, file);
        bool wasThere = isWhole != false && HubFiles.LengthOf(snapshot) == announced.Size;
        if (wasThere) There(file, snapshot, announced.Size);
        else await BringAsync(file, announced, snapshot, isWhole == false).ConfigureAwait(false);
        if (_options.Revision != announced.Commit) WriteReference(announced.Commit, wasThere);
        return snapshot;
    }

    private string There(string file, string path, long size)
    {
        _progress?.Report(new(file, size, size));
        return path;
    }

    /// <summary>Brings a file into a snapshot, by way of its blob, while nobody else does.</summary>
    private async Task BringAsync(string file, Announced announced, string snapshot, bool isDamaged)
    {
        string blob = Path.Combine(_model, "blobs", announced.Checksum);
        Directory.CreateDirectory(Path.GetDirectoryName(blob)!);
        using FileStream only = await LockAsync(announced.Checksum).ConfigureAwait(false);
        if (!isDamaged && HubFiles.LengthOf(blob) == announced.Size) There(file, blob, announced.Size);
        else await FetchAsync(file, announced, blob).ConfigureAwait(false);
        if (isDamaged || HubFiles.LengthOf(snapshot) != announced.Size) Place(blob, snapshot);
    }

    /// <summary>
    /// Whether a file is what its blob is named after; null where the blob's name is no checksum, or the file is a copy.
    /// </summary>
    private async Task<bool?> IsWholeAsync(string path)
    {
        if (File.ResolveLinkTarget(path, returnFinalTarget: true) is not { } blob || !Tag().IsMatch(blob.Name)) return null;
        using FileStream stream = new(
            path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, 1,
            FileOptions.Asynchronous | FileOptions.SequentialScan);
        return string.Equals(
            await ChecksumAsync(stream, blob.Name.Length, _cancellation).ConfigureAwait(false), blob.Name,
            StringComparison.OrdinalIgnoreCase);
    }

    /// <summary>Notes which commit the revision is, where that is not noted yet.</summary>
    private void WriteReference(string commit, bool mayBeReadOnly)
    {
        string reference = Path.Combine(_model, "refs", _options.Revision);
        if (HubFiles.ReadReference(reference) == commit) return;
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(reference)!);
            HubFiles.RemoveLink(reference);
            AtomicFile.Write(reference, stream => stream.Write(Encoding.ASCII.GetBytes(commit)));
        }
        catch (Exception e) when (mayBeReadOnly && HubFiles.IsReadOnly(e))
        {
            // The file is there, and the cache is not ours to write.
        }
    }

    private Uri AddressOf(string file, string revision)
    {
        string endpoint = _options.Endpoint.GetLeftPart(UriPartial.Path).TrimEnd('/');
        return new($"{endpoint}/{_name}/resolve/{Uri.EscapeDataString(revision)}/{file}");
    }

    /// <summary>What the server says about a file, without its contents.</summary>
    private async Task<Announced> AskAsync(Uri uri)
    {
        string? commit = null, tag = null;
        long? size = null;
        using HttpResponseMessage response = await FollowAsync(HttpMethod.Head, uri, 0, Collect).ConfigureAwait(false);
        commit ??= "";
        if (!Commit().IsMatch(commit))
        {
            throw Unannounced(
                uri, "X-Repo-Commit", commit.Length == 0 ? "names no commit" : "names something else than a commit");
        }

        Match checksum = Tag().Match(tag ?? "");
        if (!checksum.Success)
        {
            throw Unannounced(
                uri, "X-Linked-Etag or ETag", tag is null ? "names no checksum" : "names a tag that is no checksum");
        }

        if (size is not >= 0) throw Unannounced(uri, "X-Linked-Size or Content-Length", "names no size");
        if (size > _options.MaximumBytes)
        {
            throw new HubDownloadException(
                $"{Show(uri)} has {size} bytes, and MaximumBytes is {_options.MaximumBytes}. " +
                "Raise MaximumBytes if the size is right.");
        }

        return new(commit, checksum.Groups[1].Value.ToLowerInvariant(), size.Value);

        bool Collect(HttpResponseMessage answer)
        {
            if ((int)answer.StatusCode >= 400) return true;
            commit ??= Header(answer, "X-Repo-Commit");
            tag ??= Header(answer, "X-Linked-Etag") ?? (answer.IsSuccessStatusCode ? Header(answer, "ETag") : null);
            size ??= long.TryParse(Header(answer, "X-Linked-Size"), out long linked)
                ? linked
                : answer.IsSuccessStatusCode ? answer.Content.Headers.ContentLength : null;
            return commit is not null && tag is not null && size is not null;
        }
    }

    /// <summary>Brings the contents to the blob's name: all of them, verified, or none.</summary>
    private async Task FetchAsync(string file, Announced announced, string blob)
    {
        string part = $"{blob}.incomplete";
        Uri uri = AddressOf(file, announced.Commit);
        HubFiles.RemoveLink(part);
        if (HubFiles.LengthOf(part) > announced.Size) File.Delete(part);
        if (HubFiles.LengthOf(part) != announced.Size || announced.Size == 0)
        {
            await ReceiveAsync(file, uri, announced, part).ConfigureAwait(false);
        }
        else _progress?.Report(new(file, announced.Size, announced.Size));

        string found;
        using (FileStream stream = new(
            part, FileMode.Open, FileAccess.Read, FileShare.Read, 1, FileOptions.Asynchronous | FileOptions.SequentialScan))
        {
            found = await ChecksumAsync(stream, announced.Checksum.Length, _cancellation).ConfigureAwait(false);
        }

        if (found != announced.Checksum)
        {
            File.Delete(part);
            throw new HubDownloadException(
                $"{Show(uri)} came with the checksum {found}; the server announced {announced.Checksum}. It was deleted; " +
                "try again, and distrust the server if it stays.");
        }

        File.Move(part, blob, overwrite: true);
    }

    private async Task ReceiveAsync(string file, Uri uri, Announced announced, string part)
    {
        long from = Math.Max(HubFiles.LengthOf(part), 0), size = announced.Size;
        HttpResponseMessage response = await FollowAsync(HttpMethod.Get, uri, from, enough: null).ConfigureAwait(false);
        try
        {
            bool rest = response.StatusCode == HttpStatusCode.PartialContent
                && response.Content.Headers.ContentRange is { Unit: "bytes" } range
                && range.From == from && range.To == size - 1 && (range.Length ?? size) == size;
            if (from > 0 && !rest
                && response.StatusCode is HttpStatusCode.PartialContent or HttpStatusCode.RequestedRangeNotSatisfiable)
            {
                // Another piece than was asked for, or none: from the start, without a range.
                from = 0;
                response.Dispose();
                response = await FollowAsync(HttpMethod.Get, uri, 0, enough: null).ConfigureAwait(false);
                rest = false;
            }

            if (!rest)
            {
                // A server that knows no ranges sends all of it.
                from = 0;
                if (response.StatusCode != HttpStatusCode.OK)
                {
                    throw new HubDownloadException(
                        $"{Show(uri)} answered {(int)response.StatusCode} where the whole file was asked " +
                        "for.")
                    { StatusCode = response.StatusCode };
                }
            }

            if (response.Content.Headers.ContentEncoding.Any(encoding => encoding != "identity")
                || (response.Content.Headers.ContentLength ?? size - from) != size - from)
            {
                throw new HubDownloadException(
                    $"{Show(uri)} announced {size} bytes and sends another number of them, or packed ones. Try again later.");
            }

            using FileStream stream = new(
                part, FileMode.OpenOrCreate, FileAccess.Write, FileShare.Read, 1, FileOptions.Asynchronous);
            stream.SetLength(from);
            stream.Position = from;
            await CopyAsync(file, uri, response, stream, size).ConfigureAwait(false);
            stream.Flush(flushToDisk: true);
        }
        finally
        {
            response.Dispose();
        }
    }

    private async Task CopyAsync(string file, Uri uri, HttpResponseMessage response, FileStream stream, long size)
    {
        byte[] buffer = new byte[BufferBytes];
        long reported = stream.Position;
        _progress?.Report(new(file, reported, size));
        using Stream body = await TimedAsync(uri, token => response.Content.ReadAsStreamAsync(token)).ConfigureAwait(false);
        for (int read; (read = await TimedAsync(uri, token => body.ReadAsync(buffer, token).AsTask()).ConfigureAwait(false)) > 0;)
        {
            if (stream.Position + read > size)
            {
                stream.SetLength(0);
                throw new HubDownloadException(
                    $"{Show(uri)} announced {size} bytes and sends more. Nothing of it was kept; try again later.");
            }

            await stream.WriteAsync(buffer.AsMemory(0, read), _cancellation).ConfigureAwait(false);
            if (stream.Position - reported < ReportBytes && stream.Position < size) continue;
            reported = stream.Position;
            _progress?.Report(new(file, reported, size));
        }

        if (stream.Position < size)
        {
            throw new HubDownloadException(
                $"{Show(uri)} ended after {stream.Position} of {size} bytes. They stay; another call continues there.");
        }
    }

    /// <summary>Sends a request, and again to where the answers point, until one is final or enough.</summary>
    private async Task<HttpResponseMessage> FollowAsync(
        HttpMethod method, Uri uri, long from, Func<HttpResponseMessage, bool>? enough)
    {
        Uri first = uri;
        for (int hop = 0; hop <= MostRedirects; hop++)
        {
            Uri current = uri;
            HttpResponseMessage response = await TimedAsync(
                current, token => SendAsync(method, current, from, token)).ConfigureAwait(false);
            bool keep = false;
            try
            {
                if (response.RequestMessage?.RequestUri is { } sent && sent != current)
                {
                    throw new HubDownloadException(
                        "The HttpClient follows redirects by itself, where they cannot be checked. " +
                        "Set AllowAutoRedirect = false on its handler.");
                }

                int status = (int)response.StatusCode;
                bool redirects = status is 301 or 302 or 303 or 307 or 308;
                keep = enough?.Invoke(response) == true && status < 400;
                if (keep) return response;
                if (!redirects)
                {
                    keep = response.IsSuccessStatusCode || (status == 416 && from > 0);
                    return keep ? response : throw Refused(current, response);
                }

                uri = Next(current, response.Headers.Location);
            }
            finally
            {
                if (!keep) response.Dispose();
            }
        }

        throw new HubDownloadException($"{Show(first)} redirects more than {MostRedirects} times.");
    }

    private static Uri Next(Uri current, Uri? location)
    {
        if (location is null || !Uri.TryCreate(current, location, out Uri? next))
        {
            throw new HubDownloadException($"{Show(current)} redirects without saying where to.");
        }

        return IsAllowed(next, current) ? next : throw new HubDownloadException(
            $"{Show(current)} redirects to {next.Scheme} on '{next.Host}', which is not followed: " +
            "weights are fetched by https. Use an Endpoint that stays on https.");
    }

    private Task<HttpResponseMessage> SendAsync(HttpMethod method, Uri uri, long from, CancellationToken token)
    {
        HttpRequestMessage request = new(method, uri);
        request.Headers.UserAgent.Add(new ProductInfoHeaderValue("TorchSharp.Attention", null));
        request.Headers.AcceptEncoding.Add(new StringWithQualityHeaderValue("identity"));
        if (from > 0) request.Headers.Range = new RangeHeaderValue(from, null);
        bool home = Uri.Compare(
            uri, _options.Endpoint, UriComponents.SchemeAndServer, UriFormat.Unescaped, StringComparison.OrdinalIgnoreCase) == 0;
        if (home && _options.Token is { } secret) request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", secret);
        return _client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, token);
    }

    /// <summary>One step over the network, with the time that it may take and errors that say what happened.</summary>
    private async Task<T> TimedAsync<T>(Uri uri, Func<CancellationToken, Task<T>> step)
    {
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(_cancellation);
        limit.CancelAfter(_options.Timeout);
        try
        {
            return await step(limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException e) when (!_cancellation.IsCancellationRequested)
        {
            throw new HubDownloadException(
                $"{Show(uri)} was silent for {_options.Timeout.TotalSeconds} seconds (Timeout). What came so far stays; " +
                "another call continues there.", e);
        }
        catch (HttpRequestException e) when (e.HttpRequestError is HttpRequestError.NameResolutionError
            or HttpRequestError.ConnectionError)
        {
            throw new HubDownloadException(
                $"'{uri.Host}' cannot be reached: {e.Message} Is there a network, or does it need a proxy?", e);
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            throw new HubDownloadException(
                $"The connection to {Show(uri)} failed: {e.Message} What came so far stays; another call continues there.", e);
        }
    }

    private HubDownloadException Refused(Uri uri, HttpResponseMessage response)
    {
        string token = _options.Token is null
            ? "Set Token to an access token of an account that may"
            : "The account of Token must be one that may";
        string what = response.StatusCode switch
        {
            HttpStatusCode.Unauthorized => $"there is no such model, or it is private or gated. {token} read it.",
            HttpStatusCode.Forbidden =>
                $"the model is gated or private. {token} read it; " +
                $"terms are accepted at '{_options.Endpoint.GetLeftPart(UriPartial.Path).TrimEnd('/')}/{_name}'.",
            HttpStatusCode.NotFound =>
                $"'{_name}' has no such file at '{_options.Revision}', or there is no such model. " +
                "Check the name, Revision and File.",
            HttpStatusCode.TooManyRequests => "too many requests. Try again later.",
            _ => "the server cannot serve it now. Try again later.",
        };
        return new($"{Show(uri)} answered {(int)response.StatusCode}: {what}") { StatusCode = response.StatusCode };
    }

    /// <summary>Waits until nobody else fetches the same contents. Hugging Face's tools lock the same file.</summary>
    private async Task<FileStream> LockAsync(string checksum)
    {
        // The file stays: deleting it would let two hold it under one name.
        string path = Path.Combine(_folder, ".locks", Path.GetFileName(_model), $"{checksum}.lock");
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        HubFiles.RemoveLink(path);
        while (true)
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException e) when (IsHeld(e.HResult))
            {
                await Task.Delay(LockPauseMilliseconds, _cancellation).ConfigureAwait(false);
            }
        }
    }

    /// <summary>
    /// Whether an error says that another holds the file: Windows' sharing and lock violations, EAGAIN of Linux and of macOS.
    /// </summary>
    private static bool IsHeld(int error) => error is unchecked((int)0x80070020) or unchecked((int)0x80070021) or 11 or 35;

    /// <summary>Gives a blob its name in a snapshot: a link, or a copy where links are not possible.</summary>
    private static void Place(string blob, string snapshot)
    {
        string folder = Path.GetDirectoryName(snapshot)!, temporary = $"{snapshot}.{Path.GetRandomFileName()}.tmp";
        Directory.CreateDirectory(folder);
        try
        {
            try
            {
                File.CreateSymbolicLink(temporary, Path.GetRelativePath(folder, blob));
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or PlatformNotSupportedException)
            {
                File.Copy(blob, temporary, overwrite: true);
            }

            File.Move(temporary, snapshot, overwrite: true);
        }
        catch
        {
            AtomicFile.TryDelete(temporary);
            throw;
        }
    }

    [GeneratedRegex(@"\A[0-9a-f]{40}\z", RegexOptions.CultureInvariant)]
    private static partial Regex Commit();

    // A weak tag will do: what counts is the checksum in it.
    [GeneratedRegex(@"\A(?:W/)?""?([0-9A-Fa-f]{64}|[0-9A-Fa-f]{40})""?\z", RegexOptions.CultureInvariant)]
    private static partial Regex Tag();

    /// <summary>What the server says about a file.</summary>
    private sealed record Announced(string Commit, string Checksum, long Size);
}
