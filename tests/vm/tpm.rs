//! A TPM, by swtpm.

use crate::machine::{Bench, console};
use crate::support::judges::find;
use crate::support::tools::{names_in, run};

/// Asks the TPM how often it was reset (TPM 2.0 Library, part 3, TPM2_ReadClock): the counter is kept with its secrets.
const ASK: &str = r#"
echo "version: $(cat /sys/class/tpm/tpm0/tpm_version_major)"
exec 3<> /dev/tpm0
printf '\x80\x01\x00\x00\x00\x0a\x00\x00\x01\x81' >&3
dd bs=64 count=1 <&3 2> /dev/null | dd bs=1 skip=26 count=4 2> /dev/null > /resets
echo "resets: $(hexdump -v -e '/1 "%02x"' /resets)"
"#;

#[test]
fn a_tpm_is_the_same_at_the_next_start() {
    let swtpm = find("swtpm");
    let bench = Bench::booting(ASK, &[]);
    let resets = |more: &[&str]| {
        let mut vm = bench.vm();
        vm.args(["--accel", "tcg", "--mode", "root-alone", "--share-by", "9p", "--disk-size", "64MiB"]);
        let said = console(vm.args(["--tpm", "--swtpm"]).arg(&swtpm).args(more));
        assert!(said.contains("version: 2\n"), "{said}");
        let count = said.lines().find_map(|line| line.strip_prefix("resets: ")).unwrap();
        u32::from_str_radix(count, 16).unwrap()
    };
    let first = resets(&[]);
    assert!(resets(&[]) > first, "a new TPM would have been reset as often");
    assert_eq!(resets(&["--fresh"]), first, "it was forgotten");
    // Its secrets are its owner's alone.
    let state = bench.folder().join("nixos-vm").join(&names_in(&bench.folder().join("nixos-vm"))[0]);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&state.join("swtpm").metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
}

/// The command before the start reaches the TPM, and its failure is the end.
#[test]
fn a_tpm_is_provisioned_before_the_machine_starts() {
    let swtpm = find("swtpm");
    let bench = Bench::new();
    let vm = |script: &str| {
        let mut vm = bench.with_qemu("echo started");
        vm.args(["--accel", "tcg", "--tpm", "--swtpm"]).arg(&swtpm).args(["--tpm-provisioning", script]);
        run(vm.env("NIX_SWTPM_DIR", "own-tpm"))
    };
    let said = vm(
        "test -S \"${TPM2TOOLS_TCTI#swtpm:path=}\" && test \"$TCTI\" = \"$TPM2TOOLS_TCTI\" && echo prepared",
    );
    assert_eq!((said.code, said.text().as_str()), (0, "prepared\nstarted\n"), "{}", said.error());
    assert!(names_in(&bench.folder().join("own-tpm")).iter().any(|name| name == "tpm2-00.permall"));
    let said = vm("exit 3");
    assert_eq!((said.code, said.text().as_str()), (2, ""));
    for words in ["the command that prepares the TPM failed", "--tpm-provisioning", "found: 3"] {
        assert!(said.error().contains(words), "{}", said.error());
    }
}
