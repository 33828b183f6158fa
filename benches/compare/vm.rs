//! A machine whose disk is never written, against QEMU with the disk as a file. It needs qemu-system-x86, busybox-static and
//! Debian's cloud kernel.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use diskwright_testing::guest::Guest;
use diskwright_testing::judges::kernel;

use crate::run::{Case, Group, program};
use crate::trees;

/// What the system says first, once it has read a file of its disk.
const FIRST: &str = "bench: the disk is read";

/// Its initrd: it mounts the disk of the store and reads the system's init from it.
const SCRIPT: &str = r#"
mount -t ext4 -o ro /dev/vda /mnt
cat "/mnt/$(tr ' ' '\n' < /proc/cmdline | sed -n 's,^init=/nix/store/,,p')"
umount /mnt
"#;

/// Parameters of the kernel.
const PARAMETERS: &str = "console=ttyS0 panic=-1 quiet loglevel=4 no_timer_check";

const SYSTEM: &str = "11111111111111111111111111111111-system";

/// A system beside all paths of the store of the benches, which is its closure.
struct System {
    root: PathBuf,
    place: PathBuf,
    closure: PathBuf,
}

impl System {
    fn new(folder: &Path) -> Self {
        let tree = trees::store(folder);
        // A store of its own, with the same files: the other groups have the first one as it is.
        let root = folder.join("vm");
        let store = root.join("nix/store");
        std::fs::create_dir_all(&store).expect("the store can be made");
        for entry in std::fs::read_dir(tree.join("nix/store")).expect("the store can be read").flatten() {
            let place = store.join(entry.file_name());
            if !place.exists() {
                let status =
                    std::process::Command::new("cp").arg("-al").arg(entry.path()).arg(&place).status();
                assert!(status.is_ok_and(|status| status.success()), "a store path can be linked");
            }
        }
        let place = store.join(SYSTEM);
        std::fs::create_dir_all(&place).expect("the system can be made");
        let (kernel, _) = kernel();
        std::fs::copy(kernel, place.join("kernel")).expect("the kernel can be copied");
        let initrd = Guest::new().module("ext4").initrd(SCRIPT);
        let text =
            |name: &str, text: &[u8]| std::fs::write(place.join(name), text).expect("a file can be made");
        text("initrd", &initrd);
        text("kernel-params", PARAMETERS.as_bytes());
        text("init", format!("{FIRST}\n").as_bytes());
        text("system", b"x86_64-linux");
        let mut names = String::new();
        for entry in std::fs::read_dir(&store).expect("the store can be read").flatten() {
            let _ = writeln!(names, "/nix/store/{}", entry.file_name().to_string_lossy());
        }
        let closure = folder.join("closure");
        std::fs::write(&closure, names).expect("the closure can be written");
        Self { root, place, closure }
    }

    /// The flags that say which system it is.
    fn flags(&self) -> Vec<String> {
        let path = |path: &Path| path.to_str().expect("the bench names its folders").to_owned();
        let system = format!("/nix/store/{SYSTEM}");
        ["--system".to_owned(), system, "--store-root".to_owned(), path(&self.root)]
            .into_iter()
            .chain(["--closure".to_owned(), path(&self.closure)])
            .collect()
    }
}

/// From the command to the first line that a system prints: of the disk as a file, and of the same disk, which is laid out first.
pub(crate) fn run(folder: &Path) {
    let system = System::new(folder);
    let disk = folder.join("vm.img");
    let written = std::process::Command::new(program())
        .arg("nixos")
        .args(system.flags())
        .args([
            "--layout",
            "none",
            "--only-nix-store",
            "--label",
            "nix-store",
            "--additional-space",
            "0",
            "-o",
        ])
        .arg(&disk)
        .stdout(std::process::Stdio::null())
        .status();
    assert!(written.is_ok_and(|written| written.success()), "the disk is written");
    let state = folder.join("vm-state");
    let _ = std::fs::remove_dir_all(&state);
    let common =
        ["-machine", "accel=tcg", "-cpu", "max", "-m", "1024", "-smp", "1", "-device", "virtio-rng-pci"];
    let append = format!("{PARAMETERS} init=/nix/store/{SYSTEM}/init");
    let ready = Case::new("QEMU, of the written disk", "qemu-system-x86_64")
        .args(common)
        .args(["-nic", "none", "-drive"])
        .args([format!("file={},format=raw,if=virtio,readonly=on", disk.display())])
        .args([Path::new("-kernel"), &system.place.join("kernel")])
        .args([Path::new("-initrd"), &system.place.join("initrd")])
        .args(["-append", &append, "-nographic", "-no-reboot"])
        .until(FIRST);
    let unwritten = Case::new("diskwright vm, of the unwritten disk", program())
        .args(["vm", "--mode", "store-disk", "--root-disk", "false", "--accel", "tcg", "--network", "false"])
        .args(system.flags())
        .args([Path::new("--state"), &state])
        .args(["--qemu-options", "-no-reboot"])
        .until(FIRST);
    Group {
        title: "vm: from the command to the first line that a system of the store prints",
        cases: vec![ready, unwritten],
    }
    .run();
}
