return TorchSharp.Attention.Golden.GoldenProgram.Run(args, Console.Out, Console.Error);
