# nixpkgs' nixos/lib/make-single-disk-zfs-image.nix: the boot partitions and the pool on one disk, without a virtual machine.
# zfs-image.nix has the arguments.
arguments: import ./zfs-image.nix (arguments // { layout = "zfs-single"; })
