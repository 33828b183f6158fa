# What the three functions for systems on ZFS have in common: nixpkgs' make-multi-disk-zfs-image.nix and
# make-single-disk-zfs-image.nix without their virtual machine. The same arguments, no requiredSystemFeatures, the same bits
# every time. docs/nix.md has the differences.
{
  pkgs,
  lib ? pkgs.lib,

  # The NixOS configuration to be installed: `config.system.build.toplevel` is.
  config,

  # "zfs": a disk with the boot partitions, and one that is the pool's alone. "zfs-single": all on one disk.
  layout,

  # Size of the boot disk in MiB; of a single disk, where the boot partition ends.
  bootSize ? 1024,

  # Memory of nixpkgs' virtual machine; does nothing, because there is none.
  memSize ? 1024,

  # Size of the pool's disk in MiB, or "auto"; a single disk is larger by bootSize.
  rootSize ? 2048,

  # Name of the pool, and its properties as `zpool create -o` and `-O` take them.
  rootPoolName ? "tank",
  rootPoolProperties ? {
    autoexpand = "on";
  },
  rootPoolFilesystemProperties ? {
    acltype = "posixacl";
    atime = "off";
    compression = "on";
    mountpoint = "legacy";
    xattr = "sa";
  },

  # Datasets by their names with the pool: { mount?, properties? }.
  datasets ? { },

  # Files that go into the system, as for make-disk-image.nix. nixpkgs takes and ignores them.
  contents ? [ ],

  # A file that becomes part of /etc/nixos/configuration.nix, beside the file systems of the datasets.
  configFile ? null,

  # Shell code that runs after the images are written, with $bootDiskImage, $rootDiskImage and $out.
  postVM ? "",

  name ? "nixos-disk-image",

  # "raw", "qcow2", "qcow2-compressed", "vdi", "vpc", "vmdk" or "vhdx".
  format ? "raw",

  # Whether root has a channel with the nixpkgs that `pkgs` comes from.
  includeChannel ? true,

  # The following arguments do not exist in nixpkgs' functions; make-disk-image.nix says what they do.
  diskwright ? (pkgs.buildPackages or pkgs).callPackage ./package.nix { },
  compat ? true,
  bootLoader ? null,
  installBootLoader ? true,
  grub ? null,
  grubMkimage ? null,
  additionalPaths ? [ ],
  generations ? [ ],
  extraNixos ? { },
  extraDisk ? { },
}:

let
  isSingle = layout == "zfs-single";

  # The same system on an ordinary disk: its loader, closure and channel are those of this one. Firmware of both kinds
  # starts it.
  plain = import ./make-disk-image.nix {
    inherit
      pkgs
      lib
      config
      contents
      configFile
      name
      format
      diskwright
      compat
      bootLoader
      installBootLoader
      grub
      grubMkimage
      additionalPaths
      generations
      extraDisk
      ;
    copyChannel = includeChannel;
    partitionTableType = "hybrid";
    diskSize = if rootSize == "auto" then "auto" else if isSingle then bootSize + rootSize else rootSize;
    bootSize = "${toString bootSize}M";
    extraNixos = {
      inherit layout;
      pool = rootPoolName;
      pool_properties = rootPoolProperties;
      filesystem_properties = rootPoolFilesystemProperties;
      datasets = map (
        name:
        let
          dataset = datasets.${name};
        in
        {
          inherit name;
          properties = dataset.properties or { };
        }
        // (if dataset.mount or null != null then { inherit (dataset) mount; } else { })
      ) (builtins.attrNames datasets);
    }
    // extraNixos;
  };

  # Without keys of a filesystem that is none of ZFS.
  manifest = plain.manifest // {
    nixos = removeAttrs plain.manifest.nixos [
      "fs_type"
      "label"
      "root_uuid"
      "gpt_uuid"
    ];
  };

  bootFilename = "nixos.boot.${plain.extension}";
  rootFilename = "nixos.root.${plain.extension}";
in

pkgs.runCommand name
  {
    manifest = builtins.toJSON manifest;
    passAsFile = [ "manifest" ];
    nativeBuildInputs = [ diskwright ];
    passthru = {
      inherit format config manifest;
      filename = rootFilename;
      inherit (plain) extension;
    };
  }
  ''
    mkdir -p $out
    rootDiskImage=$out/${rootFilename}
    ${if isSingle then "" else "bootDiskImage=$out/${bootFilename}"}
    # The boot disk's name follows from that of the pool's.
    diskwright build "$manifestPath" -o "$rootDiskImage" --jobs ''${NIX_BUILD_CORES:-1} \
      --format ${if format == "qcow2-compressed" then "qcow2" else format}
    ${postVM}
  ''
