//! Swap areas against those of `mkswap`, byte for byte.

use diskwright::filesystem::{Filesystem, Placement, Size, swap};
use diskwright::units::{GIB, KIB, MIB};
use uuid::Uuid;

use super::support::*;

const UUID: Uuid = Uuid::from_u128(0x0867da16_f251_457d_a9e8_c31f9a3c220b);

/// A swap area of ours.
fn build(size: u64, label: &str, uuid: Uuid) -> Filesystem {
    build_for(None, size, label, uuid)
}

/// A swap area of ours for a kernel with pages of this size.
fn build_for(page_size: Option<u64>, size: u64, label: &str, uuid: Uuid) -> Filesystem {
    let page_size = page_size.map(diskwright::units::Bytes::new);
    let options = swap::Options { label: Some(label.to_owned()), uuid: Some(uuid.into()), page_size };
    let size = Size::Fixed(diskwright::units::Bytes::new(size));
    swap::build(&options, &Placement { size, ..Placement::alone(Uuid::nil()) }).unwrap()
}

/// The header of `mkswap` for a file of `size` bytes.
fn theirs(size: u64, label: &str) -> Vec<u8> {
    theirs_for(4096, size, label)
}

/// The same for a kernel with pages of this size.
fn theirs_for(page: u64, size: u64, label: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("swap.img");
    let file = std::fs::File::create_new(&path).unwrap();
    file.set_len(size).unwrap();
    let mut command = tool("mkswap");
    command.args(["-p", &page.to_string(), "-U", &UUID.to_string()]);
    if !label.is_empty() {
        command.args(["-L", label]);
    }
    let (good, said) = run(command.arg(&path));
    assert!(good, "{said}");
    head(&path)
}

/// The first 64 KiB, or less if the image is shorter.
fn head(path: &std::path::Path) -> Vec<u8> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().take(64 * KIB).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_header_is_that_of_mkswap() {
    let sizes = [40 * KIB, 41 * KIB, 44 * KIB - 1, MIB, 512 * MIB + 4095, 8 * GIB, 100 * GIB + 1];
    for size in sizes {
        for label in ["", "swap", "fifteen bytes!!", "schlüssel"] {
            let built = build(size, label, UUID);
            let volume = poured(&built, 2);
            assert_eq!(std::fs::metadata(volume.path()).unwrap().len(), size);
            assert!(head(&volume.path()) == theirs(size, label), "{size} {label}");
        }
    }
}

#[test]
fn the_header_is_that_of_mkswap_for_every_size_of_pages() {
    for page in [8, 16, 32, 64].map(|page| page * KIB) {
        for size in [10 * page, MIB, 100 * MIB + 4096] {
            let volume = poured(&build_for(Some(page), size, "swap", UUID), 1);
            assert!(head(&volume.path()) == theirs_for(page, size, "swap"), "{page} {size}");
        }
    }
}

#[test]
fn another_label_size_or_uuid_is_seen() {
    let ours = |size, label, uuid| head(&poured(&build(size, label, uuid), 1).path());
    let theirs = theirs(MIB, "swap");
    assert!(ours(MIB, "swap", UUID) == theirs);
    assert!(ours(MIB, "swaq", UUID) != theirs);
    assert!(ours(MIB + 4096, "swap", UUID) != theirs);
    assert!(ours(MIB, "swap", Uuid::from_u128(1)) != theirs);
}

#[test]
fn blkid_sees_it() {
    let volume = poured(&build(MIB, "swap", UUID), 1);
    let (good, said) = run(tool("blkid").args(["-p", "-o", "export"]).arg(volume.path()));
    assert!(good, "{said}");
    for line in ["TYPE=swap", "LABEL=swap", &format!("UUID={UUID}"), "VERSION=1"] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
}
