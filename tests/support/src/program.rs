//! The program under test, and manifests for it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::judges::find;
use super::tools::{Said, command, must, quiet};
use super::tree;

/// Signals that a shell may have made its children ignore, as a shell without job control does with SIGINT in
/// the background. The program respects ignored signals, so each run begins with the default signals.
const RESET: &str = "--default-signal=HUP,INT,QUIT,PIPE,TERM";

/// The path of the program under test.
pub fn path() -> PathBuf {
    let path = std::env::var_os("CARGO_BIN_EXE_diskwright");
    path.expect("cargo says where the program is: run tests by `cargo test` or `cargo nextest`").into()
}

/// The program, with a bare environment and no signal ignored.
pub fn diskwright() -> Command {
    by_way_of_env(&path())
}

/// The same for a copy of the program.
pub fn by_way_of_env(program: &Path) -> Command {
    let mut command = quiet(Command::new(find("env")));
    command.arg(RESET).arg(program);
    command
}

/// A copy of the program in `folder`, for users who cannot enter the folder of the build. Another process writes it: a
/// program that this process wrote is busy as long as a child that another test just started has its descriptor.
pub fn copy_to(folder: &Path) -> PathBuf {
    let program = folder.join("diskwright");
    must(command("install").args(["-m", "755"]).arg(path()).arg(&program));
    program
}

/// A program that the user nobody runs, in a bare environment. Root may begin that.
pub fn as_nobody(program: &Path) -> Command {
    let mut command = command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]).arg(program);
    command
}

/// The arguments of the program in a command that [`diskwright`] began.
pub fn arguments(command: &Command) -> Vec<OsString> {
    let mut all = command.get_args().map(ToOwned::to_owned);
    assert_eq!(all.next().as_deref(), Some(RESET.as_ref()), "{command:?}");
    all.skip(1).collect()
}

/// `diskwright mkfs ext4 SOURCE -o OUT` with further arguments; it must succeed.
pub fn mkfs_ext4(source: &Path, out: &Path, arguments: &[&str]) -> Said {
    let mut command = diskwright();
    must(command.args(["mkfs", "ext4"]).arg(source).arg("-o").arg(out).args(arguments))
}

/// `diskwright mkfs vfat SOURCE -o OUT` with further arguments; it must succeed.
pub fn mkfs_vfat(source: &Path, out: &Path, arguments: &[&str]) -> Said {
    let mut command = diskwright();
    must(command.args(["mkfs", "vfat"]).arg(source).arg("-o").arg(out).args(arguments))
}

/// `diskwright mkfs erofs SOURCE -o OUT` with further arguments; it must succeed.
pub fn mkfs_erofs(source: &Path, out: &Path, arguments: &[&str]) -> Said {
    let mut command = diskwright();
    must(command.args(["mkfs", "erofs"]).arg(source).arg("-o").arg(out).args(arguments))
}

/// `diskwright mkfs squashfs SOURCE -o OUT` with further arguments; it must succeed.
pub fn mkfs_squashfs(source: &Path, out: &Path, arguments: &[&str]) -> Said {
    let mut command = diskwright();
    must(command.args(["mkfs", "squashfs"]).arg(source).arg("-o").arg(out).args(arguments))
}

/// `diskwright mkfs zfs SOURCE -o OUT` with further arguments; it must succeed.
pub fn mkfs_zfs(source: &Path, out: &Path, arguments: &[&str]) -> Said {
    let mut command = diskwright();
    must(command.args(["mkfs", "zfs"]).arg(source).arg("-o").arg(out).args(arguments))
}

/// `diskwright build MANIFEST -o OUT`; it must succeed.
pub fn build(manifest: &Path, out: &Path) -> Said {
    must(diskwright().arg("build").arg(manifest).arg("-o").arg(out))
}

/// A disk of every kind of partition, by UEFI.
pub const GPT: &str = r#"
version = 1

[disk]
table = "gpt"
seed = "0867da16-f251-457d-a9e8-c31f9a3c220b"

[[partition]]
type = "esp"
label = "ESP"
size = "auto"
filesystem = { type = "vfat", label = "ESP", fat = "auto", free = 0 }
contents = [
  { source = "tree/bin", target = "/EFI/BOOT" },
  { text = "timeout 0\n", target = "/loader/loader.conf" },
]

[[partition]]
type = "swap"
label = "swap"
size = "4MiB"
filesystem = { type = "swap", label = "swap" }

[[partition]]
type = "linux"
label = "root"
size = "auto"
filesystem = { type = "ext4", label = "root", free = "8MiB", grow_to = "16GiB" }
contents = [
  { source = "tree", target = "/" },
  { text = "a file of text\n", target = "/etc/text", mode = "0600" },
  { symlink = "/bin/tool-1", target = "/init" },
  { directory = true, target = "/tmp", mode = "1777" },
]
"#;

/// A disk by BIOS, with logical partitions.
pub const MBR: &str = r#"
version = 1

[disk]
table = "mbr"
seed = "0867da16-f251-457d-a9e8-c31f9a3c220b"

[[partition]]
type = "0x0c"
size = "16MiB"
attributes = ["active"]
filesystem = { type = "vfat", label = "BOOT" }
contents = [{ source = "tree/bin", target = "/" }]

[[partition]]
type = "linux"
size = "auto"
filesystem = { type = "ext4", label = "root", free = "1MiB" }
contents = [{ source = "tree", target = "/", hardlinks = "dedupe" }]
"#;

/// The plain tree, as `tree`, and manifests beside it: `gpt.toml` and `mbr.toml`.
pub fn project(folder: &Path) -> [PathBuf; 2] {
    tree::plain(&folder.join("tree"));
    [("gpt.toml", GPT), ("mbr.toml", MBR)].map(|(name, text)| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    })
}
