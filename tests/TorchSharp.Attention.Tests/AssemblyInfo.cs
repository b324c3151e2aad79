// TorchSharp's implicit scalars race with the finaliser when threads train side by side.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
