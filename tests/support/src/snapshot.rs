//! A snapshot: everything that a directory shows about the names below it, in memory, so that two readers can
//! be compared.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use crate::numbers::{u64_of, usize_of};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// The type of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// What a reader shows about one name. If it cannot show something, it keeps the default and does not compare
/// that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its type.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky.
    pub mode: u16,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Link count.
    pub links: u64,
    /// The first path, in byte order, that has the same inode.
    pub inode: Vec<u8>,
    /// Length of a regular file, of a link's target; 0 for the rest.
    pub size: u64,
    /// Digest of a regular file's bytes, as [`Digester`] makes it.
    pub digest: [u8; 32],
    /// Target of a symbolic link.
    pub target: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes by their whole name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The ranges in which a regular file has data, from SEEK_DATA and SEEK_HOLE.
    pub data: Vec<(u64, u64)>,
    /// 512-byte sectors it takes.
    pub sectors: u64,
}

impl Entry {
    /// An entry of `kind` with nothing known about it.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            links: 0,
            inode: Vec::new(),
            size: 0,
            digest: [0; 32],
            target: Vec::new(),
            device: (0, 0),
            xattrs: BTreeMap::new(),
            data: Vec::new(),
            sectors: 0,
        }
    }
}

/// Paths from the root (`""` is the root itself, then `a`, `a/b`) and what each shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot(pub BTreeMap<Vec<u8>, Entry>);

/// `parent/name`, or `name` below the root.
pub fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// The directory of a path; the root's is the root.
pub fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |cut| &path[..cut])
}

impl Snapshot {
    /// What the kernel shows of the directory `top`.
    pub fn of(top: &Path) -> Self {
        let mut entries = BTreeMap::new();
        let mut inodes: BTreeMap<(u64, u64), Vec<Vec<u8>>> = BTreeMap::new();
        let mut stack = vec![Vec::new()];
        while let Some(path) = stack.pop() {
            let host = top.join(OsStr::from_bytes(&path));
            let (entry, inode) = look(&host);
            if entry.kind == Kind::Directory {
                for child in std::fs::read_dir(&host).unwrap() {
                    stack.push(join(&path, child.unwrap().file_name().as_bytes()));
                }
            }
            inodes.entry(inode).or_default().push(path.clone());
            entries.insert(path, entry);
        }
        let mut snapshot = Self(entries);
        for names in inodes.values() {
            snapshot.same_inode(names);
        }
        snapshot
    }

    /// Notes that `names` are names of one inode.
    pub fn same_inode(&mut self, names: &[Vec<u8>]) {
        let first = names.iter().min().cloned().unwrap_or_default();
        for name in names {
            if let Some(entry) = self.0.get_mut(name) {
                entry.inode.clone_from(&first);
            }
        }
    }

    /// Checks and removes `lost+found`, which e2fsck requires and the source does not have. The root then has
    /// one subdirectory less.
    pub fn without_lost_and_found(mut self) -> Self {
        let taken = self.0.remove(b"lost+found".as_slice()).expect("there is a lost+found");
        assert_eq!((taken.kind, taken.mode, taken.uid, taken.gid), (Kind::Directory, 0o700, 0, 0));
        if let Some(root) = self.0.get_mut(b"".as_slice()) {
            root.links = root.links.saturating_sub(1);
        }
        self
    }

    /// The links as in an ext4 filesystem, whatever the host counts: a directory has two links and one more
    /// for each subdirectory; past 65,000 it has one link, which stands for "many" (EXT4_LINK_MAX).
    pub fn links_as_in_ext4(mut self) -> Self {
        let mut subdirectories: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for (path, entry) in &self.0 {
            if entry.kind == Kind::Directory && !path.is_empty() {
                *subdirectories.entry(parent(path).to_vec()).or_default() += 1;
            }
        }
        for (path, entry) in &mut self.0 {
            if entry.kind == Kind::Directory {
                let links = 2 + subdirectories.get(path).copied().unwrap_or(0);
                entry.links = if links > 65_000 { 1 } else { links };
            }
        }
        self
    }

    /// Everything owned by `uid` and `gid`.
    pub fn owned_by(mut self, uid: u32, gid: u32) -> Self {
        for entry in self.0.values_mut() {
            (entry.uid, entry.gid) = (uid, gid);
        }
        self
    }

    /// Without attributes that label the host rather than the files; the program drops them by default.
    pub fn without_host_labels(mut self) -> Self {
        for entry in self.0.values_mut() {
            entry.xattrs.retain(|name, _| {
                name.starts_with(b"user.")
                    || name.starts_with(b"system.posix_acl_")
                    || name == b"security.capability"
            });
        }
        self
    }

    /// With an inode of its own for each name.
    pub fn dissolved(mut self) -> Self {
        for (path, entry) in &mut self.0 {
            if entry.kind != Kind::Directory {
                (entry.links, entry.inode) = (1, path.clone());
            }
        }
        self
    }

    /// With equal regular files as names of one inode, and an inode of its own for everything else.
    pub fn deduplicated(self) -> Self {
        let mut dissolved = self.dissolved();
        let mut alike: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
        for (path, entry) in &dissolved.0 {
            if entry.kind == Kind::File {
                let owner = (entry.uid, entry.gid);
                let key = (entry.digest, entry.size, entry.mode, owner, entry.mtime, entry.xattrs.clone());
                alike.entry(key).or_default().push(path.clone());
            }
        }
        for names in alike.values() {
            dissolved.same_inode(names);
            for name in names {
                if let Some(entry) = dissolved.0.get_mut(name) {
                    entry.links = u64_of(names.len());
                }
            }
        }
        dissolved
    }
}

/// What the kernel shows of one path, and its device and inode number.
fn look(path: &Path) -> (Entry, (u64, u64)) {
    let meta = std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let kind = match meta.file_type() {
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_symlink() => Kind::Symlink,
        kind if kind.is_char_device() => Kind::CharacterDevice,
        kind if kind.is_block_device() => Kind::BlockDevice,
        kind if kind.is_fifo() => Kind::Fifo,
        kind if kind.is_socket() => Kind::Socket,
        _ => Kind::File,
    };
    let mut entry = Entry::new(kind);
    entry.mode = u16::try_from(meta.mode() & 0o7777).unwrap();
    (entry.uid, entry.gid, entry.links) = (meta.uid(), meta.gid(), meta.nlink());
    entry.mtime = (meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap());
    entry.sectors = meta.blocks();
    match kind {
        Kind::File => {
            entry.size = meta.len();
            entry.data = data_ranges(path, meta.len());
            entry.digest = digest(path, meta.len(), &entry.data);
        }
        Kind::Symlink => {
            entry.target = std::fs::read_link(path).unwrap().into_os_string().into_vec();
            entry.size = u64_of(entry.target.len());
        }
        Kind::CharacterDevice | Kind::BlockDevice => {
            entry.device = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        }
        _ => {}
    }
    entry.xattrs = xattrs(path);
    (entry, (meta.dev(), meta.ino()))
}

/// Computes the digest of a file's bytes: SHA-256 of its blocks that are not all zero, each with its number.
/// So it is the same for a reader that knows holes and one that reads their zeros, and holes cost nothing.
#[derive(Debug, Default)]
pub struct Digester(Sha256);

impl Digester {
    /// Bytes of a block; every block is 4096 bytes long.
    pub const BLOCK: u64 = 4096;

    /// Adds the bytes of block `number`, or fewer at the end of a file.
    pub fn block(&mut self, number: u64, bytes: &[u8]) {
        if bytes.iter().any(|byte| *byte != 0) {
            self.0.update(number.to_le_bytes());
            self.0.update(bytes);
        }
    }

    /// The digest of all that was added.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// The digest of the `data` of a file of `size` bytes.
fn digest(path: &Path, size: u64, data: &[(u64, u64)]) -> [u8; 32] {
    let file = File::open(path).unwrap();
    let mut digester = Digester::default();
    let mut next = 0;
    let mut buffer = vec![0; usize_of(Digester::BLOCK)];
    for (start, end) in data {
        for number in next.max(start / Digester::BLOCK)..end.div_ceil(Digester::BLOCK) {
            let at = number * Digester::BLOCK;
            let block = &mut buffer[..usize_of(Digester::BLOCK.min(size - at))];
            file.read_exact_at(block, at).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            digester.block(number, block);
            next = number + 1;
        }
    }
    digester.finish()
}

/// The ranges in which a file has data, as the kernel tells.
fn data_ranges(path: &Path, size: u64) -> Vec<(u64, u64)> {
    let file = File::open(path).unwrap();
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        at = rustix::fs::seek(&file, SeekFrom::Hole(start)).unwrap();
        found.push((start, at));
    }
    found
}

/// All extended attributes of a path itself.
fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    // 64 KiB is the most the kernel returns for a list or a value (linux/limits.h).
    let mut list = vec![0; 1 << 16];
    let length = match rustix::fs::llistxattr(path, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let mut found = BTreeMap::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    found
}
