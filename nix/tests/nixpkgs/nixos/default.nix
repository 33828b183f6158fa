# A NixOS of the options that an image is made by.
{ system ? "x86_64-linux", configuration, modulesPath ? ./modules }:
let
  lib = import ../lib.nix;
  pkgs = import ../. { inherit system; };
  path = name: "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-${name}";
in
lib.evalModules {
  specialArgs = { inherit pkgs modulesPath; };
  modules = [
    {
      options.boot.loader.timeout = lib.mkOption { type = lib.types.raw; default = 5; };
      options.boot.loader.systemd-boot.enable = lib.mkOption { type = lib.types.raw; default = false; };
      options.boot.loader.grub.enable = lib.mkOption { type = lib.types.raw; default = true; };
      options.assertions = lib.mkOption { type = lib.types.listOf lib.types.raw; default = [ ]; };
      options.boot.initrd.availableKernelModules = lib.mkOption { type = lib.types.listOf lib.types.raw; default = [ ]; };
      config.system.build.toplevel = path "nixos-system";
      config.system.nixos = { version = "26.05"; versionSuffix = "pre"; };
    }
    configuration
  ];
}
