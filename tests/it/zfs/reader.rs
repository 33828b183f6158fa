//! The program's own reader of pools: trees, snapshots, volumes, what it says of damage, and its commands.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use diskwright::filesystem::{Content, Inode, Volume, contents};

use super::{DATASETS, manifest, places, varied};
use crate::read;
use crate::support::compare::{ALL_BUT_HOLES, Aspect, assert_same};
use crate::support::program::{build, diskwright, mkfs_zfs};
use crate::support::snapshot::{Kind, Snapshot};
use crate::support::table;
use crate::support::tools::{must, run, scratch};
use crate::support::tree;

/// It reads `expected` of a pool, and finds no fault.
pub(super) fn assert_read(image: &Path, expected: &Snapshot) {
    let found = read::view(&*read::opened(image)).unwrap_or_else(|error| panic!("{error}"));
    assert_same("the reader", expected, &found, &ALL_BUT_HOLES);
    read::assert_clean(image);
}

/// What is compared of a tree that is not at the root: inodes have the paths of their first names.
pub(super) const ASPECTS: [Aspect; 8] = [
    Aspect::Mode,
    Aspect::Owner,
    Aspect::Time,
    Aspect::Links,
    Aspect::Bytes,
    Aspect::Target,
    Aspect::Device,
    Aspect::Xattrs,
];

/// The inode of a path.
pub(super) fn find(volume: &dyn Volume, path: &str) -> Inode {
    path.split('/').filter(|part| !part.is_empty()).fold(volume.root(), |inode, part| {
        let found = volume.lookup(inode, part.as_bytes()).unwrap_or_else(|error| panic!("{path}: {error}"));
        found.unwrap_or_else(|| panic!("there is no {part} of {path}"))
    })
}

/// The names in a directory.
pub(super) fn names(volume: &dyn Volume, path: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut each = |name: &[u8], _| {
        names.push(String::from_utf8_lossy(name).into_owned());
        Ok(())
    };
    volume.list(find(volume, path), &mut each).unwrap_or_else(|error| panic!("{path}: {error}"));
    names.sort();
    names
}

/// What the commands say.
fn said(arguments: &[&str], at: &str) -> String {
    must(diskwright().args(arguments).arg(at)).text()
}

/// Datasets are directories, wherever their contents were in the tree; what they cover is not shown.
#[test]
fn datasets_are_directories_of_one_tree() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    tree::plain(&source);
    tree::Maker::new(&source).file("etc/large", tree::noise(3, 300_000)).finish();
    let whole = Snapshot::of(&source).links_as_in_ext4().owned_by(0, 0);
    build(&manifest(folder.path(), DATASETS), &image);
    let volume = read::opened(&image);
    assert_eq!(names(&*volume, "/"), ["home", "root"]);
    assert_eq!(names(&*volume, "/home"), [""; 0]);
    assert_eq!(names(&*volume, "/root/.zfs/snapshot"), ["blank", "second"]);
    assert_eq!(names(&*volume, "/root@blank"), names(&*volume, "/root"));
    let found = read::view(&*volume).unwrap();
    // Of the pool's own dataset only datasets are there.
    let below = found.0.iter().filter_map(|(path, entry)| {
        let rest = path.strip_prefix(b"root")?;
        Some((rest.strip_prefix(b"/").unwrap_or(rest).to_vec(), entry.clone()))
    });
    let shown = Snapshot(below.collect());
    assert_same("the reader", &whole, &shown, &ASPECTS);
    assert_eq!(found.0[&b"home".to_vec()].kind, Kind::Directory);
    assert_eq!(found.0.len(), whole.0.len() + 2);
    read::assert_clean(&image);
    let facts = volume.facts();
    assert_eq!((facts.kind, facts.label.as_str()), ("zfs", "tank"));
}

#[test]
fn snapshots_and_volumes_are_read() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    tree::plain(&source);
    let bytes = tree::noise(5, 700_000);
    tree::Maker::new(&source).file("disk.img", &bytes).finish();
    let options = "properties = { copies = \"2\", compression = \"zle\" }\n\
        [partition.filesystem.datasets.root]\nmount = \"/\"\nempty_snapshots = [ \"blank\" ]\nsnapshots = [ \"now\" ]\n\
        [partition.filesystem.datasets.\"root/disk\"]\ntype = \"volume\"\nvolsize = \"1MiB\"\nfile = \"/disk.img\"\n\
        snapshots = [ \"now\" ]\n";
    build(&manifest(folder.path(), options), &image);
    let volume = read::opened(&image);
    assert_eq!(names(&*volume, "/root/.zfs/snapshot/blank"), [""; 0]);
    let (now, then) = (names(&*volume, "/root"), names(&*volume, "/root/.zfs/snapshot/now"));
    assert_eq!(
        now.iter().filter(|name| *name != "disk").collect::<Vec<_>>(),
        then.iter().collect::<Vec<_>>()
    );
    assert_eq!(names(&*volume, "/root@now"), then);
    for path in ["root/disk", "root/disk@now"] {
        // A snapshot of a volume is beside it.
        let inode = find(&*volume, path);
        let Content::File { size } = volume.node(inode).unwrap().content else { panic!("{path} is no file") };
        assert_eq!(size.get(), 1 << 20);
        let slice = contents(&*volume, inode).unwrap();
        let mut expected = bytes.clone();
        expected.resize(1 << 20, 0);
        assert!(slice.bytes(0, 1 << 20).unwrap() == expected, "{path}");
    }
    assert!(volume.lookup(volume.root(), b"root@never").unwrap().is_none());
    read::assert_clean(&image);
    // The files of a snapshot are those of the tree: a text of the plain tree.
    let at = |path: &str| format!("{}:{path}", image.display());
    assert_eq!(
        said(&["cat"], &at("/root/.zfs/snapshot/now/etc/motd")),
        said(&["cat"], &at("/root/etc/motd"))
    );
}

/// A disk as `zpool create` lays it out, and a bare vdev, with every command.
#[test]
fn the_commands_read_pools() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    let expected = varied(&source);
    mkfs_zfs(&source, &image, &["--owner", "preserve", "--compress", "zstd-3", "--label", "pool"]);
    let path = image.display().to_string();
    assert!(said(&["check"], &path).is_empty());
    let listed = said(&["ls", "-R"], &path);
    assert!(listed.contains("long link") && listed.contains("size-131073"), "{listed}");
    assert_eq!(
        said(&["cat"], &format!("{path}:/text")).len(),
        std::fs::read(source.join("text")).unwrap().len()
    );
    let copy = folder.path().join("copy");
    must(diskwright().arg("copy").arg(&path).arg(&copy));
    let copied = Snapshot::of(&copy);
    for (name, entry) in &expected.0 {
        if entry.kind == Kind::File {
            assert_eq!(copied.0.get(name).map(|own| own.digest), Some(entry.digest), "{name:?}");
        }
    }
    let same = run(diskwright().arg("diff").arg(&path).arg(&path));
    assert_eq!(same.code, 0, "{}", same.text());
    let text = "version = 1\n[disk]\ntable = \"gpt\"\nsize = \"1GiB\"\n[[partition]]\nsize = \"fill\"\nlabel = \"pool\"\n\
        filesystem = { type = \"zfs\", whole_disk = true, compress = \"gzip-1\" }\n\
        contents = [ { source = \"source\", target = \"/\", owner = \"preserve\" } ]\n\
        [[partition]]\nnumber = 9\ntype = \"solaris-reserved\"\nsize = \"8MiB\"\n";
    let (manifest, disk) = (folder.path().join("disk.toml"), folder.path().join("disk.img"));
    std::fs::write(&manifest, text).unwrap();
    build(&manifest, &disk);
    assert_eq!(table::partitions(&disk).len(), 2);
    let disk = disk.display().to_string();
    assert_eq!(said(&["ls", "-R"], &disk), listed);
    assert!(said(&["check"], &disk).is_empty());
    let told = run(diskwright().arg("diff").arg(&path).arg(&disk));
    assert_eq!(told.code, 1);
    let told = run(diskwright().arg("diff").arg(&disk).arg(&source));
    assert!(told.code <= 1, "{}", told.error());
    let inspected = said(&["inspect"], &disk);
    assert!(inspected.contains("tank") && inspected.contains("embedded_data"), "{inspected}");
}

/// Changes `bytes` at a place.
fn changed(image: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(image).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn damage_is_seen_and_another_copy_read() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    tree::Maker::new(&source).file("noise", tree::noise(1, 300_000)).file("small", "small").finish();
    let expected = Snapshot::of(&source).links_as_in_ext4().owned_by(0, 0);
    mkfs_zfs(&source, &image, &["--size", "64MiB"]);
    assert_read(&image, &expected);
    let remarks =
        || -> Vec<String> { read::remarks(&*read::opened(&image)).iter().map(ToString::to_string).collect() };
    // A label.
    changed(&image, 20 << 10, b"damage");
    let found = remarks();
    assert!(found.len() == 1 && found[0].starts_with("label 0"), "{found:?}");
    // All the first copies of metadata, which follow the contents in their third of the pool; contents have no other.
    changed(&image, (4 << 20) + 5, b"damage");
    let found = remarks();
    assert!(found.iter().any(|remark| remark.contains("checksum") && remark.contains("copy 1")), "{found:?}");
    let volume = read::opened(&image);
    let error = contents(&*volume, find(&*volume, "noise")).unwrap().bytes(0, 4096).unwrap_err();
    assert!(error.what().contains("checksum"), "{error}");
    let bytes = std::fs::read(&image).unwrap();
    let mut hurt = 0;
    for sector in
        (4 << 20..20 << 20).step_by(4096).filter(|at| bytes[*at..at + 4096].iter().any(|byte| *byte != 0))
    {
        // Behind the contents.
        if sector > (4 << 20) + 400_000 {
            changed(&image, u64::try_from(sector).unwrap(), &[bytes[sector] ^ 0xff]);
            hurt += 1;
        }
    }
    assert!(hurt > 3, "{hurt}");
    let found = read::view(&*read::opened(&image));
    assert!(found.is_err(), "the contents have one copy");
    assert_eq!(names(&*read::opened(&image), "/"), ["noise", "small"]);
    assert!(remarks().len() > 5);
}
