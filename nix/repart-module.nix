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
  # Where nixpkgs declares what an image file is called; versions before 25.05 have none.
  fileOptions = "${toString modulesPath}/image/file-options.nix";
  hasFileOptions = builtins.pathExists fileOptions;

  made = checked (
    import ./repart-image.nix (
      {
        inherit lib pkgs;
        inherit (cfg)
          name
          version
          partitions
          seed
          split
          sectorSize
          imageSize
          createEmpty
          image
          compression
          mkfsOptions
          level
          ;
        # Whoever asks for the file goes by image.filePath, so the file has to have that name.
        baseName = if hasFileOptions then config.image.baseName else cfg.baseName;
        verityStore = lib.optionalAttrs cfg.verityStore.enable (
          cfg.verityStore // { system = config.system.build.toplevel; }
        );
      }
      // lib.optionalAttrs (cfg.package != null) { diskwright = cfg.package; }
    )
  );
  # As in nixpkgs, these stop the image and not the system, which may be built without it.
  checked =
    value:
    let
      failed = builtins.filter (one: !one.assertion) cfg.assertions;
    in
    if failed != [ ] then
      throw "\nFailed assertions:\n${builtins.concatStringsSep "\n" (map (one: "- ${one.message}") failed)}"
    else
      builtins.foldl' (value: warning: lib.warn warning value) value cfg.warnings;

  # GPT has 36 UTF-16 units for a label.
  longest = 36;
  labels = builtins.concatMap (
    name:
    let
      label = cfg.partitions.${name}.repartConfig.Label or null;
    in
    if builtins.isString label then
      [
        {
          length = builtins.stringLength label;
          text = "The partition label '${label}' defined for '${name}' is ${toString (builtins.stringLength label)} characters long";
        }
      ]
    else
      [ ]
  ) (builtins.attrNames cfg.partitions);
  withOptions = builtins.filter (filesystem: cfg.mkfsOptions.${filesystem} != [ ]) (
    builtins.attrNames cfg.mkfsOptions
  );

  option =
    type: default: description:
    lib.mkOption { inherit type default description; };
  # An option whose default the manual cannot evaluate, because it depends on the system.
  derived =
    type: default: text: description:
    lib.mkOption {
      inherit type default description;
      defaultText = lib.literalExpression text;
    };
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
    enable = derived types.bool (
      cfg.partitions != { } || cfg.verityStore.enable
    ) "config.diskwright.repart.partitions != { } || config.diskwright.repart.verityStore.enable" "Whether there is an image.";
    package = option (types.nullOr types.package) null "The program that writes the image.";
    name = derived types.str (
      let
        id = config.system.image.id or null;
      in
      if id == null then "image" else id
    ) "if config.system.image.id == null then \"image\" else config.system.image.id" "Name of the image.";
    version = derived (types.nullOr types.str) (
      config.system.image.version or null
    ) "config.system.image.version" "Version of the image.";
    baseName = derived types.str (
      if cfg.version == null then cfg.name else "${cfg.name}_${cfg.version}"
    ) "\"\${name}_\${version}\"" "Name of the file without its extension, where image.baseName is not given.";
    partitions = option (types.attrsOf partition) { } "The partitions, in the order of their names.";
    seed = option (types.nullOr types.str) "0867da16-f251-457d-a9e8-c31f9a3c220b" "UUID that ids derive from.";
    split = option types.bool false "Whether partitions are files of their own too.";
    sectorSize = option (types.nullOr (types.enum [ 512 1024 2048 4096 ])) 512 "Bytes in a sector.";
    imageSize = option (types.strMatching "[0-9]+[KMGTP]?|auto") "auto" "Size of the image.";
    createEmpty = option types.bool true "Whether the image is made anew; otherwise partitions are added to `image`.";
    image = option (types.nullOr types.path) null "The raw file that partitions are added to.";
    mkfsOptions = option (types.attrsOf (
      types.listOf types.str
    )) { } "Options of mkfs programs. No such program runs, so an option is an error.";
    level = option (types.enum [ "257" "260" "262" ]) "262" "Release of systemd-repart that is imitated.";
    verityStore = {
      enable = option types.bool false "Whether the store is a partition that the kernel verifies, started by a unified kernel image.";
      ukiPath = derived types.path (
        "/EFI/Linux/" + (config.system.boot.loader.ukiFile or "nixos.efi")
      ) "\"/EFI/Linux/\${config.system.boot.loader.ukiFile}\"" "Where the unified kernel image lies in the ESP.";
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
    finalPartitions = lib.mkOption {
      type = types.raw;
      internal = true;
      readOnly = true;
      description = "The partitions with those of verityStore.";
    };
    assertions = lib.mkOption {
      type = types.listOf types.raw;
      default = [ ];
      internal = true;
      description = "What has to be true of the image, and not of the system.";
    };
    warnings = lib.mkOption {
      type = types.listOf types.str;
      default = [ ];
      internal = true;
      description = "What is said when the image is evaluated, and not the system.";
    };
  };

  config = {
    system.build = lib.mkIf cfg.enable (
      {
        repartImage = made;
        image = lib.mkDefault made;
      }
      # In nixpkgs, an image without the kernel image comes before, and this is the one with it.
      // lib.optionalAttrs cfg.verityStore.enable { finalImage = lib.mkDefault made; }
    );

    # The initrd opens the store by its hashes, and mounts it. The format comes from the options and not from the image, which
    # may be refused where the system is not. repart-image.nix has the same one by default.
    boot.initrd = lib.mkIf (cfg.enable && cfg.verityStore.enable) {
      systemd.dmVerity.enable = lib.mkDefault true;
      supportedFilesystems.${cfg.partitions.${cfg.verityStore.partitionIds.store}.repartConfig.Format or "erofs"} =
        lib.mkDefault true;
    };

    diskwright.repart = {
      finalPartitions = made.partitions;
      assertions =
        map (label: {
          assertion = label.length <= longest;
          message = "${label.text}, but the maximum label length supported by UEFI is ${toString longest}.";
        }) labels
        ++ [
          {
            assertion = withOptions == [ ];
            message = "diskwright.repart.mkfsOptions has options for ${toString withOptions}, but no mkfs program runs. Compression=, CompressionLevel= and FileSystemSectorSize= of repartConfig are followed.";
          }
          {
            assertion = cfg.createEmpty == (cfg.image == null);
            message = "diskwright.repart.image is what partitions are added to with createEmpty = false, and with nothing else.";
          }
        ];
      warnings =
        map
          (
            label:
            "${label.text}. The suggested maximum label length is ${toString (longest - 2)}: with updates in the style of systemd-sysupdate, the version in the label may become longer."
          )
          (builtins.filter (label: label.length >= longest - 2) labels)
        ++ lib.optional (cfg.verityStore.enable && !(config.boot.initrd.systemd.enable or true))
          "diskwright.repart.verityStore needs boot.initrd.systemd.enable: no other initrd opens the store by its root hash.";
    };
  }
  // lib.optionalAttrs hasFileOptions {
    image = lib.mkIf cfg.enable {
      baseName = lib.mkDefault cfg.baseName;
      extension = lib.mkDefault made.extension;
    };
  };
}
