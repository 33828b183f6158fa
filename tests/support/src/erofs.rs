//! Judges of an EROFS: fsck.erofs, the crate `erofs-rs` as an independent reader, and the kernel.

use std::collections::BTreeMap;
use std::path::Path;

use erofs_rs::backend::SliceImage;
use erofs_rs::types::Inode;
use erofs_rs::{EroFS, Xattrs};
use rustix::fs::FileType;

use super::compare::{ALL_BUT_HOLES, Aspect, assert_same};
use super::kernel;
use super::numbers::{u64_of, usize_of};
use super::snapshot::{Digester, Entry, Kind, Snapshot};
use super::tools::{command, digest, run};

/// What all readers show; which parts of a flat file are holes none does.
pub const SEEN: [Aspect; 9] = ALL_BUT_HOLES;

/// fsck.erofs has nothing to say, and reads all files. That of Debian 12 knows no zstd.
pub fn assert_clean(image: &Path) {
    // At this level it says that it found nothing; errors and warnings have marks of their own.
    let said = run(command("fsck.erofs").args(["-d3", "--extract"]).arg(image));
    let text = said.text() + &said.error();
    let remarks = text.lines().filter(|line| line.starts_with("<E>") || line.starts_with("<W>")).count();
    let clean = said.code == 0 && remarks == 0 && text.contains("No errors found");
    assert!(clean, "fsck.erofs --extract {}: {}\n{text}", image.display(), said.code);
}

/// What `erofs-rs` and the kernel show of `image` is `expected`.
pub fn judge(image: &Path, expected: &Snapshot) {
    assert_same("erofs-rs", expected, &view(image), &SEEN);
    if kernel::can_judge() {
        reads(image, expected);
    }
}

/// The kernel shows exactly `expected`.
pub fn reads(image: &Path, expected: &Snapshot) {
    let before = digest(image);
    let mount = kernel::Mount::new(image, "ro");
    let found = Snapshot::of(mount.path());
    mount.unmount();
    assert_same("the kernel", expected, &found, &SEEN);
    assert_eq!(before, digest(image), "a mount changed the image");
}

/// A filesystem as `erofs-rs` reads it.
pub fn view(image: &Path) -> Snapshot {
    let bytes = std::fs::read(image).unwrap();
    let fail = |path: &[u8], error: erofs_rs::Error| -> ! {
        panic!("erofs-rs: {}: {error}", String::from_utf8_lossy(path))
    };
    let erofs = EroFS::new(SliceImage::new(&bytes)).unwrap_or_else(|error| fail(b"", error));
    let mut snapshot = Snapshot::default();
    let mut names: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    let root = erofs.get_inode(erofs.super_block().root_inode_id()).unwrap_or_else(|error| fail(b"", error));
    let entries = erofs.walk_dir("/").unwrap_or_else(|error| fail(b"", error)).map(|entry| {
        let entry = entry.unwrap_or_else(|error| fail(b"", error));
        let path = entry.dir_entry.path().as_bytes().to_vec();
        (path.strip_prefix(b"/").unwrap_or(&path).to_vec(), entry.inode)
    });
    for (path, inode) in std::iter::once((Vec::new(), root)).chain(entries) {
        names.entry(inode.id()).or_default().push(path.clone());
        let entry = view_entry(&erofs, inode).unwrap_or_else(|error| fail(&path, error));
        snapshot.0.insert(path, entry);
    }
    for same in names.values() {
        snapshot.same_inode(same);
    }
    snapshot
}

/// What it shows of one inode.
fn view_entry(erofs: &EroFS<SliceImage<'_>>, inode: Inode) -> Result<Entry, erofs_rs::Error> {
    let mut entry = Entry::new(match inode.file_type() {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharacterDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::Unknown => panic!("erofs-rs: a file type that does not exist"),
    });
    entry.mode = inode.permissions();
    (entry.uid, entry.gid, entry.links) = (inode.uid(), inode.gid(), inode.nlink().into());
    entry.mtime = inode.modified_unix();
    let xattrs: Xattrs = erofs.xattrs_inode(inode)?;
    entry.xattrs = xattrs;
    match entry.kind {
        Kind::File => {
            entry.size = inode.data_size();
            let file = erofs.open_inode_file(inode)?;
            let mut digester = Digester::default();
            let mut buffer = vec![0; usize_of(Digester::BLOCK)];
            for number in 0..entry.size.div_ceil(Digester::BLOCK) {
                let at = number * Digester::BLOCK;
                let block = &mut buffer[..usize_of(Digester::BLOCK.min(entry.size - at))];
                let mut done = 0;
                while done < block.len() {
                    let more = file.read_at(&mut block[done..], at + u64_of(done))?;
                    assert_ne!(more, 0, "erofs-rs: a file ends early");
                    done += more;
                }
                digester.block(number, block);
            }
            entry.digest = digester.finish();
        }
        Kind::Symlink => {
            entry.target = erofs.read_link_inode(inode)?.as_bytes().to_vec();
            entry.size = u64_of(entry.target.len());
        }
        Kind::CharacterDevice | Kind::BlockDevice => entry.device = inode.device().unwrap_or_default(),
        _ => {}
    }
    Ok(entry)
}
