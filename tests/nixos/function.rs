//! nix/make-disk-image.nix argument by argument: what each of nixpkgs' arguments becomes, without building.

use std::path::Path;

use diskwright::front::manifest::Manifest;
use serde_json::{Value, json};

use crate::closure::nix;
use crate::support::program::diskwright;
use crate::support::tools::{must, run};

const PATH: &str = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-";

/// The evaluation with `more` arguments.
fn evaluate(more: &str) -> std::process::Command {
    let mut eval = nix("nix-instantiate");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("nix/tests/function.nix");
    eval.args(["--eval", "--strict", "--json", "--arg", "more", more]).arg(file);
    eval
}

/// What comes out: name, script, manifest and filename. The manifest is one.
fn image(more: &str) -> Value {
    let said = must(&mut evaluate(more)).text();
    let value: Value = serde_json::from_str(&said).unwrap();
    let manifest = value["manifest"].to_string();
    Manifest::read(manifest.as_bytes(), Path::new("manifest.json"), Path::new("/"))
        .unwrap_or_else(|error| panic!("{more}: {error}"));
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
                "grub_mkimage": format!("{PATH}grub/bin/grub-mkimage"),
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
        // As numfmt --from=iec has them: what is not whole bytes is rounded up.
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
        ("partitionTableType = \"none\";", "/boot_loader", json!("none")),
        ("partitionTableType = \"none\"; bootLoader = \"extlinux\";", "/boot_loader", json!("extlinux")),
        ("partitionTableType = \"efi\";", "/grub_mkimage", json!(format!("{PATH}grub-efi/bin/grub-mkimage"))),
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
        // What has nothing to do here is taken and changes nothing.
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
        ("qcow2-compressed", "--format qcow2 --compress zlib", "nixos.qcow2", "qcow2"),
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
    for key in section {
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
