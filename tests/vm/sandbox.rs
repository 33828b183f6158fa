//! The machine that Nix itself builds: its script, made in the sandbox by a build user without /dev/kvm, and its boot.

use std::path::Path;

use serde_json::{Value, json};

use crate::closure::{build, host, store_root};
use crate::machine::boot;
use crate::support::nix::program;
use crate::support::program::diskwright;
use crate::support::tools::scratch;

/// The JSON in a script.
fn machine(script: &str) -> Value {
    serde_json::from_str(script.split('\'').nth(1).unwrap()).unwrap()
}

#[test]
fn the_script_of_the_sandbox_runs_a_machine_with_its_boot_loader() {
    let folder = scratch();
    let place = folder.path().join("program");
    program(&place);
    let function = Path::new(env!("CARGO_MANIFEST_DIR")).join("nix");
    let paths: [(&str, &Path); 2] = [("program", &place), ("function", &function)];
    let script = |attribute: &str| {
        let out = host(build(attribute, &format!("root-{attribute}"), &paths, &[]).to_str().unwrap());
        let names = crate::support::tools::names_in(&out);
        assert_eq!(names, ["bin", "system"], "no image");
        std::fs::read_to_string(out.join("bin/run-tried-vm")).unwrap()
    };
    let own = machine(&script("vm"));
    assert_eq!((&own["mode"], &own["name"]), (&json!("store-disk"), &json!("tried")));
    let text = script("vmWithBootLoader");
    assert!(text.starts_with("#!/nix/store/") && text.contains("/bin/diskwright vm --machine '{"), "{text}");
    assert!(text.ends_with("}' -- \"$@\"\n"), "{text}");

    // The same machine on this host, where its store has another place.
    let mut machine = machine(&text);
    let moved = |path: &Value| json!(host(path.as_str().unwrap()));
    for key in ["closure", "grub"] {
        machine["nixos"][key] = moved(&machine["nixos"][key]);
    }
    machine["nixos"]["grub"] = json!(crate::closure::grub());
    machine["nixos"]["grub_mkimage"] = json!(crate::closure::grub_mkimage());
    machine["nixos"]["store_root"] = json!(store_root());
    machine["accel"] = json!("tcg");
    machine.as_object_mut().unwrap().remove("qemu");
    machine.as_object_mut().unwrap().remove("virtiofsd");
    machine["share_by"] = json!("9p");
    machine["qemu_options"] = json!(["-no-reboot"]);
    let mut vm = diskwright();
    vm.current_dir(folder.path()).env("TMPDIR", folder.path()).args([
        "vm",
        "--machine",
        &machine.to_string(),
    ]);
    let said = boot(&mut vm);
    let console = said.text().replace('\r', "");
    for line in ["init: from /nix/store/", "init: writable", "init: end of main"] {
        assert!(console.contains(line), "no `{line}` in\n{console}\n{}", said.error());
    }
    assert_eq!(said.code, 0);
}
