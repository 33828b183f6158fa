//! EROFS filesystems made by the program, before all judges: strange trees, random trees, sizes that nobody writes, and
//! what is refused.

use std::path::Path;
use std::sync::Arc;

use diskwright::error::Kind;
use diskwright::filesystem::{Content as Read, Filesystem, Placement, Size, erofs, open};
use diskwright::image::Builder as ImageBuilder;
use diskwright::pour::Packer;
use diskwright::tree::{Builder, Content, Meta, Time, Tree, Xattr};
use diskwright::units::{Bytes, KIB, MIB, TIB};
use proptest::prelude::*;
use uuid::Uuid;

use crate::read::view;
use crate::support::compare::{assert_same, differences};
use crate::support::erofs::{SEEN, assert_clean, judge};
use crate::support::program::{diskwright, mkfs_erofs};
use crate::support::random::{self, Spec};
use crate::support::snapshot::Snapshot;
use crate::support::tools::{command, must, run, scratch};
use crate::support::{kernel, tree};

/// Ways of writing a tree, and whether the fsck.erofs of Debian 12 reads them all.
const FORMS: [(&[&str], bool); 9] = [
    (&[], true),
    (&["--block-size", "512"], false),
    (&["--compress", "lz4"], true),
    (&["--compress", "lz4", "--chunk", "8KiB"], true),
    (&["--compress", "lz4hc", "--chunk", "1MiB", "--level", "12"], true),
    (&["--compress", "zstd"], false),
    (&["--compress", "zstd", "--chunk", "1MiB", "--level", "1"], false),
    (&["--compress", "lz4", "--kernel", "6.15"], false),
    (&["--compress", "zstd", "--kernel", "6.15", "--chunk", "256KiB"], false),
];

/// What the image of `source` is to show where owners are kept and nothing is refused.
fn preserved(source: &Path) -> Snapshot {
    Snapshot::of(source).links_as_in_ext4().without_host_labels()
}

/// All judges of an image.
fn judged(image: &Path, expected: &Snapshot, form: &[&str], fsck: bool) {
    let found = view::view(&*view::opened(image)).unwrap_or_else(|error| panic!("{form:?}: {error}"));
    assert_same(&format!("{form:?}: our own reader"), expected, &found, &SEEN);
    view::assert_clean(image);
    judge(image, expected);
    if fsck {
        assert_clean(image);
    }
}

#[test]
fn the_strange_tree_comes_out_as_it_is() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::strange(&source, 300, tree::Host::Linux);
    let expected = preserved(&source);
    for (form, fsck) in FORMS {
        mkfs_erofs(&source, &image, &[form, &["--owner", "preserve"]].concat());
        judged(&image, &expected, form, fsck);
    }
}

#[test]
fn times_from_1901_to_2446_and_links_that_are_data() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::unread(&source);
    mkfs_erofs(&source, &image, &[]);
    judged(&image, &preserved(&source).owned_by(0, 0), &[], true);
}

#[test]
fn the_policies_of_owners_and_links() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::strange(&source, 10, tree::Host::Linux);
    let host = preserved(&source);
    for (arguments, expected) in [
        (vec!["--owner", "70000:4294967294"], host.clone().owned_by(70_000, 4_294_967_294)),
        (vec!["--hardlinks", "dissolve", "--owner", "preserve"], host.clone().dissolved()),
        (
            vec!["--hardlinks", "dedupe", "--compress", "lz4", "--owner", "preserve"],
            host.clone().deduplicated(),
        ),
    ] {
        mkfs_erofs(&source, &image, &arguments);
        judged(&image, &expected, &arguments, true);
    }
}

/// What every comparison here is worth: one that finds nothing in a changed tree would be none.
#[test]
fn a_reader_that_sees_another_byte_tells() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::Maker::new(&source).file("f", tree::noise(1, 9000)).xattr("f", "user.a", "1").finish();
    mkfs_erofs(&source, &image, &[]);
    let expected = preserved(&source).owned_by(0, 0);
    let bytes = std::fs::read(&image).unwrap();
    let noise = tree::noise(1, 9000);
    let at = bytes.windows(64).position(|window| window == &noise[..64]).unwrap();
    let changed = folder.path().join("changed.img");
    let mut other = bytes;
    other[at] ^= 2;
    std::fs::write(&changed, &other).unwrap();
    for found in [crate::support::erofs::view(&changed), view::view(&*view::opened(&changed)).unwrap()] {
        let told = differences(&expected, &found, &SEEN);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("f: Bytes:"), "{told:?}");
    }
    other[1030] ^= 1;
    std::fs::write(&changed, &other).unwrap();
    assert!(open(&view::slice(&changed)).is_err(), "the checksum of the superblock is wrong");
    if kernel::can_judge() {
        let mut mount = command("mount");
        mount.args(["-t", "erofs", "-o", "loop,ro"]).arg(&changed).arg(folder.path().join("source"));
        assert_ne!(run(&mut mount).code, 0);
    }
}

#[test]
fn random_trees_come_out_as_they_are() {
    random::check(16, (random::tree(), 0..FORMS.len()), |(spec, form)| random_tree(&spec, FORMS[form]));
}

fn random_tree(spec: &Spec, (form, fsck): (&[&str], bool)) {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    spec.make(&source);
    mkfs_erofs(&source, &image, &[form, &["--owner", "preserve"]].concat());
    judged(&image, &preserved(&source), form, fsck);
}

/// The tools of users say of the mounted image what they say of the source.
#[test]
fn attributes_acls_and_capabilities_as_their_tools_show_them() {
    if !kernel::can_judge() {
        return;
    }
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    let mut maker = tree::Maker::new(&source);
    maker.directory("d").file("d/f", "f").mode("d/f", 0o750);
    // The same on four files: it is shared.
    for name in ["one", "two", "three", "four"] {
        maker.file(name, name).xattr(name, "user.shared", "of all");
    }
    for (tool, arguments) in [
        ("setfattr", &["-n", "user.comment", "-v", "a comment", "d/f"][..]),
        ("setfacl", &["-m", "u:1234:rw,g:70000:x,m:rwx", "d/f"]),
        ("setfacl", &["-d", "-m", "u:1234:r,o::---", "d"]),
        ("setcap", &["cap_net_bind_service,cap_sys_time=ep", "d/f"]),
    ] {
        must(command(tool).args(arguments).current_dir(&source));
    }
    maker.finish();
    mkfs_erofs(&source, &image, &[]);
    let mount = kernel::Mount::new(&image, "ro");
    for (tool, arguments) in [
        ("getfattr", &["-d", "-m", "-", "-e", "hex", "d/f", "d", "one", "two", "four"][..]),
        // One by one, which asks the filter of names.
        ("getfattr", &["-n", "user.shared", "one"]),
        ("getfacl", &["-n", "d/f", "d"]),
        ("getcap", &["d/f"]),
    ] {
        let shown = |top: &Path| must(command(tool).args(arguments).current_dir(top)).text();
        assert_eq!(shown(&source), shown(mount.path()), "{tool}");
        assert!(!shown(&source).is_empty(), "{tool}");
    }
    mount.unmount();
}

/// Equal files take their blocks once, whatever their names, owners and times.
#[test]
fn equal_files_share_their_blocks() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    let mut maker = tree::Maker::new(&source);
    for number in 0..5_i64 {
        let name = format!("file-{number}");
        maker.file(&name, [tree::noise(7, 300_000), b"text ".repeat(20_000)].concat());
        maker.time(&name, (number, 5));
    }
    // Files that are packed in several pieces, and what lies in front of them differs.
    let long = [tree::noise(9, 700_000), b"text ".repeat(180_000)].concat();
    maker.file("long-1", long.clone()).file("long-2", tree::noise(10, 5000)).file("long-3", long);
    // The same length, and other bytes.
    maker.file("other", [tree::noise(8, 300_000), b"text ".repeat(20_000)].concat()).finish();
    let expected = preserved(&source).owned_by(0, 0);
    for (form, fsck) in FORMS {
        mkfs_erofs(&source, &image, form);
        let size = std::fs::metadata(&image).unwrap().len();
        // Noise of 300,000 bytes twice and of 700,000 once, of which zstd saves an eighth, and text that may vanish.
        // Of chunks of two blocks one at least remains.
        let half = !form.contains(&"--compress") || form.contains(&"8KiB");
        let most = if half { 2_500_000 } else { 1_600_000 };
        assert!(size < most, "{form:?}: {size}");
        assert!(size > 1_100_000, "{form:?}: {size}");
        judged(&image, &expected, form, fsck);
    }
}

#[test]
fn sizes_are_exact() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::Maker::new(&source)
        .file("the-largest", tree::noise(1, 9 * MIB))
        .file("second", tree::noise(2, MIB))
        .finish();
    mkfs_erofs(&source, &image, &[]);
    let least = std::fs::metadata(&image).unwrap().len();
    assert_eq!(least % 4096, 0);
    assert!(least < 10 * MIB + 16 * KIB, "{least}");
    for free in [0, 1, 4096, 4097, MIB] {
        mkfs_erofs(&source, &image, &["--free", &free.to_string()]);
        assert_eq!(std::fs::metadata(&image).unwrap().len(), least + free.div_ceil(4096) * 4096, "{free}");
    }
    for size in [least, least + 512, 20 * MIB] {
        mkfs_erofs(&source, &image, &["--size", &size.to_string()]);
        assert_eq!(std::fs::metadata(&image).unwrap().len(), size);
        judged(&image, &preserved(&source).owned_by(0, 0), &[], true);
    }
    let mut command = diskwright();
    command
        .args(["mkfs", "erofs", "--size", &(least - 4096).to_string()])
        .arg(&source)
        .arg("-o")
        .arg(folder.path().join("x.img"));
    let said = run(&mut command);
    assert_eq!(said.code, 1, "{}", said.error());
    for word in ["4 KiB too much", &format!("{least} bytes"), "the-largest (9 MiB)", "second (1 MiB)"] {
        assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
    }
}

/// `--level 6.15` and `level = "6.15"` are the format of that kernel.
#[test]
fn the_level_of_the_format_is_that_of_a_kernel() {
    let folder = scratch();
    let source = folder.path().join("source");
    tree::Maker::new(&source).file("f", "text ".repeat(20_000)).finish();
    // The identity derives from all options, unless it is given.
    const UUID: &str = "0867da16-f251-457d-a9e8-c31f9a3c220b";
    let image = |arguments: &[&str]| {
        let out = folder.path().join("out.img");
        mkfs_erofs(&source, &out, &[&["--compress", "zstd", "--uuid", UUID], arguments].concat());
        std::fs::read(&out).unwrap()
    };
    let whole = image(&[]);
    let (by_level, by_kernel) = (image(&["--level", "6.15"]), image(&["--kernel", "6.15"]));
    assert!(by_level == by_kernel && by_level != whole);
    let manifest = folder.path().join("disk.toml");
    let text = "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\nfilesystem = { type = \"erofs\", compress = \"zstd\", level = LEVEL }\n\
                contents = [ { source = \"source\", target = \"/\", owner = \"root\" } ]\n";
    let built = |level: &str| {
        std::fs::write(&manifest, text.replace("LEVEL", level)).unwrap();
        let out = folder.path().join("disk.img");
        must(diskwright().arg("build").arg(&manifest).arg("-o").arg(&out));
        std::fs::read(&out).unwrap().len()
    };
    assert!(built("\"6.15\"") == by_level.len() && built("3") == whole.len());
}

/// The first inodes stand behind the superblock, whose checksum is over them; those that do not fit follow.
#[test]
fn a_small_filesystem_is_one_block_as_of_mkfs_erofs() {
    let folder = scratch();
    for (number, files) in [(0, 0), (1, 1), (2, 20), (3, 40)] {
        let name = |what: &str| folder.path().join(format!("{what}-{number}.img"));
        let (source, image, theirs) = (name("source"), name("ours"), name("theirs"));
        let mut maker = tree::Maker::new(&source);
        for file in 0..files {
            maker.file(format!("f{file}"), tree::noise(file, 60));
        }
        maker.finish();
        for arguments in [&[][..], &["--block-size", "512"], &["--compress", "lz4"]] {
            mkfs_erofs(&source, &image, arguments);
            judged(&image, &preserved(&source).owned_by(0, 0), &[], !arguments.contains(&"512"));
        }
        mkfs_erofs(&source, &image, &[]);
        must(command("mkfs.erofs").args([&theirs, &source]));
        let length = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert!(length(&image) <= length(&theirs), "{files}: {} {}", length(&image), length(&theirs));
        assert_eq!(length(&image) == 4096, files <= 20);
    }
}

#[test]
fn what_cannot_be_is_refused_by_its_name() {
    let folder = scratch();
    let source = folder.path().join("source");
    tree::Maker::new(&source).file("f", "f").finish();
    for (arguments, word) in [
        (&["--label", "sixteen bytes!!!"][..], "at most 15 bytes"),
        (&["--level", "3"], "--level"),
        (&["--compress", "lz4", "--level", "3"], "no levels"),
        (&["--compress", "zstd", "--level", "20"], "1 to 19"),
        (&["--compress", "lz4hc", "--level", "13"], "1 to 12"),
        (&["--compress", "xz"], "none, lz4, lz4hc, zstd"),
        (&["--chunk", "64KiB"], "--chunk"),
        (&["--compress", "zstd", "--chunk", "4KiB"], "8KiB to 1MiB"),
        (&["--compress", "zstd", "--chunk", "2MiB"], "8KiB to 1MiB"),
        (&["--compress", "zstd", "--chunk", "96KiB"], "power of two"),
        (&["--kernel", "6.15"], "--kernel"),
        (&["--compress", "lz4", "--kernel", "6.1"], "any, 6.15"),
        (&["--block-size", "8192"], "512, 1024, 2048 or 4096"),
        (&["--block-size", "1024", "--compress", "lz4"], "--block-size"),
        (&["--free", "1MiB", "--size", "2MiB"], "without --free"),
    ] {
        let mut command = diskwright();
        command
            .args(["mkfs", "erofs"])
            .arg(&source)
            .arg("-o")
            .arg(folder.path().join("x.img"))
            .args(arguments);
        let said = run(&mut command);
        assert_eq!(said.code, 2, "{arguments:?}: {}", said.error());
        assert!(said.error().contains(word), "{arguments:?}: no `{word}` in\n{}", said.error());
    }
}

/// A tree of one file with these attributes.
fn with(xattrs: &[(&[u8], usize)]) -> Arc<Tree> {
    let mut builder = Builder::new(Time::default());
    let origin = builder.origin("test");
    let mut sorted: Vec<Xattr> =
        xattrs.iter().map(|(name, length)| Xattr { name: name.to_vec(), value: vec![7; *length] }).collect();
    sorted.sort();
    let xattrs = builder.xattr_set(&sorted);
    let meta = Meta { xattrs, ..Meta::root(0o644, Time::default()) };
    builder.put(b"/marked", meta, Content::Fifo, origin).unwrap();
    Arc::new(builder.finish(1).unwrap())
}

fn build(tree: &Arc<Tree>, options: &erofs::Options) -> diskwright::error::Result<Filesystem> {
    let at = Placement { size: Size::Auto, ..Placement::alone(Uuid::from_u128(7)) };
    erofs::build(tree, options, &at, &Packer::default())
}

/// The kernel does not mount blocks that are smaller than a sector.
#[test]
fn blocks_below_a_sector_are_refused() {
    let tree = with(&[]);
    for (sector_size, block_size) in [(4096, 512), (4096, 2048), (512, 512), (4096, 4096)] {
        let options = erofs::Options { block_size: Some(block_size), ..erofs::Options::default() };
        let at = Placement { sector_size, ..Placement::alone(Uuid::from_u128(7)) };
        let built = erofs::build(&tree, &options, &at, &Packer::default());
        if u64::from(block_size) >= sector_size {
            built.unwrap();
            continue;
        }
        let error = built.unwrap_err();
        assert_eq!((error.kind(), error.key()), (Kind::Manifest, Some("block_size")));
        let text = error.to_string();
        assert!(
            text.contains("at least 4096 bytes") && text.contains(&format!("{block_size} bytes")),
            "{text}"
        );
    }
}

#[test]
fn attributes_that_do_not_fit_are_refused() {
    let options = erofs::Options::default();
    let largest = with(&[(b"user.a", 65_535)]);
    let built = build(&largest, &options).unwrap();
    let volume = open(&built.image.whole()).unwrap().unwrap();
    let inode = volume.lookup(volume.root(), b"marked").unwrap().unwrap();
    assert_eq!(volume.node(inode).unwrap().meta.xattrs[0].value.len(), 65_535);
    for (xattrs, word) in [
        (&[(b"user.a".as_slice(), 65_536)][..], "65536 bytes in user.a"),
        (&[(b"system.nfs4_acl".as_slice(), 10)], "system.nfs4_acl"),
        (
            &[(b"user.a".as_slice(), 65_535), (b"user.b", 65_535), (b"user.c", 65_535), (b"user.d", 65_535)],
            "too long",
        ),
    ] {
        let error = build(&with(xattrs), &options).unwrap_err();
        assert!(error.to_string().contains(word), "no `{word}` in {error}");
        assert!(error.to_string().contains("/marked"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Sizes that nobody writes: files of up to terabytes, all hole but for a few bytes, read back from the image that is
    /// nowhere.
    #[test]
    fn files_of_any_size_are_found_where_they_are(
        files in prop::collection::vec((0_u64..8 * TIB, prop::collection::vec((0_u64..1 << 43, 1_u64..9000), 0..6)), 1..6),
        block in prop_oneof![Just(512_u32), Just(4096)],
    ) {
        let mut builder = Builder::new(Time::seconds(1));
        let origin = builder.origin("test");
        let mut expected = Vec::new();
        for (number, (size, pieces)) in files.into_iter().enumerate() {
            let mut image = ImageBuilder::new(Bytes::new(size));
            let mut sorted = std::collections::BTreeMap::new();
            for (at, length) in pieces {
                // Apart from each other, and inside.
                let at = at / 16_384 * 16_384;
                if at + length <= size {
                    sorted.insert(at, tree::noise(at, length));
                }
            }
            for (at, bytes) in &sorted {
                image.bytes(Bytes::new(*at), "piece", bytes.clone());
            }
            let name = format!("/file-{number}");
            let meta = Meta::root(0o600, Time::seconds(1));
            builder.slice(name.as_bytes(), image.finish().unwrap().whole(), meta, origin).unwrap();
            expected.push((name, size, sorted));
        }
        let tree = Arc::new(builder.finish(1).unwrap());
        let built = build(&tree, &erofs::Options { block_size: Some(block), ..erofs::Options::default() }).unwrap();
        let volume = open(&built.image.whole()).unwrap().unwrap();
        let mut remarks = Vec::new();
        volume.check(&mut |remark| { remarks.push(remark.to_string()); Ok(()) }).unwrap();
        prop_assert_eq!(remarks, Vec::<String>::new());
        for (name, size, pieces) in expected {
            let inode = volume.lookup(volume.root(), &name.as_bytes()[1..]).unwrap().unwrap();
            let Read::File { size: found } = volume.node(inode).unwrap().content else { panic!() };
            prop_assert_eq!(found.get(), size);
            let file = diskwright::filesystem::contents(&*volume, inode).unwrap();
            for (at, bytes) in pieces {
                let mut read = vec![0; bytes.len()];
                file.read(at, &mut read).unwrap();
                prop_assert!(read == bytes);
            }
        }
    }
}
