# The program, for `callPackage`. Needs a C compiler for SQLite and zstd; with `pure = true` neither is built in.
{
  lib,
  rustPlatform,
  installShellFiles,
  pure ? false,
}:

rustPlatform.buildRustPackage {
  pname = "diskwright";
  version = (builtins.fromTOML (builtins.readFile ../Cargo.toml)).package.version;

  src = builtins.path {
    name = "diskwright-source";
    path = ../.;
    # What the program is made of, so that a change of a test or a page builds nothing anew.
    filter =
      path: type:
      let
        relative = lib.removePrefix (toString ../. + "/") (toString path);
      in
      lib.any (kept: relative == kept || lib.hasPrefix (kept + "/") relative) [
        "Cargo.toml"
        "Cargo.lock"
        "src"
        "benches"
        "README.md"
      ];
  };
  cargoLock.lockFile = ../Cargo.lock;
  buildNoDefaultFeatures = pure;

  # The tests need foreign judges (e2fsck, QEMU, Nix itself) and some need root: tests/run is for them.
  doCheck = false;

  nativeBuildInputs = [ installShellFiles ];
  postInstall = ''
    for shell in bash fish zsh; do
      $out/bin/diskwright completions $shell > diskwright.$shell
    done
    installShellCompletion diskwright.{bash,fish,zsh}
    $out/bin/diskwright man --dir man
    installManPage man/*
  '';

  meta = {
    description = "Writes bootable disk images in user space: no root, no VM, no mount, the same bytes every time";
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "diskwright";
    platforms = lib.platforms.linux;
  };
}
