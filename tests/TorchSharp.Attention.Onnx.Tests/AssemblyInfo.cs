using Xunit.Sdk;
using Xunit.v3;

// TorchSharp's implicit scalars race with the finaliser when threads work side by side.
[assembly: Parallelization(Mode = ParallelMode.None)]
