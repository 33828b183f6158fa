//! The program under test, and manifests for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools::{Said, must, quiet};
use super::tree;

/// The program, with a bare environment.
pub(crate) fn diskwright() -> Command {
    quiet(Command::new(env!("CARGO_BIN_EXE_diskwright")))
}

/// `diskwright mkfs ext4 SOURCE -o OUT` with further arguments; it has to succeed.
pub(crate) fn mkfs_ext4(source: &Path, out: &Path, arguments: &[&str]) -> Said {
    let mut command = diskwright();
    must(command.args(["mkfs", "ext4"]).arg(source).arg("-o").arg(out).args(arguments))
}

/// `diskwright mkfs vfat SOURCE -o OUT` with further arguments; it has to succeed.
pub(crate) fn mkfs_vfat(source: &Path, out: &Path, arguments: &[&str]) -> Said {
    let mut command = diskwright();
    must(command.args(["mkfs", "vfat"]).arg(source).arg("-o").arg(out).args(arguments))
}

/// `diskwright build MANIFEST -o OUT`; it has to succeed.
pub(crate) fn build(manifest: &Path, out: &Path) -> Said {
    must(diskwright().arg("build").arg(manifest).arg("-o").arg(out))
}

/// A disk of every kind of partition, by UEFI.
pub(crate) const GPT: &str = r#"
version = 1

[disk]
table = "gpt"
seed = "0867da16-f251-457d-a9e8-c31f9a3c220b"

[[partition]]
type = "esp"
label = "ESP"
size = "auto"
filesystem = { type = "vfat", label = "ESP" }
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
pub(crate) const MBR: &str = r#"
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
pub(crate) fn project(folder: &Path) -> [PathBuf; 2] {
    tree::plain(&folder.join("tree"));
    [("gpt.toml", GPT), ("mbr.toml", MBR)].map(|(name, text)| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    })
}
