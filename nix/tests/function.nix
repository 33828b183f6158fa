# What make-disk-image.nix makes of its arguments, without building anything: `more` is merged over the least arguments.
{
  more ? { },
}:

let
  path = name: "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-${name}";
  pkgs = {
    path = path "nixpkgs";
    runCommand = name: attributes: script: {
      inherit name script attributes;
      outPath = path name;
    };
    closureInfo =
      { rootPaths }:
      {
        inherit rootPaths;
        outPath = path "closure-info";
      };
    OVMF.fd = {
      firmware = path "OVMF_CODE.fd";
      variables = path "OVMF_VARS.fd";
    };
    grub2 = path "grub";
    grub2_efi = path "grub-efi";
  };
  image = import ../make-disk-image.nix (
    {
      inherit pkgs;
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
        };
      };
    }
    // more
  );
in
{
  inherit (image) name script;
  inherit (image.attributes.passthru) manifest filename;
}
