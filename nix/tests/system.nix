# A system in the shape of NixOS, made of Debian's packages by a static busybox in Nix's sandbox: toplevels with kernel,
# initrd, init, kernel-params, boot.json, nixos-version and a specialisation, systemd and GRUB where nixpkgs has them, a
# channel, and more than a hundred store paths whose references Nix found by itself.
#
# debs: folder of packages, each PACKAGE.deb. tools: folder with a static busybox. program: folder with diskwright and
# all it is linked with; function: folder of make-disk-image.nix and package.nix. Both only for what is built with the
# program in the sandbox.
{ debs, tools, program ? null, function ? null, layout ? "efi", format ? "qcow2", canExecute ? "yes" }:
let
  path = name: place: builtins.path { inherit name; path = /. + place; };
  bb = "${path "tools" tools}/busybox";
  build = name: attributes: script: derivation ({
    inherit name;
    system = "x86_64-linux";
    builder = bb;
    args = [ "sh" "-euc" "bb=${bb}; ${script}" ];
  } // attributes);
  unpacked = package: build package { deb = path "${package}.deb" "${debs}/${package}.deb"; } ''
    $bb mkdir -p $out; $bb dpkg-deb -x $deb $out
  '';

  libraries = map unpacked [
    "libc6" "libacl1" "libattr1" "libgmp10" "libselinux1" "libpcre2-8-0" "libfdisk1" "libsmartcols1" "libblkid1"
    "libuuid1" "libmount1" "libcap2" "libtinfo6" "libreadline8" "libext2fs2" "libcom-err2" "liblzma5" "libdevmapper1.02.1"
    "libudev1" "libcap-ng0" "libcrypt1"
  ];
  search = builtins.concatStringsSep ":" (map (library: "${library}/lib/x86_64-linux-gnu:${library}/usr/lib/x86_64-linux-gnu") libraries);
  libc = builtins.head libraries;
  busybox = unpacked "busybox-static";
  linux = unpacked "linux-image";

  # Debian's programs look for their loader in /lib64, which this system does not have: each gets a wrapper.
  wrapped = name: package: folders: build name { tools = unpacked package; } ''
    $bb mkdir -p $out/bin
    for folder in ${folders}; do
      for tool in $tools/$folder/*; do
        wrapper=$out/bin/$($bb basename $tool)
        {
          echo "#!${busybox}/bin/busybox sh"
          echo "exec ${libc}/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path ${search} $tool \"\$@\""
        } > $wrapper
        $bb chmod +x $wrapper
      done
    done
  '';
  coreutils = wrapped "coreutils-9.1" "coreutils" "bin usr/bin";
  utilLinux = wrapped "util-linux-2.38" "util-linux" "bin sbin usr/bin";
  fdisk = wrapped "fdisk-2.38" "fdisk" "sbin";
  e2fsprogs = wrapped "e2fsprogs-1.47" "e2fsprogs" "sbin";

  # GRUB as nixpkgs lays it out: lib/grub/PLATFORM and bin/grub-mkimage.
  grub = platform: package: build "grub-2.06" {
    files = unpacked package;
    common = unpacked "grub-common";
  } ''
    $bb mkdir -p $out/lib/grub $out/bin $out/share/grub
    $bb cp -r $files/usr/lib/grub/${platform} $out/lib/grub/
    $bb cp $common/usr/share/grub/unicode.pf2 $out/share/grub/
    {
      echo "#!${busybox}/bin/busybox sh"
      echo "exec ${libc}/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path ${search} $common/usr/bin/grub-mkimage \"\$@\""
    } > $out/bin/grub-mkimage
    $bb chmod +x $out/bin/grub-mkimage
  '';
  grubBios = grub "i386-pc" "grub-pc-bin";
  grubEfi = grub "x86_64-efi" "grub-efi-amd64-bin";

  systemd = build "systemd-252" { loader = unpacked "systemd-boot-efi"; } ''
    $bb mkdir -p $out/lib/systemd/boot; $bb cp -r $loader/usr/lib/systemd/boot/efi $out/lib/systemd/boot/
  '';

  # The kernel by the name that boot loaders know, and its modules with their dependencies worked out.
  kernel = build "linux-6.1" { } ''
    $bb mkdir -p $out
    $bb cp ${linux}/boot/vmlinuz-* $out/bzImage
    $bb cp -r ${linux}/lib $out/lib
    $bb chmod -R u+w $out/lib
    $bb depmod -b $out $($bb ls $out/lib/modules)
  '';

  # Drivers of the disks that QEMU and VirtualBox show, as modules of the kernel.
  initrd = build "initrd-linux-6.1" {
    init = ''
      #!/bin/busybox sh
      /bin/busybox --install -s /bin
      mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
      for module in virtio_pci virtio_blk ata_piix sd_mod; do modprobe $module; done
      for word in $(cat /proc/cmdline); do
        case $word in init=*) init=''${word#init=} ;; root=*) root=''${word#root=} ;; esac
      done
      tries=0
      while [ $tries -lt 50 ] && [ -z "$(findfs $root)" ]; do sleep 0.2; tries=$((tries + 1)); done
      mount -t ext4 -o ro $(findfs $root) /mnt && mount --move /proc /mnt/proc && mount --move /sys /mnt/sys \
        && mount --move /dev /mnt/dev && exec switch_root /mnt $init
      echo "initrd: no root"; poweroff -f
    '';
  } ''
    $bb mkdir -p root/bin root/proc root/sys root/dev root/mnt $out
    cd root
    $bb cp ${busybox}/bin/busybox bin/busybox
    echo "$init" > init; $bb chmod +x init bin/busybox
    release=$($bb ls ${kernel}/lib/modules); from=${kernel}/lib/modules/$release; to=lib/modules/$release
    $bb mkdir -p $to
    for module in virtio_pci virtio_blk ata_piix sd_mod; do
      for file in $($bb grep "/$module.ko:" $from/modules.dep | $bb tr -d :); do
        $bb mkdir -p $to/$($bb dirname $file); $bb cp -f $from/$file $to/$file
      done
    done
    $bb cp $from/modules.dep $to
    $bb find . | $bb cpio -o -H newc > $out/initrd
  '';

  # A hundred store paths from one build: each refers to the one before it, and the first to coreutils.
  parts = let
    names = map (number: "part${toString number}") (builtins.genList (number: number) 100);
    made = derivation {
      name = "parts";
      system = "x86_64-linux";
      builder = bb;
      outputs = [ "out" ] ++ names;
      args = [ "sh" "-euc" ''
        bb=${bb}; before=${coreutils}
        for name in ${builtins.concatStringsSep " " names}; do
          eval place=\$$name
          $bb mkdir -p $place/share
          echo "after $before" > $place/share/$name
          echo "#!${busybox}/bin/busybox sh" > $place/run; $bb chmod +x $place/run
          $bb ln -s $before $place/before
          before=$place
        done
        $bb mkdir -p $out; for name in ${builtins.concatStringsSep " " names}; do eval $bb ln -s \$$name $out/$name; done
      '' ];
    };
  in made;

  # What starts when the initrd is done: says who it is, lets the root grow into the disk, looks at the root, writes to it.
  init = name: build "init-${name}" { } ''
    {
      echo "#!${busybox}/bin/busybox sh"
      echo "PATH=${coreutils}/bin:${utilLinux}/bin:${fdisk}/bin:${e2fsprogs}/bin:/no-other"
      echo "export PATH"
      $bb cat ${builtins.toFile "init" ''
        exec < /dev/console > /dev/console 2>&1
        self=$(readlink -f "$0")
        echo "init: from $(dirname $self)"
        for word in $(cat /proc/cmdline); do case $word in root=*) root=''${word#root=};; esac; done
        device=$(findfs $root)
        echo "init: label $(blkid -p -o value -s LABEL $device) uuid $(blkid -p -o value -s UUID $device)"
        echo "init: profile $(readlink /nix/var/nix/profiles/system)"
        stat -c "init: owner %u:%g mode %a of %n" /nix/store /tmp /root /etc/NIXOS
        stat -c "init: owner %u:%g mode %a time %Y of %n" $self
        for file in /etc/motd /etc/line; do if [ -e $file ]; then echo "init: $file $(cat $file)"; fi; done
        mount -o remount,rw / && echo "init: writable"
        name=''${device##*/}
        disk=$(basename $(readlink -f /sys/class/block/$name/..))
        if [ "$disk" = block ]; then disk=$name; fi
        if [ "$disk" != "$name" ]; then
          number=$(cat /sys/class/block/$name/partition)
          echo ",+" | sfdisk --no-reread --no-tell-kernel -q -N $number /dev/$disk
          partx --update --nr $number /dev/$disk
        fi
        before=$(stat -f -c %b /)
        resize2fs $device > /dev/null 2>&1
        after=$(stat -f -c %b /)
        echo "init: grown from $before to $after blocks"
        sync
        mount -o remount,ro / && echo "init: end of ${name}"
      ''}
      echo "${busybox}/bin/busybox poweroff -f"
    } > $out
    $bb chmod +x $out
  '';

  # no_timer_check: on a busy host the timer of an emulated machine may not tick while the kernel looks at it.
  bootspec = name: number: { v1 = {
    system = "x86_64-linux";
    init = "@out@/init";
    kernel = "${kernel}/bzImage";
    kernelParams = [ "root=LABEL=nixos" "console=ttyS0" "panic=-1" "loglevel=4" "no_timer_check" ];
    label = "NixOS ${name} (Linux 6.1)";
    toplevel = "@out@";
    initrd = "${initrd}/initrd";
  }; };

  toplevel = name: number: special: build "nixos-system-${name}-${number}" {
    spec = builtins.toJSON (
      { "org.nixos.bootspec.v1" = (bootspec name number).v1; "org.nixos.systemd-boot".sortKey = "nixos"; }
      // { "org.nixos.specialisation.v1" = if special == null then { } else { special = { }; }; }
    );
    inherit number;
    extra = parts;
    specialisation = if special == null then "" else special;
  } ''
    $bb mkdir -p $out/specialisation $out/bin
    $bb ln -s ${kernel}/bzImage $out/kernel
    $bb ln -s ${initrd}/initrd $out/initrd
    $bb ln -s ${kernel} $out/kernel-modules
    $bb ln -s ${systemd} $out/systemd
    $bb cp ${init name} $out/init
    $bb ln -s $extra $out/sw
    $bb printf %s "$number" > $out/nixos-version
    $bb printf %s x86_64-linux > $out/system
    $bb printf %s "root=LABEL=nixos console=ttyS0 panic=-1 loglevel=4 no_timer_check" > $out/kernel-params
    # The installer of a boot loader refers to the loader, as in nixpkgs.
    echo "#!${busybox}/bin/busybox sh
    # ${grubBios} ${grubEfi}" > $out/bin/switch-to-configuration; $bb chmod +x $out/bin/switch-to-configuration
    # A specialisation stands whole in the boot.json of its parent, as RFC 125 has it.
    if [ -n "$specialisation" ]; then
      $bb ln -s $specialisation $out/specialisation/special
      inner=$($bb cat $specialisation/boot.json)
      spec=$(echo "$spec" | $bb sed 's|"org.nixos.specialisation.v1":{"special":{}}|"org.nixos.specialisation.v1":{"special":@inner@}|')
      before=''${spec%@inner@*}; after=''${spec#*@inner@}
      spec=$(echo "$before" | $bb sed "s|@out@|$out|g")$inner$(echo "$after" | $bb sed "s|@out@|$out|g")
    fi
    echo "$spec" | $bb sed "s|@out@|$out|g" > $out/boot.json
  '';

  special = toplevel "special" "26.05-special" null;
  system = toplevel "main" "26.05" special;
  earlier = toplevel "earlier" "25.11" null;
  channel = build "nixos-26.05" { } ''
    $bb mkdir -p $out/nixos; $bb ln -s . $out/nixos/nixpkgs; $bb printf %s pre-git > $out/nixos/.version-suffix
  '';

  # The little of nixpkgs that make-disk-image.nix asks for.
  pkgs = {
    inherit lib e2fsprogs;
    util-linux = utilLinux;
    path = channel;
    # The JSON from which nixpkgs' closureInfo is made, as it is.
    closureInfo = { rootPaths }: derivation {
      name = "closure-info";
      system = "x86_64-linux";
      builder = bb;
      __structuredAttrs = true;
      exportReferencesGraph.closure = rootPaths;
      args = [ "sh" "-euc" ''
        bb=${bb}; out=$($bb sed -n 's|.*"outputs":{"out":"\([^"]*\)".*|\1|p' .attrs.json)
        $bb cp .attrs.json $out
      '' ];
    };
    runCommand = name: attributes: script: derivation ({
      inherit name;
      system = "x86_64-linux";
      builder = bb;
      args = [ "sh" "-euc" ''
        ${
          # Structured attributes are no variables; nixpkgs' stdenv makes these of them.
          if attributes.__structuredAttrs or false then
            "out=${builtins.placeholder "out"} nativeBuildInputs='${toString (attributes.nativeBuildInputs or [ ])}'"
          else
            ""
        }
        ${bb} mkdir bin; for tool in mkdir cp chmod rm ln echo cat id truncate tr dd; do ${bb} ln -s ${bb} bin/$tool; done
        export PATH=$PWD/bin
        for input in ''${nativeBuildInputs:-}; do export PATH=$PATH:$input/bin; done
        ${script}
      '' ];
    } // builtins.removeAttrs attributes [ "passthru" "meta" "preferLocalBuild" ]) // (attributes.passthru or { });
    stdenv.hostPlatform = { system = "x86_64-linux"; isx86 = true; };
    runtimeShell = "${busybox}/bin/sh";
    # Names of what a script only mentions.
    qemu_kvm = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-qemu";
    nix = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-nix";
  };
  lib = { };
  # The modules of both platforms in one folder.
  grubPlatforms = "${build "grub-platforms" { } "$bb mkdir $out; $bb ln -s ${grubBios}/lib/grub/* ${grubEfi}/lib/grub/* $out/"}";
  diskwright = build "diskwright" { files = path "program" program; } ''
    $bb mkdir -p $out/bin
    {
      echo "#!$bb sh"
      echo "exec $files/ld-linux-x86-64.so.2 --library-path $files $files/diskwright \"\$@\""
    } > $out/bin/diskwright
    $bb chmod +x $out/bin/diskwright
  '';
  image = import (/. + function + "/make-disk-image.nix") {
    inherit pkgs lib diskwright format;
    config = {
      system.build.toplevel = system;
      system.nixos = { version = "26.05"; versionSuffix = "pre-git"; };
      boot.loader = { systemd-boot.enable = true; grub.enable = true; timeout = 1; };
    };
    partitionTableType = layout;
    bootLoader = if builtins.elem layout [ "efi" "efixbootldr" ] then "systemd-boot" else if layout == "none" then "none" else "grub";
    grub = grubPlatforms;
    grubMkimage = "${grubBios}/bin/grub-mkimage";
    generations = [ earlier ];
    additionalSpace = "64M";
    bootSize = "128M";
    contents = [ { source = builtins.toFile "motd" "Welcome.\n"; target = "/etc/motd"; mode = "0644"; user = "root"; group = "root"; } ];
    configFile = builtins.toFile "configuration.nix" "{ }\n";
    verifyClosure = true;
    # Who built it, and on what: no root, no machine.
    postVM = ''
      echo "after $diskImage" > $out/after
      echo "user $(id -u)" >> $out/after
      if [ -e /dev/kvm ]; then echo "a machine" >> $out/after; fi
      # The second disk of nixpkgs' virtualbox-image.nix, by its commands but for parted, which Debian's does not take in
      # a sandbox.
      dataDiskImage=data-disk.raw
      echo 'version = 1
      [disk]
      table = "mbr"
      size = "64MiB"
      [[partition]]
      type = "linux"
      size = "fill"' > data-disk.toml
      diskwright build data-disk.toml -o $dataDiskImage > /dev/null
      eval $(partx $dataDiskImage -o START,SECTORS --nr 1 --pairs)
      mkfs.ext4 -q -F -L data -E offset=$(sectorsToBytes $START) $dataDiskImage $(sectorsToKilobytes $SECTORS)K
      echo "sums $((mebibyte)) $(compute_fudge 1000) $(round_to_nearest 8 4) $(echo 1 2 3 | tr ' ' '\n' | sum_lines)" >> $out/after
      dd if=$dataDiskImage of=data bs=512 skip=$START count=$SECTORS 2> /dev/null
      e2fsck -fn data > said 2>&1 && echo "data at $START is clean" >> $out/after
    '';
  };

  # The machine by the module, with the loader that the system has.
  machine = (import (/. + function + "/tests/nixpkgs/lib.nix")).evalModules {
    specialArgs = { inherit pkgs; modulesPath = "/none"; };
    modules = [
      (/. + function + "/qemu-vm.nix")
      ({ lib, ... }: {
        options.assertions = lib.mkOption { type = lib.types.listOf lib.types.raw; default = [ ]; };
        options.boot.initrd.availableKernelModules = lib.mkOption { type = lib.types.listOf lib.types.raw; default = [ ]; };
        config = {
          system.name = "tried";
          system.build.toplevel = system;
          system.nixos.version = "26.05";
          boot.loader.grub = { enable = true; devices = [ "/dev/vda" ]; };
          boot.loader.timeout = 1;
          virtualisation = {
            graphics = false;
            bootDiskAdditionalSpace = "64M";
            sharedDirectories = lib.mkVMOverride { };
            diskwright = { package = diskwright; imageArguments = {
              grub = grubPlatforms;
              grubMkimage = "${grubBios}/bin/grub-mkimage";
            }; };
          };
        };
      })
    ];
  };
  inherit (machine.config.system.build) vm vmWithBootLoader;

  # The same system with its root on ZFS.
  zfs = kind: import (/. + function + "/make-${kind}-disk-zfs-image.nix") {
    inherit pkgs lib diskwright format;
    config = {
      system.build.toplevel = system;
      system.nixos = { version = "26.05"; versionSuffix = "pre-git"; };
      boot.loader = { grub.enable = true; timeout = 1; };
    };
    grub = grubPlatforms;
    grubMkimage = "${grubBios}/bin/grub-mkimage";
    bootSize = 128;
    rootSize = 640;
    rootPoolProperties = { autoexpand = "on"; ashift = 12; };
    datasets = {
      "tank/system/root".mount = "/";
      "tank/local/nix" = { mount = "/nix"; properties = { compression = "zstd-3"; recordsize = "1M"; }; };
      "tank/user/home".mount = "/home";
    };
    contents = [ { source = builtins.toFile "motd" "Welcome.\n"; target = "/etc/motd"; mode = "0644"; } ];
    configFile = builtins.toFile "configuration.nix" "{ pkgs, ... }:\n{ networking.hostId = \"0123abcd\"; }\n";
    postVM = ''
      echo "after ''${bootDiskImage:-} $rootDiskImage" > $out/after
    '';
  };

  # The same system on a disk as image.repart describes it: systemd-boot with an entry, and a root that Nix knows.
  repart = import (/. + function + "/repart-image.nix") {
    inherit pkgs lib diskwright;
    name = "appliance";
    version = "1";
    architecture = "x86-64";
    split = true;
    partitions = {
      "10-esp" = {
        contents = {
          "/about".source = builtins.toFile "about" "An appliance.\n";
        };
        # Loader, kernel, initrd and entry, as the system's bootspec has them.
        diskwright = { NixSystem = system; BootLoader = "systemd-boot"; CommandLine = "trial=1"; };
        repartConfig = { Type = "esp"; Format = "vfat"; SplitName = "-"; };
      };
      "20-root" = {
        storePaths = [ system ];
        nixDatabase = true;
        nixProfile = system;
        contents."/etc/motd".source = builtins.toFile "motd" "Welcome.\n";
        repartConfig = {
          Type = "root";
          Label = "nixos";
          Format = "ext4";
          Minimize = "guess";
          SplitName = "root";
          MakeDirectories = [ "/dev /proc /sys /run" "/tmp /root" ];
        };
      };
    };
  };

  # The same system with a store that the kernel verifies, and a unified kernel image that has its root hash.
  repartVerity = import (/. + function + "/repart-image.nix") {
    inherit pkgs lib diskwright;
    name = "verified";
    architecture = "x86-64";
    verityStore = { enable = true; inherit system; ukiPath = "/EFI/BOOT/BOOTX64.EFI"; };
    partitions."20-store".repartConfig.Compression = "lz4";
  };

  # The package with a cargo that has built the program already: what is around the building is nixpkgs' own.
  package = import (/. + function + "/package.nix") {
    lib = import (/. + function + "/tests/nixpkgs/lib.nix");
    stdenv = { buildPlatform.canExecute = _: canExecute == "yes"; hostPlatform = { }; };
    installShellFiles = "";
    rustPlatform.buildRustPackage = attributes: build "${attributes.pname}-${attributes.version}" {
      inherit (attributes) src postInstall;
    } ''
      $bb mkdir bin; for tool in mkdir cp; do $bb ln -s $bb bin/$tool; done
      export PATH=$PWD/bin
      mkdir -p $out/bin; cp ${diskwright}/bin/diskwright $out/bin/
      # What is needed to build it lies here for a judge.
      cp -r $src $out/source
      # Of nixpkgs' installShellFiles, which tells a shell by the suffix and a section by the name.
      installShellCompletion() {
        for file; do
          case $file in
            *.bash) folder=bash-completion/completions name=$file ;;
            *.fish) folder=fish/vendor_completions.d name=$file ;;
            *.zsh) folder=zsh/site-functions name=_''${file%.zsh} ;;
            *) echo "which shell is $file for?"; exit 1 ;;
          esac
          mkdir -p $out/share/$folder; cp $file $out/share/$folder/$name
        done
      }
      installManPage() {
        for file; do
          mkdir -p $out/share/man/man''${file##*.}; cp $file $out/share/man/man''${file##*.}/
        done
      }
      eval "$postInstall"
    '';
  };
in
{
  inherit system earlier special channel image package repart repartVerity vm vmWithBootLoader;
  zfsMulti = zfs "multi";
  zfsSingle = zfs "single";
  # All of them under one name, so that one build makes all.
  all = build "all" { main = system; inherit earlier channel; } "$bb mkdir $out; $bb ln -s $main $out/system; $bb ln -s $earlier $out/earlier; $bb ln -s $channel $out/channel";
}
