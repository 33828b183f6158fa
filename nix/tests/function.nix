# The result of make-disk-image.nix for given arguments, without building anything: `more` is merged over the minimal arguments,
# `loader` over the boot loaders of the configuration.
{
  more ? { },
  loader ? { },
  system ? "x86_64-linux",
}:

let
  path = name: "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-${name}";
  image = import ../make-disk-image.nix (
    {
      pkgs = import ./nixpkgs { inherit system; };
      lib = { };
      diskwright = path "diskwright";
      config = {
        system.build.toplevel = path "nixos-system";
        system.nixos = {
          version = "26.05";
          versionSuffix = "pre";
        };
        boot.loader = {
          grub.enable = true;
          timeout = 5;
        }
        // loader;
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
  inputs = image.attributes.nativeBuildInputs;
}
