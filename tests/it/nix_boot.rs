//! Real input: a closure that Nix built, imaged by diskwright inside Nix's sandbox, and booted under OVMF until its init
//! prints a line read from the root filesystem.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support;
use crate::support::guest::Guest;
use crate::support::judges;
use crate::support::tools::{command, must, scratch};

/// What the system is made of: the kernel, a static busybox, and coreutils with all it is linked with.
const PACKAGES: [&str; 8] = [
    "busybox-static",
    "coreutils",
    "libc6",
    "libacl1",
    "libattr1",
    "libgmp10",
    "libselinux1",
    "libpcre2-8-0",
];

/// Where systemd-boot's EFI file lies (Debian package systemd-boot-efi).
const LOADER: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// The line that init reads from the root filesystem.
const LINE: &str = "read from the root filesystem";

const MANIFEST: &str = r#"
version = 1

[disk]
table = "gpt"
seed = "0867da16-f251-457d-a9e8-c31f9a3c220b"

[[partition]]
type = "esp"
label = "ESP"
size = "64MiB"
filesystem = { type = "vfat", label = "ESP" }
contents = [
  { source = "@loader@", target = "/EFI/BOOT/BOOTX64.EFI" },
  { source = "@kernel@", target = "/EFI/nixos/kernel.efi" },
  { source = "@initrd@", target = "/EFI/nixos/initrd.efi" },
  { text = "timeout 0\n", target = "/loader/loader.conf" },
  { text = """
title Miniature
linux /EFI/nixos/kernel.efi
initrd /EFI/nixos/initrd.efi
options init=@toplevel@/init root=LABEL=system console=ttyS0 panic=-1 quiet no_timer_check
""", target = "/loader/entries/miniature.conf" },
]

[[partition]]
type = "linux"
label = "root"
size = "auto"
filesystem = { type = "ext4", label = "system", free = "32MiB", grow_to = "1TiB" }
contents = [
  { closure = "store-paths", target = "/" },
  { symlink = "@toplevel@", target = "/nix/var/nix/profiles/system" },
  { text = "@line@\n", target = "/etc/line" },
  { directory = true, target = "/dev" },
  { directory = true, target = "/proc" },
  { directory = true, target = "/sys" },
  { directory = true, target = "/run" },
  { directory = true, target = "/tmp", mode = "1777" },
]
"#;

/// A folder that later runs find again: packages and what Nix built from them do not change.
fn cache(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nix").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A command of Nix on a store of its own below the build folder, whose paths are called /nix/store/... all the same.
fn nix(name: &str) -> Command {
    support::nix::nix(name, &cache("root"), &cache("home"))
}

#[test]
fn a_closure_of_nix_is_imaged_in_its_sandbox_and_boots() {
    let loader = judges::file(LOADER);
    let debs = cache("debs");
    support::nix::packages(&debs, &PACKAGES);
    let folder = scratch();
    let tools = folder.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    std::fs::copy(judges::binary("busybox").0, tools.join("busybox")).unwrap();
    support::nix::program(&folder.path().join("program"));
    let expression = folder.path().join("system.nix");
    std::fs::write(&expression, include_str!("nix_boot.nix")).unwrap();

    let result = |attribute: &str, link: &[&str]| {
        let mut build = nix("nix-build");
        build.arg(&expression).args(["-A", attribute]).args(link).current_dir(cache("roots"));
        for (name, value) in [
            ("debs", debs.as_path()),
            ("tools", &tools),
            ("program", &folder.path().join("program")),
            ("loader", &loader),
        ] {
            build.args(["--argstr", name]).arg(value);
        }
        build.args(["--argstr", "manifest", &MANIFEST.replace("@line@", LINE)]);
        must(&mut build).text().trim().to_owned()
    };
    let (toplevel, image) = (&result("toplevel", &["-o", "toplevel"]), result("image", &["--no-out-link"]));
    let closure = must(nix("nix-store").args(["-qR", toplevel])).text();
    assert!(closure.lines().count() > 12, "{closure}");

    let disk = folder.path().join("disk.img");
    let stored = cache("root").join(image.trim_start_matches('/'));
    must(command("cp").arg("--sparse=always").arg(stored).arg(&disk));
    // The store keeps the system; the image and the program are new for each build of diskwright.
    must(nix("nix-store").arg("--gc"));
    must(command("chmod").arg("u+w").arg(&disk));
    judge(&disk, folder.path());

    let toplevel = toplevel.as_str();
    let kernel = cache("root").join(toplevel.trim_start_matches('/')).join("kernel");
    let kernel = std::fs::read_link(kernel).unwrap();
    let digest = crate::support::tools::digest(&cache("root").join(kernel.strip_prefix("/").unwrap()));
    for format in CONTAINERS {
        let path = folder.path().join(format!("disk.{format}"));
        must(
            crate::support::program::diskwright().args(["convert", "--format", format]).args([&disk, &path]),
        );
        boots(&path, format, toplevel, &digest);
    }
    boots(&disk, "raw", toplevel, &digest);
    judge(&disk, folder.path());
}

/// Formats that a machine boots from and writes to. The suffix is QEMU's name too.
const CONTAINERS: [&str; 3] = ["qcow2", "vpc", "vdi"];

/// Boots the disk and looks for what its init prints.
fn boots(disk: &Path, format: &'static str, toplevel: &str, digest: &str) {
    let console = Guest::new().disk_as(disk, format).boot_by_firmware();
    for line in [
        format!("init: {LINE}"),
        format!("system: {toplevel}"),
        "owner 0:0 mode 555 time 1 of /nix/store/".to_owned(),
        "writable".to_owned(),
        "init: end".to_owned(),
    ] {
        assert!(console.contains(&line), "{format}: no `{line}` in\n{console}");
    }
    assert!(console.contains(digest), "the kernel's SHA-256 is {digest}, but {format} says\n{console}");
}

/// The judges of the table and of both filesystems, which are cut out of the disk.
fn judge(disk: &Path, folder: &Path) {
    crate::support::table::assert_clean(disk);
    let partitions = crate::support::table::partitions(disk);
    assert_eq!(partitions.len(), 2);
    let [esp, root] = ["esp", "root"].map(|name| folder.join(name));
    for (file, partition) in [&esp, &root].into_iter().zip(&partitions) {
        crate::support::table::extract(disk, *partition, file);
    }
    crate::support::fat::assert_clean(&esp);
    crate::support::ext4::assert_clean(&root);
}
