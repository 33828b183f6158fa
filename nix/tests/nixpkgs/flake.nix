{
  outputs = _: {
    lib = import ./lib.nix // {
      nixosSystem = { system, modules }: import ./nixos { inherit system; configuration.imports = modules; };
    };
    legacyPackages = {
      x86_64-linux = import ./. { system = "x86_64-linux"; };
      aarch64-linux = import ./. { system = "aarch64-linux"; };
    };
  };
}
