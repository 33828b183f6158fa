//! The program's own reader of filesystems, as one more reader of the same images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use diskwright::container::{Format, OpenOptions, open};
use diskwright::error::Result;
use diskwright::filesystem::{Content, Inode, Remark, Volume, contents};
use diskwright::image::Slice;
use diskwright::units::{u64_of, usize_of};

use crate::support::snapshot::{Digester, Entry, Kind, Snapshot, join};

/// The bytes of a raw image.
pub(crate) fn slice(image: &Path) -> Slice {
    let options = OpenOptions { format: Some(Format::Raw), allow_backing: false };
    open(image, &options).unwrap_or_else(|error| panic!("{error}")).image.whole()
}

/// The filesystem in a raw image.
pub(crate) fn opened(image: &Path) -> Box<dyn Volume> {
    let volume = diskwright::filesystem::open(&slice(image)).unwrap_or_else(|error| panic!("{error}"));
    volume.unwrap_or_else(|| panic!("no filesystem in {}", image.display()))
}

/// What the reader remarks about a filesystem.
pub(crate) fn remarks(volume: &dyn Volume) -> Vec<Remark> {
    let mut remarks = Vec::new();
    volume
        .check(&mut |remark| {
            remarks.push(remark);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    remarks
}

/// It remarks nothing.
pub(crate) fn assert_clean(image: &Path) {
    let remarks: Vec<String> = remarks(&*opened(image)).iter().map(Remark::to_string).collect();
    assert!(remarks.is_empty(), "{}:\n{}", image.display(), remarks[..remarks.len().min(20)].join("\n"));
}

/// A filesystem as the reader shows it. Sectors are those of the data alone.
pub(crate) fn view(volume: &dyn Volume) -> Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    let mut names: BTreeMap<Inode, Vec<Vec<u8>>> = BTreeMap::new();
    let mut places = BTreeSet::new();
    let mut stack = vec![(Vec::new(), volume.root())];
    while let Some((path, inode)) = stack.pop() {
        let entry = entry(volume, inode)?;
        if let Content::Directory { place } = volume.node(inode)?.content {
            assert!(places.insert(place), "a directory has two names: {path:?}");
            let mut found = Vec::new();
            volume.list(inode, &mut |name, child| {
                found.push((name.to_vec(), child));
                Ok(())
            })?;
            // What is listed is found by its name: the first, the last, and one between.
            for at in [0, found.len() / 2, found.len().saturating_sub(1)] {
                if let Some((name, child)) = found.get(at) {
                    assert_eq!(volume.lookup(inode, name)?, Some(*child), "{path:?} {name:?}");
                }
            }
            assert_eq!(volume.lookup(inode, b"there is no such name")?, None);
            stack.extend(found.into_iter().map(|(name, child)| (join(&path, &name), child)));
        }
        names.entry(inode).or_default().push(path.clone());
        snapshot.0.insert(path, entry);
    }
    for same in names.values() {
        snapshot.same_inode(same);
    }
    Ok(snapshot)
}

/// What it shows of one inode.
fn entry(volume: &dyn Volume, inode: Inode) -> Result<Entry> {
    let node = volume.node(inode)?;
    let mut entry = Entry::new(match &node.content {
        Content::Directory { .. } => Kind::Directory,
        Content::File { .. } => Kind::File,
        Content::Symlink { .. } => Kind::Symlink,
        Content::CharacterDevice(_) => Kind::CharacterDevice,
        Content::BlockDevice(_) => Kind::BlockDevice,
        Content::Fifo => Kind::Fifo,
        Content::Socket => Kind::Socket,
    });
    let meta = node.meta;
    (entry.mode, entry.uid, entry.gid, entry.links) = (meta.mode, meta.uid, meta.gid, meta.links.into());
    entry.mtime = (meta.mtime.seconds, meta.mtime.nanoseconds);
    entry.xattrs = meta.xattrs.into_iter().map(|xattr| (xattr.name, xattr.value)).collect();
    match node.content {
        Content::File { size } => {
            entry.size = size.get();
            entry.data = data(volume, inode)?;
            entry.digest = digest(&contents(volume, inode)?, &entry.data)?;
            let blocks = entry.data.iter().map(|(start, end)| end.div_ceil(4096) - start / 4096);
            entry.sectors = blocks.sum::<u64>() * 8;
        }
        Content::Symlink { target } => (entry.size, entry.target) = (u64_of(target.len()), target),
        Content::CharacterDevice(device) | Content::BlockDevice(device) => entry.device = device,
        _ => {}
    }
    Ok(entry)
}

/// Where a file has data, pieces that touch joined.
fn data(volume: &dyn Volume, inode: Inode) -> Result<Vec<(u64, u64)>> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    volume.data(inode, &mut |at, piece| {
        let (start, end) = (at.get(), (at + piece.length()).get());
        assert!(start < end, "an empty piece");
        match ranges.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            last => {
                assert!(last.is_none_or(|last| last.1 < start), "pieces do not ascend");
                ranges.push((start, end));
            }
        }
        Ok(())
    })?;
    Ok(ranges)
}

/// The digest of a file's bytes.
fn digest(file: &Slice, data: &[(u64, u64)]) -> Result<[u8; 32]> {
    let mut digester = Digester::default();
    let mut cursor = file.cursor();
    let mut buffer = [0; usize_of(Digester::BLOCK)];
    let mut next = 0;
    for (start, end) in data {
        for number in next.max(start / Digester::BLOCK)..end.div_ceil(Digester::BLOCK) {
            let at = number * Digester::BLOCK;
            let block = &mut buffer[..usize_of(Digester::BLOCK.min(file.length().get() - at))];
            cursor.read(at, block)?;
            digester.block(number, block);
            next = number + 1;
        }
    }
    Ok(digester.finish())
}
