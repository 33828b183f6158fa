//! Judges of an ext4 filesystem that need no privilege: e2fsck, and the crate `ext4-view` as an independent reader.

use std::path::Path;

use crate::numbers::{u64_of, usize_of};
use ext4_view::{Ext4, FileType, Path as ViewPath};

use super::compare::{Aspect, assert_same};
use super::debugfs;
use super::snapshot::{Digester, Entry, Kind, Snapshot, join};
use super::tools::{command, must, run};

/// The faults that e2fsck reports: its output without the names of its passes and its summary.
pub fn remarks(image: &Path) -> Vec<String> {
    let said = run(command("e2fsck").arg("-fn").arg(image));
    let mut remarks: Vec<String> = said
        .text()
        .lines()
        .filter(|line| {
            let pass = line.starts_with("Pass ") && line.ends_with(|last: char| last.is_ascii_lowercase());
            // "PATH-OR-LABEL: 11/16 files (0.0% non-contiguous), 1/2 blocks"
            let counts = line.ends_with(" blocks") && line.contains(" files (");
            !(line.is_empty() || pass || counts)
        })
        .map(str::to_owned)
        .collect();
    // The version is all that it may print there.
    remarks.extend(said.error().lines().filter(|line| !line.starts_with("e2fsck 1.")).map(str::to_owned));
    let passes = said.text().lines().filter(|line| line.starts_with("Pass ")).count();
    if passes != 5 {
        remarks.push(format!("{passes} passes instead of 5"));
    }
    if said.code != 0 {
        remarks.push(format!("exit code {}", said.code));
    }
    remarks
}

/// e2fsck finds no fault.
pub fn assert_clean(image: &Path) {
    let remarks = remarks(image);
    assert!(remarks.is_empty(), "e2fsck -fn {}:\n{}", image.display(), remarks.join("\n"));
}

/// What `dumpe2fs -h` shows.
fn header(image: &Path) -> String {
    must(command("dumpe2fs").arg("-h").arg(image)).text()
}

/// The value of a field in what `dumpe2fs -h` shows.
fn value(header: &str, field: &str) -> Option<String> {
    let mut values = header.lines().filter_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    values.next().map(|value| value.trim().to_owned())
}

/// A field of the superblock as `dumpe2fs -h` names it.
pub fn superblock(image: &Path, field: &str) -> String {
    let header = header(image);
    value(&header, field)
        .unwrap_or_else(|| panic!("dumpe2fs -h {} shows no `{field}`:\n{header}", image.display()))
}

/// Fields of the superblock with their values; one that is not shown is empty.
pub fn fields<'a>(image: &Path, names: &[&'a str]) -> Vec<(&'a str, String)> {
    let header = header(image);
    names.iter().map(|name| (*name, value(&header, name).unwrap_or_default())).collect()
}

/// The same as a number.
pub fn count(image: &Path, field: &str) -> u64 {
    let value = superblock(image, field);
    value.parse().unwrap_or_else(|_| panic!("`{field}` is `{value}`"))
}

/// All unprivileged judges: e2fsck, and both readers compared with `expected`, the source as it should be in
/// the image.
pub fn judge(image: &Path, expected: &Snapshot) {
    assert_clean(image);
    if view_reads(expected) {
        assert_same("ext4-view", expected, &view(image).without_lost_and_found(), &VIEW);
    }
    assert_same("debugfs", expected, &debugfs::view(image).without_lost_and_found(), &debugfs::VIEW);
}

/// The aspects of `ext4-view`, which has no link counts, inodes, attributes, devices and holes.
pub const VIEW: [Aspect; 5] = [Aspect::Mode, Aspect::Owner, Aspect::Time, Aspect::Bytes, Aspect::Target];

/// Whether `ext4-view` 1.0.0 can read all of this. It takes two things for damage: times whose low 32 bits
/// are negative (1901 to 1970, 2038 to 2106 and so on), and links to names of over 255 bytes. The other
/// readers read them.
fn view_reads(expected: &Snapshot) -> bool {
    expected.0.values().all(|entry| {
        entry.mtime.0.rem_euclid(1 << 32) < 1 << 31
            && entry.target.split(|byte| *byte == b'/').all(|part| part.len() <= 255)
    })
}

/// A filesystem as `ext4-view` reads it.
pub fn view(image: &Path) -> Snapshot {
    let ext4 = Ext4::load_from_path(image).unwrap_or_else(|error| panic!("ext4-view: {error}"));
    let mut snapshot = Snapshot::default();
    let mut stack = vec![Vec::new()];
    while let Some(path) = stack.pop() {
        let absolute = [b"/", path.as_slice()].concat();
        let absolute = ViewPath::new(&absolute);
        let entry = view_entry(&ext4, absolute);
        if entry.kind == Kind::Directory {
            for child in ext4.read_dir(absolute).unwrap() {
                let child = child.unwrap();
                let name = child.file_name();
                if name != "." && name != ".." {
                    stack.push(join(&path, name.as_ref()));
                }
            }
        }
        snapshot.0.insert(path, entry);
    }
    snapshot
}

/// What it shows of one path.
fn view_entry(ext4: &Ext4, path: ViewPath<'_>) -> Entry {
    let fail = |error: ext4_view::Ext4Error| -> ! { panic!("ext4-view: {}: {error}", path.display()) };
    let meta = ext4.symlink_metadata(path).unwrap_or_else(|error| fail(error));
    let kind = match meta.file_type() {
        FileType::Regular => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharacterDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
    };
    let mut entry = Entry::new(kind);
    (entry.mode, entry.uid, entry.gid) = (meta.mode(), meta.uid(), meta.gid());
    let modified = meta.modified();
    entry.mtime = (modified.seconds(), modified.nanoseconds());
    match kind {
        Kind::File => {
            entry.size = meta.len();
            entry.digest = view_digest(ext4, path, meta.len()).unwrap_or_else(|error| fail(error));
        }
        Kind::Symlink => {
            let target = ext4.read_link(path).unwrap_or_else(|error| fail(error));
            entry.target = <ext4_view::PathBuf as AsRef<[u8]>>::as_ref(&target).to_vec();
            entry.size = u64_of(entry.target.len());
        }
        _ => {}
    }
    entry
}

fn view_digest(ext4: &Ext4, path: ViewPath<'_>, size: u64) -> Result<[u8; 32], ext4_view::Ext4Error> {
    let mut file = ext4.open(path)?;
    let mut digester = Digester::default();
    let mut buffer = vec![0; usize_of(Digester::BLOCK)];
    for number in 0..size.div_ceil(Digester::BLOCK) {
        let length = usize_of(Digester::BLOCK.min(size - number * Digester::BLOCK));
        let mut done = 0;
        while done < length {
            let more = file.read_bytes(&mut buffer[done..length])?;
            assert_ne!(more, 0, "ext4-view: {} ends early", path.display());
            done += more;
        }
        digester.block(number, &buffer[..length]);
    }
    Ok(digester.finish())
}
