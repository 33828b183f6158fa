# nixpkgs' nixos/lib/make-disk-image.nix without its virtual machine: the same arguments, the same image, no
# requiredSystemFeatures, the same bits every time.
#
#   import ./make-disk-image.nix { inherit pkgs lib config; partitionTableType = "efi"; format = "qcow2"; }
#
# Arguments that only a virtual machine or a staging tree can use are accepted and do nothing; each says so.
# docs/nix.md has the differences.
{
  pkgs,
  lib ? pkgs.lib,

  # The NixOS configuration to be installed: `config.system.build.toplevel` is.
  config,

  # Size of the disk in MiB, or "auto": as small as everything fits with additionalSpace left.
  diskSize ? "auto",

  # What is left free with diskSize "auto": a number with K, M, G or T, which count in 1024s.
  additionalSpace ? "512M",

  # Where the boot partition ends, rounded up to the next whole MiB as nixpkgs does.
  bootSize ? "256M",

  # Files that go into the root: a list of { source, target, mode?, user?, group? }. Names of users and groups are looked
  # up in the image; without activation that is what the contents bring and what the configuration declares.
  contents ? [ ],

  # "legacy", "legacy+boot", "legacy+gpt", "efi", "efixbootldr", "hybrid" or "none".
  partitionTableType ? "legacy",

  # Whether the boot loader that the configuration enables is installed.
  installBootLoader ? true,

  # Whether $out/efi-vars.fd holds the variables of an EFI firmware that starts the image.
  touchEFIVars ? false,
  OVMF ? pkgs.OVMF.fd,
  efiFirmware ? OVMF.firmware,
  efiVariables ? OVMF.variables,

  # Filesystem of the root.
  fsType ? "ext4",

  # Label of the root filesystem.
  label ? if onlyNixStore then "nix-store" else "nixos",

  # A file that becomes /etc/nixos/configuration.nix.
  configFile ? null,

  # Shell code that runs after the image is written, with $diskImage and $out. There is no machine before it. The tools
  # and shell functions that it has in nixpkgs are there.
  postVM ? "",
  # The same under its true name; it runs after postVM.
  postImage ? "",

  # Memory of nixpkgs' virtual machine; does nothing, because there is none.
  memSize ? 1024,

  # Whether the root of the filesystem is the store itself.
  onlyNixStore ? false,

  name ? "nixos-disk-image",
  baseName ? "nixos",

  # "raw", "qcow2", "qcow2-compressed", "vdi", "vpc", "vmdk" or "vhdx".
  format ? "raw",

  # Of the format; null is its default. The variant: "dynamic" or "fixed" of vpc (Azure takes fixed), vdi and vhdx,
  # "monolithicSparse" or "streamOptimized" of vmdk (an OVA has streamOptimized).
  subformat ? null,
  # "none", "zlib" or "zstd" of qcow2, "zlib" of streamOptimized; and how hard.
  compress ? if format == "qcow2-compressed" then "zlib" else null,
  level ? null,
  # Of qcow2: bytes, or a text such as "2MiB".
  clusterSize ? null,

  # Every image is the same bit for bit; these do nothing.
  deterministic ? true,
  reproducible ? true,

  # GUID of the root partition, and UUID of the filesystem in it.
  rootGPUID ? if compat then "F222513B-DED1-49FA-B591-20CE86A2FE7F" else null,
  rootFSUID ? if fsType == "ext4" then rootGPUID else null,

  # How the root is filled; does nothing.
  populateRootWith ? "diskwright",
  # Seed of the hashes of ext4's directories; it is always the UUID of the filesystem.
  rootFSHashSeed ? rootFSUID,

  # Whether root has a channel with the nixpkgs that `pkgs` comes from.
  copyChannel ? true,

  # More store paths, with all that they need.
  additionalPaths ? [ ],

  # The following arguments do not exist in nixpkgs' function.

  diskwright ? (pkgs.buildPackages or pkgs).callPackage ./package.nix { },

  # Whether odd choices of nixpkgs are kept: see docs/formats/nixos.md.
  compat ? true,

  # "systemd-boot", "grub", "extlinux" or "none"; by default what the configuration enables, and another one is an error.
  bootLoader ? null,

  # A folder with i386-pc and x86_64-efi, and the program grub-mkimage.
  grub ? null,
  grubMkimage ? null,

  # Earlier systems that can be booted too, the oldest first.
  generations ? [ ],

  # Whether the hash of every store path is computed from the finished image.
  verifyClosure ? false,

  # More keys of the [nixos] section, and of [disk].
  extraNixos ? { },
  extraDisk ? { },
}:

let
  # What numfmt --from=iec takes, as diskwright writes it: 512M is 512MiB. A fraction becomes whole bytes, rounded up as
  # numfmt does.
  size =
    text:
    let
      parts = builtins.match "([0-9]*)(\\.[0-9]+)?([KMGTPE]?)" (toString text);
      whole = builtins.elemAt parts 0;
      fraction = builtins.elemAt parts 1;
      unit = builtins.elemAt parts 2;
      number = builtins.fromJSON ((if whole == "" then "0" else whole) + fraction);
    in
    if parts == null || (whole == "" && fraction == null) then
      throw "make-disk-image: `${toString text}` is no size: a number with K, M, G, T, P, E or nothing"
    else if fraction == null then
      whole + (if unit == "" then "" else unit + "iB")
    else
      toString (builtins.ceil (number * units.${if unit == "" then "B" else unit}));
  units = {
    B = 1;
    K = 1024;
    M = 1024 * units.K;
    G = 1024 * units.M;
    T = 1024 * units.G;
    P = 1024 * units.T;
    E = 1024 * units.P;
  };

  layouts = [
    "legacy"
    "legacy+boot"
    "legacy+gpt"
    "efi"
    "efixbootldr"
    "hybrid"
    "none"
  ];
  hasEsp = builtins.elem partitionTableType [
    "efi"
    "efixbootldr"
    "hybrid"
  ];
  hasBoot = hasEsp || partitionTableType == "legacy+boot";
  hasGpt = hasEsp || partitionTableType == "legacy+gpt";

  loader = config.boot.loader or { };
  # An option that nixpkgs has removed throws where it is read.
  enabled =
    name:
    let
      it = builtins.tryEval ((loader.${name} or { }).enable or false);
    in
    it.success && it.value == true;
  # By what nixpkgs calls them, the first one that is enabled.
  known = [
    {
      option = "generic-extlinux-compatible";
      name = "extlinux";
    }
    {
      option = "systemd-boot";
      name = "systemd-boot";
    }
    {
      option = "grub";
      name = "grub";
    }
  ];
  others = builtins.filter (
    option: enabled option && !builtins.any (one: one.option == option) known
  ) (builtins.attrNames loader);
  configured = builtins.filter (one: enabled one.option) known;
  chosenLoader =
    if !installBootLoader || onlyNixStore then
      "none"
    else if bootLoader != null then
      bootLoader
    else if others != [ ] then
      throw "make-disk-image: the boot loader `${builtins.head others}`, which the configuration enables, is not known; there are ${
        toString (map (one: one.option) known)
      }. bootLoader chooses one of systemd-boot, grub, extlinux and none; installBootLoader = false leaves it out"
    else if configured == [ ] then
      builtins.trace "warning: make-disk-image: the configuration enables no boot loader, and none is installed" "none"
    else
      (builtins.head configured).name;

  # What a GRUB is installed on; a device that is none, and no device, is for a GRUB that is there already.
  grubDevices = builtins.filter (device: device != "nodev") ((loader.grub or { }).devices or [ ]);

  formats = {
    raw = {
      flags = "--format raw";
      suffix = "img";
    };
    qcow2 = {
      flags = "--format qcow2";
      suffix = "qcow2";
    };
    qcow2-compressed = {
      flags = "--format qcow2";
      suffix = "qcow2";
    };
    vdi = {
      flags = "--format vdi";
      suffix = "vdi";
    };
    vpc = {
      flags = "--format vpc";
      suffix = "vhd";
    };
    vmdk = {
      flags = "--format vmdk";
      suffix = "vmdk";
    };
    vhdx = {
      flags = "--format vhdx";
      suffix = "vhdx";
    };
  };
  chosenFormat =
    formats.${format} or (throw "make-disk-image: no format `${format}`; there are ${toString (builtins.attrNames formats)}");
  filename = "${baseName}.${chosenFormat.suffix}";

  # The channel as nixos-install gets it: nixpkgs under the name nixos.
  channel =
    if copyChannel && !onlyNixStore then
      let
        version = config.system.nixos.version or "unknown";
        suffix = config.system.nixos.versionSuffix or "";
        nixpkgs =
          if lib ? cleanSource then lib.cleanSource pkgs.path else pkgs.path;
      in
      pkgs.runCommand "nixos-${version}" { } ''
        mkdir -p $out
        cp -prd ${nixpkgs} $out/nixos
        chmod -R u+w $out/nixos
        if [ ! -e $out/nixos/nixpkgs ]; then
          ln -s . $out/nixos/nixpkgs
        fi
        rm -rf $out/nixos/.git
        echo -n ${if lib ? escapeShellArg then lib.escapeShellArg suffix else "'${suffix}'"} > $out/nixos/.version-suffix
      ''
    else
      null;

  toplevel = config.system.build.toplevel;
  closure = pkgs.closureInfo {
    rootPaths =
      [ toplevel ] ++ generations ++ additionalPaths ++ (if channel == null then [ ] else [ channel ]);
  };

  # What runs now and here, also where the system is for another processor.
  build = pkgs.buildPackages or pkgs;

  # GRUB's platforms in one folder, each from the package that has it. One package has the program for all of them. A
  # processor without a BIOS has UEFI firmware alone, in hybrid too.
  hasBios =
    if partitionTableType == "hybrid" then
      pkgs.stdenv.hostPlatform.isx86 or true
    else
      !hasEsp;
  grubPlatforms =
    if grub != null then
      grub
    else
      pkgs.runCommand "grub-platforms" { } ''
        mkdir $out
        ${if hasEsp then "ln -s ${pkgs.grub2_efi}/lib/grub/* $out/" else ""}
        ${if hasBios then "ln -s ${pkgs.grub2}/lib/grub/* $out/" else ""}
      '';
  mkimage =
    if grubMkimage != null then
      "${grubMkimage}"
    else
      "${if hasBios then build.grub2 else build.grub2_efi}/bin/grub-mkimage";

  timeout = loader.timeout or 5;

  # What nixpkgs has on PATH for postVM, where `pkgs` has it, and its shell functions.
  hasPost = postVM != "" || postImage != "";
  tools = builtins.concatMap (name: if build ? ${name} then [ build.${name} ] else [ ]) [
    "parted"
    "util-linux"
    "e2fsprogs"
    "gptfdisk"
    "rsync"
  ];
  functions = ''
    sectorsToKilobytes() { echo $(( $1 * 512 / 1024 )); }
    sectorsToBytes() { echo $(( $1 * 512 )); }
    sum_lines() {
      local acc=0 number
      while read -r number; do acc=$((acc + number)); done
      echo "$acc"
    }
    mebibyte=$((1024 * 1024))
    compute_fudge() { echo $(( $1 * 52 / 1000 )); }
    round_to_nearest() { echo $(( ($1 / $2 + 1) * $2 )); }
  '';

  given = names: values: if names then values else { };
  manifest = {
    version = 1;
    # The disk in it is the same with any of these: no id derives from them.
    disk =
      given (subformat != null) { inherit subformat; }
      // given (compress != null) { inherit compress; }
      // given (level != null) { inherit level; }
      // given (clusterSize != null) { cluster_size = clusterSize; }
      // extraDisk;
    nixos = {
      system = "${toplevel}";
      closure = "${closure}";
      layout = partitionTableType;
      disk_size = if diskSize == "auto" then "auto" else "${toString diskSize}MiB";
      fs_type = fsType;
      inherit label compat;
      boot_loader = chosenLoader;
      # A path of the host becomes one of the store.
      additional_paths = map (path: "${path}") additionalPaths;
      generations = map (path: "${path}") generations;
      contents = map (
        content:
        {
          source = "${content.source}";
          # There, a target is below the root whether it begins with a slash or not.
          target = if builtins.substring 0 1 content.target == "/" then content.target else "/${content.target}";
        }
        // given (content.mode or null != null) { inherit (content) mode; }
        // given (content.user or null != null) { inherit (content) user; }
        // given (content.group or null != null) { inherit (content) group; }
      ) contents;
    }
    // given (diskSize == "auto") { additional_space = size additionalSpace; }
    // given hasBoot { boot_size = size bootSize; }
    // given (rootFSUID != null) { root_uuid = rootFSUID; }
    // given (hasGpt && rootGPUID != null) { gpt_uuid = rootGPUID; }
    // given (configFile != null) { config_file = "${configFile}"; }
    // given (channel != null) { channel = "${channel}"; }
    // given onlyNixStore { only_nix_store = true; }
    // given (chosenLoader != "none") { timeout = if timeout == null || timeout < 0 then "forever" else timeout; }
    // given (chosenLoader == "grub" && partitionTableType != "none") {
      grub = "${grubPlatforms}";
      grub_mkimage = mkimage;
    }
    // extraNixos;
  };
in

assert
  builtins.elem partitionTableType layouts
  || throw "make-disk-image: no partitionTableType `${partitionTableType}`; there are ${toString layouts}";
assert
  builtins.all (content: (content.user or null == null) == (content.group or null == null)) contents
  || throw "make-disk-image: contents have `user` and `group`, or neither";
assert
  !touchEFIVars || hasEsp || partitionTableType == "legacy+gpt"
  || throw "make-disk-image: touchEFIVars is for hybrid, efi, efixbootldr and legacy+gpt";
assert
  partitionTableType == "none" || fsType == "ext4"
  || throw "make-disk-image: a partition table is for fsType ext4 alone";
assert
  partitionTableType != "none" || chosenLoader != "grub" || grubDevices == [ ]
  || throw "make-disk-image: on a bare filesystem there is no place for GRUB's boot code on ${toString grubDevices}; with boot.loader.grub.device = \"nodev\" there is the menu for a GRUB from elsewhere, with installBootLoader = false nothing";

pkgs.runCommand name
  {
    manifest = builtins.toJSON manifest;
    passAsFile = [ "manifest" ];
    nativeBuildInputs = [ diskwright ] ++ (if hasPost then tools else [ ]);
    passthru = {
      inherit
        filename
        format
        config
        manifest
        ;
      extension = chosenFormat.suffix;
    };
  }
  ''
    mkdir -p $out
    diskImage=$out/${filename}
    diskwright build "$manifestPath" -o "$diskImage" ${chosenFormat.flags} \
      ${if verifyClosure then "--verify-closure" else ""} --jobs ''${NIX_BUILD_CORES:-1}
    ${if touchEFIVars then "cp ${efiVariables} $out/efi-vars.fd; chmod 0644 $out/efi-vars.fd" else ""}
    mkdir -p $out/nix-support
    echo "file ${if format == "qcow2-compressed" then "qcow2" else format}-image $diskImage" \
      > $out/nix-support/hydra-build-products
    ${if hasPost then functions else ""}
    ${postVM}
    ${postImage}
  ''
