{
  description = "Bootable disk images in user space: no root, no VM, no mount, the same bytes every time";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forAll = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
      package = pkgs: pkgs.callPackage ./nix/package.nix { };
    in
    {
      packages = forAll (pkgs: {
        default = package pkgs;
        # Without SQLite and zstd, and so without C.
        pure = pkgs.callPackage ./nix/package.nix { pure = true; };
      });
      apps = forAll (pkgs: {
        default = {
          type = "app";
          program = "${package pkgs}/bin/diskwright";
        };
      });
      # The tools that build it, and the programs that judge its images in tests/run.
      devShells = forAll (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ (package pkgs) ];
          packages = with pkgs; [
            cargo-nextest
            clippy
            dosfstools
            e2fsprogs
            gptfdisk
            mtools
            parted
            qemu
            rustfmt
            sqlite
            util-linux
          ];
        };
      });
      checks = forAll (pkgs: {
        package = package pkgs;
        # A whole system, from the module to the image.
        image = import ./nix/examples/efi.nix {
          inherit nixpkgs;
          inherit (pkgs.stdenv.hostPlatform) system;
        };
      });
      overlays.default = final: _: { diskwright = final.callPackage ./nix/package.nix { }; };
      nixosModules.default = ./nix/module.nix;
      # Runs the system in QEMU: system.build.vm and system.build.vmWithBootLoader.
      nixosModules.qemu-vm = ./nix/qemu-vm.nix;
      # Makes the image that diskwright.repart describes, with the options of image.repart.
      nixosModules.repart = ./nix/repart-module.nix;
      lib = {
        makeDiskImage = import ./nix/make-disk-image.nix;
        makeMultiDiskZfsImage = import ./nix/make-multi-disk-zfs-image.nix;
        makeSingleDiskZfsImage = import ./nix/make-single-disk-zfs-image.nix;
        makeRepartImage = import ./nix/repart-image.nix;
      };
      templates.default = {
        path = ./nix/examples/flake;
        description = "A NixOS system and the image of its disk";
      };
    };
}
