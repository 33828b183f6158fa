//! Files of a filesystem that was written, read by its reader. It finds them by the names of the tree that was written.

use std::collections::HashMap;

use crate::error::{Error, Kind, Result};
use crate::filesystem::{self, Inode, Volume, contents};
use crate::image::{Cursor, Slice};
use crate::tree::{NodeId, Tree};
use crate::units::Bytes;

/// A reader of one filesystem.
pub(super) struct Reader {
    volume: Box<dyn Volume>,
    /// Directories that were found.
    folders: HashMap<NodeId, Inode>,
    /// The file that was read last.
    file: Option<(NodeId, Cursor)>,
}

/// What the disk does not have and the tree has.
fn absent(tree: &Tree, node: NodeId) -> Error {
    Error::new(Kind::Source, "a file is not on the disk that was written").at(tree.path(node))
}

impl Reader {
    /// Opens the filesystem in `slice` that was made of `tree`; `shown_at` says where directories of the tree are.
    ///
    /// # Errors
    /// Those of the reader.
    pub(super) fn open(slice: &Slice, tree: &Tree, shown_at: &[(String, String)]) -> Result<Self> {
        let volume = filesystem::open(slice)?
            .ok_or_else(|| Error::new(Kind::Source, "the filesystem that was written cannot be read"))?;
        let mut reader = Self { volume, folders: HashMap::new(), file: None };
        for (path, shown) in shown_at {
            let Some(folder) = tree.find(path.as_bytes()) else { continue };
            let mut inode = reader.volume.root();
            for name in shown.split('/').filter(|name| !name.is_empty()) {
                let found = reader.volume.lookup(inode, name.as_bytes())?;
                inode = found.ok_or_else(|| absent(tree, folder))?;
            }
            reader.folders.insert(folder, inode);
        }
        Ok(reader)
    }

    /// Fills `out` with the bytes of a file from byte `at` on.
    ///
    /// # Errors
    /// Those of the reader, and [`Kind::Source`] for a file that is not there.
    pub(super) fn read(&mut self, tree: &Tree, node: NodeId, at: u64, out: &mut [u8]) -> Result<()> {
        if self.file.as_ref().is_none_or(|(open, _)| *open != node) {
            let folder = self.folder(tree, tree.parent(node))?;
            let found = self.volume.lookup(folder, tree.name(node))?;
            let file = contents(&*self.volume, found.ok_or_else(|| absent(tree, node))?)?;
            let length = Bytes::new(tree.size(node));
            if file.length() != length {
                return Err(Error::new(
                    Kind::Source,
                    "a file has another length on the disk that was written",
                )
                .at(tree.path(node))
                .expected(length.in_full())
                .found(file.length().in_full()));
            }
            self.file = Some((node, file.cursor()));
        }
        match &mut self.file {
            Some((_, cursor)) => cursor.read(at, out),
            None => Err(Error::bug("a file that was opened is not open")),
        }
    }

    /// The inode of a directory of the tree.
    fn folder(&mut self, tree: &Tree, node: NodeId) -> Result<Inode> {
        let mut below = vec![node];
        let mut inode = loop {
            let Some(node) = below.last().copied() else { return Err(absent(tree, node)) };
            if let Some(found) = self.folders.get(&node) {
                below.pop();
                break *found;
            }
            if node == NodeId::ROOT {
                return Err(absent(tree, node));
            }
            below.push(tree.parent(node));
        };
        for node in below.into_iter().rev() {
            inode = self.volume.lookup(inode, tree.name(node))?.ok_or_else(|| absent(tree, node))?;
            self.folders.insert(node, inode);
        }
        Ok(inode)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::sync::Arc;

    use crate::filesystem::{Placement, Size, Spec};
    use crate::nix::verify::{Expected, Filesystem, Verification};
    use crate::nix::{Closure, nar};
    use crate::pour::Packer;
    use crate::progress::Progress;
    use crate::tree::{Builder, Meta, Time};
    use crate::units::{Bytes, MIB};

    const A: &str = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-a-1.0";

    /// Every filesystem is read back by what its files are found by: their places, or a reader.
    #[test]
    fn store_paths_are_read_back_from_every_filesystem() {
        let (folder, progress) = (tempfile::tempdir().unwrap(), Progress::default());
        let place = folder.path().join("a");
        std::fs::create_dir_all(place.join("share")).unwrap();
        let meta = |mode| Meta::root(mode, Time::seconds(1));
        let mut builder = Builder::new(Time::seconds(1));
        let origin = builder.origin("a test");
        for (name, length) in
            [("share/long", 300_000_u32), ("share/same", 300_000), ("short", 70), ("none", 0)]
        {
            let bytes: Vec<u8> = (0..length).flat_map(|number| (number / 7).to_le_bytes()).collect();
            let file = place.join(name);
            std::fs::write(&file, bytes).unwrap();
            let found = std::fs::metadata(&file).unwrap();
            let stamp = crate::host::stamp(found.mtime(), u32::try_from(found.mtime_nsec()).unwrap());
            builder
                .file(format!("{A}/{name}").as_bytes(), &file, (found.size(), stamp), meta(0o444), origin)
                .unwrap();
        }
        let tree = Arc::new(builder.finish(1).unwrap());
        let digested = nar::hash_host(&place, 1, &progress).unwrap();
        let expected = |size: u64| {
            let mut closure = Closure::default();
            let text = format!("{A}\n{}\n{size}\n\n0\n", digested.hash);
            let registered = Closure::from_registration(text.as_bytes(), Path::new("registration"));
            closure.merge(registered.unwrap()).unwrap();
            Expected::new(Arc::new(closure))
        };
        for spec in [
            r#"{"type":"ext4"}"#,
            r#"{"type":"squashfs","compress":"gzip"}"#,
            r#"{"type":"erofs"}"#,
            r#"{"type":"erofs","compress":"lz4"}"#,
            r#"{"type":"zfs","compress":"off"}"#,
            r#"{"type":"zfs","datasets":{"nix":{"mount":"/nix"},"root":{"mount":"/"}}}"#,
        ] {
            let options: Spec = serde_json::from_str(spec).unwrap();
            let at = Placement { size: Size::Auto, ..Placement::alone(uuid::Uuid::from_u128(1)) };
            let made = options.build(Some(&tree), &at, &Packer::default()).unwrap().image;
            // Not at the start of its disk.
            let place = (Bytes::new(MIB), Bytes::new(MIB) + made.length());
            let mut disk = crate::image::Builder::new(place.1);
            disk.put(place.0, &made.whole());
            let disk = disk.finish().unwrap();
            let compare = |size: u64| {
                let own = Filesystem { tree: Arc::clone(&tree), place, shown_at: options.shown_at() };
                Verification::new(&disk, vec![own], &expected(size)).unwrap().run(&disk, 2, &progress)
            };
            compare(digested.size).unwrap_or_else(|error| panic!("{spec}: {error}"));
            let error = compare(digested.size + 1).unwrap_err();
            assert_eq!(error.what(), "a store path is not what Nix says it is", "{spec}");
        }
        // A filesystem that is not there, and a file that it lacks.
        let other = Arc::new(Builder::new(Time::seconds(1)).finish(1).unwrap());
        let options: Spec = serde_json::from_str(r#"{"type":"squashfs","compress":"gzip"}"#).unwrap();
        let at = Placement { size: Size::Auto, ..Placement::alone(uuid::Uuid::from_u128(1)) };
        let empty = options.build(Some(&other), &at, &Packer::default()).unwrap().image;
        let nothing = crate::image::Builder::new(Bytes::new(MIB)).finish().unwrap();
        for (disk, what) in [
            (empty, "a file is not on the disk that was written"),
            (nothing, "the filesystem that was written cannot be read"),
        ] {
            let place = (Bytes::ZERO, disk.length());
            let own = Filesystem { tree: Arc::clone(&tree), place, shown_at: options.shown_at() };
            let compared = Verification::new(&disk, vec![own], &expected(digested.size)).unwrap();
            assert_eq!(compared.run(&disk, 1, &progress).unwrap_err().what(), what);
        }
    }
}
