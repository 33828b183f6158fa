# A NixOS module: `system.build.repartImage` is the image that `diskwright.repart` describes, with the options of nixpkgs'
# image.repart. It can be an entry of `image.modules`:
#
#   image.modules.appliance = { imports = [ ./nix/repart-module.nix ]; diskwright.repart = { … }; };
{
  config,
  lib,
  pkgs,
  modulesPath,
  ...
}:

let
  cfg = config.diskwright.repart;
  fileOptions = "${toString modulesPath}/image/file-options.nix";
  hasFileOptions = builtins.pathExists fileOptions;
  made = import ./repart-image.nix (
    {
      inherit lib pkgs;
      inherit (cfg)
        name
        version
        seed
        split
        sectorSize
        imageSize
        compression
        level
        ;
      verityStore = lib.optionalAttrs cfg.verityStore.enable (
        cfg.verityStore // { system = config.system.build.toplevel; }
      );
      partitions = lib.mapAttrs (_: partition: partition // { repartConfig = partition.repartConfig; }) cfg.partitions;
    }
    // lib.optionalAttrs (cfg.package != null) { diskwright = cfg.package; }
  );
  option =
    type: default: description:
    lib.mkOption { inherit type default description; };
  inherit (lib) types;
  partition = types.submodule {
    options = {
      storePaths = option (types.listOf types.path) [ ] "Store paths, which come with all that they need.";
      nixStorePrefix = option types.path "/nix/store" "Where they lie in the partition.";
      nixDatabase = option types.bool false "Whether Nix knows of them: a system that can build and be rebuilt.";
      nixProfile = option (types.nullOr types.path) null "The system that /nix/var/nix/profiles/system leads to.";
      contents = option (types.attrsOf (
        types.submodule { options.source = lib.mkOption { type = types.path; description = "What goes there."; }; }
      )) { } "Files by their places in the partition.";
      diskwright = option (types.attrsOf types.anything) { } "More keys of [X-Diskwright].";
      repartConfig = lib.mkOption {
        type = types.attrsOf (
          types.oneOf [
            types.str
            types.int
            types.bool
            (types.listOf types.str)
          ]
        );
        default = { };
        description = "Keys of repart.d(5).";
      };
    };
  };
in
{
  imports = lib.optional hasFileOptions fileOptions;

  options.diskwright.repart = {
    package = option (types.nullOr types.package) null "The program that writes the image.";
    name = option types.str "image" "Name of the image.";
    version = option (types.nullOr types.str) null "Version of the image.";
    partitions = option (types.attrsOf partition) { } "The partitions, in the order of their names.";
    seed = option (types.nullOr types.str) "0867da16-f251-457d-a9e8-c31f9a3c220b" "UUID that ids derive from.";
    split = option types.bool false "Whether partitions are files of their own too.";
    sectorSize = option (types.nullOr (types.enum [ 512 1024 2048 4096 ])) 512 "Bytes in a sector.";
    imageSize = option (types.strMatching "[0-9]+[KMGTP]?|auto") "auto" "Size of the image.";
    level = option (types.enum [ "257" "260" "262" ]) "262" "Release of systemd-repart that is imitated.";
    verityStore = {
      enable = option types.bool false "Whether the store is a partition that the kernel verifies, started by a unified kernel image.";
      ukiPath = option types.str (
        "/EFI/Linux/" + (config.system.boot.loader.ukiFile or "nixos.efi")
      ) "Where the unified kernel image lies in the ESP.";
      partitionIds = {
        esp = option types.str "00-esp" "Name of the ESP in `partitions`.";
        store-verity = option types.str "10-store-verity" "Name of the partition with the hashes.";
        store = option types.str "20-store" "Name of the partition with the store.";
      };
    };
    compression = {
      enable = option types.bool false "Whether the image is compressed.";
      algorithm = option (types.enum [ "zstd" "xz" "zstd-seekable" ]) "zstd" "How it is compressed.";
      level = option types.int 3 "Level of the compression.";
    };
  };

  config = {
    system.build.repartImage = made;
    system.build.image = lib.mkDefault made;
  }
  // lib.optionalAttrs hasFileOptions {
    image.extension = lib.mkDefault made.extension;
  };
}
