# A NixOS module: `system.build.diskwrightImage` is the disk of this system, and where nothing else makes an image of it,
# `system.build.image` too. So it is an entry of nixpkgs' `image.modules` as it is:
#
#   imports = [ ./nix/module.nix ];                        # nix build …#….config.system.build.diskwrightImage
#   image.modules.diskwright = ./nix/module.nix;           # nixos-rebuild build-image --image-variant diskwright
#   diskwright.image = { partitionTableType = "efi"; format = "qcow2"; };
{
  config,
  lib,
  pkgs,
  modulesPath,
  ...
}:

let
  cfg = config.diskwright;
  # Where nixpkgs declares what an image file is called; versions before 25.05 have none.
  fileOptions = "${toString modulesPath}/image/file-options.nix";
  hasFileOptions = builtins.pathExists fileOptions;
  made = import ./make-disk-image.nix (
    {
      inherit config lib pkgs;
      diskwright = cfg.package;
    }
    // lib.optionalAttrs hasFileOptions { inherit (config.image) baseName; }
    // cfg.image
  );
  list =
    description:
    lib.mkOption {
      type = lib.types.listOf lib.types.raw;
      default = [ ];
      inherit description;
    };
in
{
  imports = lib.optional hasFileOptions fileOptions;

  options.diskwright = {
    package = lib.mkOption {
      type = lib.types.package;
      # It runs on the machine that builds the image, for a system of any processor.
      default = pkgs.buildPackages.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.buildPackages.callPackage ./package.nix { }";
      description = "The program that writes the image.";
    };
    image = lib.mkOption {
      type = lib.types.submodule {
        freeformType = lib.types.attrsOf lib.types.raw;
        options = {
          partitionTableType = lib.mkOption {
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
          format = lib.mkOption {
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
          # Lists that several modules may add to.
          contents = list "Files that go into the root: { source, target, mode?, user?, group? }.";
          additionalPaths = list "More store paths, with all that they need.";
          generations = list "Earlier systems that can be booted too, the oldest first.";
        };
      };
      default = { };
      description = "Arguments of make-disk-image.nix.";
    };
  };

  config = {
    system.build.diskwrightImage = made;
    system.build.image = lib.mkDefault made;
  }
  // lib.optionalAttrs hasFileOptions {
    # A name among the arguments is the name of the file, so all who ask for the file have to get it.
    image.baseName = lib.mkIf (cfg.image ? baseName) (lib.mkDefault cfg.image.baseName);
    image.extension = lib.mkDefault made.extension;
  };
}
