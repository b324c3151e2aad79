using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace TorchSharp.Attention.Tests;

/// <summary>A small HTTP server on this machine that answers as a test says: one request for each connection.</summary>
public sealed class HubServer : IDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _end = new();
    private readonly Func<Request, Answer> _answer;

    public HubServer(Func<Request, Answer> answer)
    {
        _answer = answer;
        _listener.Start();
        _ = Task.Run(AcceptAsync);
    }

    public Uri Address => new($"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}");

    public ConcurrentQueue<Request> Requests { get; } = new();

    public IEnumerable<Request> Bodies => Requests.Where(request => request.Method == "GET");

    public void Dispose()
    {
        _end.Cancel();
        _listener.Stop();
        _end.Dispose();
    }

    private async Task AcceptAsync()
    {
        CancellationToken end = _end.Token;
        try
        {
            while (true)
            {
                TcpClient client = await _listener.AcceptTcpClientAsync(end);
                _ = Task.Run(() => ServeAsync(client, end));
            }
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
        }
    }

    private async Task ServeAsync(TcpClient client, CancellationToken end)
    {
        try
        {
            using (client)
            {
                NetworkStream stream = client.GetStream();
                using StreamReader reader = new(stream, Encoding.ASCII, leaveOpen: true);
                string[] first = (await reader.ReadLineAsync(end) ?? "").Split(' ');
                if (first.Length < 2) return;
                Dictionary<string, string> headers = new(StringComparer.OrdinalIgnoreCase);
                while (await reader.ReadLineAsync(end) is { Length: > 0 } line)
                {
                    int colon = line.IndexOf(':', StringComparison.Ordinal);
                    headers[line[..colon]] = line[(colon + 1)..].Trim();
                }

                Request request = new(first[0], first[1], headers);
                Requests.Enqueue(request);
                Answer answer = _answer(request);
                StringBuilder head = new($"HTTP/1.1 {answer.Status} X\r\nConnection: close\r\n");
                if (!answer.Headers.ContainsKey("Content-Length")) head.Append($"Content-Length: {answer.Body.Length}\r\n");
                foreach ((string name, string value) in answer.Headers) head.Append($"{name}: {value}\r\n");
                await stream.WriteAsync(Encoding.ASCII.GetBytes(head.Append("\r\n").ToString()), end);
                if (request.Method == "HEAD") return;
                await stream.WriteAsync(answer.Body.AsMemory(0, Math.Min(answer.Cut, answer.Body.Length)), end);
                if (answer.Hold) await Task.Delay(Timeout.Infinite, end);
            }
        }
        catch (Exception e) when (e is OperationCanceledException or IOException or ObjectDisposedException)
        {
        }
    }

    /// <summary>A request.</summary>
    public sealed record Request(string Method, string Path, IReadOnlyDictionary<string, string> Headers)
    {
        public string? this[string header] => Headers.GetValueOrDefault(header);

        /// <summary>Where the wanted range begins; null without one.</summary>
        public int? From => this["Range"] is { } range ? int.Parse(range["bytes=".Length..^1], System.Globalization.CultureInfo.InvariantCulture) : null;
    }

    /// <summary>An answer. The connection ends, or is held open, after so many bytes of the body.</summary>
    public sealed record Answer(int Status, byte[] Body, IReadOnlyDictionary<string, string> Headers, int Cut = int.MaxValue, bool Hold = false);
}
