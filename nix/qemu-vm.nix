# nixpkgs' nixos/modules/virtualisation/qemu-vm.nix with disks that are never written: the same options, and
# `system.build.vm` and `system.build.vmWithBootLoader` of the same shape, by `diskwright vm`. Neither needs the feature kvm
# to build, neither has an image in the store, and neither copies anything when it starts.
#
#   imports = [ ./nix/qemu-vm.nix ];        # nix build …#….config.system.build.vm && ./result/bin/run-NAME-vm
#
# docs/vm.md has the differences.
{
  config,
  lib,
  pkgs,
  extendModules,
  modulesPath,
  ...
}:

let
  cfg = config.virtualisation;
  host = cfg.host.pkgs;
  inherit (lib) types;
  name = config.system.name or config.networking.hostName or "nixos";

  option =
    type: default: description:
    lib.mkOption { inherit type default description; };
  removed =
    path: reason: lib.mkRemovedOptionModule ([ "virtualisation" ] ++ path) reason;

  guestProfile = "${toString modulesPath}/profiles/qemu-guest.nix";
  # The networks of the test driver have a module of their own in newer nixpkgs. Older versions have its options in qemu-vm.nix.
  guestNetworks = "${toString modulesPath}/virtualisation/guest-networking-options.nix";
  ownNetworks =
    { config, ... }:
    let
      own = config.virtualisation;
      # `vlans` are interfaces with numbers for names.
      numbered = builtins.listToAttrs (
        builtins.genList (
          index:
          let
            name = "eth${toString (index + 1)}";
          in
          {
            inherit name;
            value = {
              inherit name;
              vlan = builtins.elemAt own.vlans index;
              assignIP = true;
            };
          }
        ) (builtins.length own.vlans)
      );
      named = builtins.mapAttrs (
        name: interface:
        {
          inherit name;
          assignIP = false;
        }
        // interface
      ) own.interfaces;
    in
    {
      options = {
        virtualisation.vlans = lib.mkOption {
          type = types.listOf types.ints.unsigned;
          default = if own.interfaces == { } then [ 1 ] else [ ];
          defaultText = lib.literalMD "`[ 1 ]`, or none where there are `interfaces`";
          description = "Networks of the test driver: an interface and an address for each.";
        };
        virtualisation.interfaces = option (types.attrsOf types.raw) { } "Interfaces by name: { vlan; assignIP = false; name; }.";
        virtualisation.allInterfaces = lib.mkOption {
          type = types.attrsOf types.raw;
          readOnly = true;
          default = numbered // named;
          defaultText = lib.literalMD "`vlans` and `interfaces`";
          description = "All interfaces of the test driver's networks.";
        };
        networking.primaryIPAddress = option types.str "" "The address by which the test driver's other machines know this one.";
        networking.primaryIPv6Address = option types.str "" "The same of IPv6.";
      };
    };

  # How the system gets its disks.
  mode =
    if cfg.useBootLoader then
      "boot-loader"
    else if cfg.useNixStoreImage then
      "store-disk"
    else
      "root-alone";

  layout =
    if cfg.useEFIBoot then
      "efi"
    else if cfg.useBIOSBoot then
      "legacy+boot"
    else if cfg.useDefaultFilesystems then
      "legacy"
    else
      "none";

  toplevel = config.system.build.toplevel;

  # The closure with what is added to it; its registration fills Nix's database.
  closure = pkgs.closureInfo { rootPaths = [ toplevel ] ++ cfg.additionalPaths; };

  # The keys of a full disk are those of make-disk-image.nix.
  fullDisk =
    (import ./make-disk-image.nix ({
      inherit config lib pkgs;
      inherit (cfg) additionalPaths diskSize;
      diskwright = cfg.diskwright.package;
      additionalSpace = cfg.bootDiskAdditionalSpace;
      partitionTableType = layout;
      installBootLoader = cfg.installBootLoader;
      copyChannel = false;
      label = "nixos";
    } // cfg.diskwright.imageArguments)).manifest.nixos;

  # The processor as QEMU's programs are called by it.
  processor = (host.stdenv.hostPlatform.qemuArch or (builtins.head (builtins.split "-" pkgs.stdenv.hostPlatform.system)));

  shareOf = tag: share: {
    inherit tag;
    inherit (share) source;
    writable = share.writable or false;
  };
  shares = lib.mapAttrsToList shareOf cfg.sharedDirectories;
  shareType = if cfg.diskwright.shareBy == "virtiofs" then "virtiofs" else "9p";

  # The options of the user network that forwarded ports are.
  forward =
    port:
    let
      proto = port.proto or "tcp";
      at = side: "${port.${side}.address or ""}:${toString port.${side}.port}";
    in
    if (port.from or "host") == "host" then
      "hostfwd=${proto}:${at "host"}-${at "guest"}"
    else
      "guestfwd=${proto}:${at "guest"}-cmd:${host.netcat}/bin/nc ${port.host.address or ""} ${toString port.host.port}";
  networkOptions =
    (if cfg.restrictNetwork then [ "restrict=on" ] else [ ]) ++ map forward cfg.forwardPorts;

  # An empty disk is a number of MiB, or a record of nixpkgs.
  emptyDisk =
    disk:
    let
      record = if builtins.isInt disk then { size = disk; } else disk;
      drive = record.driveConfig or { };
    in
    {
      size = "${toString record.size}MiB";
      drive = texts (drive.driveExtraOpts or { });
      device = texts (drive.deviceExtraOpts or { });
    }
    // given ((drive.name or null) != null) { inherit (drive) name; };
  ownDrive =
    drive:
    {
      # A string is found when the machine runs, and a path of Nix goes into the store.
      file = "${drive.file}";
      drive = texts (drive.driveExtraOpts or { });
      device = texts (drive.deviceExtraOpts or { });
    }
    // given ((drive.name or null) != null) { inherit (drive) name; };
  texts = builtins.mapAttrs (_: value: if builtins.isBool value then (if value then "on" else "off") else toString value);
  given = condition: values: if condition then values else { };

  # A system that formats its root by itself gets a disk without a filesystem.
  ownFilesystems = !cfg.useDefaultFilesystems && !cfg.useBootLoader;
  bare = {
    size = "${toString cfg.diskSize}MiB";
    device.serial = "root";
    name = "root";
  };

  machine = {
    inherit name mode;
    nixos =
      if mode == "boot-loader" then
        fullDisk
      else
        { system = "${toplevel}"; }
        // given (mode == "store-disk") {
          closure = "${closure}";
          additional_paths = map (path: "${path}") cfg.additionalPaths;
        }
        // given (cfg.diskImage != null && !ownFilesystems) { disk_size = "${toString cfg.diskSize}MiB"; };
    memory = "${toString cfg.memorySize}MiB";
    inherit (cfg) cores;
    graphics = cfg.graphics;
    accel = if cfg.qemu.forceAccel then "kvm" else "auto";
    disk_interface = cfg.qemu.diskInterface;
    empty_disks = (if ownFilesystems then [ bare ] else [ ]) ++ map emptyDisk cfg.emptyDiskImages;
    drives = map ownDrive cfg.qemu.drives;
    inherit shares;
    share_by = cfg.diskwright.shareBy;
    kernel_params = map (console: "console=${console}") cfg.qemu.consoles;
    qemu = "${cfg.qemu.package}/bin/qemu-system-${processor}";
    qemu_options =
      (if cfg.qemu.virtioKeyboard then [ "-device virtio-keyboard" ] else [ ])
      # virtiofs brings its own.
      ++ (
        if cfg.qemu.enableSharedMemory && cfg.diskwright.shareBy != "virtiofs" then
          [ "-object memory-backend-memfd,id=mem0,size=${toString cfg.memorySize}M,share=on -machine memory-backend=mem0" ]
        else
          [ ]
      )
      ++ cfg.qemu.options
      ++ (if cfg.qemu.networkingOptions == null then [ ] else cfg.qemu.networkingOptions)
      ++ (if cfg.bios == null then [ ] else [ "-bios ${cfg.bios}/bios.bin" ]);
  }
  // given (mode != "boot-loader" && (cfg.diskImage == null || ownFilesystems)) { root_disk = false; }
  // given (cfg.diskImage != null && cfg.diskImage != "auto") { disk_image = cfg.diskImage; }
  // given (mode == "store-disk") { store_type = cfg.diskwright.storeType; }
  // given (mode == "root-alone") {
    reg_info = "/nix/.ro-store/${baseNameOf "${closure}"}/registration";
  }
  // given (cfg.diskwright.shareBy == "virtiofs") { virtiofsd = "${host.virtiofsd}/bin/virtiofsd"; }
  // given (cfg.useEFIBoot) {
    efi_firmware = "${cfg.efi.firmware}";
    efi_variables = "${cfg.efi.variables}";
    keep_variables = cfg.efi.keepVariables;
  }
  // given cfg.tpm.enable (
    {
      tpm = true;
      swtpm = "${cfg.tpm.package}/bin/swtpm";
    }
    // given (cfg.tpm.deviceModel != null) { tpm_device = cfg.tpm.deviceModel; }
    // given (cfg.tpm.provisioning != null) { tpm_provisioning = provisioning; }
  )
  // given (cfg.credentials != { }) { credentials = lib.mapAttrsToList credential cfg.credentials; }
  // given (cfg.directBoot.initrd != null) { initrd = "${cfg.directBoot.initrd}"; }
  // given (cfg.qemu.networkingOptions != null) { network = false; }
  // given (networkOptions != [ ]) { network_options = builtins.concatStringsSep "," networkOptions; };

  # The TPM is started and shut down around the script, as firmware would.
  provisioning = builtins.concatStringsSep "\n" [
    "set -e"
    "PATH=${host.tpm2-tools}/bin:$PATH"
    "tpm2_startup --clear"
    "tpm2_startup"
    "("
    cfg.tpm.provisioning
    ")"
    "tpm2_shutdown"
    "tpm2_shutdown --clear"
  ];

  # A credential of systemd. A source is read when the machine starts: no secret comes into the store.
  credential =
    key: value:
    let
      text = value.text or null;
      source = value.source or null;
    in
    if (text == null) == (source == null) then
      throw "virtualisation.credentials.${key}: a credential has a text or a source"
    else
      {
        name = key;
        by = value.mechanism or (if pkgs.stdenv.hostPlatform.isx86 or true then "smbios" else "fw_cfg");
      }
      // given (text != null) { inherit text; }
      // given (source != null) { file = toString source; };

  vm =
    host.runCommand "nixos-vm"
      {
        machine = builtins.toJSON machine;
        passAsFile = [ "machine" ];
        nativeBuildInputs = [ cfg.diskwright.package ];
        preferLocalBuild = true;
        passthru = { inherit machine; };
        meta.mainProgram = "run-${name}-vm";
      }
      ''
        mkdir -p $out/bin
        ln -s ${toplevel} $out/system
        diskwright vm script --machine "$machinePath" --program ${cfg.diskwright.package}/bin/diskwright \
          --shell ${host.runtimeShell} -o $out/bin/run-${name}-vm
      '';

  # What a machine mounts: the root, the store from a disk or a folder, and the shared folders.
  rootFilesystem =
    if cfg.diskImage == null then
      {
        device = "tmpfs";
        fsType = "tmpfs";
      }
    else
      {
        device = cfg.rootDevice;
        fsType = "ext4";
      };
  storeFilesystems =
    let
      lower = "/nix/.ro-store";
      upper = "/nix/.rw-store";
      # The scripts of stage 1 add the place of the root by themselves, and systemd does not.
      root = if config.boot.initrd.systemd.enable or false then "/sysroot" else "";
    in
    {
      ${lower} =
        if cfg.mountHostNixStore then
          {
            device = "nix-store";
            fsType = shareType;
            neededForBoot = true;
            options = [ "ro" ] ++ (if shareType == "9p" then [ "trans=virtio" "version=9p2000.L" "cache=loose" "msize=16384" ] else [ ]);
          }
        else
          {
            device = "/dev/disk/by-label/nix-store";
            fsType = cfg.diskwright.storeType;
            neededForBoot = true;
            noCheck = true;
            options = [ "ro" ];
          };
      "/nix/store" =
        if cfg.writableStore then
          {
            device = "overlay";
            fsType = "overlay";
            neededForBoot = true;
            depends = [ lower ] ++ (if cfg.writableStoreUseTmpfs then [ upper ] else [ ]);
            options = [
              "lowerdir=${root}${lower}"
              "upperdir=${root}${upper}/upper"
              "workdir=${root}${upper}/work"
            ];
            overlay = {
              lowerdir = [ lower ];
              upperdir = "${upper}/upper";
              workdir = "${upper}/work";
            };
          }
        else
          {
            device = lower;
            fsType = "none";
            neededForBoot = true;
            depends = [ lower ];
            options = [ "bind" ];
          };
    }
    // given (cfg.writableStore && cfg.writableStoreUseTmpfs) {
      ${upper} = {
        device = "tmpfs";
        fsType = "tmpfs";
        neededForBoot = true;
        options = [ "mode=0755" ];
      };
    };
  # nixpkgs makes the folders of an overlay and its options from `overlay`, and older versions know the options alone.
  hasOverlay = cfg.diskwright.overlayOption;
  overlaid = builtins.mapAttrs (
    _: filesystem:
    if !(filesystem ? overlay) then
      filesystem
    else if hasOverlay then
      builtins.removeAttrs filesystem [ "device" "options" "depends" ]
    else
      builtins.removeAttrs filesystem [ "overlay" ]
  );
  shareFilesystems = builtins.listToAttrs (
    lib.mapAttrsToList (tag: share: {
      name = share.target;
      value = {
        device = tag;
        fsType = shareType;
        neededForBoot = true;
        options = if shareType == "9p" then [ "trans=virtio" "version=9p2000.L" "msize=16384" ] else [ ];
      };
    }) cfg.sharedDirectories
  );
  filesystems =
    { "/" = rootFilesystem; }
    // given (!cfg.useBootLoader) (overlaid storeFilesystems)
    // given (cfg.bootPartition != null) {
      "/boot" = {
        device = cfg.bootPartition;
        fsType = "vfat";
      };
    }
    // shareFilesystems;
in
{
  imports = lib.optional (builtins.pathExists guestProfile) guestProfile ++ [
    (if builtins.pathExists guestNetworks then guestNetworks else ownNetworks)
    (removed [ "msize" ] "The store is a disk, and folders are shared with the size of messages that fits them.")
    (removed [ "nixStore9pCache" ] "The store is a disk and not shared by 9p.")
    (removed [ "useSecureBoot" ] "Give `virtualisation.efi.firmware` and `.variables` a firmware that can.")
    (removed [ "bootDevice" ] "It is `virtualisation.rootDevice` now.")
    (removed [ "pathsInNixDB" ] "It is `virtualisation.additionalPaths` now.")
    (removed [ "efiVars" ] "Give `virtualisation.efi.variables`, or name the file by NIX_EFI_VARS.")
    (removed [ "persistBootDevice" ] "A full disk keeps what is written to it.")
    (removed [ "useHostCerts" ] "Share a folder with the certificates by `virtualisation.sharedDirectories`.")
  ];

  options.virtualisation = {
    memorySize = option types.ints.positive 1024 "Memory in MiB.";
    cores = option types.ints.positive 1 "Number of processors.";
    diskSize = lib.mkOption {
      type = types.either (types.enum [ "auto" ]) types.ints.positive;
      default = if cfg.useBootLoader then "auto" else 1024;
      defaultText = lib.literalMD "`\"auto\"` with a boot loader, else 1024";
      description = "Size of the root disk in MiB. A full disk can be `auto`: as small as it fits with bootDiskAdditionalSpace left.";
    };
    bootDiskAdditionalSpace = option types.str "512M" "What is free in a full disk of size auto, as additionalSpace of make-disk-image.nix.";
    diskImage = option (types.nullOr types.str) "auto" ''
      File that keeps what the machine writes to its root disk, from the folder where it starts; null for a root in memory.
      `auto` is a file in NAME-vm, in a folder that is named by what it lies upon: another system begins with another file.
    '';
    emptyDiskImages = option (types.listOf types.raw) [ ] "Empty disks: MiB, or { size; driveConfig = { name; driveExtraOpts; deviceExtraOpts; }; }.";
    rootDevice = option (types.nullOr types.str) "/dev/disk/by-label/nixos" "The device of the root.";
    bootLoaderDevice = option types.str "/dev/disk/by-id/virtio-root" "The device that a system with a boot loader installs it on.";
    bootPartition = lib.mkOption {
      type = types.nullOr types.str;
      default =
        if !cfg.useBootLoader then
          null
        else if cfg.useEFIBoot then
          "/dev/disk/by-label/ESP"
        else if cfg.useBIOSBoot then
          "/dev/disk/by-label/BOOT"
        else
          null;
      defaultText = lib.literalMD "that of the layout";
      description = "The device of /boot.";
    };
    useBootLoader = option types.bool false "Whether the machine boots by its own loader from a full disk.";
    installBootLoader = lib.mkOption {
      type = types.bool;
      default = cfg.useBootLoader && cfg.useDefaultFilesystems;
      defaultText = lib.literalMD "with a boot loader and default filesystems";
      description = "Whether the full disk has the loader that the configuration enables.";
    };
    useBIOSBoot = option types.bool false "Whether a full disk has a partition of its own for /boot, for a BIOS.";
    useEFIBoot = option types.bool false "Whether the machine has EFI firmware.";
    useDefaultFilesystems = option types.bool true "Whether the machine has the filesystems of this module; else it makes its own on an empty disk.";
    fileSystems = lib.mkOption {
      type = types.attrsOf types.raw;
      default = filesystems;
      defaultText = lib.literalMD "root, store and shared folders";
      description = "Filesystems in place of those of the configuration.";
    };
    directBoot.enable = lib.mkOption {
      type = types.bool;
      default = !cfg.useBootLoader;
      defaultText = lib.literalMD "without a boot loader";
      description = "Whether QEMU loads the kernel.";
    };
    directBoot.initrd = option (types.nullOr types.raw) null "Another initrd than that of the system.";
    useNixStoreImage = lib.mkOption {
      type = types.bool;
      default = !cfg.useBootLoader;
      defaultText = lib.literalMD "without a boot loader";
      description = "Whether the store is a disk of the closure, which exists only while the machine runs.";
    };
    mountHostNixStore = lib.mkOption {
      type = types.bool;
      default = !cfg.useNixStoreImage && !cfg.useBootLoader;
      defaultText = lib.literalMD "without a store disk and without a boot loader";
      description = "Whether the store is that of the host, as a shared folder.";
    };
    writableStore = option types.bool true "Whether the machine can add to its store.";
    writableStoreUseTmpfs = option types.bool true "Whether what it adds is in memory, and not on the root disk.";
    additionalPaths = option (types.listOf types.raw) [ ] "More store paths, with all that they need.";
    sharedDirectories = option (types.attrsOf types.raw) { } "Shared folders by their tags: { source; target; writable = false; }. `$NAME` in a source is a variable of the environment.";
    forwardPorts = option (types.listOf types.raw) [ ] "Ports: { from = \"host\"; proto = \"tcp\"; host = { address; port; }; guest = { address; port; }; }.";
    restrictNetwork = option types.bool false "Whether the machine reaches nothing but what is forwarded.";
    graphics = option types.bool true "Whether the machine has a screen.";
    bios = option (types.nullOr types.raw) null "A package with another bios.bin.";
    resolution = option types.raw {
      x = 1024;
      y = 768;
    } "Size of the screen.";
    tpm = {
      enable = option types.bool false "Whether the machine has a TPM 2.0, by swtpm.";
      package = lib.mkOption {
        type = types.package;
        default = host.swtpm;
        defaultText = lib.literalExpression "host.pkgs.swtpm";
        description = "The program that is the TPM.";
      };
      deviceModel = option (types.nullOr types.str) null "QEMU's device of the TPM; null is what the processor's machine has.";
      provisioning = option (types.nullOr types.str) null "A script with tpm2-tools that is run before each start.";
    };
    credentials = option (types.attrsOf types.raw) { } "Credentials of systemd by name: { text or source; mechanism = \"smbios\" or \"fw_cfg\"; }. A source is a file of the host, from the folder where the machine starts, and is read then.";
    host.pkgs = lib.mkOption {
      type = types.raw;
      default = pkgs;
      defaultText = lib.literalExpression "pkgs";
      description = "Packages of the machine that runs QEMU.";
    };
    qemu.package = lib.mkOption {
      type = types.package;
      default = host.qemu_kvm or host.qemu;
      defaultText = lib.literalExpression "host.pkgs.qemu_kvm";
      description = "QEMU.";
    };
    qemu.options = option (types.listOf types.str) [ ] "More arguments of QEMU, as a shell splits them.";
    qemu.consoles = lib.mkOption {
      type = types.listOf types.str;
      default =
        let
          serial = if pkgs.stdenv.hostPlatform.isx86 or true then "ttyS0" else "ttyAMA0";
        in
        if cfg.graphics then [ "${serial},115200n8" "tty0" ] else [ "tty0" "${serial},115200n8" ];
      defaultText = lib.literalMD "the serial port and the screen";
      description = "Consoles of the kernel; the last one is /dev/console.";
    };
    qemu.networkingOptions = option (types.nullOr (types.listOf types.str)) null "Arguments of QEMU in place of the user network.";
    qemu.drives = option (types.listOf types.raw) [ ] "Disks that are there: { file; name; driveExtraOpts; deviceExtraOpts; }.";
    qemu.diskInterface = option (types.enum [ "virtio" "scsi" "ide" ]) "virtio" "The bus of the disks.";
    qemu.guestAgent.enable = option types.bool true "Whether the machine runs QEMU's agent.";
    qemu.virtioKeyboard = option types.bool true "Whether the machine has a virtio keyboard.";
    qemu.enableSharedMemory = lib.mkOption {
      type = types.bool;
      default = cfg.diskwright.shareBy == "virtiofs";
      defaultText = lib.literalMD "where folders are shared by virtiofs, which needs it";
      description = "Whether other processes can map the machine's memory.";
    };
    qemu.forceAccel = option types.bool false "Whether it is an error that the host has no KVM.";
    efi.OVMF = lib.mkOption {
      type = types.raw;
      default = host.OVMF.fd;
      defaultText = lib.literalExpression "host.pkgs.OVMF.fd";
      description = "The package of the firmware.";
    };
    efi.firmware = lib.mkOption {
      type = types.raw;
      default = cfg.efi.OVMF.firmware;
      defaultText = lib.literalExpression "OVMF.firmware";
      description = "The firmware.";
    };
    efi.variables = lib.mkOption {
      type = types.raw;
      default = cfg.efi.OVMF.variables;
      defaultText = lib.literalExpression "OVMF.variables";
      description = "The variables that the firmware begins with.";
    };
    efi.keepVariables = lib.mkOption {
      type = types.bool;
      default = cfg.useBootLoader;
      defaultText = lib.literalMD "with a boot loader";
      description = "Whether variables are kept for the next start.";
    };
    diskwright = {
      package = lib.mkOption {
        type = types.package;
        default = host.callPackage ./package.nix { };
        defaultText = lib.literalExpression "host.pkgs.callPackage ./package.nix { }";
        description = "The program that runs the machine.";
      };
      imageArguments = option (types.attrsOf types.raw) { } "More arguments of make-disk-image.nix, for a full disk.";
      storeType = option (types.enum [ "ext4" "erofs" ]) "ext4" "The filesystem of a store disk.";
      shareBy = lib.mkOption {
        type = types.enum [ "virtiofs" "9p" ];
        default = if host ? virtiofsd then "virtiofs" else "9p";
        defaultText = lib.literalMD "virtiofs where the host has virtiofsd";
        description = "How folders are shared.";
      };
      overlayOption = lib.mkOption {
        type = types.bool;
        default = lib ? versionAtLeast && lib ? version && lib.versionAtLeast lib.version "24.05";
        defaultText = lib.literalMD "with nixpkgs 24.05 or later";
        description = "Whether filesystems have the option `overlay`.";
      };
    };
  };

  config = {
    virtualisation.sharedDirectories = {
      xchg = {
        source = "$TMPDIR/xchg";
        target = "/tmp/xchg";
        writable = true;
      };
      shared = {
        source = "\${SHARED_DIR:-$TMPDIR/xchg}";
        target = "/tmp/shared";
        writable = true;
      };
    };

    system.build.vm = vm;
    system.build.vmWithBootLoader =
      (extendModules {
        modules = [
          (
            { config, ... }:
            {
              virtualisation.useBootLoader = true;
              virtualisation.useEFIBoot =
                (config.boot.loader.systemd-boot.enable or false) || (config.boot.loader.efi.canTouchEfiVariables or false);
            }
          )
        ];
      }).config.system.build.vm;

    assertions = [
      {
        assertion = cfg.useBootLoader || cfg.diskSize != "auto";
        message = "virtualisation.diskSize: an empty root has no contents that could decide its size; give MiB.";
      }
      {
        assertion = !(cfg.useNixStoreImage && cfg.mountHostNixStore);
        message = "virtualisation: the store is a disk (useNixStoreImage) or the host's (mountHostNixStore), not both.";
      }
      {
        assertion = cfg.useBootLoader || cfg.useNixStoreImage || cfg.mountHostNixStore;
        message = "virtualisation: without a boot loader the store is a disk (useNixStoreImage) or the host's (mountHostNixStore).";
      }
      {
        assertion = cfg.directBoot.enable == !cfg.useBootLoader;
        message = "virtualisation.directBoot.enable: QEMU loads the kernel where no boot loader does, and nowhere else.";
      }
    ];

    boot.initrd.availableKernelModules = [
      "overlay"
      "virtio_blk"
      "virtio_pci"
    ]
    ++ lib.optional (cfg.useNixStoreImage && cfg.diskwright.storeType == "erofs") "erofs"
    ++ lib.optional cfg.tpm.enable "tpm_tis"
    ++ (if cfg.qemu.diskInterface == "scsi" then [ "virtio_scsi" "sd_mod" ] else [ ])
    ++ (if cfg.qemu.diskInterface == "ide" then [ "ata_piix" "sd_mod" ] else [ ])
    ++ (if shareType == "virtiofs" then [ "virtiofs" ] else [ "9p" "9pnet_virtio" ]);

    boot.loader.grub.device = lib.mkIf cfg.useBootLoader (
      lib.mkVMOverride (if cfg.useEFIBoot then "nodev" else cfg.bootLoaderDevice)
    );

    boot.loader.grub.gfxmodeBios = "${toString cfg.resolution.x}x${toString cfg.resolution.y}";
    services.xserver.resolutions = lib.mkVMOverride [ cfg.resolution ];
    services.qemuGuest.enable = cfg.qemu.guestAgent.enable;
    # Interfaces are eth0, eth1 and so on, as the test driver expects them; the first one is QEMU's user network.
    networking.usePredictableInterfaceNames = false;
    networking.dhcpcd.extraConfig = "noarp";
    networking.wireless.enable = lib.mkVMOverride false;
    # The machine has the time of its host.
    services.timesyncd.enable = false;

    fileSystems = lib.mkIf cfg.useDefaultFilesystems (lib.mkVMOverride cfg.fileSystems);
    swapDevices = lib.mkIf cfg.useDefaultFilesystems (lib.mkVMOverride [ ]);
    boot.initrd.luks.devices = lib.mkIf cfg.useDefaultFilesystems (lib.mkVMOverride { });

    # Nix's database of a store that is a disk or the host's: the machine has the registration of its closure.
    systemd.services.register-nix-paths = lib.mkIf (!cfg.useBootLoader) {
      unitConfig.DefaultDependencies = false;
      wantedBy = [ "sysinit.target" ];
      before = [
        "sysinit.target"
        "shutdown.target"
        "nix-daemon.socket"
        "nix-daemon.service"
      ];
      after = [ "local-fs.target" ];
      conflicts = [ "shutdown.target" ];
      restartIfChanged = false;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
      };
      script = ''
        if [[ "$(cat /proc/cmdline)" =~ regInfo=([^ ]*) ]]; then
          ${config.nix.package.out or pkgs.nix}/bin/nix-store --load-db < "''${BASH_REMATCH[1]}"
        fi
      '';
    };
  };
}
