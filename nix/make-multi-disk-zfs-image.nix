# nixpkgs' nixos/lib/make-multi-disk-zfs-image.nix: a disk with the boot partitions, and one that is the pool's alone, without a virtual machine.
# zfs-image.nix has the arguments.
arguments: import ./zfs-image.nix (arguments // { layout = "zfs"; })
