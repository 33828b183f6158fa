//! Datasets of every kind, before zdb.

use std::path::Path;

use diskwright::filesystem::contents;

use super::{manifest, places, reader};
use crate::read;
use crate::support::compare::assert_same;
use crate::support::ext4;
use crate::support::pinned::pinned;
use crate::support::program::{build, diskwright};
use crate::support::snapshot::Snapshot;
use crate::support::tools::{command, digest, must, run, scratch};
use crate::support::tree;
use crate::support::zfs::{assert_clean, assert_contents};

/// What zdb says of a dataset.
fn zdb(image: &Path, arguments: &[&str]) -> String {
    must(command("zdb").arg("-e").arg("-p").arg(image.parent().unwrap()).args(arguments)).text()
}

const KINDS: &str = r#"
[partition.filesystem.datasets.root]
mount = "/"
empty_snapshots = [ "blank", "second" ]
snapshots = [ "installed", "again" ]
properties = { refreservation = "30M" }
[partition.filesystem.datasets."root/one"]
empty_snapshots = [ "blank" ]
properties = { quota = "1G", reservation = "50M", refreservation = "20M", compression = "zstd-3", recordsize = "1M" }
[partition.filesystem.datasets."root/one/disk"]
type = "volume"
volsize = "10MiB"
file = "/images/disk.img"
empty_snapshots = [ "blank" ]
snapshots = [ "installed" ]
properties = { volblocksize = "8K", copies = "2" }
[partition.filesystem.datasets.nothing]
type = "volume"
volsize = "1GiB"
properties = { refreservation = "none", checksum = "sha256" }
"#;

/// Bytes are those of `zfs create -V` of OpenZFS 2.1: `auto` is what it reserves by itself, and copies count for nothing.
#[test]
fn a_volume_reserves_what_zfs_create_does() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    tree::plain(&source);
    let volume = |name: &str, properties: &str| {
        format!(
            "[partition.filesystem.datasets.{name}]\ntype = \"volume\"\nvolsize = \"16MiB\"\nproperties = {{ {properties} }}\n"
        )
    };
    let options = [
        volume("a", "copies = \"2\""),
        volume("b", "refreservation = \"auto\""),
        volume("c", "copies = \"3\", refreservation = \"auto\", volblocksize = \"8K\""),
        volume("d", "refreservation = \"none\""),
    ];
    build(&manifest(folder.path(), &options.concat()), &image);
    assert_clean(&image, "tank");
    let said = zdb(&image, &["-dddd", "tank"]);
    let found: Vec<&str> =
        said.lines().filter_map(|line| line.trim().strip_prefix("refreservation = ")).collect();
    assert_eq!(found, ["18874368", "18874368", "19398656", "0"]);
    let (path, text) =
        (manifest(folder.path(), "properties = { refreservation = \"auto\" }"), "only a volume knows");
    let said = run(diskwright().arg("build").arg(path).arg("-o").arg(&image));
    assert!(said.code == 2 && said.error().contains(text), "{}", said.error());
}

#[test]
fn volumes_and_empty_snapshots_are_clean() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    tree::plain(&source);
    let mut maker = tree::Maker::new(&source);
    maker.directory("images").file("images/other", "no volume").time("images", (7, 0)).finish();
    let expected = Snapshot::of(&source).links_as_in_ext4().owned_by(0, 0);
    let mut maker = tree::Maker::new(&source);
    maker.sparse("images/disk.img", 9_000_001, &[(0, 100_000), (8_000_000, 50_000)]);
    maker.time("images", (7, 0)).finish();
    build(&manifest(folder.path(), KINDS), &image);
    assert_clean(&image, "tank");
    pinned("zfs-datasets.txt", &format!("{}\n", digest(&image)));
    // What the volume has is no file.
    assert_contents(&image, &["root"], &expected);
    let said = zdb(&image, &["-dd", "tank"]);
    for line in [
        "Dataset tank/root@blank [ZPL]",
        "Dataset tank/root@second [ZPL]",
        "Dataset tank/root@installed [ZPL]",
        "Dataset tank/root/one@blank [ZPL]",
        "Dataset tank/root/one/disk@blank [ZVOL]",
        "Dataset tank/root/one/disk [ZVOL]",
        "Dataset tank/nothing [ZVOL]",
    ] {
        assert!(said.contains(line), "{line}:\n{said}");
    }
    // The tables and the root directory of an empty filesystem, with the three of its owners.
    for name in ["tank/root@blank", "tank/root@second"] {
        let line = said.lines().find(|line| line.contains(&format!("Dataset {name} "))).unwrap();
        assert!(line.ends_with(" 6 objects"), "{line}");
    }
    let said = zdb(&image, &["-ddddd", "tank/root/one/disk", "1"]);
    // Blocks of 8 KiB: 13 at the start, and 8 from 8,000,000 on; each copy counts.
    assert_eq!(said.matches("L0 ").count(), 13 + 8, "{said}");
    assert!(said.contains("zvol object"), "{said}");
}

/// What is below a directory becomes a filesystem that a volume has, and is nothing of the pool's own.
#[test]
fn a_volume_holds_a_filesystem_that_is_described() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    let guest = source.join("srv/guest");
    std::fs::create_dir_all(&guest).unwrap();
    tree::plain(&guest);
    tree::Maker::new(&guest).sparse("sparse", 3 << 20, &[(1 << 20, 4096)]).finish();
    tree::date(&source, tree::USUAL);
    let expected = Snapshot::of(&guest).links_as_in_ext4().owned_by(0, 0);
    let options = r#"
properties = { compression = "zle" }
[partition.filesystem.datasets.guest]
type = "volume"
volsize = "24MiB"
mount = "/srv/guest"
filesystem = { type = "ext4", label = "guest" }
snapshots = [ "made" ]
[partition.filesystem.datasets.swap]
type = "volume"
volsize = "4MiB"
properties = { volblocksize = "4K", compression = "off" }
filesystem = { type = "swap", label = "swap" }
"#;
    build(&manifest(folder.path(), options), &image);
    assert_clean(&image, "tank");
    let volume = read::opened(&image);
    assert_eq!(reader::names(&*volume, "/"), ["guest", "srv", "swap"]);
    assert_eq!(reader::names(&*volume, "/srv"), [""; 0]);
    let extract = |path: &str| {
        let slice = contents(&*volume, reader::find(&*volume, path)).unwrap();
        let out = folder.path().join(path.replace('@', "-"));
        std::fs::write(&out, slice.bytes(0, slice.length().get().try_into().unwrap()).unwrap()).unwrap();
        out
    };
    for path in ["guest", "guest@made"] {
        let guest = extract(path);
        ext4::assert_clean(&guest);
        assert_eq!(ext4::superblock(&guest, "Filesystem volume name"), "guest");
        let found = read::view(&*read::opened(&guest)).unwrap().without_lost_and_found();
        assert_same("the reader", &expected, &found, &reader::ASPECTS);
    }
    let swap = must(command("blkid").arg("-p").arg(extract("swap"))).text();
    assert!(swap.contains("LABEL=\"swap\"") && swap.contains("TYPE=\"swap\""), "{swap}");
    // Another build gives the same bytes, ids inside of volumes too.
    let again = folder.path().join("again.img");
    build(&manifest(folder.path(), options), &again);
    assert_eq!(digest(&image), digest(&again));
}

/// Lists in a dataset that looks at none, by its own property or by that of its parent.
#[test]
fn access_control_lists_without_effect_are_told() {
    use tree::{GROUP_OBJ, MASK, NOBODY, OTHER, USER, USER_OBJ};
    let folder = scratch();
    let (source, image) = places(folder.path());
    tree::Maker::new(&source).directory("a").file("a/own", "x").file("other", "x").finish();
    let list = [(USER_OBJ, 6, NOBODY), (USER, 7, 7), (4, 4, NOBODY), (MASK, 7, NOBODY), (OTHER, 0, NOBODY)];
    assert_eq!(GROUP_OBJ, 4);
    for name in ["a/own", "other"] {
        let (path, value) = (source.join(name), tree::acl(&list));
        rustix::fs::setxattr(path, "system.posix_acl_access", &value, rustix::fs::XattrFlags::empty())
            .unwrap();
    }
    let posix = "properties = { acltype = \"posix\" }";
    for (options, lists) in [
        ("[partition.filesystem.datasets.a]\nmount = \"/a\"".to_owned(), Some(2)),
        (format!("[partition.filesystem.datasets.a]\nmount = \"/a\"\n{posix}"), Some(1)),
        (format!("{posix}\n[partition.filesystem.datasets.a]\nmount = \"/a\""), None),
    ] {
        let said =
            must(diskwright().arg("build").arg(manifest(folder.path(), &options)).arg("-o").arg(&image))
                .error();
        match lists {
            Some(lists) => {
                assert!(said.contains(&format!("lists of {lists} files have no effect")), "{said}");
            }
            None => assert_eq!(said, ""),
        }
    }
}

#[test]
fn what_a_dataset_cannot_be_is_told() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    tree::Maker::new(&source)
        .file("noise", tree::noise(1, 3_000_000))
        .directory("b")
        .file("b/noise", tree::noise(2, 3_000_000))
        .directory("a")
        .file("a/name", "")
        .file("a/NAME", "")
        .file("a/\u{e9}", "")
        .finish();
    for (options, words) in [
        ("a]\nquota = \"1M\"", "unknown"),
        ("a]\nmount = \"/\"\nproperties = { quota = \"1M\" }", "tank/a has more than its `quota` allows"),
        ("a]\nmount = \"/\"\nproperties = { refquota = \"2M\" }", "more than its `refquota` allows"),
        (
            "a]\nmount = \"/a\"\nproperties = { casesensitivity = \"insensitive\" }",
            "their case does not count",
        ),
        ("a]\nmount = \"/a\"\nproperties = { normalization = \"formC\" }", "its own normal form"),
        ("a]\ntype = \"volume\"", "the volume tank/a has no size"),
        ("a]\ntype = \"volume\"\nvolsize = 1000", "a multiple of its volblocksize"),
        ("a]\ntype = \"volume\"\nvolsize = \"2MiB\"\nfile = \"/noise\"", "longer than the volume"),
        (
            "a]\ntype = \"volume\"\nvolsize = \"2MiB\"\nfile = \"/absent\"",
            "the volume tank/a has no contents",
        ),
        ("a]\ntype = \"volume\"\nvolsize = \"2MiB\"\nmount = \"/a\"", "`mount` means nothing for a volume"),
        ("a]\nvolsize = \"2MiB\"", "`volsize` means nothing for a filesystem"),
        ("a]\nfilesystem = { type = \"ext4\" }", "`filesystem` means nothing for a filesystem"),
        (
            "a]\ntype = \"volume\"\nvolsize = \"2MiB\"\nfile = \"/noise\"\nfilesystem = { type = \"ext4\" }",
            "holds two things",
        ),
        (
            "a]\ntype = \"volume\"\nvolsize = \"2MiB\"\nmount = \"/b\"\nfilesystem = { type = \"vfat\" }",
            "do not fit",
        ),
        ("a]\nproperties = { volblocksize = \"8K\" }", "a volume has it"),
        ("a]\n[partition.filesystem.datasets.\"a/b\"]\nproperties = { copies = \"4\" }", "dataset tank/a/b"),
        ("a]\nsnapshots = [ \"x\" ]\nempty_snapshots = [ \"x\" ]", "two snapshots `x`"),
        (
            "a]\ntype = \"volume\"\nvolsize = \"2MiB\"\n[partition.filesystem.datasets.\"a/b\"]",
            "the dataset tank/a/b is below a volume",
        ),
    ] {
        let manifest = manifest(folder.path(), &format!("[partition.filesystem.datasets.{options}"));
        let said = run(diskwright().arg("build").arg(manifest).arg("-o").arg(&image));
        assert!(said.code == 2 && said.error().contains(words), "{options}\n{}\n{}", said.code, said.error());
        assert!(!image.exists());
    }
    // A reservation takes space that a disk of that size does not have.
    let text = "[partition.filesystem.datasets.a]\nproperties = { reservation = \"1G\" }";
    let path = manifest(folder.path(), text);
    let small = std::fs::read_to_string(&path).unwrap().replace("[disk]", "[disk]\nsize = \"500MiB\"");
    std::fs::write(&path, small).unwrap();
    let said = run(diskwright().arg("build").arg(&path).arg("-o").arg(&image));
    assert!(said.code != 0 && said.error().contains("do not fit the ZFS pool"), "{}", said.error());
    build(&manifest(folder.path(), text), &image);
    assert!(std::fs::metadata(&image).unwrap().len() > 1 << 30);
    assert_clean(&image, "tank");
}
