//! Judges of a SquashFS: the kernel, unsquashfs, and the crate `backhand` as an independent reader.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use backhand::{FilesystemReader, InnerNode};

use super::compare::{ALL_BUT_HOLES, Aspect, assert_same};
use super::kernel::{Mount, can_judge};
use super::left_out;
use super::numbers::{u64_of, usize_of};
use super::snapshot::{Digester, Entry, Kind, Snapshot};
use super::tools::{command, digest, must, scratch};

/// What SquashFS keeps: all but holes, which its kernel does not show.
pub const ALL: [Aspect; 9] = ALL_BUT_HOLES;

/// What `backhand` shows.
const VIEW: [Aspect; 6] =
    [Aspect::Mode, Aspect::Owner, Aspect::Time, Aspect::Bytes, Aspect::Target, Aspect::Device];

/// What the image of `source` is to show where owners are kept, and the attributes that are by default.
pub fn expected(source: &Path) -> Snapshot {
    kept(Snapshot::of(source).without_host_labels())
}

/// What SquashFS keeps of it: times are whole seconds from 1970 to 2106, and there are no ACLs.
pub fn kept(snapshot: Snapshot) -> Snapshot {
    let mut snapshot = snapshot.links_as_in_ext4();
    for entry in snapshot.0.values_mut() {
        entry.mtime = (entry.mtime.0.clamp(0, u32::MAX.into()), 0);
        entry.xattrs.retain(|name, _| !name.starts_with(b"system."));
    }
    snapshot
}

/// All judges against `expected`.
pub fn judge(image: &Path, expected: &Snapshot) {
    if can_judge() {
        kernel(image, expected);
    }
    if left_out::as_root("what unsquashfs makes of devices, owners and attributes") {
        assert_same("unsquashfs", expected, &unsquashed(image), &ALL);
    }
    if view_reads(expected) && !is_xz(image) {
        assert_same("backhand", expected, &view(image), &VIEW);
    }
}

/// The kernel shows exactly `expected`, finds every name, and leaves every byte of the image as it was.
pub fn kernel(image: &Path, expected: &Snapshot) {
    let before = digest(image);
    let mount = Mount::new(image, "ro");
    let found = Snapshot::of(mount.path());
    mount.unmount();
    assert_same("the kernel", expected, &found, &ALL);
    assert_eq!(before, digest(image));
}

/// What unsquashfs unpacks.
pub fn unsquashed(image: &Path) -> Snapshot {
    let folder = scratch();
    let out = folder.path().join("out");
    let said = must(command("unsquashfs").args(["-no-progress", "-d"]).arg(&out).arg(image));
    assert_eq!(said.error(), "", "unsquashfs has a remark");
    Snapshot::of(&out)
}

/// Whether `backhand` 0.25 reads it: links to more than 255 bytes it takes for damage, and it reads one block of the table of
/// owners, which has 2048 of them (its `lookup_table` takes their number for their bytes).
fn view_reads(expected: &Snapshot) -> bool {
    let owners: BTreeSet<u32> = expected.0.values().flat_map(|entry| [entry.uid, entry.gid]).collect();
    owners.len() <= 2048 && expected.0.values().all(|entry| entry.target.len() <= 255)
}

/// Whether it is compressed by xz, which `backhand` has not here: the number of the compressor in the superblock.
fn is_xz(image: &Path) -> bool {
    let mut number = [0; 2];
    File::open(image).unwrap().read_exact_at(&mut number, 20).unwrap();
    number == [4, 0]
}

/// A filesystem as `backhand` reads it.
pub fn view(image: &Path) -> Snapshot {
    let file = BufReader::new(File::open(image).unwrap());
    let volume = FilesystemReader::from_reader(file).unwrap_or_else(|error| panic!("backhand: {error:?}"));
    let mut snapshot = Snapshot::default();
    for node in volume.files() {
        let kind = match &node.inner {
            InnerNode::File(_) => Kind::File,
            InnerNode::Symlink(_) => Kind::Symlink,
            InnerNode::Dir(_) => Kind::Directory,
            InnerNode::CharacterDevice(_) => Kind::CharacterDevice,
            InnerNode::BlockDevice(_) => Kind::BlockDevice,
            InnerNode::NamedPipe => Kind::Fifo,
            InnerNode::Socket => Kind::Socket,
        };
        let mut entry = Entry::new(kind);
        let header = &node.header;
        (entry.mode, entry.uid, entry.gid) = (header.permissions, header.uid, header.gid);
        entry.mtime = (header.mtime.into(), 0);
        match &node.inner {
            InnerNode::File(file) => {
                entry.size = u64_of(file.file_len());
                entry.digest = contents(volume.file(file).reader(), entry.size);
            }
            InnerNode::Symlink(link) => {
                entry.target = link.link.as_os_str().as_bytes().to_vec();
                entry.size = u64_of(entry.target.len());
            }
            InnerNode::CharacterDevice(device) => entry.device = numbers(device.device_number),
            InnerNode::BlockDevice(device) => entry.device = numbers(device.device_number),
            _ => {}
        }
        let path = node.fullpath.as_os_str().as_bytes();
        snapshot.0.insert(path.strip_prefix(b"/").unwrap_or(path).to_vec(), entry);
    }
    snapshot
}

/// Major and minor of a device's number (linux/kdev_t.h, new_decode_dev).
fn numbers(device: u32) -> (u32, u32) {
    (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00)
}

fn contents(mut file: impl Read, size: u64) -> [u8; 32] {
    let mut digester = Digester::default();
    let mut buffer = vec![0; usize_of(Digester::BLOCK)];
    for number in 0..size.div_ceil(Digester::BLOCK) {
        let length = usize_of(Digester::BLOCK.min(size - number * Digester::BLOCK));
        file.read_exact(&mut buffer[..length]).unwrap();
        digester.block(number, &buffer[..length]);
    }
    assert_eq!(file.read(&mut buffer).unwrap(), 0, "backhand: a file goes on");
    digester.finish()
}
