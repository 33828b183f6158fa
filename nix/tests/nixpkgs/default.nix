# As much of nixpkgs as this repository's files ask for: packages that are names, and derivations that build nothing.
{ system ? "x86_64-linux" }:
let
  lib = import ./lib.nix;
  path = name: "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-${name}";
  pkgs = {
    inherit lib;
    path = path "nixpkgs";
    buildPackages = pkgs;
    stdenv = {
      buildPlatform.canExecute = other: other.system == system;
      hostPlatform = {
        inherit system;
        isx86 = system == "x86_64-linux";
      };
    };
    callPackage =
      file: more:
      let
        package = import file;
        wanted = builtins.intersectAttrs (builtins.functionArgs package) pkgs;
      in
      package (wanted // more);
    rustPlatform.buildRustPackage = attributes: attributes // { outPath = path "diskwright"; type = "derivation"; };
    installShellFiles = path "install-shell-files";
    runtimeShell = path "bash/bin/bash";
    mkShell = attributes: attributes // { type = "derivation"; };
    runCommand = name: attributes: script: (attributes.passthru or { }) // {
      inherit name script attributes;
      type = "derivation";
      outPath = path name;
    };
    closureInfo = { rootPaths }: {
      inherit rootPaths;
      outPath = path "closure-info";
    };
    OVMF.fd = {
      firmware = path "OVMF_CODE.fd";
      variables = path "OVMF_VARS.fd";
    };
  }
  // lib.genAttrs [
    "cargo-nextest"
    "clippy"
    "dosfstools"
    "e2fsprogs"
    "gptfdisk"
    "grub2"
    "grub2_efi"
    "mtools"
    "netcat"
    "nix"
    "parted"
    "qemu"
    "qemu_kvm"
    "rsync"
    "rustfmt"
    "sqlite"
    "swtpm"
    "t2sz"
    "tpm2-tools"
    "util-linux"
    "virtiofsd"
    "xz"
    "zstd"
  ] path;
in
pkgs
