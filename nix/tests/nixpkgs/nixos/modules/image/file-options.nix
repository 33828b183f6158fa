# The names of an image's file, as nixpkgs declares them since 25.05.
{ config, lib, ... }:
{
  options.image = {
    baseName = lib.mkOption { type = lib.types.raw; default = "nixos-image"; };
    extension = lib.mkOption { type = lib.types.raw; };
    fileName = lib.mkOption {
      type = lib.types.raw;
      default = "${config.image.baseName}.${config.image.extension}";
    };
    filePath = lib.mkOption { type = lib.types.raw; default = config.image.fileName; };
  };
}
