//! What a machine does to its programs and they to it: exit codes, signals, what stays behind. QEMU is a script here.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::machine::Bench;
use crate::support::tools::{command, must, names_in, run, wait};

#[test]
fn the_exit_code_is_that_of_qemu() {
    let bench = Bench::new();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
        let said = run(&mut bench.with_qemu(script));
        assert_eq!(said.code, code, "{script}: {}", said.error());
        assert!(
            said.error().contains("diskwright: nixos runs under ")
                && said.error().contains("; state: nixos-vm/")
        );
    }
}

/// The connection is there when QEMU starts, and what it reads is the disk.
#[test]
fn qemu_reads_the_disk_over_an_inherited_connection() {
    let bench = Bench::new();
    let disk = bench.folder().join("disk.img");
    // The greeting of the server, by the descriptor that the command names.
    let said = must(&mut bench.with_qemu("head -c 8 <&100"));
    assert_eq!(said.text(), "NBDMAGIC");
    let script = format!(
        "exec qemu-img convert -O raw --image-opts \
         driver=raw,file.driver=nbd,file.server.type=fd,file.server.str=100 {}",
        disk.display()
    );
    must(&mut bench.with_qemu(&script));
    let written = bench.folder().join("written.img");
    must(&mut bench.tiny.with_closure(&bench.system, "none", &written, &bench.closure()));
    assert!(std::fs::read(&disk).unwrap() == std::fs::read(&written).unwrap());
}

/// Waits until a file is there: QEMU runs.
fn started(bench: &Bench, child: &mut Child) {
    let begun = Instant::now();
    while !bench.folder().join("started").exists() {
        assert!(child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_signal_ends_all_and_nothing_stays_behind() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let bench = Bench::new();
        let script = "echo $$ > started; trap 'echo told > told; exit 0' TERM; while :; do sleep 0.1; done";
        let mut vm = bench.with_qemu(script);
        let mut child =
            vm.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        started(&bench, &mut child);
        let pid = child.id().to_string();
        must(command("kill").args([&format!("-{signal}"), &pid]));
        let said = wait(child, Duration::from_secs(60));
        assert_eq!(said.code, code, "{signal}: {}", said.error());
        assert!(bench.folder().join("told").exists(), "{signal}: QEMU was not asked to end");
        let qemu = std::fs::read_to_string(bench.folder().join("started")).unwrap();
        assert_ne!(run(command("kill").args(["-0", qemu.trim()])).code, 0, "{signal}: QEMU runs on");
        let left = names_in(bench.folder());
        assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("nix-vm.")), "{left:?}");
    }
}

/// QEMU that does not end when it is asked to is killed.
#[test]
fn what_does_not_end_is_killed() {
    let bench = Bench::new();
    let mut vm = bench.with_qemu("trap '' TERM; echo $$ > started; while :; do sleep 0.1; done");
    let mut child = vm.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    started(&bench, &mut child);
    must(command("kill").arg(child.id().to_string()));
    let said = wait(child, Duration::from_secs(60));
    assert_eq!(said.code, 143, "{}", said.error());
    let qemu = std::fs::read_to_string(bench.folder().join("started")).unwrap();
    assert_ne!(run(command("kill").args(["-0", qemu.trim()])).code, 0);
}

/// What the test driver of NixOS does: a folder of its own, another current directory, sockets on the command line.
#[test]
fn the_script_runs_from_another_folder_as_the_test_driver_runs_it() {
    let bench = Bench::new();
    let mut write = crate::support::program::diskwright();
    write.current_dir(bench.folder()).args(["vm", "script", "--name", "machine"]).args(bench.flags());
    write.args(["--share-by", "9p", "--share", "tag=shared,source=$SHARED_DIR,writable=true"]);
    write.args(["--qemu", "/bin/echo", "--program"]).arg(crate::support::program::path());
    must(&mut write);
    let script = bench.folder().join("run-machine-vm");
    let state = bench.folder().join("vm-state-machine");
    let shared = bench.folder().join("shared-xchg");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::create_dir_all(&shared).unwrap();
    let mut driver = command("env");
    driver.arg("--default-signal=PIPE").arg(&script).current_dir(&state);
    driver.env("TMPDIR", &state).env("USE_TMPDIR", "1").env("SHARED_DIR", &shared);
    driver.env(
        "QEMU_OPTS",
        "-no-reboot -chardev socket,id=shell,path=./shell -device virtconsole,chardev=shell",
    );
    let said = must(driver.args(["-monitor", "unix:./monitor"])).text();
    for word in [
        format!("path={},security_model=mapped-xattr,mount_tag=shared", shared.display()),
        format!("{}/machine-vm/", state.display()),
        "-no-reboot -chardev socket,id=shell,path=./shell -device virtconsole,chardev=shell -monitor unix:./monitor\n".to_owned(),
    ] {
        assert!(said.contains(&word), "no `{word}` in\n{said}");
    }
    // The folder of the caller stays, with what is shared.
    assert!(state.join("xchg").is_dir() && state.join("machine-vm").is_dir());
}
