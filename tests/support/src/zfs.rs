//! Judges of a ZFS pool that need no kernel module: zdb, and the crate `lamzfs` as an independent reader.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use lamzfs::{BlockRead, EntryKind, PoolMember, Zfs};

use super::snapshot::{Digester, Entry, Kind, Snapshot, join};
use super::tools::{Said, command, must, run};

/// zdb, on the pool in the image that is alone in its folder.
fn zdb(image: &Path, arguments: &[&str]) -> Said {
    run(command("zdb").arg("-e").arg("-p").arg(image.parent().unwrap()).args(arguments))
}

/// What zdb says of a pool that is wrong with it. The image is alone in its folder, since zdb looks at all that is there.
pub fn remarks(image: &Path, pool: &str) -> Vec<String> {
    let mut remarks = Vec::new();
    let labels = must(command("zdb").arg("-l").arg(image)).text();
    // All four are equal: they are shown once.
    if !labels.trim_end().ends_with("labels = 0 1 2 3") || labels.contains("Bad label") {
        remarks.push(format!("labels differ or are bad:\n{labels}"));
    }
    let blocks = zdb(image, &["-bcc", pool]);
    if !blocks.text().contains("No leaks (block sum matches space maps exactly)") {
        remarks.push("blocks and space maps are not the same".to_owned());
    }
    // Orphans and the counts of features; with more it looks for the path of each object, name by name.
    let objects = zdb(image, &["-dd", pool]);
    if !objects.text().contains("Dataset mos [META]") {
        remarks.push("zdb shows no objects".to_owned());
    }
    for said in [blocks, objects] {
        if said.code != 0 {
            remarks.push(format!("exit code {}", said.code));
        }
        let text = format!("{}{}", said.text(), said.error());
        let wrong =
            ["leak", "mismatch", "error", "unable", "failed", "invalid", "ASSERT", "corrupt", "MISSING"];
        remarks.extend(
            text.lines()
                .filter(|line| wrong.iter().any(|word| line.contains(word)))
                // Names of tables and counts that are 0, and what verification says when all is well.
                .filter(|line| {
                    let line = line.trim();
                    !(line.starts_with("No leaks")
                        || line.starts_with("Traversing all blocks")
                        || line.contains("errlog")
                        || line.contains("errata"))
                })
                .map(str::to_owned),
        );
    }
    remarks
}

/// zdb has nothing to say.
pub fn assert_clean(image: &Path, pool: &str) {
    let remarks = remarks(image, pool);
    assert!(remarks.is_empty(), "zdb {pool}:\n{}", remarks.join("\n"));
}

/// What zdb shows of the objects of a dataset that have a path: its lines of `name` and `value`, by path.
pub fn objects(image: &Path, dataset: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let said = zdb(image, &["-ddddd", dataset]);
    assert_eq!(said.code, 0, "{}", said.error());
    let mut objects = BTreeMap::new();
    for object in said.text().split("\n    Object ") {
        let lines = object.lines().filter_map(|line| line.strip_prefix('\t'));
        let fields: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(|letter: char| letter.is_ascii_whitespace()))
            .map(|(name, value)| (name.to_owned(), value.trim_start().to_owned()))
            .collect();
        if let Some(path) = fields.get("path") {
            objects.insert(path.trim_start_matches('/').to_owned(), fields);
        }
    }
    objects
}

/// `expected` as zdb is to show it: modes, owners, links, targets, devices, extended attributes. Only names that zdb prints
/// as they are.
pub fn assert_objects(image: &Path, dataset: &str, expected: &Snapshot) {
    let objects = objects(image, dataset);
    let mut compared = 0;
    for (path, entry) in &expected.0 {
        let Some(fields) = std::str::from_utf8(path).ok().and_then(|path| objects.get(path)) else {
            continue;
        };
        compared += 1;
        let name = String::from_utf8_lossy(path);
        let field = |field: &str| fields.get(field).map_or("", String::as_str);
        let kind = match entry.kind {
            Kind::Directory => 0o40_000,
            Kind::File => 0o100_000,
            Kind::Symlink => 0o120_000,
            Kind::CharacterDevice => 0o20_000,
            Kind::BlockDevice => 0o60_000,
            Kind::Fifo => 0o10_000,
            Kind::Socket => 0o140_000_u32,
        };
        assert_eq!(field("mode"), format!("{:o}", kind | u32::from(entry.mode)), "{name}");
        assert_eq!(
            (field("uid"), field("gid")),
            (&*entry.uid.to_string(), &*entry.gid.to_string()),
            "{name}"
        );
        assert_eq!(field("links"), entry.links.to_string(), "{name}");
        if entry.kind == Kind::File {
            assert_eq!(field("size"), entry.size.to_string(), "{name}");
        }
        // Others are not printed as they are.
        let plain = |byte: &u8| byte.is_ascii_graphic();
        if entry.kind == Kind::Symlink && entry.target.iter().all(plain) {
            assert_eq!(field("target").as_bytes(), entry.target, "{name}");
        }
        if matches!(entry.kind, Kind::CharacterDevice | Kind::BlockDevice) {
            let (major, minor) = entry.device;
            assert_eq!(
                field("rdev"),
                format!("{:#018x}", u64::from(major) << 20 | u64::from(minor)),
                "{name}"
            );
        }
        // "SA xattrs: 140 bytes, 2 entries"
        let count = fields.get("SA").and_then(|line| line.split(", ").nth(1)).unwrap_or("0 entries");
        assert_eq!(count, format!("{} entries", entry.xattrs.len()), "{name}");
    }
    assert!(compared * 2 >= expected.0.len(), "zdb shows {compared} of {} names", expected.0.len());
}

/// An image as `lamzfs` reads it.
struct Image(File);

impl BlockRead for Image {
    type Error = std::io::Error;

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read_exact_at(bytes, offset)
    }
}

/// A pool as `lamzfs` reads it.
fn opened(image: &Path) -> Zfs<Image> {
    let file = File::open(image).unwrap();
    let device_size_bytes = file.metadata().unwrap().len();
    Zfs::import(vec![PoolMember { reader: Image(file), device_size_bytes }]).unwrap()
}

/// The names in the root of a dataset, as `lamzfs` reads them.
pub fn names(image: &Path, dataset: &[&str]) -> BTreeSet<String> {
    opened(image).read_dir(dataset, &[]).unwrap().into_iter().map(|entry| entry.name).collect()
}

/// The files of a dataset with their contents, as `lamzfs` reads them: types, sizes and digests. It knows only names of
/// UTF-8.
pub fn view(image: &Path, dataset: &[&str]) -> Snapshot {
    let mut zfs = opened(image);
    let mut snapshot = Snapshot::default();
    snapshot.0.insert(Vec::new(), Entry::new(Kind::Directory));
    let mut todo: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(folder) = todo.pop() {
        let parts: Vec<&str> = folder.iter().map(String::as_str).collect();
        for found in zfs.read_dir(dataset, &parts).unwrap() {
            let path: Vec<&str> = parts.iter().copied().chain([found.name.as_str()]).collect();
            let mut entry = match found.kind {
                EntryKind::Directory => Entry::new(Kind::Directory),
                EntryKind::Regular => Entry::new(Kind::File),
                EntryKind::Symlink => Entry::new(Kind::Symlink),
                // Devices, pipes and sockets are one to it.
                EntryKind::Other => Entry::new(Kind::Fifo),
            };
            if found.kind == EntryKind::Regular {
                let bytes = zfs.read(dataset, &path).unwrap();
                let mut digester = Digester::default();
                for (number, block) in (0..).zip(bytes.chunks(4096)) {
                    digester.block(number, block);
                }
                entry.digest = digester.finish();
                entry.size = crate::numbers::u64_of(bytes.len());
            }
            let parent = parts.join("/");
            snapshot.0.insert(join(parent.as_bytes(), found.name.as_bytes()), entry);
            if found.kind == EntryKind::Directory {
                todo.push(path.iter().map(|part| (*part).to_owned()).collect());
            }
        }
    }
    snapshot
}

/// `expected` and what `lamzfs` reads of a dataset are the same: names, types, contents.
pub fn assert_contents(image: &Path, dataset: &[&str], expected: &Snapshot) {
    let found = view(image, dataset);
    let plain = |snapshot: &Snapshot| -> BTreeMap<String, (String, u64, [u8; 32])> {
        let entries = snapshot.0.iter().map(|(path, entry)| {
            let special =
                matches!(entry.kind, Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo | Kind::Socket);
            let kind = if special { "special".to_owned() } else { format!("{:?}", entry.kind) };
            let size = if entry.kind == Kind::File { entry.size } else { 0 };
            (String::from_utf8_lossy(path).into_owned(), (kind, size, entry.digest))
        });
        entries.collect()
    };
    let (expected, found) = (plain(expected), plain(&found));
    for (path, entry) in &expected {
        assert_eq!(found.get(path), Some(entry), "{path}");
    }
    assert_eq!(expected.len(), found.len());
}
