# A NixOS module: `system.build.diskwrightImage` is the disk of this system.
#
#   imports = [ ./nix/module.nix ];
#   diskwright.image = { partitionTableType = "efi"; format = "qcow2"; };
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.diskwright;
in
{
  options.diskwright = {
    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The program that writes the image.";
    };
    image = lib.mkOption {
      type = lib.types.submodule {
        freeformType = lib.types.attrsOf lib.types.raw;
        options.partitionTableType = lib.mkOption {
          type = lib.types.enum [
            "legacy"
            "legacy+boot"
            "legacy+gpt"
            "efi"
            "efixbootldr"
            "hybrid"
            "none"
          ];
          default = if config.boot.loader.systemd-boot.enable then "efi" else "legacy";
          defaultText = lib.literalMD "`efi` with systemd-boot, else `legacy`";
          description = "The partitions of the disk.";
        };
        options.format = lib.mkOption {
          type = lib.types.enum [
            "raw"
            "qcow2"
            "qcow2-compressed"
            "vdi"
            "vpc"
            "vmdk"
            "vhdx"
          ];
          default = "raw";
          description = "The format of the image.";
        };
      };
      default = { };
      description = "Arguments of make-disk-image.nix.";
    };
  };

  config = {
    system.build.diskwrightImage = import ./make-disk-image.nix (
      {
        inherit config lib pkgs;
        diskwright = cfg.package;
      }
      // cfg.image
    );
  };
}
