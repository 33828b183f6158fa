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
    escapeShellArgs = texts: builtins.concatStringsSep " " (map escapeShellArg texts);
    mapAttrsToList = make: set: map (name: make name set.${name}) (builtins.attrNames set);
    warn = message: builtins.trace "warning: ${message}";
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
    mkVMOverride = value: {
      _override = true;
      inherit value;
    };
    mkIf = condition: value: {
      _if = condition;
      inherit value;
    };
    # An option that is gone: whoever defines it is told why.
    mkRemovedOptionModule =
      path: reason:
      { config, ... }:
      let
        value = builtins.foldl' (set: name: set.${name}) config path;
      in
      {
        options = builtins.foldl' (set: name: { ${name} = set; }) (mkOption {
          type = one;
          default = null;
        }) (reverse path);
        config.assertions = [
          {
            assertion = value == null;
            message = "The option `${builtins.concatStringsSep "." path}' is gone. ${reason}";
          }
        ];
      };
    reverse = list: builtins.foldl' (all: item: [ item ] ++ all) [ ] list;

    types = {
      raw = one;
      str = checked "text" builtins.isString;
      bool = checked "truth value" builtins.isBool;
      ints.positive = checked "positive number" (value: builtins.isInt value && value > 0);
      int = checked "integer" builtins.isInt;
      path = checked "path" (value: value ? outPath || hasPrefix "/" "${toString value}");
      anything = one;
      strMatching = pattern: checked "text of `${pattern}`" (value: builtins.isString value && builtins.match pattern value != null);
      oneOf = types: checked "one of many" (value: any (type: type.check value) types);
      nullOr = type: { merge = values: if values == [ null ] then null else type.merge values; };
      either = a: b: checked "${a.name} or ${b.name}" (value: a.check value || b.check value);
      package = one;
      enum = values: {
        name = "one of ${toString values}";
        check = value: builtins.elem value values;
        merge = values': check values (one.merge values');
      };
      listOf = _: {
        check = builtins.isList;
        merge = builtins.concatLists;
      };
      # Values of any type are not merged: the last one counts.
      attrsOf = type: {
        merge =
          values:
          let
            last = builtins.foldl' (all: value: all // value) { } values;
            of = name: map (value: value.${name}) (builtins.filter (value: value ? ${name}) values);
          in
          if type._any or false then last else builtins.mapAttrs (name: _: merged { inherit type; } (of name)) last;
      };
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
    one._any = true;
    one.merge =
      values:
      if builtins.length values == 1 then builtins.head values else throw "one value of ${toString (builtins.length values)}";
    checked = name: check: {
      inherit name check;
      merge =
        values:
        let
          value = one.merge values;
        in
        if check value then value else throw "`${builtins.toJSON value}` is no ${name}";
    };
    check =
      values: value: if builtins.elem value values then value else throw "`${toString value}` is none of ${toString values}";

    # What remains of values under conditions, and of those that override others.
    remaining =
      values:
      let
        flat = flattened values;
        overrides = builtins.filter (value: builtins.isAttrs value && value._override or false) flat;
      in
      if overrides != [ ] then map (value: value.value) overrides else flat;
    flattened = builtins.concatMap (
      value:
      if builtins.isAttrs value && value ? _if then
        (if value._if then flattened [ value.value ] else [ ])
      else
        [ value ]
    );

    # The value of an option that is defined as `values`.
    merged =
      option: given:
      let
        values = remaining given;
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
            arguments = specialArgs // {
              inherit config lib;
              extendModules = more: evalModules {
                inherit specialArgs;
                modules = modules ++ more.modules;
              };
            };
            set = if builtins.isFunction it then it arguments else it;
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
          options: given:
          let
            values = remaining given;
          in
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
              else if
                builtins.all (
                  value: builtins.isAttrs value && !(value ? type) && !(value._default or false)
                ) (remaining (of name))
              then
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
