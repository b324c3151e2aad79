# For the findings that are C# programs; sourced, not run. Needs the .NET SDK, perl and a NuGet source with the packages named.
#
# run_csharp PACKAGE@VERSION… < program.cs
#   Builds the program of standard input in a temporary folder with exactly these packages and runs it. The folder goes when the script ends.
set -euo pipefail
export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1

finding_folder=$(mktemp -d)
trap 'rm -rf "$finding_folder"' EXIT

run_csharp() {
  local project=$finding_folder/program
  mkdir -p "$project"
  cat >"$project/Program.cs"
  {
    echo '<Project Sdk="Microsoft.NET.Sdk"><PropertyGroup><OutputType>Exe</OutputType><TargetFramework>net10.0</TargetFramework>'
    echo '<ImplicitUsings>enable</ImplicitUsings><Nullable>disable</Nullable><AllowUnsafeBlocks>true</AllowUnsafeBlocks><InvariantGlobalization>true</InvariantGlobalization>'
    echo '<RuntimeIdentifier>linux-x64</RuntimeIdentifier><SelfContained>false</SelfContained><NoWarn>$(NoWarn);NU1603;NU1701;CS8981</NoWarn></PropertyGroup><ItemGroup>'
    local package
    for package in "$@"; do echo "<PackageReference Include=\"${package%@*}\" Version=\"${package#*@}\" />"; done
    echo '</ItemGroup></Project>'
  } >"$project/program.csproj"

  # Nothing of the repository around this folder applies.
  echo '<Project />' | tee "$project/Directory.Build.props" "$project/Directory.Build.targets" "$project/Directory.Packages.props" >/dev/null
  dotnet build -c Release -v q -o "$finding_folder/out" "$project" >"$finding_folder/build.log" 2>&1 || { cat "$finding_folder/build.log"; return 2; }
  find "$finding_folder/out" -name libLibTorchSharp.so | while read -r library; do weaken "$library"; done
  dotnet "$finding_folder/out/program.dll"
}

# TorchSharp 0.107.0's library asks for the version GLIBCXX_3.4.32 for a symbol that nothing calls. Systems with an older libstdc++ load it where
# that demand is marked weak: bit 2 of the flags behind the version's ELF hash.
weaken() {
  cp --remove-destination "$(readlink -f "$1")" "$1.own" && mv -f "$1.own" "$1"
  perl -0777 -i -pe '
    BEGIN { binmode STDIN; our $hash = 0; for (unpack "C*", "GLIBCXX_3.4.32") { $hash = ($hash << 4) + $_; my $top = $hash & 0xf0000000; $hash ^= $top >> 24 if $top; $hash &= ~$top & 0xffffffff } our $bytes = pack "V", $hash }
    s/\Q$bytes\E\x00\x00/${bytes}\x02\x00/g' "$1"
}
