//! Compares what two readers show. A reader that shows less names the aspects that it shows; the others are
//! not compared.

use crate::numbers::u64_of;

use super::snapshot::{Entry, Kind, Snapshot};

/// The name of a file, which may be any bytes, on one line.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}

/// Something an entry shows, with the name it has in a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// Permissions with setuid, setgid and sticky.
    Mode,
    /// User and group.
    Owner,
    /// To the nanosecond.
    Time,
    /// The link count.
    Links,
    /// Which names share an inode.
    Groups,
    /// Length and bytes of regular files.
    Bytes,
    /// Of symbolic links.
    Target,
    /// Major and minor number.
    Device,
    /// Extended attributes.
    Xattrs,
    /// The places of data and holes, and whether the occupied space fits them.
    Holes,
}

/// All aspects, which the kernel shows.
pub const ALL: [Aspect; 10] = [
    Aspect::Mode,
    Aspect::Owner,
    Aspect::Time,
    Aspect::Links,
    Aspect::Groups,
    Aspect::Bytes,
    Aspect::Target,
    Aspect::Device,
    Aspect::Xattrs,
    Aspect::Holes,
];

/// All aspects except holes, which many readers do not show.
pub const ALL_BUT_HOLES: [Aspect; 9] = [
    Aspect::Mode,
    Aspect::Owner,
    Aspect::Time,
    Aspect::Links,
    Aspect::Groups,
    Aspect::Bytes,
    Aspect::Target,
    Aspect::Device,
    Aspect::Xattrs,
];

/// How `found` differs from `expected` in names, types and `aspects`: one line for each difference.
pub fn differences(expected: &Snapshot, found: &Snapshot, aspects: &[Aspect]) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, entry) in &expected.0 {
        let name = printable(path);
        match found.0.get(path) {
            None => lines.push(format!("{name}: missing")),
            Some(other) if other.kind != entry.kind => {
                lines.push(format!("{name}: expected a {:?}, found a {:?}", entry.kind, other.kind));
            }
            Some(other) => {
                for aspect in aspects {
                    if let Some((wanted, seen)) = difference(entry, other, *aspect) {
                        lines.push(format!("{name}: {aspect:?}: expected {wanted}, found {seen}"));
                    }
                }
            }
        }
    }
    for path in found.0.keys().filter(|path| !expected.0.contains_key(*path)) {
        lines.push(format!("{}: not in the source", printable(path)));
    }
    lines
}

/// What was wanted and what was seen, where they differ in `aspect`.
fn difference(wanted: &Entry, seen: &Entry, aspect: Aspect) -> Option<(String, String)> {
    fn unless<T: PartialEq>(wanted: &T, seen: &T, show: impl Fn(&T) -> String) -> Option<(String, String)> {
        (wanted != seen).then(|| (show(wanted), show(seen)))
    }
    match aspect {
        Aspect::Mode => unless(&wanted.mode, &seen.mode, |mode| format!("{mode:04o}")),
        Aspect::Owner => {
            unless(&(wanted.uid, wanted.gid), &(seen.uid, seen.gid), |(uid, gid)| format!("{uid}:{gid}"))
        }
        Aspect::Time => unless(&wanted.mtime, &seen.mtime, |time| format!("{time:?}")),
        Aspect::Links => unless(&wanted.links, &seen.links, u64::to_string),
        Aspect::Groups => {
            unless(&wanted.inode, &seen.inode, |path| format!("the inode of {}", printable(path)))
        }
        Aspect::Bytes => {
            unless(&(wanted.size, wanted.digest), &(seen.size, seen.digest), |(size, digest)| {
                format!("{size} bytes of digest {:02x}{:02x}...", digest[0], digest[1])
            })
        }
        Aspect::Target => unless(&wanted.target, &seen.target, |target| printable(target)),
        Aspect::Device => unless(&wanted.device, &seen.device, |device| format!("{device:?}")),
        Aspect::Xattrs => unless(&wanted.xattrs, &seen.xattrs, |xattrs| {
            let shown: Vec<_> = xattrs
                .iter()
                .map(|(name, value)| {
                    let start = &value[..value.len().min(24)];
                    format!("{}={} ({})", printable(name), printable(start), value.len())
                })
                .collect();
            format!("[{}]", shown.join(", "))
        }),
        Aspect::Holes => {
            unless(&wanted.data, &seen.data, |data| format!("data in {:?}", &data[..data.len().min(8)]))
                .or_else(|| implausible(seen))
        }
    }
}

/// Occupied space that does not fit the data: less than the data, or more than the data plus the largest maps
/// and attributes.
fn implausible(entry: &Entry) -> Option<(String, String)> {
    if entry.kind != Kind::File {
        return None;
    }
    let blocks: u64 = entry.data.iter().map(|(start, end)| end.div_ceil(4096) - start / 4096).sum();
    // Beside the data: one block of attributes, and one of extents for each 340 of them and for their index.
    let maps = 2 + u64_of(entry.data.len()).div_ceil(340);
    let (least, most) = (blocks * 8, (blocks + maps) * 8);
    (!(least..=most).contains(&entry.sectors))
        .then(|| (format!("{least} to {most} sectors for its data"), entry.sectors.to_string()))
}

/// Fails with the first differences, if there are any.
pub fn assert_same(judge: &str, expected: &Snapshot, found: &Snapshot, aspects: &[Aspect]) {
    let lines = differences(expected, found, aspects);
    assert!(
        lines.is_empty(),
        "{judge} finds {} differences:\n{}",
        lines.len(),
        lines[..lines.len().min(20)].join("\n")
    );
}
