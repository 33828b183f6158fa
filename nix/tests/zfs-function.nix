# The result of make-multi-disk-zfs-image.nix or make-single-disk-zfs-image.nix for given arguments, without building anything:
# `more` is merged over the minimal arguments.
{
  kind ? "multi",
  more ? { },
}:

let
  path = name: "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-${name}";
  image = import (../. + "/make-${kind}-disk-zfs-image.nix") (
    {
      pkgs = import ./nixpkgs { };
      lib = { };
      diskwright = path "diskwright";
      config = {
        system.build.toplevel = path "nixos-system";
        boot.loader.grub.enable = true;
      };
    }
    // more
  );
in
{
  inherit (image)
    name
    script
    manifest
    filename
    ;
}
