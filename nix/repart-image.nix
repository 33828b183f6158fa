# nixpkgs' image.repart without systemd-repart, fakeroot, a user namespace and mkfs programs: the same options, the same
# partitions, the same bits every time. docs/nix.md has the differences.
#
#   import ./repart-image.nix {
#     inherit pkgs;
#     name = "appliance";
#     partitions = {
#       "10-esp" = {
#         contents."/EFI/BOOT/BOOTX64.EFI".source = "${pkgs.systemd}/lib/systemd/boot/efi/systemd-bootx64.efi";
#         repartConfig = { Type = "esp"; Format = "vfat"; };
#       };
#       "20-root" = {
#         storePaths = [ config.system.build.toplevel ];
#         repartConfig = { Type = "root"; Format = "ext4"; Minimize = "guess"; };
#       };
#     };
#   }
{
  pkgs,
  lib ? pkgs.lib,

  name ? "image",
  version ? null,
  baseName ? if version == null then name else "${name}_${version}",

  # By name, which decides the order: { storePaths?, nixStorePrefix?, contents?, repartConfig, nixDatabase?, nixProfile?,
  # diskwright? }, the last with more keys of [X-Diskwright] (docs/repart.md).
  partitions ? { },

  # A store that the kernel verifies, mounted at /usr, and a unified kernel image that has its root hash: { enable, system,
  # ukiPath?, partitionIds? }. What `partitions` say of these partitions counts more.
  verityStore ? { },

  # What ids derive from.
  seed ? "0867da16-f251-457d-a9e8-c31f9a3c220b",

  # Whether partitions are files of their own too.
  split ? false,

  # Bytes in a sector, of the disk and of filesystems; null has sectors of 4096 bytes in filesystems alone.
  sectorSize ? 512,

  # "auto", or a number with K, M, G, T or P.
  imageSize ? "auto",

  # Whether the image is made anew; otherwise partitions are added to `image`.
  createEmpty ? true,
  image ? null,

  # { enable, algorithm = "zstd", "xz" or "zstd-seekable", level }
  compression ? { },

  # Options of mkfs programs by filesystem. No such program runs, so an option is an error.
  mkfsOptions ? { },

  # systemd's name of the processor.
  architecture ? pkgs.stdenv.hostPlatform.repartArchitecture or (
    {
      "x86_64" = "x86-64";
      "aarch64" = "arm64";
      "i686" = "x86";
      "armv7l" = "arm";
      "riscv64" = "riscv64";
      "loongarch64" = "loongarch64";
      "powerpc64le" = "ppc64-le";
      "s390x" = "s390x";
    }
    .${pkgs.stdenv.hostPlatform.parsed.cpu.name or "x86_64"}
      or (throw "repart-image: give `architecture`, systemd's name of the processor")
  ),

  # Below: what nixpkgs does not have.

  diskwright ? (pkgs.buildPackages or pkgs).callPackage ./package.nix { },

  # The release of systemd-repart that is imitated: "257", "260" or "262".
  level ? "262",

  # Shell code that runs after the image is written, with $diskImage and $out.
  postImage ? "",
}:

let
  build = pkgs.buildPackages or pkgs;

  verified = {
    enable = false;
    ukiPath = "/EFI/Linux/${baseName}.efi";
  }
  // verityStore;
  ids = {
    esp = "00-esp";
    store-verity = "10-store-verity";
    store = "20-store";
  }
  // (verityStore.partitionIds or { });
  # A partition with what is usual of it.
  usual =
    id: defaults:
    let
      given = partitions.${id} or { };
    in
    defaults // given // {
      # A module gives an empty list where nothing is said.
      storePaths = (defaults.storePaths or [ ]) ++ (given.storePaths or [ ]);
      repartConfig = defaults.repartConfig // (given.repartConfig or { });
      diskwright = (defaults.diskwright or { }) // (given.diskwright or { });
    };
  all =
    partitions
    // (
      if !verified.enable then
        { }
      else
        {
          ${ids.esp} = usual ids.esp {
            diskwright = {
              NixSystem = verified.system;
              UkiTarget = verified.ukiPath;
              CommandLine = "usrhash={roothash:store}";
            };
            repartConfig = {
              Type = "esp";
              Format = "vfat";
              SizeMinBytes = "96M";
            };
          };
          ${ids.store-verity} = usual ids.store-verity {
            repartConfig = {
              Type = "usr-verity";
              Label = "store-verity";
              Verity = "hash";
              VerityMatchKey = "store";
              Minimize = "best";
            };
          };
          ${ids.store} = usual ids.store {
            storePaths = [ verified.system ];
            repartConfig = {
              Type = "usr";
              Label = "store";
              Format = "erofs";
              Verity = "data";
              VerityMatchKey = "store";
              Minimize = "best";
            };
          };
        }
    );

  text =
    value:
    if value == true then
      "yes"
    else if value == false then
      "no"
    else
      toString value;
  lines =
    key: value:
    if builtins.isList value then
      builtins.concatStringsSep "" (map (one: "${key}=${text one}\n") value)
    else
      "${key}=${text value}\n";

  definition =
    partition:
    let
      paths = partition.storePaths or [ ];
      prefix = partition.nixStorePrefix or "/nix/store";
      contents = partition.contents or { };
      closure = pkgs.closureInfo { rootPaths = paths; };
      copies = map (target: "CopyFiles=${contents.${target}.source}:${target}\n") (builtins.attrNames contents);
      config = partition.repartConfig;
      more = partition.diskwright or { };
      own =
        (if paths == [ ] && more == { } then "" else "[X-Diskwright]\n")
        + builtins.concatStringsSep "" (map (key: lines key more.${key}) (builtins.attrNames more))
        + (if paths == [ ] then "" else store);
      store =
        "NixClosure=${closure}\n"
          + (if prefix == "/nix/store" then "" else "NixStorePrefix=${prefix}\n")
          + (if partition.nixDatabase or false then "NixDatabase=yes\n" else "")
          + (if partition.nixProfile or null == null then "" else "NixProfile=${partition.nixProfile}\n");
    in
    assert config ? Type || throw "repart-image: repartConfig has no Type";
    "[Partition]\n"
    + builtins.concatStringsSep "" (map (key: lines key config.${key}) (builtins.attrNames config))
    + builtins.concatStringsSep "" copies
    + own;

  definitions = builtins.mapAttrs (_: definition) all;
  scripts = map (
    name: ''
      printf '%s' ${quoted definitions.${name}} > repart.d/${quoted "${name}.conf"}
    ''
  ) (builtins.attrNames definitions);
  quoted = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] text}'";

  compressed = {
    enable = false;
    algorithm = "zstd";
    level = 3;
  }
  // compression;
  compressors = {
    zstd = {
      suffix = ".zst";
      tools = [ build.zstd ];
      command = "zstd --no-progress --threads=\${NIX_BUILD_CORES:-1} -${toString compressed.level}";
    };
    xz = {
      suffix = ".xz";
      tools = [ build.xz ];
      command = "xz --keep --threads=\${NIX_BUILD_CORES:-1} -${toString compressed.level}";
    };
    zstd-seekable = {
      suffix = ".zst";
      tools = [ build.t2sz ];
      command = "t2sz -r -s 4M -l ${toString compressed.level}";
    };
  };
  compressor =
    compressors.${compressed.algorithm}
      or (throw "repart-image: no compression `${compressed.algorithm}`; there are ${toString (builtins.attrNames compressors)}");
  extension = "raw${if compressed.enable then compressor.suffix else ""}";
  raw = "${baseName}.raw";

  flags = [
    "--architecture=${architecture}"
    "--dry-run=no"
    "--size=${imageSize}"
    "--definitions=repart.d"
    "--split=${text split}"
    "--json=pretty"
  ]
  ++ (if seed == null then [ "--seed=random" ] else [ "--seed=${seed}" ])
  ++ (if createEmpty then [ "--empty=create" ] else [ ])
  ++ (if sectorSize == null then [ ] else [ "--sector-size=${toString sectorSize}" ])
  ++ [ "--level=${level}" ];
in

assert
  createEmpty == (image == null)
  || throw "repart-image: `image` is what createEmpty = false adds to, and nothing else";
assert
  builtins.all (filesystem: mkfsOptions.${filesystem} == [ ]) (builtins.attrNames mkfsOptions)
  || throw "repart-image: mkfsOptions are of mkfs programs, and none runs; Compression=, CompressionLevel= and FileSystemSectorSize= of repartConfig are followed";

pkgs.runCommand baseName
  {
    # The image has all that it needs, so nothing of its closure has to stay beside it. The store paths that Nix would find
    # in it are the image's own. Nix before 2.18 may pass over this; the image is the same there, and keeps its closure.
    __structuredAttrs = true;
    unsafeDiscardReferences.out = true;
    nativeBuildInputs = [ diskwright ] ++ (if compressed.enable then compressor.tools else [ ]);
    passthru = {
      partitions = all;
      inherit
        definitions
        baseName
        extension
        ;
      fileName = "${baseName}.${extension}";
    };
  }
  ''
    mkdir -p $out repart.d
    ${builtins.concatStringsSep "" scripts}
    ${if createEmpty then "" else "cp --sparse=always ${image} $out/${raw}; chmod u+w $out/${raw}"}
    cd $out
    diskwright repart ${builtins.concatStringsSep " " (map (flag: if flag == "--definitions=repart.d" then "--definitions=$NIX_BUILD_TOP/repart.d" else flag) flags)} \
      --jobs ''${NIX_BUILD_CORES:-1} ${raw} > repart-output.json
    cat repart-output.json
    diskImage=$out/${raw}
    ${
      if compressed.enable then
        ''
          for raw in *.raw; do
            ${compressor.command} "$raw"
            rm -f "$raw"
          done
          diskImage=$out/${baseName}.${extension}
        ''
      else
        ""
    }
    ${postImage}
  ''
