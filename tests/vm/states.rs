//! What is refused, and the states: which there are, and which nobody needs.

use crate::machine::Bench;
use crate::support::tools::{must, names_in, run};

/// Runs the machine with these flags, which are refused with the code, and words of the error.
fn refused(bench: &Bench, more: &[&str], code: i32, words: &[&str]) {
    let mut vm = bench.with_qemu("exit 0");
    let said = run(vm.args(["--accel", "tcg"]).args(more));
    assert_eq!(said.code, code, "{more:?}: {}", said.error());
    for word in words {
        assert!(said.error().contains(word), "{more:?}: no `{word}` in\n{}", said.error());
    }
}

#[test]
fn what_no_machine_can_be_is_refused() {
    let bench = Bench::new();
    for (more, words) in [
        (&["--memory", "0"][..], &["without memory", "--memory"][..]),
        (&["--memory", "512"], &["without memory", "was 512MiB or 512GiB meant?"]),
        (&["--memory", "1.5MiB"], &["number of MiB", "--memory"]),
        (&["--empty-disk", "1MiB,name=root"], &["has this name: `root`", "--empty-disk"]),
        (&["--empty-disk", "1MiB,name=served"], &["has this name: `served`", "--empty-disk"]),
        (&["--empty-disk", "1MiB,name=a b"], &["no name of a disk: `a b`", "--empty-disk"]),
        (&["--drive", "/d,name=1"], &["no name of a disk: `1`", "--drive"]),
        (&["--drive", "$NOTHING/d"], &["`NOTHING` is not set", "--drive"]),
        (&["--credential", "name=a/b,text=x"], &["no name of a credential: `a/b`", "--credential"]),
        (
            &["--credential", "name=a,text=x", "--credential", "name=a,text=y"],
            &["two credentials of this name: `a`", "--credential"],
        ),
        (
            &["--credential", "name=a23456789012345678901234567890,text=x,by=fw_cfg"],
            &["too long for fw_cfg", "at most 28 bytes"],
        ),
        (&["--credential", "name=a,file=/dev/zero"], &["too long for an argument", "by=fw_cfg"]),
        (
            &["--qemu-options", "${X%y}"],
            &["`${X%y}` is a form of a variable that is not known", "--qemu-options"],
        ),
        (&["--cores", "0"], &["without a processor", "--cores"]),
        (&["--name", "a/b"], &["no name of a machine", "--name"]),
        (
            &["--layout", "efi", "--boot-loader", "none"],
            &["only EFI firmware boots the layout efi", "--efi-firmware", "OVMF"],
        ),
        (&["--efi-firmware", "x"], &["--efi-variables"]),
        (&["--mode", "store-disk", "--layout", "efi"], &["the mode store-disk has no full disk", "--layout"]),
        (&["--mode", "root-alone", "--additional-space", "1GiB"], &["--additional-space"]),
        (&["--mode", "root-alone", "--disk-size", "auto"], &["empty root", "--disk-size"]),
        (&["--mode", "store-disk", "--disk-size", "1000"], &["--disk-size"]),
        (&["--root-disk", "false"], &["--root-disk"]),
        (&["--empty-disk", "100"], &["multiple of 512", "--empty-disk"]),
        (&["--share", "tag=a,source=/nowhere"], &["the shared folder is not there", "/nowhere", "--share"]),
        (&["--share", "tag=a,source=$NOTHING"], &["`NOTHING`", "is not set"]),
        (&["--tpm-device", "tpm-crb"], &["the machine has no TPM", "--tpm-device", "set --tpm too"]),
        (&["--tpm-provisioning", "true"], &["the machine has no TPM", "--tpm-provisioning"]),
        (&["--qemu-options", "$(id)"], &["run no commands", "--qemu-options"]),
        (&["--qemu-options", "'a"], &["a quote in QEMU's options has no end", "--qemu-options"]),
        (&["--fresh", "--disk-image", "x"], &["a disk image that was named is not"]),
        (&["--machine", "{"], &["the description of the machine is wrong"]),
    ] {
        let more: Vec<&str> = more.to_vec();
        let mut vm = if more.contains(&"--machine") {
            let mut vm = crate::support::program::diskwright();
            vm.arg("vm");
            vm
        } else {
            bench.with_qemu("exit 0")
        };
        let said = run(vm.args(&more));
        assert_eq!(said.code, 2, "{more:?}: {}", said.error());
        for word in words {
            assert!(said.error().contains(word), "{more:?}: no `{word}` in\n{}", said.error());
        }
    }
    // Nothing was made.
    let left = names_in(bench.folder());
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("-vm")), "{left:?}");
}

#[test]
fn what_this_host_does_not_have_is_named() {
    let bench = Bench::new();
    let said = run(bench.vm().env("PATH", "/nowhere").args(["--accel", "tcg"]));
    assert_eq!(said.code, 1);
    for word in ["there is no QEMU", "qemu-system-x86_64", "--qemu", "of Debian", "of nixpkgs"] {
        assert!(said.error().contains(word), "{}", said.error());
    }
    refused(
        &bench,
        &["--mode", "root-alone", "--share-by", "virtiofs", "--virtiofsd", "/nowhere/x"],
        1,
        &["no virtiofsd", "9p"],
    );
    for by in ["smbios", "fw_cfg"] {
        let credential = format!("name=a,file=./cert.pem,by={by}");
        refused(
            &bench,
            &["--credential", &credential],
            1,
            &["cannot read the credential", "cert.pem", "--credential"],
        );
    }
    refused(
        &bench,
        &["--tpm", "--swtpm", "/nowhere/x"],
        1,
        &["there is no swtpm", "the package swtpm has it"],
    );
    // A system for a processor that this host does not have runs under TCG, and under nothing else.
    std::fs::write(bench.tiny.host(&bench.system).join("system"), "aarch64-linux").unwrap();
    std::fs::write(bench.closure(), bench.tiny.registration()).unwrap();
    let said = run(bench.with_qemu("exit 0").args(["--accel", "kvm"]));
    assert!(said.code == 2 && said.error().contains("the machine needs KVM"), "{}", said.error());
    let said = must(bench.with_qemu("echo \"$@\"").args(["--accel", "auto"]));
    assert!(said.text().contains("-machine virt,gic-version=max,accel=tcg"), "{}", said.text());
    assert!(said.error().contains("runs under TCG, since there is no KVM: this host has another processor"));
    std::fs::write(bench.tiny.host(&bench.system).join("system"), "riscv64-linux").unwrap();
    std::fs::write(bench.closure(), bench.tiny.registration()).unwrap();
    refused(&bench, &["--tpm"], 2, &["QEMU has no TPM for this processor (riscv64)", "--tpm"]);
}

#[test]
fn a_socket_has_a_short_path() {
    let bench = Bench::new();
    let long = bench.folder().join("d".repeat(100));
    std::fs::create_dir(&long).unwrap();
    let mut vm = bench.with_qemu("exit 0");
    vm.env("TMPDIR", &long).env("USE_TMPDIR", "1");
    let said = run(vm.args(["--mode", "root-alone", "--share-by", "virtiofs", "--virtiofsd", "/bin/true"]));
    assert_eq!(said.code, 2);
    for word in ["the path of a socket is too long", "at most 107 bytes", "set TMPDIR"] {
        assert!(said.error().contains(word), "{}", said.error());
    }
}

/// A store path that the collector took is named, with the way to keep it.
#[test]
fn a_store_path_that_vanished_is_named() {
    let mut bench = Bench::new();
    let part = bench.tiny.object("part", &[], |place| std::fs::write(place, "x").unwrap());
    let system = bench.system.clone();
    bench.tiny.refer(&system, &part);
    std::fs::write(bench.closure(), bench.tiny.registration()).unwrap();
    std::fs::remove_file(bench.tiny.host(&part)).unwrap();
    let root = "nix-store --realise --add-root";
    for mode in ["boot-loader", "store-disk"] {
        refused(&bench, &["--mode", mode], 1, &[&part, "missing on this host", root]);
    }
    std::fs::remove_dir_all(bench.tiny.host(&system)).unwrap();
    refused(&bench, &[], 1, &[&system, "the system is not in the store", root]);
}

#[test]
fn a_disk_image_that_is_there_has_to_fit() {
    let bench = Bench::new();
    let image = |mode: &str, more: &[&str]| {
        let mut vm = bench.with_qemu("exit 0");
        run(vm.env("NIX_DISK_IMAGE", "own.qcow2").args(["--mode", mode, "--share-by", "9p"]).args(more))
    };
    let file = bench.folder().join("own.qcow2");
    assert_eq!(image("root-alone", &["--disk-size", "64MiB"]).code, 0);
    assert_eq!(image("root-alone", &["--disk-size", "64MiB"]).code, 0);
    for (more, words) in
        [(&["--disk-size", "128MiB"][..], "the disk image has another size"), (&[][..], "another size")]
    {
        let said = image("root-alone", more);
        assert!(said.code == 2 && said.error().contains(words), "{}", said.error());
        assert!(said.error().contains("own.qcow2") && said.error().contains("64 MiB"), "{}", said.error());
    }
    let said = image("boot-loader", &[]);
    assert!(said.code == 2 && said.error().contains("it lies on another disk"), "{}", said.error());
    std::fs::remove_file(&file).unwrap();
    assert_eq!(image("boot-loader", &["--additional-space", "8MiB"]).code, 0);
    for more in [&["--additional-space", "8MiB", "--label", "other"][..], &["--additional-space", "16MiB"]] {
        let said = image("boot-loader", more);
        assert!(said.code == 2 && said.error().contains("it lies on another disk"), "{}", said.error());
    }
    // One that was made smaller by hand.
    let name =
        must(crate::support::tools::command("qemu-img").args(["info", "--output=json"]).arg(&file)).text();
    let info: serde_json::Value = serde_json::from_str(&name).unwrap();
    let base = info["backing-filename"].as_str().unwrap();
    std::fs::remove_file(&file).unwrap();
    let mut small = crate::support::tools::command("qemu-img");
    small.args(["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", base]).arg(&file).arg("1M");
    must(&mut small);
    let said = image("boot-loader", &["--additional-space", "8MiB"]);
    assert!(
        said.code == 2 && said.error().contains("smaller than the disk that it lies on"),
        "{}",
        said.error()
    );
}

#[test]
fn states_are_listed_and_those_without_a_system_go() {
    let mut bench = Bench::new();
    let other = bench.tiny.system("2");
    std::fs::write(bench.closure(), bench.tiny.registration()).unwrap();
    let first = bench.system.clone();
    for system in [&first, &other] {
        bench.system.clone_from(system);
        must(&mut bench.with_qemu("exit 0"));
    }
    let here = bench.folder().to_owned();
    let vm = |arguments: &[&str]| {
        let mut vm = crate::support::program::diskwright();
        must(vm.current_dir(&here).arg("vm").args(arguments)).text()
    };
    let listed = |arguments: &[&str]| -> serde_json::Value { serde_json::from_str(&vm(arguments)).unwrap() };
    let all = listed(&["list", "--json"]);
    assert_eq!(all.as_array().unwrap().len(), 2);
    // The one that was started last is first.
    assert_eq!(all[0]["system"].as_str().unwrap(), other);
    assert_eq!((&all[0]["in_use"], &all[0]["orphaned"]), (&false.into(), &false.into()));
    assert!(vm(&["list"]).contains("boot-loader"));
    assert_eq!(vm(&["gc"]), "");
    let (place, away) = (bench.tiny.host(&first), bench.folder().join("away"));
    std::fs::rename(&place, &away).unwrap();
    assert!(vm(&["list"]).contains("its system is no longer in the store"));
    assert!(vm(&["gc", "--dry-run"]).contains(&first));
    assert_eq!(listed(&["list", "--json"]).as_array().unwrap().len(), 2);
    assert!(vm(&["gc"]).contains(&first));
    let left = listed(&["list", "--json", "--state", "nixos-vm"]);
    assert_eq!((left.as_array().unwrap().len(), left[0]["system"].as_str()), (1, Some(other.as_str())));
    // A folder of a state is no state of another machine.
    let folder = left[0]["folder"].as_str().unwrap().to_owned();
    std::fs::rename(&away, &place).unwrap();
    bench.system.clone_from(&other);
    refused(&bench, &["--state", &folder, "--label", "x"], 2, &["lies on other disks", "--state"]);
    assert!(vm(&["gc", "--all"]).contains(&other));
    assert_eq!(vm(&["list"]), "");
}

/// Two machines with one state would destroy its disk.
#[test]
fn one_machine_at_a_time_has_a_state() {
    use std::process::Stdio;
    let bench = Bench::new();
    let mut vm = bench.with_qemu("echo > started; read line");
    let mut child = vm.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !bench.folder().join("started").exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let mut second = bench.vm();
    let said = run(second.args(["--qemu", "/bin/true"]));
    assert!(
        said.code == 2 && said.error().contains("a machine runs with this state already"),
        "{}",
        said.error()
    );
    let mut list = crate::support::program::diskwright();
    let said = must(list.current_dir(bench.folder()).args(["vm", "list"])).text();
    assert!(said.contains("in use"), "{said}");
    let mut gc = crate::support::program::diskwright();
    assert_eq!(must(gc.current_dir(bench.folder()).args(["vm", "gc", "--all"])).text(), "");
    // With a state of its own it runs.
    assert_eq!(run(bench.vm().args(["--qemu", "/bin/true", "--temporary"])).code, 0);
    drop(child.stdin.take());
    crate::support::tools::wait(child, std::time::Duration::from_secs(60));
    assert_eq!(run(bench.vm().args(["--qemu", "/bin/true"])).code, 0);
}

/// A state that nobody can read hides no other one, and is neither removed nor passed over in silence.
#[test]
fn a_damaged_state_is_named_and_the_others_are_shown() {
    let bench = Bench::new();
    must(&mut bench.with_qemu("exit 0"));
    let states = bench.folder().join("nixos-vm");
    let damaged = states.join("damaged");
    std::fs::create_dir(&damaged).unwrap();
    std::fs::write(damaged.join("state.json"), "{ half").unwrap();
    // A folder whose own record is damaged.
    let whole = bench.folder().join("other-vm");
    std::fs::create_dir(&whole).unwrap();
    std::fs::write(whole.join("state.json"), "{}").unwrap();
    let vm = |arguments: &[&str]| {
        let mut vm = crate::support::program::diskwright();
        must(vm.current_dir(bench.folder()).arg("vm").args(arguments))
    };
    for (arguments, lines) in [
        (&["list"][..], 1),
        (&["list", "--state", "nixos-vm"], 1),
        (&["gc", "--all", "--dry-run"], 1),
        (&["gc", "--all"], 1),
        (&["gc", "--all"], 0),
    ] {
        let said = vm(arguments);
        assert_eq!(said.text().lines().count(), lines, "{arguments:?}: {}", said.text());
        for word in
            ["nixos-vm/damaged/state.json", "cannot be read, and stays as it is", "no state of a machine"]
        {
            assert!(said.error().contains(word), "{arguments:?}: no `{word}` in\n{}", said.error());
        }
        assert_eq!(
            said.error().contains("other-vm/state.json"),
            arguments.len() < 3 || arguments[1] == "--all"
        );
    }
    assert!(damaged.join("state.json").exists() && whole.join("state.json").exists());
    assert_eq!(names_in(&states), ["damaged"]);
}

/// The hint is about the disk that does not fit.
#[test]
fn an_empty_disk_of_another_size_is_not_the_root_disk() {
    let bench = Bench::new();
    must(bench.with_qemu("exit 0").args(["--empty-disk", "4MiB"]));
    let said = run(bench.with_qemu("exit 0").args(["--empty-disk", "2MiB"]));
    assert!(said.code == 2 && said.error().contains("has another size"), "{}", said.error());
    assert!(said.error().contains("empty0.qcow2") && said.error().contains("--state"), "{}", said.error());
    assert!(!said.error().contains("NIX_DISK_IMAGE"), "{}", said.error());
}

/// What a link leads to is somebody's: it is told, and stays, and the other states go.
#[test]
fn a_link_to_a_state_is_left_alone() {
    let bench = Bench::new();
    must(&mut bench.with_qemu("exit 0"));
    let states = bench.folder().join("nixos-vm");
    let outside = bench.folder().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let name = names_in(&states).remove(0);
    std::fs::copy(states.join(&name).join("state.json"), outside.join("state.json")).unwrap();
    std::fs::write(outside.join("keep"), "x").unwrap();
    std::os::unix::fs::symlink("../outside", states.join("0".repeat(32))).unwrap();
    std::fs::remove_dir_all(bench.tiny.host(&bench.system)).unwrap();
    let mut gc = crate::support::program::diskwright();
    let said = must(gc.current_dir(bench.folder()).args(["vm", "gc"]));
    assert!(said.text().contains(name.to_str().unwrap()), "{}", said.text());
    assert!(said.error().contains("symbolic link"), "{}", said.error());
    assert_eq!(names_in(&states), ["0".repeat(32).as_str()]);
    assert_eq!(names_in(&outside).len(), 2);
}

/// QEMU would cut it in silence.
#[test]
fn a_serial_that_is_cut_is_told() {
    let bench = Bench::new();
    let serial = "s".repeat(21);
    let mut vm = bench.with_qemu("exit 0");
    let said = must(vm.args(["--accel", "tcg", "--empty-disk", &format!("1MiB,serial={serial}")]));
    assert!(said.error().contains("the first 20 bytes of the serial"), "{}", said.error());
}
