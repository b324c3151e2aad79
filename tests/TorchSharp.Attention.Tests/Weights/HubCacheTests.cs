namespace TorchSharp.Attention.Tests;

/// <summary>Models by their names on the hub, in the folders that its tools leave behind.</summary>
public sealed class HubCacheTests : IDisposable
{
    private const string Commit = "0123456789abcdef0123456789abcdef01234567", Other = "89abcdef0123456789abcdef0123456789abcdef";
    private const string Model = "models--timm--seresnet50.a1_in1k", Name = "timm/seresnet50.a1_in1k";

    private readonly WeightsFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_branch_a_tag_and_a_commit_are_found_in_a_cache()
    {
        _folder.Write($"{Model}/refs/main", System.Text.Encoding.ASCII.GetBytes(Commit));
        _folder.Write($"{Model}/refs/pr/3", System.Text.Encoding.ASCII.GetBytes(Other + "\n"));
        string path = _folder.Write($"{Model}/snapshots/{Commit}/model.safetensors", [1]), other = _folder.Write($"{Model}/snapshots/{Other}/pytorch_model.bin", [1]);
        Assert.Equal(path, HubCache.Find(Name, _folder.Root));
        Assert.Equal(other, HubCache.Find(Name, _folder.Root, "pr/3"), ignoreLineEndingDifferences: true);
        Assert.Equal(other, HubCache.Find(Name, _folder.Root, Other));
        _folder.Write($"{Model}/snapshots/{Commit}/pytorch_model.bin", [1]);
        Assert.Equal(path, HubCache.Find(Name, _folder.Root));
    }

    [Fact]
    public void A_plain_folder_will_do()
    {
        string path = _folder.Write($"{Name}/model.safetensors", [1]);
        Assert.Equal(path, HubCache.Find(Name, _folder.Root).Replace('/', Path.DirectorySeparatorChar));
    }

    [Fact]
    public void What_is_not_there_is_an_error_that_says_how_to_get_it()
    {
        FileNotFoundException e = Assert.Throws<FileNotFoundException>(() => HubCache.Find(Name, _folder.Root));
        Assert.Contains($"hf download {Name}", e.Message, StringComparison.Ordinal);
        Assert.Contains(Path.Combine(_folder.Root, Model, "snapshots", "main"), e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("resnet50", "main")]
    [InlineData("a/b/c", "main")]
    [InlineData("../x", "main")]
    [InlineData("a/..", "main")]
    [InlineData("a/b\\c", "main")]
    [InlineData("a/", "main")]
    [InlineData("a/b", "../../x")]
    [InlineData("a/b", "")]
    public void What_is_no_name_or_leads_elsewhere_is_refused(string name, string revision) =>
        Assert.Throws<ArgumentException>(() => HubCache.Find(name, _folder.Root, revision));

    [Fact]
    public void A_reference_that_leads_elsewhere_is_not_followed()
    {
        _folder.Write("outside/model.safetensors", [1]);
        _folder.Write($"{Model}/refs/main", "../../outside"u8.ToArray());
        Directory.CreateDirectory(_folder.PathOf($"{Model}/snapshots"));
        Assert.Throws<FileNotFoundException>(() => HubCache.Find(Name, _folder.Root));
    }

    [Fact]
    public void A_link_that_leads_nowhere_is_no_file()
    {
        _folder.Write($"{Model}/refs/main", System.Text.Encoding.ASCII.GetBytes(Commit));
        string link = _folder.Link($"{Model}/snapshots/{Commit}/model.safetensors", "../../blobs/gone");
        Assert.Throws<FileNotFoundException>(() => HubCache.Find(Name, _folder.Root));
        string other = _folder.Write($"{Model}/snapshots/{Commit}/pytorch_model.bin", [1]);
        Assert.Equal(other, HubCache.Find(Name, _folder.Root));
        _folder.Write($"{Model}/blobs/gone", [1]);
        Assert.Equal(link, HubCache.Find(Name, _folder.Root));
        File.Delete(link);
        File.Delete(other);
        _folder.Link($"{Model}/snapshots/{Commit}/model.safetensors", "pytorch_model.bin");
        _folder.Link($"{Model}/snapshots/{Commit}/pytorch_model.bin", "model.safetensors");
        Assert.Throws<FileNotFoundException>(() => HubCache.Find(Name, _folder.Root));
    }

    [Fact]
    public void A_reference_that_leads_nowhere_is_none()
    {
        _folder.Link($"{Model}/refs/main", "gone");
        string path = _folder.Write($"{Model}/snapshots/main/model.safetensors", [1]);
        Assert.Equal(path, HubCache.Find(Name, _folder.Root));
    }

    [Theory]
    [InlineData("", "/home/a/.cache/huggingface/hub")]
    [InlineData("XDG_CACHE_HOME=/xdg", "/xdg/huggingface/hub")]
    [InlineData("XDG_CACHE_HOME=/xdg HF_HOME=/hf", "/hf/hub")]
    [InlineData("XDG_CACHE_HOME=/xdg HF_HOME=/hf HUGGINGFACE_HUB_CACHE=/old", "/old")]
    [InlineData("XDG_CACHE_HOME=/xdg HF_HOME=/hf HUGGINGFACE_HUB_CACHE=/old HF_HUB_CACHE=/new", "/new")]
    [InlineData("HF_HOME= XDG_CACHE_HOME=", "/home/a/.cache/huggingface/hub")]
    [InlineData("HF_HOME=~/x", "/home/a/x/hub")]
    [InlineData("HF_HUB_CACHE=~", "/home/a")]
    [InlineData("HF_HUB_CACHE=~b/x", "~b/x")]
    [InlineData("HF_HUB_CACHE=$SCRATCH/hub SCRATCH=/scratch", "/scratch/hub")]
    [InlineData("HF_HOME=${SCRATCH}2 SCRATCH=/scratch", "/scratch2/hub")]
    [InlineData("HF_HUB_CACHE=/a/$UNKNOWN", "/a/$UNKNOWN")]
    public void The_users_cache_is_where_Hugging_Faces_tools_look(string variables, string expected)
    {
        Dictionary<string, string> all = variables.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(text => text.Split('=')).ToDictionary(pair => pair[0], pair => pair[1]);
        Assert.Equal(expected, HubCache.UserCache(all.GetValueOrDefault, "/home/a").Replace(Path.DirectorySeparatorChar, '/'));
    }
}
