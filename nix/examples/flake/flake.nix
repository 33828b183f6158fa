# A system and its image from one flake: nix build .#image
{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  inputs.diskwright.url = "path:../..";
  inputs.diskwright.inputs.nixpkgs.follows = "nixpkgs";

  outputs =
    { nixpkgs, diskwright, ... }:
    let
      system = "x86_64-linux";
      machine = nixpkgs.lib.nixosSystem {
        inherit system;
        modules = [
          diskwright.nixosModules.default
          {
            diskwright.image = {
              partitionTableType = "hybrid";
              format = "qcow2-compressed";
            };
            boot.loader.grub = {
              devices = [ "/dev/vda" ];
              efiSupport = true;
              efiInstallAsRemovable = true;
            };
            fileSystems."/" = {
              device = "/dev/disk/by-label/nixos";
              fsType = "ext4";
            };
            fileSystems."/boot" = {
              device = "/dev/disk/by-label/ESP";
              fsType = "vfat";
            };
            system.stateVersion = "26.05";
          }
        ];
      };
    in
    {
      packages.${system}.image = machine.config.system.build.diskwrightImage;
    };
}
