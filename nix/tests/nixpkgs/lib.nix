# As much of nixpkgs' lib as this repository's files ask for, and modules that are evaluated as there: options with defaults,
# lists that merge, submodules with attributes of any name, values by default.
let
  lib = rec {
    any = builtins.any;
    genAttrs = names: make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);
    hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
    removePrefix =
      prefix: text:
      if hasPrefix prefix text then builtins.substring (builtins.stringLength prefix) (-1) text else text;
    optional = condition: one: if condition then [ one ] else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    optionalString = condition: text: if condition then text else "";
    escapeShellArg = text: "'${text}'";
    literalExpression = text: text;
    literalMD = text: text;
    licenses = {
      mit = "MIT";
      asl20 = "Apache-2.0";
    };
    platforms.linux = [
      "x86_64-linux"
      "aarch64-linux"
    ];

    mkOption = attributes: { _option = true; } // attributes;
    mkDefault = value: {
      _default = true;
      inherit value;
    };
    types = {
      raw = one;
      package = one;
      enum = values: {
        merge = values': check values (one.merge values');
      };
      listOf = _: { merge = builtins.concatLists; };
      attrsOf = _: one;
      submodule = module: {
        merge =
          values:
          let
            names = builtins.attrNames (builtins.foldl' (all: value: all // value) module.options values);
            of = name: map (value: value.${name}) (builtins.filter (value: value ? ${name}) values);
          in
          genAttrs names (name: merged (module.options.${name} or { type = one; }) (of name));
      };
    };
    one.merge =
      values:
      if builtins.length values == 1 then builtins.head values else throw "one value of ${toString (builtins.length values)}";
    check =
      values: value: if builtins.elem value values then value else throw "`${toString value}` is none of ${toString values}";

    # The value of an option that is defined as `values`.
    merged =
      option: values:
      let
        isDefault = value: builtins.isAttrs value && value._default or false;
        set = builtins.filter (value: !isDefault value) values;
        own =
          if set != [ ] then
            set
          else if values != [ ] then
            map (value: value.value) values
          else
            [ option.default ];
      in
      option.type.merge own;

    evalModules =
      { modules, specialArgs }:
      let
        read =
          module:
          let
            it = if builtins.isFunction module then module else if builtins.isAttrs module then module else import module;
            set = if builtins.isFunction it then it (specialArgs // { inherit config lib; }) else it;
          in
          builtins.concatMap read (set.imports or [ ])
          ++ [
            {
              options = set.options or { };
              config = set.config or (builtins.removeAttrs set [ "imports" "options" ]);
            }
          ];
        all = builtins.concatMap read modules;
        collect =
          options: values:
          if options._option or false then
            merged options values
          else
            let
              defined = builtins.foldl' (all: value: all // value) options values;
              of = name: map (value: value.${name}) (builtins.filter (value: value ? ${name}) values);
            in
            builtins.mapAttrs (
              name: _:
              if options ? ${name} then
                collect options.${name} (of name)
              # An undeclared option is kept as it is: systems have options that are not ours.
              else if builtins.all (value: builtins.isAttrs value && !(value ? type) && !(value._default or false)) (of name) then
                collect { } (of name)
              else
                merged { type = one; } (of name)
            ) defined;
        options = builtins.foldl' (
          all: module: recursive all module.options
        ) { } all;
        recursive =
          a: b:
          a
          // builtins.mapAttrs (
            name: value: if a ? ${name} && !(value._option or false) then recursive a.${name} value else value
          ) b;
        config = collect options (map (module: module.config) all);
      in
      {
        inherit config;
      };
  };
in
lib
