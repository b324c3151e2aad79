// TorchSharp's implicit scalars race with the finaliser when threads run side by side.
[assembly: Xunit.v3.Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]
