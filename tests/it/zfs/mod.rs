//! ZFS pools made by the program, before zdb and an independent reader.

mod datasets;
mod guest;
mod reader;
mod vm;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use diskwright::units::{KIB, MIB};

use crate::read;
use crate::support::program::{build, diskwright, mkfs_zfs};
use crate::support::snapshot::{Entry, Kind, Snapshot};
use crate::support::tools::{command, digest, must, quick_scratch, run, scratch};
use crate::support::zfs::{assert_clean, assert_contents, assert_objects, remarks};
use crate::support::{table, tree, zfs};

/// A folder with a place for the source, and one for an image that is alone in its folder, as zdb wants it.
fn places(folder: &Path) -> (PathBuf, PathBuf) {
    std::fs::create_dir(folder.join("pool")).unwrap();
    (folder.join("source"), folder.join("pool/out.img"))
}

/// A tree with what compresses and what does not, holes, records around their size, links, attributes.
fn varied(source: &Path) -> Snapshot {
    tree::plain(source);
    let text: Vec<u8> = (0..100_000_u32).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
    let mut maker = tree::Maker::new(source);
    maker.file("text", &text).file("noise", tree::noise(1, 700_000)).file("empty", "");
    for size in [1, 511, 512, 513, 131_071, 131_072, 131_073] {
        maker.file(format!("size-{size}"), &text[..size]);
    }
    maker
        .file("zeros", vec![0; 300_000])
        .sparse("sparse", 5 << 20, &[(3 << 20, 4096)])
        .xattr("text", "user.small", "value")
        .xattr("noise", "user.large", tree::noise(2, 3000))
        .symlink("long link", tree::target(700))
        .time("text", (-5, 123_456_789))
        .finish();
    Snapshot::of(source).links_as_in_ext4().without_host_labels()
}

#[test]
fn pools_of_every_unit_and_compression_are_clean() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    let expected = varied(&source);
    for (ashift, compress) in
        [("9", "lz4"), ("12", "off"), ("12", "gzip-6"), ("13", "zstd-3"), ("16", "on"), ("9", "zle")]
    {
        let arguments =
            ["--owner", "preserve", "--ashift", ashift, "--compress", compress, "--label", "a pool"];
        mkfs_zfs(&source, &image, &arguments);
        assert_clean(&image, "a pool");
        assert_objects(&image, "a pool", &expected);
        reader::assert_read(&image, &expected);
        if compress != "zle" {
            assert_contents(&image, &[], &expected);
        }
    }
}

#[test]
fn the_strange_tree_comes_out_as_it_is() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    tree::strange(&source, 3000, tree::Host::Linux);
    mkfs_zfs(&source, &image, &["--owner", "preserve"]);
    assert_clean(&image, "tank");
    let expected = Snapshot::of(&source).links_as_in_ext4().without_host_labels();
    assert_objects(&image, "tank", &expected);
    reader::assert_read(&image, &expected);
}

/// More names than the pointers in the first block of a ZAP lead to.
#[test]
fn a_directory_has_any_number_of_names() {
    let folder = scratch();
    let quick = quick_scratch();
    let (source, (_, image)) = (quick.path().join("source"), places(folder.path()));
    let names: BTreeSet<String> = (0..40_000).map(|number| format!("{number:0200}")).collect();
    std::fs::create_dir(&source).unwrap();
    for name in &names {
        std::fs::write(source.join(name), "").unwrap();
    }
    mkfs_zfs(&source, &image, &[]);
    assert_clean(&image, "tank");
    assert!(zfs::names(&image, &[]) == names);
    let volume = read::opened(&image);
    assert!(reader::names(&*volume, "/").into_iter().collect::<BTreeSet<_>>() == names);
    let (first, last) = (names.first().unwrap(), names.last().unwrap());
    assert!(
        [first, last].iter().all(|name| volume.lookup(volume.root(), name.as_bytes()).unwrap().is_some())
    );
    assert!(volume.lookup(volume.root(), b"none").unwrap().is_none());
}

/// An attribute that no list of a file takes is a file in a directory of its own; the others stay in the list.
#[test]
fn long_attributes_are_kept_beside_short_ones() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    tree::Maker::new(&source).directory("d").file("d/file", "contents").finish();
    let value = |length: usize, byte: u8| vec![byte; length];
    let all = [
        ("user.a", value(100, 1)),
        ("user.b", value(32_768, 2)),
        ("user.c", value(32_769, 3)),
        ("user.d", value(65_536, 4)),
    ];
    let set: Vec<String> = all
        .iter()
        .map(|(name, value)| {
            let digits: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("\"{name}\" = \"0x{digits}\"")
        })
        .collect();
    let set = set.join(", ");
    for options in ["", "properties = { recordsize = \"16K\", copies = \"2\" }", "compatibility = \"legacy\""]
    {
        let path = manifest(folder.path(), options);
        let entries = ["/d/file", "/d", "/"].map(|target| {
            format!(", {{ metadata = true, target = \"{target}\", set_xattrs = {{ {set} }} }}")
        });
        let text = std::fs::read_to_string(&path)
            .unwrap()
            .replace("\"/\" } ]", &format!("\"/\" }}{} ]", entries.concat()));
        std::fs::write(&path, text).unwrap();
        build(&path, &image);
        assert_clean(&image, "tank");
        let volume = read::opened(&image);
        let directory = volume.lookup(volume.root(), b"d").unwrap().unwrap();
        let file = volume.lookup(directory, b"file").unwrap().unwrap();
        for inode in [volume.root(), directory, file] {
            let found = volume.node(inode).unwrap().meta.xattrs;
            let found: Vec<(&str, Vec<u8>)> = found
                .iter()
                .map(|own| (std::str::from_utf8(&own.name).unwrap(), own.value.clone()))
                .collect();
            assert!(found == all, "{options}: {} attributes", found.len());
        }
        assert_eq!(reader::names(&*volume, "/"), ["d"]);
        let mut check = diskwright();
        must(check.arg("check").arg(&image));
        // Objects: 7 the directory, 8 the file; then for each of three a directory with two attributes.
        let arguments = ["-e", "-p", image.parent().unwrap().to_str().unwrap(), "-ddddd", "tank/", "8"];
        let said = must(command("zdb").args(arguments)).text();
        assert!(said.contains("xattr\t") && said.contains("SA xattrs:"), "{said}");
    }
}

/// The manifest of a pool without table.
fn manifest(folder: &Path, filesystem: &str) -> PathBuf {
    let path = folder.join("disk.toml");
    let text = format!(
        "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\ncontents = [ {{ source = \"source\", target = \"/\" }} ]\n\
         [partition.filesystem]\ntype = \"zfs\"\n{filesystem}\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// What lies below a directory, as a tree of its own, or all but what lies there.
fn part(whole: &Snapshot, below: &[u8], inside: bool) -> Snapshot {
    let prefix = [below, b"/"].concat();
    let entries = whole.0.iter().filter_map(|(path, entry)| match path.strip_prefix(prefix.as_slice()) {
        Some(rest) if inside => Some((rest.to_vec(), entry.clone())),
        None if inside && path == below => Some((Vec::new(), entry.clone())),
        None if !inside => Some((path.clone(), entry.clone())),
        _ => None,
    });
    Snapshot(entries.collect())
}

const DATASETS: &str = r#"
pool_properties = { autoexpand = "on", bootfs = "root", comment = "for a test", "feature@edonr" = "disabled" }
properties = { acltype = "posixacl", atime = "off", compression = "on", mountpoint = "legacy", xattr = "sa" }
[partition.filesystem.datasets.root]
mount = "/"
properties = { "com.example:note" = "of a user", canmount = "noauto", reservation = "100M" }
snapshots = [ "blank", "second" ]
[partition.filesystem.datasets."root/etc"]
mount = "/etc"
properties = { compression = "zstd-5", recordsize = "1M", checksum = "sha256", copies = "2", quota = "1G" }
[partition.filesystem.datasets.home]
"#;

#[test]
fn contents_go_to_the_dataset_that_is_mounted_nearest() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    tree::plain(&source);
    let mut maker = tree::Maker::new(&source);
    maker.file("etc/large", tree::noise(3, 3_000_000)).file("etc/text", "text ".repeat(500_000)).finish();
    let whole = Snapshot::of(&source).links_as_in_ext4().owned_by(0, 0);
    build(&manifest(folder.path(), DATASETS), &image);
    assert_clean(&image, "tank");
    assert_contents(&image, &["root"], &part(&whole, b"etc", false));
    assert_contents(&image, &["root", "etc"], &part(&whole, b"etc", true));
    let empty = Snapshot([(Vec::new(), Entry::new(Kind::Directory))].into());
    assert_contents(&image, &["home"], &empty);
    assert_objects(&image, "tank/root/etc", &part(&whole, b"etc", true));
    let said =
        must(command("zdb").arg("-e").arg("-p").arg(image.parent().unwrap()).args(["-dd", "tank"])).text();
    for name in ["tank", "tank/home", "tank/root", "tank/root/etc", "tank/root@blank", "tank/root@second"] {
        assert!(said.contains(&format!("Dataset {name} [ZPL]")), "{name}:\n{said}");
    }
    let config = must(command("zdb").arg("-l").arg(&image)).text();
    assert!(config.contains("comment: 'for a test'") && config.contains("state: 1"), "{config}");
}

/// GRUB reads a pool of the set that is made for it.
#[test]
fn grub_reads_its_set_of_features() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    let text = "a text that grub reads\n".repeat(9000);
    tree::Maker::new(&source).directory("boot").file("boot/text", &text).finish();
    for set in ["grub2-2.06", "grub2-2.12"] {
        mkfs_zfs(&source, &image, &["--compatibility", set]);
        assert_clean(&image, "tank");
        let said = must(command("grub-fstest").arg(&image).args(["cat", "(loop0)/@/boot/text"]));
        assert_eq!(said.text(), text, "{set}");
    }
    // What all sets of a list have, by a flag or by the property.
    mkfs_zfs(&source, &image, &["--pool-property", "compatibility=openzfs-2.1-linux,grub2-2.12"]);
    assert_clean(&image, "tank");
    assert!(must(command("zdb").arg("-l").arg(&image)).text().contains("'openzfs-2.1-linux,grub2-2.12'"));
    assert_eq!(must(command("grub-fstest").arg(&image).args(["cat", "(loop0)/@/boot/text"])).text(), text);
    // A feature that it does not know hides the whole pool.
    mkfs_zfs(&source, &image, &["--compress", "zstd-3"]);
    let said = run(command("grub-fstest").arg(&image).args(["cat", "(loop0)/@/boot/text"]));
    assert_ne!(said.text(), text);
}

/// Pools for software of long ago: without features that every other pool has, down to none.
#[test]
fn pools_of_old_sets_are_clean() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    let expected = varied(&source);
    for (set, ashift) in [("legacy", "12"), ("legacy", "9"), ("zol-0.6.1", "12"), ("compat-2018", "9")] {
        let arguments = ["--owner", "preserve", "--ashift", ashift, "--compatibility", set, "--size", "2GiB"];
        mkfs_zfs(&source, &image, &arguments);
        assert_clean(&image, "tank");
        assert_objects(&image, "tank", &expected);
        reader::assert_read(&image, &expected);
        let said = must(command("zdb").arg("-l").arg(&image)).text();
        assert!(said.contains(&format!("compatibility: '{set}'")), "{said}");
        assert_eq!(said.contains("hole_birth"), set == "compat-2018", "{said}");
    }
    // Several datasets and snapshots, whose lists of dead blocks are empty and not one and the same.
    let options = format!("compatibility = \"legacy\"\n{}", DATASETS.replace("zstd-5", "gzip-5"));
    let options =
        options.replace("recordsize = \"1M\", ", "").replace(", \"feature@edonr\" = \"disabled\"", "");
    build(&manifest(folder.path(), &options), &image);
    assert_clean(&image, "tank");
}

/// A menu of GRUB in a pool that its GRUB would not read is refused; what it reads is what its module knows, if that is there.
#[test]
fn a_pool_that_its_own_grub_cannot_read_is_refused() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    let mut maker = tree::Maker::new(&source);
    maker.directory("boot").directory("boot/grub").file("boot/grub/grub.cfg", "set timeout=0\n").finish();
    let refused = |arguments: &[&str]| {
        let mut mkfs = diskwright();
        let said = run(mkfs.args(["mkfs", "zfs"]).arg(&source).arg("-o").arg(&image).args(arguments));
        assert_eq!(said.code, 2, "{}", said.error());
        said.error()
    };
    let said = refused(&[]);
    assert!(said.contains("/boot/grub/grub.cfg") && said.contains("vdev_zaps_v2"), "{said}");
    assert!(said.contains("grub2-2.12"), "{said}");
    mkfs_zfs(&source, &image, &["--compatibility", "grub2-2.12"]);
    assert!(refused(&["--compatibility", "openzfs-2.1-linux"]).contains("zstd_compress"));
    // GRUB 2.06 has a module that does not know edonr, nor what this set has beyond it.
    let mut maker = tree::Maker::new(&source);
    let known = "com.delphix:hole_birth com.delphix:embedded_data com.delphix:extensible_dataset org.open-zfs:large_blocks";
    maker.directory("boot/grub/i386-pc").file("boot/grub/i386-pc/zfs.mod", known).finish();
    let said = refused(&["--compatibility", "grub2-2.06"]);
    assert!(said.contains("/boot/grub/i386-pc/zfs.mod") && said.contains("found: lz4_compress\n"), "{said}");
    let mut maker = tree::Maker::new(&source);
    maker.file("boot/grub/i386-pc/zfs.mod", format!("{known} org.illumos:lz4_compress")).finish();
    mkfs_zfs(&source, &image, &["--compatibility", "grub2-2.06"]);
}

/// A pool's properties are flags too, with the meaning and the errors of the manifest's tables.
#[test]
fn properties_are_flags_and_tables() {
    const SEED: &str = "12345678-1234-4234-8234-123456789abc";
    let folder = scratch();
    let (source, image) = places(folder.path());
    tree::plain(&source);
    let flags =
        ["--pool-property", "autoexpand=on", "--property", "com.example:note=a=b", "--property", "atime=off"];
    mkfs_zfs(&source, &image, &[&flags[..], &["--seed", SEED]].concat());
    assert_clean(&image, "tank");
    let manifest = folder.path().join("disk.toml");
    let text = format!(
        "version = 1\n[disk]\ntable = \"none\"\nseed = \"{SEED}\"\n[[partition]]\nsize = \"auto\"\n\
         contents = [ {{ source = \"source\", target = \"/\" }} ]\n[partition.filesystem]\ntype = \"zfs\"\n\
         pool_properties = {{ autoexpand = \"on\" }}\n\
         properties = {{ atime = \"off\", \"com.example:note\" = \"a=b\" }}\n"
    );
    std::fs::write(&manifest, text).unwrap();
    let built = folder.path().join("built.img");
    must(diskwright().arg("build").arg(&manifest).arg("-o").arg(&built));
    // Only the ids differ, which follow from the partition too.
    let differs = run(diskwright().arg("diff").arg(&image).arg(&built));
    assert!(differs.text().starts_with("filesystem: filesystem id: "), "{}", differs.text());
    assert_eq!(differs.text().lines().count(), 1, "{}", differs.text());
    for (arguments, words) in [
        (["--property", "atime=maybe"].as_slice(), "at --property\n  expected: off, on\n  found: maybe"),
        (&["--property", "atime=on", "--property", "atime=off"], "a property is given twice"),
        (&["--pool-property", "comment"], "a property is NAME=VALUE"),
        (&["--pool-property", "nonsense=1"], "at --pool-property"),
    ] {
        let mut command = diskwright();
        let said = run(command.args(["mkfs", "zfs"]).arg(&source).arg("-o").arg(&image).args(arguments));
        assert_eq!(said.code, 2, "{}", said.error());
        assert!(said.error().contains(words), "{}", said.error());
    }
}

/// As `zpool create` lays out a disk, so that OpenZFS grows the pool with it.
#[test]
fn a_pool_has_a_whole_disk() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    tree::plain(&source);
    let text = r#"version = 1
[disk]
table = "gpt"
size = "2GiB"
[[partition]]
size = "fill"
label = "zfs-0123456789abcdef"
filesystem = { type = "zfs", whole_disk = true }
contents = [ { source = "source", target = "/" } ]
[[partition]]
number = 9
type = "solaris-reserved"
size = "8MiB"
"#;
    let (manifest, disk) = (folder.path().join("disk.toml"), folder.path().join("disk.img"));
    std::fs::write(&manifest, text).unwrap();
    build(&manifest, &disk);
    table::assert_clean(&disk);
    // zpool create on a disk of this size: partition 9 begins at the last whole MiB that leaves it 8 MiB.
    let partitions = table::partitions(&disk);
    assert_eq!(partitions, [(2048, 2038 * 2048), (2039 * 2048, 16_384)]);
    table::extract(&disk, partitions[0], &image);
    assert_clean(&image, "tank");
    assert!(must(command("zdb").arg("-l").arg(&image)).text().contains("whole_disk: 1"));
    // On any other disk OpenZFS does not grow it, and says nothing.
    let (first, last) = text.split_at(text.rfind("[[partition]]").unwrap());
    let told = |text: String| {
        std::fs::write(&manifest, text).unwrap();
        must(diskwright().arg("build").arg(&manifest).arg("-o").arg(&disk)).error()
    };
    let is_warned = |said: String| said.contains("do not grow the pool with its disk");
    assert!(!is_warned(told(text.to_owned())));
    assert!(is_warned(told(first.to_owned())));
    assert!(is_warned(told(text.replace("number = 9", "number = 8"))));
    assert!(is_warned(told(text.replace("8MiB", "9MiB"))));
    assert!(is_warned(told(text.replace("solaris-reserved", "linux"))));
    assert!(is_warned(told(format!("{first}[[partition]]\nsize = \"1MiB\"\ntype = \"linux\"\n{last}"))));
    assert!(is_warned(told(first.replace("gpt", "none").replace("label = \"zfs-0123456789abcdef\"\n", ""))));
}

#[test]
fn a_damaged_pool_is_seen() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    tree::Maker::new(&source).file("noise", tree::noise(1, 300_000)).finish();
    mkfs_zfs(&source, &image, &[]);
    assert_clean(&image, "tank");
    // The first block behind the labels is data.
    let file = std::fs::OpenOptions::new().write(true).open(&image).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 4 << 20).unwrap();
    assert!(!remarks(&image, "tank").is_empty());
}

#[test]
fn the_same_pool_whatever_the_number_of_threads() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    varied(&source);
    let digests = ["1", "2", "7"].map(|jobs| {
        mkfs_zfs(&source, &image, &["--compress", "zstd-3", "--jobs", jobs]);
        digest(&image)
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn a_pool_is_as_large_as_it_must_be_and_says_how_large() {
    let folder = scratch();
    let (source, image) = places(folder.path());
    tree::Maker::new(&source).file("noise", tree::noise(1, 90 * MIB)).finish();
    let length = || std::fs::metadata(&image).unwrap().len();
    mkfs_zfs(&source, &image, &["--free", "100MiB"]);
    assert_clean(&image, "tank");
    // Contents, free space, what is kept back, and less than a metaslab.
    assert!((318 * MIB..360 * MIB).contains(&length()), "{}", length());
    mkfs_zfs(&source, &image, &["--size", "2GiB", "--grow-to", "1TiB"]);
    assert_clean(&image, "tank");
    assert_eq!(length(), 2048 * MIB);
    // A few bytes behind the last 256 KiB are no part of the pool.
    mkfs_zfs(&source, &image, &["--size", &(200 * MIB + 100 * KIB).to_string()]);
    assert_clean(&image, "tank");
    // What is too small for its contents, and what is too small for any pool, which the flags could tell.
    for (size, code, words) in
        [("96MiB", 1, "the contents do not fit the ZFS pool"), ("63MiB", 2, "at least 64 MiB")]
    {
        let mut command = diskwright();
        let said =
            run(command.args(["mkfs", "zfs"]).arg(&source).arg("-o").arg(&image).args(["--size", size]));
        assert_eq!(said.code, code, "{}", said.error());
        assert!(said.error().contains(words), "{}", said.error());
    }
}
