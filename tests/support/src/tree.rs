//! Trees made by code; each odd number has its reason beside it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::left_out::as_root;
use crate::numbers::usize_of;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// The modification time of everything without another one: 2001-09-09 01:46:40 UTC.
pub const USUAL: (i64, u32) = (1_000_000_000, 0);

/// An ext4 block, the granularity of holes.
const BLOCK: u64 = 4096;

/// `length` bytes without a pattern and mostly not zero; the same for the same `seed`.
pub fn noise(seed: u64, length: u64) -> Vec<u8> {
    // SplitMix64's step (Steele, Lea, Flood 2014): one multiplication a byte is enough to avoid repetition.
    let mut state = seed;
    (0..usize_of(length))
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed.to_le_bytes()[4] | 1
        })
        .collect()
}

/// Makes a tree below a directory. Times are set at the end, because making a name changes the time of its
/// directory.
#[derive(Debug)]
pub struct Maker {
    top: PathBuf,
    made: Vec<(PathBuf, (i64, u32))>,
}

impl Maker {
    /// A maker in the directory `top`, which is made if it does not exist.
    pub fn new(top: &Path) -> Self {
        std::fs::create_dir_all(top).unwrap();
        std::fs::set_permissions(top, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { top: top.to_owned(), made: vec![(top.to_owned(), USUAL)] }
    }

    /// Where `name` lies on the host.
    pub fn path(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.top.join(OsStr::from_bytes(name.as_ref()))
    }

    fn note(&mut self, path: &Path) {
        self.made.push((path.to_owned(), USUAL));
    }

    /// Permissions of `name`, whatever the umask.
    pub fn mode(&mut self, name: impl AsRef<[u8]>, mode: u32) -> &mut Self {
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// An empty directory of mode 0755.
    pub fn directory(&mut self, name: impl AsRef<[u8]>) -> &mut Self {
        let path = self.path(&name);
        std::fs::create_dir(&path).unwrap();
        self.note(&path);
        self.mode(name, 0o755)
    }

    /// A file of mode 0644.
    pub fn file(&mut self, name: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> &mut Self {
        let path = self.path(&name);
        std::fs::write(&path, bytes).unwrap();
        self.note(&path);
        self.mode(name, 0o644)
    }

    /// A file of `size` bytes with noise in `ranges` (start, length) and holes between.
    pub fn sparse(&mut self, name: impl AsRef<[u8]>, size: u64, ranges: &[(u64, u64)]) -> &mut Self {
        let path = self.path(&name);
        let file = File::create(&path).unwrap();
        file.set_len(size).unwrap();
        for (start, length) in ranges {
            file.write_all_at(&noise(size ^ start, *length), *start).unwrap();
        }
        self.note(&path);
        self.mode(name, 0o644)
    }

    /// A symbolic link.
    pub fn symlink(&mut self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> &mut Self {
        let path = self.path(name);
        std::os::unix::fs::symlink(OsStr::from_bytes(target.as_ref()), &path).unwrap();
        self.note(&path);
        self
    }

    /// Another name for what `old` names.
    pub fn link(&mut self, old: impl AsRef<[u8]>, new: impl AsRef<[u8]>) -> &mut Self {
        let (old, new) = (self.path(old), self.path(new));
        // Not std's hard_link, whose treatment of symbolic links is the platform's: the link itself gets the name.
        rustix::fs::linkat(CWD, &old, CWD, &new, AtFlags::empty()).unwrap();
        self
    }

    /// A pipe, a socket or (as root) a device of mode 0640.
    pub fn special(&mut self, name: impl AsRef<[u8]>, kind: FileType, device: (u32, u32)) -> &mut Self {
        let path = self.path(&name);
        let number = rustix::fs::makedev(device.0, device.1);
        rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(0o640), number)
            .unwrap_or_else(|error| panic!("{kind:?} {device:?} at {}: {error}", path.display()));
        self.note(&path);
        self.mode(name, 0o640)
    }

    /// The owner of `name` itself, which only root may change.
    pub fn owner(&mut self, name: impl AsRef<[u8]>, uid: u32, gid: u32) -> &mut Self {
        let path = self.path(name);
        let mode = std::fs::symlink_metadata(&path).unwrap().permissions().mode();
        std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).unwrap();
        // A new owner clears the setuid bit of a file (chown(2)), so it is set again.
        if mode & 0o6000 != 0 {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode & 0o7777)).unwrap();
        }
        self
    }

    /// An extended attribute of `name` itself.
    pub fn xattr(&mut self, name: impl AsRef<[u8]>, attribute: &str, value: impl AsRef<[u8]>) -> &mut Self {
        let path = self.path(name);
        rustix::fs::lsetxattr(&path, attribute, value.as_ref(), XattrFlags::empty())
            .unwrap_or_else(|error| panic!("{attribute} of {}: {error}", path.display()));
        self
    }

    /// When `name` itself was last changed: seconds since 1970 and nanoseconds.
    pub fn time(&mut self, name: impl AsRef<[u8]>, time: (i64, u32)) -> &mut Self {
        let path = self.path(name);
        match self.made.iter_mut().find(|(made, _)| *made == path) {
            Some(entry) => entry.1 = time,
            None => self.made.push((path, time)),
        }
        self
    }

    /// Puts every time so many seconds earlier.
    pub fn earlier(&mut self, seconds: i64) {
        for (_, time) in &mut self.made {
            time.0 -= seconds;
        }
    }

    /// Dates everything that was made.
    pub fn finish(&mut self) {
        for (path, time) in &self.made {
            date(path, *time);
        }
    }
}

/// Sets the times of a path itself.
pub fn date(path: &Path, time: (i64, u32)) {
    let time = Timespec { tv_sec: time.0, tv_nsec: i64::from(time.1) };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// A POSIX ACL as the kernel exchanges it (linux/posix_acl_xattr.h): version 2, then tag, permissions and id of each
/// entry, ordered by tag.
pub fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// The tag of the owner in an ACL; this and the others are of linux/posix_acl.h.
pub const USER_OBJ: u16 = 0x01;
/// A user by id.
pub const USER: u16 = 0x02;
/// The owning group.
pub const GROUP_OBJ: u16 = 0x04;
/// A group by id.
pub const GROUP: u16 = 0x08;
/// The most that all but the owner and others get.
pub const MASK: u16 = 0x10;
/// Everybody else.
pub const OTHER: u16 = 0x20;
/// The id of entries that name nobody (ACL_UNDEFINED_ID).
pub const NOBODY: u32 = u32::MAX;

/// A file capability of version 2 (linux/capability.h): cap_net_raw (13) permitted and effective.
pub fn capability() -> Vec<u8> {
    [0x0200_0001_u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The limits of the filesystem that holds a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// All that Linux can name.
    Linux,
    /// XFS has no links over 1023 bytes (XFS_SYMLINK_MAXLEN) and 9 and 18 bits of a device's numbers.
    Any,
}

/// A target of `length` bytes for a symbolic link, its parts no longer than names can be.
pub fn target(length: usize) -> Vec<u8> {
    (0..length).map(|at| if at % 200 == 150 { b'/' } else { b't' }).collect()
}

/// A tree of things that have broken writers of ext4, as small as possible: some ten thousand names and a few
/// megabytes.
///
/// Without root it has no devices, no foreign owners and no capabilities. `many` is the number of names in the largest
/// directory.
pub fn strange(top: &Path, many: u32, host: Host) {
    let mut maker = Maker::new(top);
    names(&mut maker);
    links(&mut maker, host);
    files(&mut maker);
    specials(&mut maker, host);
    attributes(&mut maker);
    directories(&mut maker, many);
    maker.finish();
}

/// The part of it that does not depend on root.
pub fn portable(top: &Path) {
    let mut maker = Maker::new(top);
    names(&mut maker);
    links(&mut maker, Host::Linux);
    files(&mut maker);
    directories(&mut maker, 1000);
    maker.finish();
}

/// Names of any bytes but `/` and NUL.
fn names(maker: &mut Maker) {
    maker.directory("names");
    for name in [
        &b"newline\n"[..],
        b"tab\tbell\x07escape\x1b[31m",
        b"\x01",
        b"\x7f",
        b"back\\slash",
        b"\"quotes'",
        b"-n",
        b"~",
        b" ",
        b"*",
        b"debugfs: ls <2>",
        // Bytes from 0x80 hash differently where char is signed: in UTF-8, and in no encoding at all.
        "grüße €".as_bytes(),
        b"\x80",
        b"\xff\xfe",
        b"\xc3\x28",
        // The 4, 8, 16 and 32 byte steps of half_md4's input, and one more.
        b"four",
        b"eight888",
        b"sixteen616161616",
        b"thirty-two-32-thirty-two-32-3232",
        b"thirty-three-33-thirty-three-33-3",
    ] {
        maker.file([b"names/".as_slice(), name].concat(), name);
    }
    // EXT4_NAME_LEN, one less, and all high bytes.
    for name in [vec![b'n'; 255], vec![b'm'; 254], vec![0xe9; 255]] {
        maker.file([b"names/".as_slice(), &name].concat(), "long");
    }
}

/// Symbolic links around the 60 bytes that fit in an inode and up to the 4095 of PATH_MAX; groups of hard links.
fn links(maker: &mut Maker, host: Host) {
    maker.directory("links");
    for length in [1, 59, 60, 61, 255, 1023, 4094, 4095] {
        if length > 1023 && host == Host::Any {
            continue;
        }
        maker.symlink(format!("links/symlink-{length}"), target(length));
    }
    maker.symlink("links/bytes", b"\xff\n\x01/\x80");
    maker.file("links/file", "three names").link("links/file", "links/file-2").directory("links/far");
    maker.link("links/file", "links/far/file-3");
    // Nix hard-links symbolic links too; mke2fs -d makes them separate inodes.
    maker.symlink("links/short", "short").link("links/short", "links/far/short-2");
    maker.symlink("links/long", "l".repeat(100)).link("links/long", "links/far/long-2");
    maker.special("links/fifo", FileType::Fifo, (0, 0)).link("links/fifo", "links/far/fifo-2");
    // The first name in the order of the tree is not the first that was made.
    maker.file("links/z", "z").link("links/z", "links/a");
    // Equal in all but the inode: what dedupe joins and dissolve does not.
    for name in ["links/equal-1", "links/equal-2", "links/far/equal-3"] {
        maker.file(name, noise(7, 5000));
    }
    maker.file("links/equal-not", noise(7, 5000)).mode("links/equal-not", 0o600);
}

/// Lengths around a block and holes at the start, in the middle and at the end.
fn files(maker: &mut Maker) {
    maker.directory("files").file("files/empty", "").file("files/one", "1");
    for size in [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 100 * BLOCK + 17] {
        maker.file(format!("files/dense-{size}"), noise(size, size));
    }
    // Bytes that are zero but written are data on the host.
    maker.file("files/zeros", vec![0; usize_of(3 * BLOCK)]);
    maker.sparse("files/hole-all", 10 * BLOCK, &[]);
    maker.sparse("files/hole-all-odd", 10 * BLOCK + 1, &[]);
    maker.sparse("files/hole-tiny", 1, &[]);
    maker.sparse("files/hole-start", 10 * BLOCK + 5, &[(8 * BLOCK, 2 * BLOCK + 5)]);
    maker.sparse("files/hole-middle", 10 * BLOCK, &[(0, BLOCK), (9 * BLOCK, BLOCK)]);
    maker.sparse("files/hole-end", 10 * BLOCK, &[(0, 2 * BLOCK)]);
    maker.sparse("files/hole-end-odd", 10 * BLOCK - 1, &[(0, 2 * BLOCK)]);
    // One byte before, at and after a block's border; the host makes whole blocks of it.
    maker.sparse("files/hole-border", 20 * BLOCK, &[(4 * BLOCK - 1, 1), (8 * BLOCK, 1), (12 * BLOCK + 1, 1)]);
    // 5 extents no longer fit in the inode (4 do), 341 not in one leaf block (340 do).
    for extents in [4, 5, 340, 341] {
        let ranges: Vec<_> = (0..extents).map(|number| (number * 2 * BLOCK, BLOCK)).collect();
        maker.sparse(format!("files/extents-{extents}"), extents * 2 * BLOCK, &ranges);
    }
    // Far more hole than data; debugfs writes holes out, so not larger.
    maker.sparse("files/hole-large", (40 << 20) + 1, &[(0, 1), (39 << 20, BLOCK)]);
}

/// Pipe, socket, and as root devices; modes with setuid, setgid, sticky, and none at all.
fn specials(maker: &mut Maker, host: Host) {
    maker.directory("specials");
    maker.special("specials/fifo", FileType::Fifo, (0, 0));
    maker.special("specials/socket", FileType::Socket, (0, 0));
    for mode in [0o4755, 0o2755, 0o6711, 0o1777, 0o7777, 0o644, 0o600] {
        maker.file(format!("specials/mode-{mode:04o}"), "m").mode(format!("specials/mode-{mode:04o}"), mode);
    }
    for mode in [0o1777, 0o2775, 0o700, 0o555] {
        let name = format!("specials/directory-{mode:04o}");
        maker.directory(&name).mode(&name, mode);
    }
    if as_root("devices, foreign owners and unreadable files in trees") {
        // Old devices have 8 bits of major and minor (5:1, 8:255), new ones 12 and 20 (259:256, 4095:1048575).
        let largest = if host == Host::Linux { (4095, 1_048_575) } else { (511, 262_143) };
        for (major, minor) in [(1, 3), (5, 1), (255, 255), (259, 256), largest] {
            maker.special(format!("specials/c-{major}-{minor}"), FileType::CharacterDevice, (major, minor));
            maker.special(format!("specials/b-{major}-{minor}"), FileType::BlockDevice, (major, minor));
        }
        maker.file("specials/unreadable", "only root reads this").mode("specials/unreadable", 0);
        // The low 16 bits of an id have a field of their own, and 2^32 - 1 means "no change" (chown(2)).
        for (uid, gid) in [(65_535, 1), (65_536, 65_537), (1, 4_294_967_294), (4_294_967_294, 2)] {
            maker.file(format!("specials/owner-{uid}-{gid}"), "o");
            maker.owner(format!("specials/owner-{uid}-{gid}"), uid, gid);
        }
        maker.symlink("specials/owner-link", "x").owner("specials/owner-link", 70_000, 80_000);
        maker.directory("specials/owner-directory").owner("specials/owner-directory", 70_000, 80_000);
    }
}

/// Seconds around the borders of ext4's 34 bits, and nanoseconds.
pub const TIMES: [(&str, (i64, u32)); 12] = [
    // -2^31, the first second a signed 32-bit field holds: 1901-12-13 20:45:52.
    ("1901", (-2_147_483_648, 0)),
    ("1901-last", (-2_147_483_648, 999_999_999)),
    ("1969", (-1, 500_000_000)),
    ("1970", (0, 0)),
    ("1970-ns", (0, 1)),
    // Around 2^31 - 1, where the first epoch ends: 2038-01-19 03:14:07.
    ("2038-before", (2_147_483_646, 999_999_999)),
    ("2038", (2_147_483_647, 123_456_789)),
    ("2038-after", (2_147_483_648, 1)),
    // 2^32 - 1 and 2^32: 2106-02-07 06:28:15.
    ("2106", (4_294_967_295, 0)),
    ("2106-after", (4_294_967_296, 0)),
    ("2446-before", (15_032_385_534, 7)),
    // 2^34 - 2^31 - 1, the last second 34 bits hold: 2446-05-10 22:38:55.
    ("2446", (15_032_385_535, 999_999_999)),
];

/// A tree of things that one reader takes for damage: times that are negative in 32 bits, and a link to a
/// name that is longer than any name can be (programs keep data in such links).
pub fn unread(top: &Path) {
    let mut maker = Maker::new(top);
    maker.symlink("data", "d".repeat(4095));
    maker.directory("times");
    for (name, time) in TIMES {
        let name = format!("times/{name}");
        maker.file(&name, "").time(&name, time);
    }
    maker.symlink("times/link", "to").time("times/link", (-5, 5));
    maker.directory("times/directory").time("times/directory", (3_000_000_000, 3));
    maker.finish();
}

/// Attributes in the inode and in a block of their own, shared blocks, ACLs, and as root capabilities.
fn attributes(maker: &mut Maker) {
    maker.directory("attributes");
    for name in ["none", "empty", "small", "large", "twin-1", "twin-2", "many", "acl", "both", "edge"] {
        maker.file(format!("attributes/{name}"), name);
    }
    maker.xattr("attributes/empty", "user.e", "");
    maker.xattr("attributes/small", "user.comment", "in the inode");
    // More than the 92 bytes an inode of 256 has left (256 - 128 - 32 - the magic word), less than a block.
    maker.xattr("attributes/large", "user.large", noise(1, 3000));
    // All hole, and yet the host counts a block: that of its attributes.
    maker.sparse("attributes/hole", 3, &[]).xattr("attributes/hole", "user.large", noise(6, 3000));
    // Equal sets share one block.
    for name in ["attributes/twin-1", "attributes/twin-2"] {
        maker.xattr(name, "user.twin", noise(2, 2000)).xattr(name, "user.twin2", noise(3, 1000));
    }
    // In an order that a sort must fix: lengths and letters disagree, and all 30 are in one block.
    for number in 0..30_u64 {
        let name = format!("user.{}{}", ["zz", "a", "mmmm"][usize_of(number % 3)], 100 - number);
        maker.xattr("attributes/many", &name, noise(number, number * 2));
    }
    // Binary, with a NUL, a quote and a newline inside.
    maker.xattr("attributes/both", "user.inline", b"\0\"\n\\\xff").xattr(
        "attributes/both",
        "user.block",
        noise(4, 500),
    );
    // 255 bytes of name: EXT4_NAME_LEN counts without the namespace, which is an index.
    maker.xattr("attributes/edge", &format!("user.{}", "e".repeat(250)), "v");
    let access = |owner| {
        acl(&[
            (USER_OBJ, owner, NOBODY),
            (USER, 4, 1000),
            (USER, 6, 70_000),
            (GROUP_OBJ, 4, NOBODY),
            (GROUP, 5, 65_536),
            (MASK, 7, NOBODY),
            (OTHER, 0, NOBODY),
        ])
    };
    let default = acl(&[(USER_OBJ, 7, NOBODY), (GROUP_OBJ, 5, NOBODY), (OTHER, 1, NOBODY)]);
    maker.xattr("attributes/acl", "system.posix_acl_access", access(6));
    maker.directory("attributes/directory");
    // An owner other than root must be able to enter it.
    let owner = if as_root("a directory that its owner may not enter") { 6 } else { 7 };
    maker.xattr("attributes/directory", "system.posix_acl_access", access(owner));
    maker.xattr("attributes/directory", "system.posix_acl_default", &default);
    maker.xattr("attributes/directory", "user.also", noise(5, 200));
    if as_root("capabilities and attributes of the namespace trusted in trees") {
        maker.file("attributes/capable", "#!").mode("attributes/capable", 0o755);
        maker.xattr("attributes/capable", "security.capability", capability());
        // Attributes that label the host and not the file: dropped by default.
        maker.xattr("attributes/none", "trusted.host", "label");
    }
}

/// Directories of no, one, a block full of, two blocks of, and many entries, and one inside the other.
fn directories(maker: &mut Maker, many: u32) {
    maker.directory("directories");
    // A block of 4096 bytes has a tail of 12 and `.` and `..` of 12 each; an 8-byte name takes 16: 253 fit.
    for count in [0, 1, 253, 254] {
        maker.directory(format!("directories/of-{count}"));
        for number in 0..count {
            maker.file(format!("directories/of-{count}/name{number:04}"), "");
        }
    }
    // A 255-byte name takes 264: 15 fit in a block.
    for count in [15, 16, 200] {
        maker.directory(format!("directories/long-{count}"));
        for number in 0..count {
            maker.symlink(format!("directories/long-{count}/{number:0>255}"), "l");
        }
    }
    // Subdirectories, for the link counts.
    maker.directory("directories/of-directories");
    for number in 0..100 {
        maker.directory(format!("directories/of-directories/{number}"));
    }
    // 200 levels; the path stays below PATH_MAX so that every tool can name it.
    let mut deep = "directories/deep".to_owned();
    maker.directory(&deep);
    for _ in 0..200 {
        deep.push_str("/d");
        maker.directory(&deep);
    }
    maker.file(format!("{deep}/bottom"), "bottom");
    // 120-byte names take 128: at most 31 in a block, so that 20,000 need over 507 leaves and with them a second
    // level of the index.
    maker.directory("directories/many");
    for number in 0..many {
        maker.file(format!("directories/many/{number:0>120}"), "");
    }
}

/// A small plain tree of ordinary things, for tests about something else: a few directories, files, links.
pub fn plain(top: &Path) {
    let mut maker = Maker::new(top);
    maker.directory("bin").directory("etc").directory("etc/ssl").directory("lib");
    for number in 0..40_u64 {
        let name = format!("bin/tool-{number}");
        maker.file(&name, noise(number, number * 997)).mode(&name, 0o755);
    }
    maker
        .file("etc/motd", "hello\n")
        .file("etc/passwd", "root:x:0:0::/:/bin/sh\n")
        .symlink("etc/mtab", "/proc/mounts");
    maker.file("etc/ssl/certificate", noise(1, 70_000)).file("lib/library.so.1", noise(2, 300_000));
    maker.symlink("lib/library.so", "library.so.1").link("lib/library.so.1", "lib/library.so.1.0");
    maker.finish();
}
