//! Every judge is seen to fail, so that its silence means something.

use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::judge;
use crate::rows::ROWS;
use crate::samples::{Fill, Sample, usual};
use crate::tools::scratch;
use crate::written::raw;

/// Changes one byte of a file.
pub(crate) fn flip(path: &Path, offset: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

/// A disk that differs from the raw file in one byte fails with every row, and so does every reader by itself.
#[test]
fn another_byte_is_noticed_by_all_that_compare_bytes() {
    let folder = scratch();
    let path = folder.path().join("disk.out");
    let image = usual().image();
    let raw = raw(&image, folder.path());
    let mut other = usual();
    other.parts[4] = (3 * 1024 * 1024 + 6, 1, Fill::Noise);
    let other = other.image();
    for row in ROWS {
        row.write(&other, &path, 1).unwrap();
        judge::all(row, &image, &raw, &path).unwrap_err();
        judge::compare(&raw, row.format.qemu_name(), &path).unwrap_err();
        let opened = row.open(&path).unwrap();
        judge::same(&other, &opened.image).unwrap();
        judge::same(&image, &opened.image).unwrap_err();
        for reader in row.readers {
            let mut disk = (reader.open)(&path).unwrap();
            judge::same_disk(&other, disk.as_mut()).unwrap();
            judge::same_disk(&image, disk.as_mut()).unwrap_err();
        }
    }
}

/// A disk that is longer by a sector is noticed, and so is data in place of a hole.
#[test]
fn another_size_is_noticed() {
    let folder = scratch();
    let path = folder.path().join("disk.out");
    let sample = Sample::new("small", 1 << 20, &[(0, 5000, Fill::Text)]);
    let image = sample.image();
    let raw = raw(&image, folder.path());
    for row in ROWS {
        row.write(&Sample { length: (1 << 20) + (1 << 19), ..sample.clone() }.image(), &path, 1).unwrap();
        let error = judge::all(row, &image, &raw, &path).unwrap_err();
        assert!(error.contains("QEMU sees"), "{}: {error}", row.name);
        let mut more = sample.clone();
        more.parts.push((900_000, 1, Fill::Noise));
        row.write(&more.image(), &path, 1).unwrap();
        judge::all(row, &image, &raw, &path).unwrap_err();
        let opened = row.open(&path).unwrap();
        judge::same(&image, &opened.image).unwrap_err();
    }
}

/// `qemu-img check` notices a wrong count of a cluster: the first refcount of a plain file with clusters of
/// 64 KiB is in its fifth cluster.
#[test]
fn check_notices_a_wrong_refcount() {
    let folder = scratch();
    let path = folder.path().join("disk.out");
    let row = ROWS.iter().find(|row| row.name == "qcow2").unwrap();
    row.write(&usual().image(), &path, 1).unwrap();
    judge::check("qcow2", &path).unwrap();
    flip(&path, 4 * 65_536);
    judge::check("qcow2", &path).unwrap_err();
}

/// It also notices a VDI that claims more blocks than are in the file.
#[test]
fn check_notices_a_wrong_number_of_blocks() {
    let folder = scratch();
    let path = folder.path().join("disk.out");
    let row = ROWS.iter().find(|row| row.name == "vdi").unwrap();
    row.write(&usual().image(), &path, 1).unwrap();
    judge::check("vdi", &path).unwrap();
    flip(&path, 388);
    judge::check("vdi", &path).unwrap_err();
}
