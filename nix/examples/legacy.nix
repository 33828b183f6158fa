# A machine that boots from a BIOS by GRUB, as a raw disk, by the function alone: nix-build nix/examples/legacy.nix
{
  pkgs ? import <nixpkgs> { },
}:

let
  machine = import "${pkgs.path}/nixos" {
    configuration = {
      boot.loader.grub.device = "/dev/vda";
      fileSystems."/" = {
        device = "/dev/disk/by-label/nixos";
        fsType = "ext4";
        autoResize = true;
      };
      boot.growPartition = true;
      system.stateVersion = "26.05";
    };
  };
in
import ../make-disk-image.nix {
  inherit pkgs;
  inherit (machine) config;
  partitionTableType = "legacy";
  contents = [
    {
      source = pkgs.writeText "motd" "Welcome.\n";
      target = "/etc/motd";
      mode = "0644";
    }
  ];
  postVM = ''
    # $diskImage is the finished image.
    sha256sum "$diskImage" > $out/SHA256
  '';
}
