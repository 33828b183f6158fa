# A system in miniature, each part unpacked from a Debian package by a static busybox in Nix's sandbox, and the image
# of it, made by diskwright in the same sandbox. Nix finds by itself what refers to what.
#
# debs: folder of packages, each named PACKAGE.deb. tools: folder with a static busybox. program: folder with
# diskwright and all it is linked with. loader: systemd-boot's EFI file. manifest: with @names@ of what is built here.
{ debs, tools, program, loader, manifest }:
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

  libraries = map unpacked [ "libc6" "libacl1" "libattr1" "libgmp10" "libselinux1" "libpcre2-8-0" ];
  search = builtins.concatStringsSep ":" (map (library: "${library}/lib/x86_64-linux-gnu:${library}/usr/lib/x86_64-linux-gnu") libraries);
  libc = builtins.head libraries;
  busybox = unpacked "busybox-static";
  linux = unpacked "linux-image";

  # Debian's programs look for their loader in /lib64, which this system does not have.
  coreutils = build "coreutils" { tools = unpacked "coreutils"; } ''
    $bb mkdir -p $out/bin
    for tool in $tools/bin/* $tools/usr/bin/*; do
      wrapper=$out/bin/$($bb basename $tool)
      {
        echo "#!${busybox}/bin/busybox sh"
        echo "exec ${libc}/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path ${search} $tool \"\$@\""
      } > $wrapper
      $bb chmod +x $wrapper
    done
  '';

  # The kernel by the name that boot loaders know, and its modules with their dependencies worked out.
  kernel = build "kernel" { } ''
    $bb mkdir -p $out
    $bb cp ${linux}/boot/vmlinuz-* $out/bzImage
    $bb cp -r ${linux}/lib $out/lib
    $bb chmod -R u+w $out/lib
    $bb depmod -b $out $($bb ls $out/lib/modules)
  '';

  initrd = build "initrd" {
    init = ''
      #!/bin/busybox sh
      /bin/busybox --install -s /bin
      mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
      modprobe virtio_pci; modprobe virtio_blk
      for word in $(cat /proc/cmdline); do
        case $word in init=*) init=''${word#init=} ;; root=LABEL=*) label=''${word#root=LABEL=} ;; esac
      done
      mount -t ext4 -o ro $(findfs LABEL=$label) /mnt && exec switch_root /mnt $init
      echo "initrd: no root"; poweroff -f
    '';
  } ''
    $bb mkdir -p root/bin root/proc root/sys root/dev root/mnt $out
    cd root
    $bb cp ${busybox}/bin/busybox bin/busybox
    echo "$init" > init; $bb chmod +x init bin/busybox
    release=$($bb ls ${kernel}/lib/modules); from=${kernel}/lib/modules/$release; to=lib/modules/$release
    $bb mkdir -p $to
    for module in virtio_pci virtio_blk; do
      for file in $($bb grep "/$module.ko:" $from/modules.dep | $bb tr -d :); do
        $bb mkdir -p $to/$($bb dirname $file); $bb cp -f $from/$file $to/$file
      done
    done
    $bb cp $from/modules.dep $to
    $bb find . | $bb cpio -o -H newc > $out/initrd
  '';

  init = build "init" { } ''
    {
      echo "#!${busybox}/bin/busybox sh"
      echo "PATH=${coreutils}/bin:/no-other"
      echo "${busybox}/bin/busybox mount -t proc proc /proc"
      echo "echo \"init: \$(cat /etc/line)\""
      echo "echo \"system: \$(readlink /nix/var/nix/profiles/system)\""
      echo "sha256sum /nix/var/nix/profiles/system/kernel"
      echo "stat -c 'owner %u:%g mode %a time %Y of %n' \$(readlink -f /nix/var/nix/profiles/system/init)"
      echo "${busybox}/bin/busybox mount -o remount,rw / && date > /tmp/written && rm /tmp/written && echo writable"
      echo "${busybox}/bin/busybox mount -o remount,ro / && echo 'init: end'"
      echo "${busybox}/bin/busybox poweroff -f"
    } > $out
    $bb chmod +x $out
  '';

  toplevel = build "system" { } ''
    $bb mkdir -p $out
    $bb ln -s ${kernel}/bzImage $out/kernel
    $bb ln -s ${initrd}/initrd $out/initrd
    $bb ln -s ${kernel} $out/kernel-modules
    $bb ln -s ${init} $out/init
    echo miniature > $out/nixos-version
  '';

  image = build "disk.img" {
    exportReferencesGraph = [ "graph" toplevel ];
    manifest = builtins.replaceStrings
      [ "@loader@" "@kernel@" "@initrd@" "@toplevel@" ]
      [ "${path "systemd-bootx64.efi" loader}" "${kernel}/bzImage" "${initrd}/initrd" "${toplevel}" ]
      manifest;
    program = path "program" program;
  } ''
    # Each path stands in the graph with its own references, so the names in it are the closure.
    $bb grep ^/nix/store/ graph | $bb sort -u > store-paths
    echo "$manifest" > disk.toml
    $program/ld-linux-x86-64.so.2 --library-path $program $program/diskwright build disk.toml -o $out
  '';
in
{ inherit toplevel image; }
