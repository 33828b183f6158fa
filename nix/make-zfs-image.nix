# The first name of make-multi-disk-zfs-image.nix in nixpkgs.
import ./make-multi-disk-zfs-image.nix
