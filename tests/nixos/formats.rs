//! Every layout in every format that is written: QEMU reads the same disk from each.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use diskwright::container::Format;

use crate::closure::{LAYOUTS, grub, grub_mkimage, nixos, registration, small, systems};
use crate::support::tools::{Said, command, must, run, scratch};
use crate::tiny::Tiny;

/// The output of `qemu-img compare` for a raw disk and another.
fn compare(raw: &Path, other: &Path, format: Format) -> Said {
    run(command("qemu-img").args(["compare", "-f", "raw", "-F", format.qemu_name()]).arg(raw).arg(other))
}

/// The names of all formats, and the variants of qcow2.
fn formats() -> Vec<(&'static str, &'static [&'static str])> {
    let mut all: Vec<(&str, &[&str])> = Format::names().map(|name| (name, [].as_slice())).collect();
    all.extend([
        ("qcow2", ["--compress", "zlib"].as_slice()),
        ("qcow2", ["--compress", "zstd"].as_slice()),
        ("qcow2", ["--cluster-size", "2MiB"].as_slice()),
    ]);
    all
}

/// Builds a disk in every format and compares each with the raw one, which stays in `folder`.
fn same_in_every_format(folder: &Path, build: impl Fn(&Path) -> Command) {
    let (raw, out) = (folder.join("disk.img"), folder.join("disk.other"));
    must(&mut build(&raw));
    for (name, more) in formats() {
        let format: Format = name.parse().unwrap();
        must(build(&out).args(["--format", name]).args(more));
        let said = compare(&raw, &out, format);
        assert!(
            said.code == 0 && said.text() == "Images are identical.\n",
            "{name} {more:?} of {:?}: {}{}",
            build(&out),
            said.text(),
            said.error()
        );
        std::fs::remove_file(&out).unwrap();
    }
}

#[test]
fn a_real_system_is_the_same_disk_in_every_format() {
    let folder = scratch();
    let systems = systems();
    let closure = registration(folder.path(), &[&systems.system, &systems.earlier]);
    same_in_every_format(folder.path(), |out| {
        let mut build = nixos(&closure, "efi", out);
        build.args(small("efi"));
        build
    });
}

#[test]
fn every_layout_is_the_same_disk_in_every_format() {
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    for layout in LAYOUTS {
        same_in_every_format(tiny.path(), |out| {
            let mut build = tiny.nixos(&system, layout, out);
            if layout != "none" {
                build.args(["--boot-loader", "grub", "--grub", grub(), "--grub-mkimage", grub_mkimage()]);
            }
            build
        });
    }
    // The comparison can fail: the last disk with one changed byte.
    let (raw, out) = (tiny.path().join("disk.img"), tiny.path().join("disk.qcow2"));
    must(&mut tiny.nixos(&system, "none", &out));
    assert_eq!(compare(&raw, &out, Format::Qcow2).code, 0);
    let changed = std::fs::OpenOptions::new().read(true).write(true).open(&raw).unwrap();
    let mut byte = [0];
    changed.read_exact_at(&mut byte, 1080).unwrap();
    changed.write_all_at(&[byte[0] ^ 1], 1080).unwrap();
    assert_eq!(compare(&raw, &out, Format::Qcow2).code, 1);
}
