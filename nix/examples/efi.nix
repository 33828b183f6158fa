# A machine that boots from UEFI, as a qcow2: nix-build nix/examples/efi.nix
{
  nixpkgs ? <nixpkgs>,
  system ? builtins.currentSystem,
}:

let
  machine = import "${nixpkgs}/nixos" {
    inherit system;
    configuration = {
      imports = [ ../module.nix ];
      diskwright.image = {
        partitionTableType = "efi";
        format = "qcow2";
        additionalSpace = "1G";
      };
      boot.loader.systemd-boot.enable = true;
      boot.growPartition = true;
      fileSystems."/" = {
        device = "/dev/disk/by-label/nixos";
        fsType = "ext4";
        autoResize = true;
      };
      fileSystems."/boot" = {
        device = "/dev/disk/by-label/ESP";
        fsType = "vfat";
      };
      services.getty.autologinUser = "root";
      system.stateVersion = "26.05";
    };
  };
in
machine.config.system.build.diskwrightImage
