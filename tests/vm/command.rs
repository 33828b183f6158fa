//! The command of QEMU, as `--print` shows it: what each key brings to it, and that nothing is made.

use crate::machine::Bench;
use crate::support::tools::{command, must, names_in, run};

/// The command with further flags, without line breaks.
fn printed(bench: &Bench, more: &[&str]) -> String {
    let said = must(bench.vm().arg("--print").args(["--accel", "tcg", "--qemu", "/bin/true"]).args(more));
    said.text().replace(" \\\n  ", " ")
}

#[test]
fn every_key_is_seen_in_the_command() {
    let bench = Bench::new();
    let root = bench.tiny.root();
    let store = root.join("nix/store");
    let file = bench.folder().join("a,b");
    std::fs::write(&file, "x").unwrap();
    let path = file.to_str().unwrap();
    let doubled = path.replace(',', ",,");
    let alone = ["--mode", "root-alone", "--share-by", "9p"];
    let share = format!("tag=a,source={}", bench.folder().display());
    let writable = format!("{share},writable=true");
    for (more, expected) in [
        (&[][..], "-machine accel=tcg -cpu max -name nixos -m 1024 -smp 1".to_owned()),
        (&["--memory", "2GiB", "--cores", "3", "--name", "x"], "-name x -m 2048 -smp 3".to_owned()),
        (&[], "\"node-name\":\"served\",\"read-only\":true".to_owned()),
        (&[], "\"server\":{\"str\":\"100\",\"type\":\"fd\"}".to_owned()),
        (&[], "-device virtio-blk-pci,drive=root,bootindex=1,serial=root".to_owned()),
        (
            &["--mode", "store-disk"],
            "-device virtio-blk-pci,drive=served,bootindex=2,serial=nix-store".to_owned(),
        ),
        (&["--mode", "store-disk"], "regInfo=/nix/.ro-store/.registration".to_owned()),
        (&["--mode", "store-disk", "--reg-info", "/r"], "regInfo=/r".to_owned()),
        (
            &alone,
            format!(
                "-virtfs local,path={},security_model=none,mount_tag=nix-store,readonly=on",
                store.display()
            ),
        ),
        (&["--share-by", "9p", "--share", &share], "security_model=none,mount_tag=a,readonly=on".to_owned()),
        (&["--share-by", "9p", "--share", &writable], "security_model=mapped-xattr,mount_tag=a -".to_owned()),
        (&[], format!(" init={}/init' -nographic", bench.system)),
        (&["--kernel-param", "a=b"], "/init a=b' -nographic".to_owned()),
        (
            &["--credential", "name=a,text=x,,y", "--credential", "name=b,by=fw_cfg,text=x,,y"],
            "-smbios type=11,value=io.systemd.credential:a=x,,y -fw_cfg name=opt/io.systemd.credentials/b,string=x,,y"
                .to_owned(),
        ),
        (
            &["--credential", &format!("name=a,file={doubled}")],
            "-smbios type=11,value=io.systemd.credential.binary:a=eA==".to_owned(),
        ),
        (
            &["--credential", "name=a,by=fw_cfg,file=./a,,b"],
            format!("-fw_cfg name=opt/io.systemd.credentials/a,file={doubled}"),
        ),
        (&["--initrd", path], format!("-initrd {path}")),
        (&["--graphics", "--kernel-param", "x"], "/init x'\n".to_owned()),
        (&["--network", "false"], "-nic none".to_owned()),
        (
            &["--network-options", "hostfwd=tcp::1-:2"],
            "-netdev user,id=user.0,hostfwd=tcp::1-:2 -device virtio-net-pci".to_owned(),
        ),
        (&["--qemu-options", "-vga 'a b'"], "-nographic -vga 'a b'\n".to_owned()),
        (
            &["--drive", &format!("file={doubled},format=raw,serial=s,device.bootindex=9")],
            format!(
                "-drive if=none,id=drive0,file={doubled},werror=report,format=raw -device virtio-blk-pci,drive=drive0,bootindex=9,serial=s"
            ),
        ),
        (
            &["--empty-disk", "1MiB,name=n,drive.cache=unsafe"],
            ",format=qcow2,werror=report,cache=unsafe -device virtio-blk-pci,drive=n".to_owned(),
        ),
        (
            &["--efi-firmware", path, "--efi-variables", path],
            format!(
                "-drive if=pflash,format=raw,unit=0,readonly=on,file={doubled} -drive if=pflash,format=raw,unit=1,file="
            ),
        ),
        (
            &["--tpm", "--swtpm", "/bin/true"],
            "-tpmdev emulator,id=tpm0,chardev=tpm -device tpm-tis,tpmdev=tpm0".to_owned(),
        ),
        (
            &["--tpm", "--swtpm", "/bin/true", "--tpm-device", "tpm-crb", "--tpm-provisioning", "a b"],
            format!(
                " TCTI=swtpm:path={}/nix-vm.XXXXXXXXXX/swtpm /bin/sh -c 'a b'\n",
                bench.folder().display()
            ),
        ),
        (&["--tpm", "--swtpm", "/bin/true", "--tpm-device", "tpm-crb"], "-device tpm-crb,".to_owned()),
        (&["--", "-S", "--x y"], "-nographic -S '--x y'\n".to_owned()),
    ] {
        let found = printed(&bench, more);
        assert!(found.contains(&expected), "{more:?}: no `{expected}` in\n{found}");
    }
    let found = printed(&bench, &["--mode", "root-alone", "--share-by", "9p", "--root-disk", "false"]);
    assert!(!found.contains("virtio-blk"), "{found}");
    let left = names_in(bench.folder());
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("-vm")), "{left:?}");
}

/// Each variable of nixpkgs' run script.
#[test]
fn variables_of_the_run_script_mean_what_they_mean_there() {
    let bench = Bench::new();
    let there = bench.folder().to_str().unwrap().to_owned();
    for (name, value, expected) in [
        ("QEMU_OPTS", "-vga  std -S", "-nographic -vga std -S\n".to_owned()),
        ("QEMU_KERNEL_PARAMS", "quiet x=1", "/init quiet x=1'".to_owned()),
        ("QEMU_NET_OPTS", "hostfwd=tcp::2222-:22", "-netdev user,id=user.0,hostfwd=tcp::2222-:22".to_owned()),
        ("NIXPKGS_QEMU_KERNEL_nixos", "/k", "-kernel /k".to_owned()),
        ("NIX_DISK_IMAGE", "other.qcow2", format!("\"filename\":\"{there}/other.qcow2\"")),
        ("NIX_SWTPM_DIR", "tpm", "--tpmstate dir=tpm --ctrl ".to_owned()),
        ("NIX_EFI_VARS", "vars", format!("-drive if=pflash,format=raw,unit=1,file={there}/vars")),
        ("QEMU_KERNEL_PARAMS", "-- 3", "/init -- 3'".to_owned()),
        ("SHARED_DIR", &there, format!("path={there},security_model=none,mount_tag=shared")),
    ] {
        let mut vm = bench.vm();
        vm.args(["--print", "--accel", "tcg", "--qemu", "/bin/true", "--share-by", "9p"]);
        vm.args([
            "--share",
            "tag=shared,source=${SHARED_DIR:-$TMPDIR/xchg}",
            "--tpm",
            "--swtpm",
            "/bin/true",
        ]);
        vm.arg("--efi-firmware").arg(bench.closure()).arg("--efi-variables").arg(bench.closure());
        let said = must(vm.env(name, value)).text().replace(" \\\n  ", " ");
        assert!(said.contains(&expected), "{name}: no `{expected}` in\n{said}");
    }
    // The networks of the test driver.
    let mut vm = bench.vm();
    vm.args(["--print", "--accel", "tcg", "--qemu", "/bin/true"]).env("QEMU_VDE_SOCKET_1", "/tmp/vde1 ctl");
    vm.args(["--qemu-options", "-netdev vde,id=vlan1,sock=\"$QEMU_VDE_SOCKET_1\""]);
    let said = must(&mut vm).text().replace(" \\\n  ", " ");
    assert!(said.contains("-netdev 'vde,id=vlan1,sock=/tmp/vde1 ctl'"), "{said}");
    // TMPDIR counts where USE_TMPDIR says so.
    let share = [
        "--print",
        "--accel",
        "tcg",
        "--qemu",
        "/bin/true",
        "--share-by",
        "9p",
        "--share",
        "tag=x,source=$TMPDIR/xchg",
    ];
    let said = must(bench.vm().args(share).env("USE_TMPDIR", "1")).text();
    assert!(said.contains(&format!("path={there}/xchg,")), "{said}");
    let said = must(bench.vm().args(share)).text();
    assert!(said.contains(&format!("path={there}/nix-vm.XXXXXXXXXX/xchg,")), "{said}");
}

/// A colon in a relative path would begin the name of a protocol.
#[test]
fn relative_paths_are_absolute_for_qemu() {
    let bench = Bench::new();
    let there = bench.folder().to_str().unwrap().to_owned();
    std::fs::write(bench.folder().join("nbd:x"), "").unwrap();
    let firmware = bench.closure();
    let mut vm = bench.vm();
    vm.args(["--print", "--accel", "tcg", "--qemu", "/bin/true", "--state", "a:b", "--empty-disk", "1MiB"]);
    vm.args(["--drive", "nbd:x", "--drive", "nbd:y", "--drive", "$DISKS/z", "--drive", "sub/e:f"]);
    vm.arg("--efi-firmware").arg(&firmware).arg("--efi-variables").arg(&firmware);
    let said = must(vm.env("NIX_EFI_VARS", "e,f:v").env("DISKS", "d:e")).text();
    for expected in [
        format!("file={there}/a:b/"),
        format!("id=drive0,file={there}/nbd:x,"),
        "id=drive1,file=nbd:y,".to_owned(),
        "id=drive2,file=d:e/z,".to_owned(),
        format!("id=drive3,file={there}/sub/e:f,"),
        format!("unit=1,file={there}/e,,f:v"),
    ] {
        assert!(said.contains(&expected), "no `{expected}` in\n{said}");
    }
    let mut vm = bench.vm();
    vm.args(["--print", "--accel", "tcg", "--qemu", "/bin/true", "--temporary", "--empty-disk", "1MiB"]);
    let said = must(vm.env("USE_TMPDIR", "1").env("TMPDIR", "tm:p")).text();
    assert!(said.contains(&format!("file={there}/tm:p/state/empty0.qcow2,")), "{said}");
}

/// The paths of a script are for any folder: those of flags absolute, those of JSON as they are written.
#[test]
fn a_script_runs_in_any_folder() {
    let bench = Bench::new();
    let script = |arguments: &[&str]| -> serde_json::Value {
        let mut vm = crate::support::program::diskwright();
        vm.current_dir(bench.folder()).args(["vm", "script", "-o", "-"]).args(arguments);
        serde_json::from_str(must(&mut vm).text().split('\'').nth(1).unwrap()).unwrap()
    };
    let there = bench.folder().to_str().unwrap();
    let place = bench.tiny.host(&bench.system);
    std::os::unix::fs::symlink(&place, bench.folder().join("result")).unwrap();
    let root = bench.tiny.root().to_str().unwrap().to_owned();
    for system in ["./result", "result", place.to_str().unwrap(), &bench.system] {
        let found = script(&["--system", system, "--store-root", &root]);
        assert_eq!(found["nixos"]["system"], bench.system, "{system}");
    }
    let found = script(&[
        "--system",
        &bench.system,
        "--share",
        "tag=a,source=sh",
        "--share",
        "tag=b,source=$HOME/x",
        "--drive",
        "d.img",
        "--drive",
        "nbd:y",
        "--drive",
        "$TMPDIR/d",
        "--disk-image",
        "r.qcow2",
        "--state",
        "st",
        "--credential",
        "name=a,file=cert",
    ]);
    for (key, expected) in [
        ("/shares/0/source", format!("{there}/sh")),
        ("/shares/1/source", "$HOME/x".to_owned()),
        ("/drives/0/file", format!("{there}/d.img")),
        ("/drives/1/file", "nbd:y".to_owned()),
        ("/drives/2/file", "$TMPDIR/d".to_owned()),
        ("/disk_image", format!("{there}/r.qcow2")),
        ("/state", format!("{there}/st")),
        ("/credentials/0/file", format!("{there}/cert")),
    ] {
        assert_eq!(found.pointer(key).unwrap(), &expected, "{key}");
    }
    let json = serde_json::json!({
        "nixos": { "system": bench.system }, "disk_image": "r.qcow2",
        "drives": [{ "file": "./data.img" }, { "file": "$TMPDIR/disk.img" }],
        "shares": [{ "tag": "a", "source": "sh" }], "credentials": [{ "name": "a", "file": "./cert.pem" }],
    });
    let found = script(&["--machine", &json.to_string()]);
    for key in ["disk_image", "drives", "credentials"] {
        assert_eq!(found[key], json[key], "{key}");
    }
    assert_eq!(found["shares"][0]["source"], "sh");
}

/// A shell takes what is printed, and gives QEMU the same words.
#[test]
fn what_is_printed_is_a_command_of_a_shell() {
    let bench = Bench::new();
    let text = printed(&bench, &["--", "it's", "$HOME", ""]).replace("/bin/true", "/bin/echo");
    let said = must(command("sh").args(["-c", &text])).text();
    assert!(said.ends_with("-nographic it's $HOME \n"), "{said}");
}

#[test]
fn a_machine_from_json_is_the_machine_from_flags() {
    let bench = Bench::new();
    let flags =
        ["--mode", "store-disk", "--memory", "2GiB", "--empty-disk", "1GiB,serial=s", "--accel", "tcg"];
    let mut write = crate::support::program::diskwright();
    write
        .current_dir(bench.folder())
        .args(["vm", "script", "-o", "-", "--qemu", "/bin/true"])
        .args(bench.flags())
        .args(flags);
    let text = must(&mut write).text();
    let json = text.split('\'').nth(1).unwrap();
    let mut from_json = crate::support::program::diskwright();
    from_json.current_dir(bench.folder()).env("TMPDIR", bench.folder()).args([
        "vm",
        "--machine",
        json,
        "--print",
    ]);
    let mut from_flags = bench.vm();
    from_flags.args(["--print", "--qemu", "/bin/true"]).args(flags);
    assert_eq!(must(&mut from_json).text(), must(&mut from_flags).text());
    // As a file, and both at once.
    std::fs::write(bench.folder().join("machine.json"), json).unwrap();
    let mut from_file = crate::support::program::diskwright();
    from_file.current_dir(bench.folder()).env("TMPDIR", bench.folder());
    assert_eq!(
        must(from_file.args(["vm", "--machine", "machine.json", "--print"])).text(),
        must(&mut from_flags).text()
    );
    let said = run(from_file.args(["--cores", "2"]));
    assert!(said.code == 2 && said.error().contains("by JSON or by flags"), "{}", said.error());
    let mut wrong = crate::support::program::diskwright();
    let said = run(wrong.args(["vm", "--machine", r#"{"nixos":{"system":"x"},"colour":"red"}"#, "--print"]));
    assert!(said.code == 2 && said.error().contains("unknown field `colour`"), "{}", said.error());
}

/// The page has every key and every variable.
#[test]
fn the_page_names_every_key_and_every_variable() {
    let page = std::fs::read_to_string("docs/vm.md").unwrap();
    let mut help = crate::support::program::diskwright();
    let help = must(help.args(["vm", "--help"])).text();
    let mut nixos = crate::support::program::diskwright();
    let nixos = must(nixos.args(["nixos", "--help"])).text();
    let flags = |text: &str| -> Vec<String> {
        let words =
            text.lines().filter_map(|line| line.trim().split_once("--").map(|(_, rest)| rest.to_owned()));
        let names = words
            .map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap().to_owned());
        names.filter(|name| !name.is_empty()).collect()
    };
    let shared = flags(&nixos);
    let own: Vec<String> = flags(&help).into_iter().filter(|flag| !shared.contains(flag)).collect();
    assert!(own.len() > 25, "{own:?}");
    for flag in own {
        assert!(page.contains(&format!("--{flag}")), "docs/vm.md does not name --{flag}");
    }
    for name in [
        "NIX_DISK_IMAGE",
        "NIX_EFI_VARS",
        "NIX_SWTPM_DIR",
        "USE_TMPDIR",
        "SHARED_DIR",
        "QEMU_OPTS",
        "QEMU_KERNEL_PARAMS",
        "QEMU_NET_OPTS",
        "NIXPKGS_QEMU_KERNEL_",
    ] {
        assert!(page.contains(name) && help.contains(name.trim_end_matches('_')), "{name}");
    }
}
