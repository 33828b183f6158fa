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
    in
    {
      packages = forAll (pkgs: {
        default = pkgs.callPackage ./nix/package.nix { };
      });
      overlays.default = final: _: { diskwright = final.callPackage ./nix/package.nix { }; };
      nixosModules.default = ./nix/module.nix;
      lib.makeDiskImage = import ./nix/make-disk-image.nix;
    };
}
