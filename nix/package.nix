# The program, for `callPackage`. Needs a C compiler for SQLite and zstd; with `pure = true` neither is built in.
{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
  pure ? false,
}:

let
  manifest = builtins.fromTOML (builtins.readFile ../Cargo.toml);

  # The sources of the program, so that a change of a test or a page does not rebuild it. Cargo requires every member of the
  # workspace to be there.
  parts = [
    "Cargo.toml"
    "Cargo.lock"
    "src"
    "benches"
    "README.md"
  ]
  ++ manifest.workspace.members or [ ];
in

rustPlatform.buildRustPackage {
  pname = "diskwright";
  inherit (manifest.package) version;

  src = builtins.path {
    name = "diskwright-source";
    path = ../.;
    filter =
      path: type:
      let
        relative = lib.removePrefix (toString ../. + "/") (toString path);
        within = inner: outer: inner == outer || lib.hasPrefix (outer + "/") inner;
      in
      # A part, what is in one, and the folders above one.
      lib.any (part: within relative part || (type == "directory" && within part relative)) parts;
  };
  cargoLock.lockFile = ../Cargo.lock;
  buildNoDefaultFeatures = pure;
  buildFeatures = lib.optional (pure && manifest.features ? cli) "cli";

  # The tests need foreign judges (e2fsck, QEMU, Nix itself) and some need root: tests/run is for them.
  doCheck = false;

  nativeBuildInputs = [ installShellFiles ];
  # The program itself writes its completions and manual pages, where it runs on the machine that builds it.
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    for shell in bash fish zsh; do
      $out/bin/diskwright completions $shell > diskwright.$shell
    done
    installShellCompletion diskwright.bash diskwright.fish diskwright.zsh
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
