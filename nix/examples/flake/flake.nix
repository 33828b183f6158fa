# A system and its image from one flake: nix build .#image
#
# `diskwright` is a name of the flake registry: `nix registry add diskwright PLACE` says once where it is, or a URL stands
# here instead. PLACE is a checkout (path:/home/me/diskwright) or its repository (git+https://…).
{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  inputs.diskwright.url = "flake:diskwright";
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
      packages.${system} = {
        image = machine.config.system.build.diskwrightImage;
        default = machine.config.system.build.diskwrightImage;
      };
    };
}
