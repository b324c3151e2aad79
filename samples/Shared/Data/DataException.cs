namespace Samples.Data;

/// <summary>A data file is missing or damaged. The message names the file, what is wrong, and where to get it.</summary>
public sealed class DataException(string path, string problem, string source, Exception? inner = null)
    : Exception($"{path}: {problem}{Environment.NewLine}{source}", inner);
