//! Toplevels as nixpkgs builds them, with and without `boot.json`, and others that it would never build.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

const TOP: &str = "/nix/store/00000000000000000000000000000000-nixos-system-test-24.05";
const GAMING: &str = "/nix/store/33333333333333333333333333333333-nixos-system-gaming-24.05";
const KERNEL: &str = "/nix/store/11111111111111111111111111111111-linux-6.6.30";
const INITRD: &str = "/nix/store/22222222222222222222222222222222-initrd-linux-6.6.30";
const DTBS: &str = "/nix/store/44444444444444444444444444444444-device-trees";

/// A store below a folder.
struct Place {
    root: tempfile::TempDir,
    store: Store,
}

impl Place {
    /// Two toplevels with what they share; no `boot.json`.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let place = Self { store: Store::new(root.path()), root };
        place.write(&format!("{KERNEL}/bzImage"), "kernel");
        place.write(&format!("{KERNEL}/lib/modules/6.6.30/modules.dep"), "");
        place.write(&format!("{INITRD}/initrd"), "initrd");
        place.write(&format!("{DTBS}/vendor/board.dtb"), "dtb");
        for top in [TOP, GAMING] {
            place.link(&format!("{top}/kernel"), &format!("{KERNEL}/bzImage"));
            place.link(&format!("{top}/kernel-modules"), KERNEL);
            place.link(&format!("{top}/initrd"), &format!("{INITRD}/initrd"));
            place.write(&format!("{top}/init"), "#!");
            place.write(&format!("{top}/kernel-params"), "loglevel=4 dyndbg=\"file x +p\"");
            place.write(&format!("{top}/nixos-version"), "24.05.20240531.abc\n");
            place.write(&format!("{top}/system"), "x86_64-linux");
        }
        place
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.store.host_of(Path::new(path));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.store.host_of(Path::new(path));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn json(&self, document: &Value) {
        self.write(&format!("{TOP}/boot.json"), &document.to_string());
    }

    fn read(&self) -> Result<System> {
        let mut warnings = Vec::new();
        let system = System::read(&self.store, Path::new(TOP), Secrets::Refuse, &mut warnings)?;
        assert_eq!(warnings, []);
        Ok(system)
    }

    /// The error without the folder that the store lies in.
    fn refusal(&self) -> String {
        let error = self.read().unwrap_err();
        assert_eq!(error.kind(), Kind::Source);
        error.to_string().replace(self.root.path().to_str().unwrap(), "")
    }
}

/// The document of a toplevel, as nixpkgs writes it.
fn document(top: &str) -> Value {
    json!({
        "org.nixos.bootspec.v1": {
            "system": "x86_64-linux",
            "init": format!("{top}/init"),
            "initrd": format!("{INITRD}/initrd"),
            "kernel": format!("{KERNEL}/bzImage"),
            "kernelParams": ["loglevel=4", "quiet"],
            "label": "NixOS 24.05 (Linux 6.6.30)",
            "toplevel": top,
        },
    })
}

#[test]
fn a_document_says_what_boots() {
    let place = Place::new();
    let mut whole = document(TOP);
    whole["org.nixos.specialisation.v1"] = json!({ "gaming": document(GAMING) });
    whole["org.nixos.systemd-boot"] =
        json!({ "sortKey": "mine", "devicetree": format!("{DTBS}/vendor/board.dtb"), "later": 1 });
    whole["org.nixos.extra-initrd.v1"] = json!({ "paths": ["EFI/more", "/secrets.cpio"] });
    whole["com.example.unknown.v7"] = json!([1, 2]);
    whole["org.nixos.bootspec.v1"]["initrdSecrets"] = Value::Null;
    place.json(&whole);
    place.write(&format!("{GAMING}/configuration-name"), "For games\n");
    place.link(&format!("{TOP}/dtbs"), DTBS);

    let system = place.read().unwrap();
    assert_eq!((system.toplevel.as_str(), system.system.as_str()), (TOP, "x86_64-linux"));
    assert_eq!(system.name(), "00000000000000000000000000000000-nixos-system-test-24.05");
    assert_eq!(system.label, "NixOS 24.05 (Linux 6.6.30)");
    assert_eq!(system.command_line(), format!("init={TOP}/init loglevel=4 quiet"));
    assert_eq!(system.kernel.path, format!("{KERNEL}/bzImage"));
    assert_eq!(system.kernel.host, place.root.path().join(&KERNEL[1..]).join("bzImage"));
    assert_eq!(system.initrd.unwrap().path, format!("{INITRD}/initrd"));
    assert_eq!(system.devicetree.unwrap().path, format!("{DTBS}/vendor/board.dtb"));
    assert_eq!(system.dtbs.unwrap().path, DTBS);
    assert_eq!((system.sort_key.as_str(), system.version.as_str()), ("mine", "24.05.20240531.abc"));
    assert_eq!(system.extra_initrds, ["EFI/more", "secrets.cpio"]);
    let gaming = &system.specialisations["gaming"];
    assert_eq!((gaming.toplevel.as_str(), gaming.sort_key.as_str()), (GAMING, "nixos"));
    assert_eq!(gaming.configuration_name.as_deref(), Some("For games"));
    assert_eq!(gaming.init, format!("{GAMING}/init"));
}

#[test]
fn without_a_document_the_files_say_it() {
    let place = Place::new();
    place.link(&format!("{TOP}/specialisation/gaming"), GAMING);
    place.link(&format!("{TOP}/fine-tune/child-1"), GAMING);
    // A variant lists the variants again; they are not followed.
    place.link(&format!("{GAMING}/specialisation/gaming"), GAMING);
    place.write(&format!("{TOP}/xen-params"), "dom0_mem=512M\n");
    place.write(&format!("{TOP}/xen.gz"), "xen");
    // A link to the toplevel works like the toplevel.
    place.link("/nix/store/55555555555555555555555555555555-link", TOP);
    let link = Path::new("/nix/store/55555555555555555555555555555555-link");
    let system = System::read(&place.store, link, Secrets::Refuse, &mut Vec::new()).unwrap();
    assert_eq!(system, place.read().unwrap());

    assert_eq!((system.toplevel.as_str(), system.system.as_str()), (TOP, "x86_64-linux"));
    assert_eq!(system.label, "NixOS 24.05.20240531.abc (Linux 6.6.30)");
    assert_eq!(system.command_line(), format!("init={TOP}/init loglevel=4 dyndbg=\"file x +p\""));
    assert_eq!(system.kernel.path, format!("{KERNEL}/bzImage"));
    assert_eq!(system.initrd.as_ref().unwrap().path, format!("{INITRD}/initrd"));
    assert_eq!(system.xen.as_ref().unwrap().params, "dom0_mem=512M");
    assert_eq!(system.specialisations.keys().collect::<Vec<_>>(), ["child-1", "gaming"]);
    let gaming = &system.specialisations["gaming"];
    assert_eq!((gaming.toplevel.as_str(), gaming.specialisations.len()), (GAMING, 0));
}

#[test]
fn what_is_missing_without_a_document_is_made_up_or_refused() {
    let place = Place::new();
    let remove = |name: &str| std::fs::remove_file(place.store.host_of(Path::new(TOP)).join(name)).unwrap();
    remove("initrd");
    remove("kernel-params");
    remove("nixos-version");
    remove("system");
    let system = place.read().unwrap();
    assert_eq!((&system.initrd, system.command_line()), (&None, format!("init={TOP}/init")));
    assert_eq!((system.version.as_str(), system.label.as_str()), ("6.6.30", "NixOS 6.6.30"));
    // The modules are also found beside the kernel.
    remove("kernel-modules");
    assert_eq!(place.read().unwrap().version, "6.6.30");
    place.write(&format!("{TOP}/label"), "a label\n");
    assert_eq!(place.read().unwrap().label, "a label");
    remove("init");
    let text = "this is no toplevel of a NixOS system";
    assert_eq!(place.refusal(), format!("{text}\n  at {TOP}\n  expected: boot.json, or a file `init`"));
    remove("kernel");
    assert!(place.refusal().ends_with("expected: boot.json, or a file `kernel`"));
    place.link(&format!("{TOP}/kernel"), "/nix/store/nowhere");
    assert!(place.read().is_err());
    remove("kernel");
    place.link(&format!("{TOP}/kernel"), KERNEL);
    assert_eq!(place.refusal(), format!("the kernel is not a file\n  at {KERNEL}"));
}

#[test]
fn secrets_are_refused_or_skipped_aloud() {
    let place = Place::new();
    let program = "/nix/store/66666666666666666666666666666666-append/bin/append-initrd-secrets";
    let mut whole = document(TOP);
    whole["org.nixos.bootspec.v1"]["initrdSecrets"] = json!(program);
    let check = || {
        let text = place.refusal();
        assert!(
            text.starts_with(&format!("the initrd wants secrets, which are not here\n  at {TOP}\n")),
            "{text}"
        );
        assert!(text.contains(program), "{text}");
        let mut warnings = Vec::new();
        System::read(&place.store, Path::new(TOP), Secrets::Skip, &mut warnings).unwrap();
        assert_eq!(
            warnings,
            [Warning(format!(
                "the initrd of {TOP} is written without its secrets: {program} has to append them"
            ))]
        );
    };
    place.json(&whole);
    check();
    std::fs::remove_file(place.store.host_of(Path::new(TOP)).join("boot.json")).unwrap();
    // An `exit 0` inside an `if` does not count.
    place.write(program, "#!/bin/bash -e\nif true; then\n  exit 0\nfi\ncpio\n");
    place.link(&format!("{TOP}/append-initrd-secrets"), program);
    check();
    // The program of nixpkgs without secrets, with `boot.json` and without.
    place.write(program, "#!/bin/bash -e\nif true; then\n  exit 0\nfi\n\nexit 0\n\ncpio\n");
    place.read().unwrap();
    place.json(&whole);
    place.read().unwrap();
}

#[test]
fn a_document_without_version_is_read_over_aloud() {
    let place = Place::new();
    let without = place.read().unwrap();
    for document in [json!({ "v1": { "kernel": 7 } }), json!({})] {
        place.json(&document);
        let mut warnings = Vec::new();
        let read = System::read(&place.store, Path::new(TOP), Secrets::Refuse, &mut warnings);
        assert_eq!(read.unwrap(), without);
        let text = format!("{TOP}/boot.json has no version; what boots is read from the files beside it");
        assert_eq!(warnings, [Warning(text)]);
    }
}

#[test]
fn a_document_that_is_none_is_refused_where_it_is_wrong() {
    let place = Place::new();
    let at = format!("at {TOP}/boot.json");
    place.write(&format!("{TOP}/boot.json"), "{\n  \"org.nixos.bootspec.v1\": oops\n}");
    assert_eq!(
        place.refusal(),
        format!("boot.json is not JSON: expected value at line 2 column 28\n  {at}:2")
    );
    let v1 = "org.nixos.bootspec.v1";
    let of = |pointer: &str| format!("because: of the value at {pointer}");
    for (document, expected) in [
        (
            json!([]),
            format!(
                "boot.json holds a value of another type\n  {at}\n  expected: an object\n  found: an array"
            ),
        ),
        (
            json!({ "org.nixos.bootspec.v2": {} }),
            format!(
                "boot.json is of a version that is not known\n  {at}\n  expected: {v1}\n  found: org.nixos.bootspec.v2"
            ),
        ),
        (
            json!({ v1: { "toplevel": TOP } }),
            format!(
                "boot.json lacks a field\n  {at}\n  expected: the field `kernel`\n  {}",
                of(&format!("/{v1}"))
            ),
        ),
    ] {
        place.json(&document);
        assert_eq!(place.refusal(), expected);
    }
    for (field, value, expected) in [
        ("kernelParams", json!("quiet"), "boot.json holds a value of another type"),
        ("kernelParams", json!(["a", 1]), "boot.json holds a value of another type"),
        (
            "kernelParams",
            json!(["a\nb"]),
            "the value at /org.nixos.bootspec.v1/kernelParams/0 holds a control character",
        ),
        ("label", json!("a\u{1b}b"), "the value at /org.nixos.bootspec.v1/label holds a control character"),
        ("init", json!("init"), "boot.json names no program to start"),
        ("init", json!("/nix/store/x y/init"), "boot.json names no program to start"),
        ("kernel", json!("/nix/store/55555555555555555555555555555555-nothing"), "the path does not exist"),
        ("kernel", json!("/nix/store/nothing"), "this is no store path"),
        ("kernel", json!("/etc/kernel"), "this is no path in the store"),
        ("kernel", json!(KERNEL), "the kernel is not a file"),
        ("initrd", json!(17), "boot.json holds a value of another type"),
    ] {
        let mut whole = document(TOP);
        whole[v1][field] = value;
        place.json(&whole);
        assert!(place.refusal().starts_with(expected), "{field}: {}", place.refusal());
        // The same in a specialisation, which the error names.
        let mut outer = document(TOP);
        outer["org.nixos.specialisation.v1"] = json!({ "a/b": whole });
        place.json(&outer);
        assert!(place.read().is_err(), "{field}");
    }
    for field in ["system", "init", "kernel", "kernelParams", "label", "toplevel"] {
        let mut inner = document(GAMING);
        inner[v1].as_object_mut().unwrap().remove(field);
        let mut outer = document(TOP);
        outer["org.nixos.specialisation.v1"] = json!({ "a/b": inner });
        place.json(&outer);
        let pointer = format!("/org.nixos.specialisation.v1/a~1b/{v1}");
        assert_eq!(
            place.refusal(),
            format!("boot.json lacks a field\n  {at}\n  expected: the field `{field}`\n  {}", of(&pointer))
        );
    }
    for path in ["", "/", "a/../b", "a//b", "."] {
        let mut whole = document(TOP);
        whole["org.nixos.extra-initrd.v1"] = json!({ "paths": [path] });
        place.json(&whole);
        assert!(place.refusal().starts_with("an extra initrd is no path on the boot filesystem\n"), "{path}");
    }
}
