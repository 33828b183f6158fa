//! nix/make-disk-image.nix argument by argument: the effect of each argument of nixpkgs, without building.

use std::path::Path;
use std::process::Command;

use diskwright::front::manifest::Manifest;
use serde_json::{Value, json};

use crate::closure::nix;
use crate::support::program::diskwright;
use crate::support::tools::{command, must, run, scratch};
use crate::tiny::Tiny;

const PATH: &str = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-";

/// The evaluation of a file of this repository.
pub(crate) fn evaluation(file: &str) -> Command {
    let mut eval = nix("nix-instantiate");
    eval.args(["--eval", "--strict", "--json"]).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
    eval
}

/// The evaluation with `more` arguments.
fn evaluate(more: &str) -> Command {
    let mut eval = evaluation("nix/tests/function.nix");
    eval.args(["--arg", "more", more]);
    eval
}

/// The result: name, script, manifest and filename. The manifest must parse.
fn image(more: &str) -> Value {
    image_of(&mut evaluate(more))
}

/// The result of an evaluation with them. The manifest must parse.
pub(crate) fn image_of(evaluation: &mut Command) -> Value {
    let value: Value = serde_json::from_str(&must(evaluation).text()).unwrap();
    let manifest = value["manifest"].to_string();
    Manifest::read(manifest.as_bytes(), Path::new("manifest.json"), Path::new("/"))
        .unwrap_or_else(|error| panic!("{evaluation:?}: {error}"));
    value
}

#[test]
fn the_defaults_are_those_of_nixpkgs() {
    let found = image("{ }");
    assert_eq!(found["name"], "nixos-disk-image");
    assert_eq!(found["filename"], "nixos.img");
    assert_eq!(
        found["manifest"],
        json!({
            "version": 1,
            "disk": {},
            "nixos": {
                "system": format!("{PATH}nixos-system"),
                "closure": format!("{PATH}closure-info"),
                "layout": "legacy",
                "disk_size": "auto",
                "additional_space": "512MiB",
                "fs_type": "ext4",
                "label": "nixos",
                "root_uuid": "F222513B-DED1-49FA-B591-20CE86A2FE7F",
                "compat": true,
                "boot_loader": "grub",
                "grub": format!("{PATH}grub-platforms"),
                "grub_mkimage": format!("{PATH}grub2/bin/grub-mkimage"),
                "timeout": 5,
                "channel": format!("{PATH}nixos-26.05"),
                "additional_paths": [],
                "generations": [],
                "contents": [],
            },
        })
    );
}

#[test]
fn every_argument_becomes_a_key() {
    for (more, key, expected) in [
        ("diskSize = 2048;", "/disk_size", json!("2048MiB")),
        ("diskSize = 2048;", "/additional_space", Value::Null),
        ("additionalSpace = \"1.5G\";", "/additional_space", json!("1610612736")),
        // As numfmt --from=iec reads them: a fraction of a byte is rounded up.
        ("additionalSpace = \"0.3G\";", "/additional_space", json!("322122548")),
        ("additionalSpace = \".5M\";", "/additional_space", json!("524288")),
        ("additionalSpace = \"0M\";", "/additional_space", json!("0MiB")),
        ("additionalSpace = \"1048576\";", "/additional_space", json!("1048576")),
        ("partitionTableType = \"efi\";", "/layout", json!("efi")),
        ("partitionTableType = \"efi\";", "/boot_size", json!("256MiB")),
        ("partitionTableType = \"efi\";", "/gpt_uuid", json!("F222513B-DED1-49FA-B591-20CE86A2FE7F")),
        ("partitionTableType = \"efi\"; bootSize = \"1G\";", "/boot_size", json!("1GiB")),
        ("partitionTableType = \"legacy+boot\";", "/boot_size", json!("256MiB")),
        ("partitionTableType = \"legacy+gpt\";", "/boot_size", Value::Null),
        (
            "partitionTableType = \"hybrid\"; rootGPUID = \"4e2f1a30-0000-4000-8000-0123456789ab\";",
            "/gpt_uuid",
            json!("4e2f1a30-0000-4000-8000-0123456789ab"),
        ),
        (
            "rootGPUID = \"4e2f1a30-0000-4000-8000-0123456789ab\";",
            "/root_uuid",
            json!("4e2f1a30-0000-4000-8000-0123456789ab"),
        ),
        (
            "rootFSUID = \"4e2f1a30-0000-4000-8000-0123456789ab\";",
            "/root_uuid",
            json!("4e2f1a30-0000-4000-8000-0123456789ab"),
        ),
        ("rootFSUID = null;", "/root_uuid", Value::Null),
        ("installBootLoader = false;", "/boot_loader", json!("none")),
        ("installBootLoader = false;", "/timeout", Value::Null),
        ("partitionTableType = \"none\";", "/boot_loader", json!("grub")),
        ("partitionTableType = \"none\";", "/grub", Value::Null),
        ("partitionTableType = \"none\";", "/grub_mkimage", Value::Null),
        ("partitionTableType = \"none\";", "/timeout", json!(5)),
        ("partitionTableType = \"none\"; installBootLoader = false;", "/boot_loader", json!("none")),
        ("partitionTableType = \"none\"; bootLoader = \"extlinux\";", "/boot_loader", json!("extlinux")),
        (
            "partitionTableType = \"efi\";",
            "/grub_mkimage",
            json!(format!("{PATH}grub2_efi/bin/grub-mkimage")),
        ),
        ("label = \"root\";", "/label", json!("root")),
        (
            "onlyNixStore = true; partitionTableType = \"none\"; installBootLoader = false;",
            "/label",
            json!("nix-store"),
        ),
        (
            "onlyNixStore = true; partitionTableType = \"none\"; installBootLoader = false;",
            "/only_nix_store",
            json!(true),
        ),
        (
            "onlyNixStore = true; partitionTableType = \"none\"; installBootLoader = false;",
            "/channel",
            Value::Null,
        ),
        ("configFile = \"/x/configuration.nix\";", "/config_file", json!("/x/configuration.nix")),
        ("copyChannel = false;", "/channel", Value::Null),
        (
            "additionalPaths = [ \"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x\" ];",
            "/additional_paths",
            json!([format!("{PATH}x")]),
        ),
        (
            "generations = [ \"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x\" ];",
            "/generations",
            json!([format!("{PATH}x")]),
        ),
        (
            "contents = [ { source = \"/x/*\"; target = \"etc\"; mode = \"0644\"; user = \"a\"; group = \"b\"; } { source = \"/y\"; target = \"/y\"; user = null; group = null; mode = null; } ];",
            "/contents",
            json!([
                { "source": "/x/*", "target": "/etc", "mode": "0644", "user": "a", "group": "b" },
                { "source": "/y", "target": "/y" },
            ]),
        ),
        ("compat = false;", "/compat", json!(false)),
        ("compat = false;", "/root_uuid", Value::Null),
        ("compat = false; partitionTableType = \"efi\";", "/gpt_uuid", Value::Null),
        ("extraNixos = { timeout = \"forever\"; };", "/timeout", json!("forever")),
        // Arguments without a meaning here are accepted and change nothing.
        (
            "memSize = 4096; deterministic = false; reproducible = false; populateRootWith = \"cptofs\"; rootFSHashSeed = null;",
            "/timeout",
            json!(5),
        ),
        ("touchEFIVars = true; partitionTableType = \"efi\";", "/layout", json!("efi")),
    ] {
        let found = image(&format!("{{ {more} }}"));
        let value = found["manifest"]["nixos"].pointer(key).cloned().unwrap_or(Value::Null);
        assert_eq!(value, expected, "{more}");
    }
}

#[test]
fn formats_names_and_what_runs_afterwards_are_in_the_script() {
    for (format, flags, filename, product) in [
        ("raw", "--format raw", "nixos.img", "raw"),
        ("qcow2", "--format qcow2", "nixos.qcow2", "qcow2"),
        ("qcow2-compressed", "--format qcow2", "nixos.qcow2", "qcow2"),
        ("vdi", "--format vdi", "nixos.vdi", "vdi"),
        ("vpc", "--format vpc", "nixos.vhd", "vpc"),
        ("vmdk", "--format vmdk", "nixos.vmdk", "vmdk"),
        ("vhdx", "--format vhdx", "nixos.vhdx", "vhdx"),
    ] {
        let found = image(&format!("{{ format = \"{format}\"; }}"));
        assert_eq!(found["filename"], filename);
        let script = found["script"].as_str().unwrap();
        assert!(
            script.contains(&format!("diskImage=$out/{filename}\n")) && script.contains(flags),
            "{script}"
        );
        assert!(script.contains(&format!("echo \"file {product}-image $diskImage\"")), "{script}");
    }
    let more = "{ name = \"my-image\"; baseName = \"disk\"; partitionTableType = \"efi\"; touchEFIVars = true; \
                verifyClosure = true; postVM = \"first $diskImage\"; postImage = \"second $out\"; }";
    let found = image(more);
    assert_eq!((found["name"].as_str(), found["filename"].as_str()), (Some("my-image"), Some("disk.img")));
    let script = found["script"].as_str().unwrap();
    let at = |text: &str| script.find(text).unwrap_or_else(|| panic!("no `{text}` in {script}"));
    assert!(at("diskwright build") < at("first $diskImage") && at("first $diskImage") < at("second $out"));
    at(&format!("cp {PATH}OVMF_VARS.fd $out/efi-vars.fd"));
    at("--verify-closure");
}

/// The manifest, which the program reads, says how the file is written. The next test asks the program itself.
#[test]
fn subformat_codec_level_and_cluster_size_are_keys_of_the_disk() {
    for (more, expected) in [
        ("", json!({})),
        ("format = \"vpc\"; subformat = \"fixed\";", json!({ "subformat": "fixed" })),
        ("format = \"qcow2-compressed\";", json!({ "compress": "zlib" })),
        ("format = \"qcow2-compressed\"; compress = \"zstd\";", json!({ "compress": "zstd" })),
        (
            "format = \"qcow2\"; compress = \"zstd\"; level = 19; clusterSize = \"2MiB\";",
            json!({ "compress": "zstd", "level": 19, "cluster_size": "2MiB" }),
        ),
        (
            "format = \"qcow2\"; clusterSize = 65536; extraDisk.time = 5;",
            json!({ "cluster_size": 65536, "time": 5 }),
        ),
        ("subformat = null; compress = null; level = null; clusterSize = null;", json!({})),
    ] {
        assert_eq!(image(&format!("{{ {more} }}"))["manifest"]["disk"], expected, "{more}");
    }
}

/// What `inspect` says of the image that the manifest of the function and the flags of its script make.
#[test]
fn the_program_writes_the_file_that_the_arguments_ask_for() {
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    let closure = tiny.path().join("registration");
    std::fs::write(&closure, tiny.registration()).unwrap();
    for (more, expected) in [
        (
            "format = \"vpc\"; subformat = \"fixed\"; diskSize = 64;",
            &[("format", "vpc"), ("subformat", "fixed")][..],
        ),
        ("format = \"vmdk\"; subformat = \"streamOptimized\";", &[("subformat", "streamOptimized")]),
        ("format = \"qcow2-compressed\";", &[("compression type", "zlib"), ("cluster size", "65536")]),
        (
            "format = \"qcow2\"; compress = \"zstd\"; level = 1; clusterSize = \"2MiB\";",
            &[("compression type", "zstd"), ("cluster size", "2097152")],
        ),
    ] {
        let found = image(&format!(
            "{{ {more} installBootLoader = false; copyChannel = false; partitionTableType = \"none\"; }}"
        ));
        let mut manifest = found["manifest"].clone();
        manifest["nixos"]["system"] = json!(system);
        manifest["nixos"]["closure"] = json!(closure);
        manifest["nixos"]["store_root"] = json!(tiny.root());
        let (file, out) =
            (tiny.path().join("manifest.json"), tiny.path().join(found["filename"].as_str().unwrap()));
        std::fs::write(&file, manifest.to_string()).unwrap();
        let script = found["script"].as_str().unwrap();
        let flags: Vec<&str> =
            script.split("\"$diskImage\" ").nth(1).unwrap().lines().next().unwrap().split(' ').collect();
        let flags = flags.iter().filter(|flag| **flag != "\\");
        must(diskwright().arg("build").arg(&file).arg("-o").arg(&out).args(flags));
        let said = must(diskwright().arg("inspect").arg(&out)).text();
        for (name, value) in expected {
            let line =
                said.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {said}"));
            assert_eq!(line[name.len()..].trim(), *value, "{more}\n{said}");
        }
        std::fs::remove_file(&out).unwrap();
    }
}

/// An unknown loader in the configuration is an error, and not an image without a loader.
#[test]
fn the_loader_of_the_configuration_is_the_loader_of_the_image() {
    let with = |loader: &str, more: &str| {
        let mut eval = evaluate(more);
        run(eval.args(["--arg", "loader", loader]))
    };
    let chosen = |loader: &str, more: &str| {
        let said = with(loader, more);
        assert_eq!(said.code, 0, "{loader}: {}", said.error());
        let value: Value = serde_json::from_str(&said.text()).unwrap();
        (value["manifest"]["nixos"]["boot_loader"].as_str().unwrap().to_owned(), said.error())
    };
    let removed =
        "{ raspberryPi = throw \"removed\"; efi.canTouchEfiVariables = true; systemd-boot.enable = true; }";
    for (loader, expected) in [
        ("{ }", "grub"),
        (removed, "systemd-boot"),
        ("{ grub.enable = false; generic-extlinux-compatible.enable = true; }", "extlinux"),
        ("{ limine.enable = false; grub.device = \"nodev\"; grub.enable = true; }", "grub"),
    ] {
        let (name, remark) = chosen(loader, "{ }");
        assert!(name == expected && !remark.contains("make-disk-image"), "{loader}: {name}\n{remark}");
    }
    let (name, remark) = chosen("{ grub.enable = false; }", "{ }");
    assert!(name == "none" && remark.contains("the configuration enables no boot loader"), "{remark}");
    for name in ["limine", "refind", "external"] {
        let loader = format!("{{ {name}.enable = true; }}");
        let said = with(&loader, "{ }");
        assert!(said.code != 0, "{name}");
        let words = format!("the boot loader `{name}`, which the configuration enables, is not known");
        assert!(said.error().contains(&words), "{}", said.error());
        for more in ["{ bootLoader = \"grub\"; }", "{ installBootLoader = false; }"] {
            chosen(&loader, more);
        }
    }
    // A bare filesystem has no place for boot code.
    let none = "{ partitionTableType = \"none\"; }";
    assert_eq!(chosen("{ grub = { enable = true; devices = [ \"nodev\" ]; }; }", none).0, "grub");
    let said = with("{ grub = { enable = true; devices = [ \"/dev/vda\" ]; }; }", none);
    assert!(
        said.code != 0 && said.error().contains("no place for GRUB's boot code on /dev/vda"),
        "{}",
        said.error()
    );
}

/// For a processor without a BIOS, hybrid needs no GRUB for one.
#[test]
fn hybrid_takes_the_grub_that_its_processor_has() {
    for (system, package) in [("x86_64-linux", "grub2"), ("aarch64-linux", "grub2_efi")] {
        let mut eval = evaluate("{ partitionTableType = \"hybrid\"; }");
        let said = must(eval.args(["--argstr", "system", system])).text();
        let value: Value = serde_json::from_str(&said).unwrap();
        let mkimage = format!("{PATH}{package}/bin/grub-mkimage");
        assert_eq!(value["manifest"]["nixos"]["grub_mkimage"], json!(mkimage), "{system}");
    }
}

/// Commands that run afterwards have the tools that they have in nixpkgs. Without such commands, no image
/// waits for the tools.
#[test]
fn what_runs_afterwards_has_its_tools() {
    let names = |more: &str| -> Vec<String> {
        let inputs = image(more)["inputs"].as_array().unwrap().clone();
        inputs.iter().map(|path| path.as_str().unwrap().replace(PATH, "")).collect()
    };
    assert_eq!(names("{ }"), ["diskwright"]);
    for more in ["{ postVM = \"true\"; }", "{ postImage = \"true\"; }"] {
        assert_eq!(names(more), ["diskwright", "parted", "util-linux", "e2fsprogs", "gptfdisk", "rsync"]);
    }
}

/// The image of a machine, evaluated from the module, and from both flakes as Nix reads them.
#[test]
fn the_module_makes_the_image_of_a_variant() {
    let machine = |modules: &str| {
        let nixos = Path::new(env!("CARGO_MANIFEST_DIR")).join("nix/tests/nixpkgs/nixos");
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("nix/module.nix");
        let expression = format!(
            "let config = (import {} {{ configuration.imports = [ {} {modules} ]; }}).config; in {{ inherit (config) image; \
             inherit (config.system.build.diskwrightImage) filename manifest name; same = config.system.build.image.name or \
             config.system.build.image; }}",
            nixos.display(),
            module.display()
        );
        let mut eval = nix("nix-instantiate");
        let said = must(eval.args(["--eval", "--strict", "--json", "-E", &expression])).text();
        serde_json::from_str::<Value>(&said).unwrap()
    };
    let found = machine(
        "{ boot.loader.systemd-boot.enable = true; image.baseName = \"machine\"; diskwright.image = { format = \"vpc\"; \
         contents = [ { source = \"/a\"; target = \"/a\"; } ]; generations = [ \"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-a\" ]; \
         bootSize = \"1G\"; }; } { diskwright.image = { contents = [ { source = \"/b\"; target = \"/b\"; } ]; \
         additionalPaths = [ \"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x\" ]; }; }",
    );
    assert_eq!(found["filename"], "machine.vhd");
    assert_eq!(
        (&found["image"]["extension"], &found["image"]["fileName"]),
        (&json!("vhd"), &json!("machine.vhd"))
    );
    assert_eq!(found["image"]["filePath"], "machine.vhd");
    assert_eq!(found["same"], "nixos-disk-image");
    let section = &found["manifest"]["nixos"];
    assert_eq!((&section["layout"], &section["boot_size"]), (&json!("efi"), &json!("1GiB")));
    let all = json!([{ "source": "/a", "target": "/a" }, { "source": "/b", "target": "/b" }]);
    assert_eq!(section["contents"], all);
    assert_eq!(section["additional_paths"], json!([format!("{PATH}x")]));
    assert_eq!(section["generations"], json!([format!("{PATH}a")]));
    // Another module that makes an image of the system takes precedence. A name that is given here is the
    // name of the image.
    let found = machine(
        "{ boot.loader.grub.enable = true; system.build.image = \"another\"; diskwright.image.baseName = \"mine\"; }",
    );
    assert_eq!((&found["same"], &found["filename"]), (&json!("another"), &json!("mine.img")));
    assert_eq!(found["image"]["filePath"], "mine.img");
    assert_eq!(found["manifest"]["nixos"]["layout"], "legacy");
}

/// The flake, and the one of the example, which was copied out of this repository.
#[test]
fn the_flakes_evaluate_wherever_they_lie() {
    let folder = scratch();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (own, example) = (folder.path().join("diskwright"), folder.path().join("example"));
    std::fs::create_dir_all(own.join("src")).unwrap();
    for name in ["flake.nix", "nix", "Cargo.toml", "Cargo.lock"] {
        must(command("cp").arg("-r").arg(root.join(name)).arg(own.join(name)));
    }
    must(command("cp").arg("-r").arg(root.join("nix/examples/flake")).arg(&example));
    let nixpkgs = root.join("nix/tests/nixpkgs");
    let evaluate = |flake: &Path, what: &str, apply: &str| {
        let mut eval = nix("nix");
        eval.args([
            "--extra-experimental-features",
            "nix-command flakes",
            "eval",
            "--json",
            "--no-write-lock-file",
        ]);
        eval.arg(format!("path:{}#{what}", flake.display()));
        eval.arg("--override-input").arg("nixpkgs").arg(format!("path:{}", nixpkgs.display()));
        if flake != own {
            eval.arg("--override-input").arg("diskwright").arg(format!("path:{}", own.display()));
        }
        if !apply.is_empty() {
            eval.args(["--apply", apply]);
        }
        serde_json::from_str::<Value>(&must(&mut eval).text()).unwrap()
    };
    let names = "builtins.mapAttrs (_: builtins.attrNames)";
    for (what, expected) in [
        ("packages", json!(["default", "pure"])),
        ("apps", json!(["default"])),
        ("devShells", json!(["default"])),
        ("checks", json!(["image", "package"])),
    ] {
        let all = json!({ "aarch64-linux": expected, "x86_64-linux": expected });
        assert_eq!(evaluate(&own, what, names), all, "{what}");
    }
    let version = env!("CARGO_PKG_VERSION");
    for package in ["packages.x86_64-linux.default", "checks.aarch64-linux.package"] {
        assert_eq!(evaluate(&own, package, "package: package.version"), version);
    }
    let pure = "package: [ package.buildNoDefaultFeatures (package.postInstall != \"\") ]";
    assert_eq!(evaluate(&own, "packages.x86_64-linux.pure", pure), json!([true, true]));
    assert_eq!(evaluate(&own, "packages.aarch64-linux.default", pure), json!([false, true]));
    assert_eq!(
        evaluate(&own, "apps.x86_64-linux.default.program", ""),
        format!("{PATH}diskwright/bin/diskwright")
    );
    let shell = evaluate(&own, "devShells.x86_64-linux.default", "shell: builtins.length shell.packages");
    assert!(shell.as_u64().is_some_and(|tools| tools > 5), "{shell}");
    let layout = "image: [ image.filename image.manifest.nixos.layout ]";
    assert_eq!(evaluate(&own, "checks.x86_64-linux.image", layout), json!(["nixos-image.qcow2", "efi"]));
    assert_eq!(
        evaluate(&example, "packages.x86_64-linux.image", layout),
        json!(["nixos-image.qcow2", "hybrid"])
    );
    let makes = "make: builtins.functionArgs make ? diskwright";
    for function in ["makeDiskImage", "makeRepartImage"] {
        assert_eq!(evaluate(&own, &format!("lib.{function}"), makes), true, "{function}");
    }
    // What a flake exports as a module is one: a function, or a file with one.
    let takes = "builtins.mapAttrs (_: module: builtins.functionArgs (import module) ? modulesPath)";
    let modules = json!({ "default": true, "qemu-vm": true, "repart": true });
    assert_eq!(evaluate(&own, "nixosModules", takes), modules);
    assert_eq!(evaluate(&own, "templates.default.path", "builtins.pathExists"), true);
}

/// The text that the package runs after installing, with `execute` as the builder's ability to run the program.
fn post_install(execute: bool) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    let package = format!(
        "(import {root}/nix/package.nix {{
          lib = import {root}/nix/tests/nixpkgs/lib.nix;
          stdenv = {{ buildPlatform.canExecute = _: {execute}; hostPlatform = {{ }}; }};
          installShellFiles = \"\";
          rustPlatform.buildRustPackage = attributes: attributes;
        }}).postInstall"
    );
    let said = must(nix("nix-instantiate").args(["--eval", "--strict", "--json", "-E", &package])).text();
    serde_json::from_str(&said).unwrap()
}

/// What stands for nixpkgs' installShellFiles: every file that is given is there, and is not empty.
const INSTALL: &str = r#"
set -eu
note() { for file in "${@:2}"; do [ -s "$file" ] || exit 9; echo "$1 $file"; done; }
installShellCompletion() { note completion "$@"; }
installManPage() { note page "$@"; }
eval "$postInstall"
"#;

/// The package's text for after the installation runs with the program as it is: a completion for each shell, and each page
/// that the program writes.
#[test]
fn the_package_installs_completions_and_pages() {
    assert_eq!(post_install(false), "");
    let folder = scratch();
    let (bin, pages) = (folder.path().join("out/bin"), folder.path().join("pages"));
    std::fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink(crate::support::program::path(), bin.join("diskwright")).unwrap();
    let install = |text: &str| {
        let mut bash = command("bash");
        bash.args(["-c", INSTALL]).current_dir(folder.path());
        run(bash.env("out", folder.path().join("out")).env("postInstall", text))
    };
    let text = post_install(true);
    let said = install(&text);
    assert_eq!(said.code, 0, "{}", said.error());
    must(diskwright().arg("man").arg("--dir").arg(&pages));
    let mut expected: Vec<String> =
        ["bash", "fish", "zsh"].map(|shell| format!("completion diskwright.{shell}")).into();
    let page = |entry: std::io::Result<std::fs::DirEntry>| {
        format!("page man/{}", entry.unwrap().file_name().into_string().unwrap())
    };
    expected.extend(std::fs::read_dir(&pages).unwrap().map(page));
    let said = said.text();
    let mut found: Vec<&str> = said.lines().collect();
    expected.sort();
    found.sort_unstable();
    assert!(expected.len() > 4);
    assert_eq!(found, expected);
    // A command that is not there fails, and so does a file that nothing wrote.
    for wrong in ["$out/bin/diskwrong completions bash > diskwright.bash", "installManPage man/none.1"] {
        assert_ne!(install(&format!("{text}\n{wrong}\n")).code, 0, "{wrong}");
    }
}

#[test]
fn what_nixpkgs_refuses_is_refused() {
    for (more, words) in [
        ("partitionTableType = \"gpt\";", "no partitionTableType `gpt`"),
        ("format = \"dmg\";", "no format `dmg`"),
        ("additionalSpace = \"512MiB\";", "`512MiB` is no size"),
        ("touchEFIVars = true;", "touchEFIVars is for"),
        ("fsType = \"btrfs\";", "a partition table is for fsType ext4 alone"),
        (
            "contents = [ { source = \"/x\"; target = \"/x\"; user = \"a\"; } ];",
            "`user` and `group`, or neither",
        ),
    ] {
        let said = run(&mut evaluate(&format!("{{ {more} }}")));
        assert!(said.code != 0 && said.error().contains(words), "{more}: {}", said.error());
    }
}

/// The page names every key of the section, each is a flag, and the page names every argument of the function.
#[test]
fn the_page_names_every_key_and_every_argument() {
    let page = std::fs::read_to_string("docs/nix.md").unwrap();
    let schema: Value = serde_json::from_str(&must(diskwright().arg("schema")).text()).unwrap();
    let help = must(diskwright().args(["nixos", "--help"])).text();
    let keys = |name: &str| -> Vec<String> {
        let properties = schema["$defs"][name]["properties"].as_object();
        properties.unwrap_or_else(|| panic!("no {name} in the schema")).keys().cloned().collect()
    };
    let section = keys("Nixos");
    assert!(section.len() > 20, "{section:?}");
    for key in section.iter().chain(&keys("NixosContent")) {
        assert!(page.contains(&format!("`{key}`")), "docs/nix.md does not name {key}");
    }
    // Partitions are tables, which no flag holds.
    for key in section.into_iter().filter(|key| key != "partitions") {
        assert!(help.contains(&format!("--{}", key.replace('_', "-"))), "{key} is no flag");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("nix/make-disk-image.nix");
    let expression = format!("builtins.attrNames (builtins.functionArgs (import {}))", file.display());
    let mut eval = nix("nix-instantiate");
    let said = must(eval.args(["--eval", "--strict", "--json", "-E", &expression])).text();
    let arguments: Vec<String> = serde_json::from_str(&said).unwrap();
    assert!(arguments.len() > 30, "{arguments:?}");
    for argument in arguments {
        assert!(page.contains(&format!("`{argument}`")), "docs/nix.md does not name {argument}");
    }
}
