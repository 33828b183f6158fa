//! SquashFS made by the program, before all judges: strange trees, random trees, every compression, sizes around blocks.

mod damage;
mod refusals;
mod same;
mod tables;

use std::path::{Path, PathBuf};

use diskwright::units::{KIB, MIB};

use crate::read::{assert_clean, opened, view};
use crate::support::compare::assert_same;
use crate::support::program::{build, diskwright, mkfs_squashfs};
use crate::support::random::{self, Spec};
use crate::support::snapshot::Snapshot;
use crate::support::squashfs::{ALL, expected, judge, kernel, unsquashed};
use crate::support::tools::{command, must, run, scratch};
use crate::support::{kernel as kernels, left_out, tree};

/// Every compression with a level, and the size of blocks.
const COMPRESSIONS: [&[&str]; 7] = [
    &[],
    &["--compress", "zstd", "--level", "15", "--chunk", "1MiB"],
    &["--compress", "gzip"],
    &["--compress", "gzip", "--level", "1", "--chunk", "4KiB"],
    &["--compress", "xz", "--level", "1", "--chunk", "64KiB"],
    &["--compress", "lz4"],
    &["--compress", "none", "--chunk", "8KiB"],
];

/// All judges, and the program's own reader.
fn judged(image: &Path, expected: &Snapshot) {
    judge(image, expected);
    assert_same("the reader", expected, &view(&*opened(image)).unwrap(), &ALL);
    assert_clean(image);
}

#[test]
fn the_strange_tree_comes_out_as_it_is() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::strange(&source, 3000, tree::Host::Linux);
    let expected = expected(&source);
    for arguments in COMPRESSIONS {
        mkfs_squashfs(&source, &image, &[&["--owner", "preserve"], arguments].concat());
        judged(&image, &expected);
    }
}

/// GRUB 2.06 reads what it has a decompressor for, and says so of the rest.
#[test]
fn grub_reads_what_it_can_decompress() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    let text = "a text that grub reads\n".repeat(9000);
    tree::Maker::new(&source).directory("boot").file("boot/text", &text).file("boot/small", "small").finish();
    for (compress, known) in [("none", true), ("gzip", true), ("xz", true), ("lz4", false), ("zstd", false)] {
        mkfs_squashfs(&source, &image, &["--compress", compress]);
        for (name, expected) in [("text", text.as_str()), ("small", "small")] {
            let said = run(command("grub-fstest").arg(&image).args(["cat", &format!("(loop0)/boot/{name}")]));
            assert_eq!(said.text() == expected, known, "{compress} {name}: {}", said.error());
            assert_eq!(
                said.error().contains("unknown filesystem"),
                !known,
                "{compress} {name}: {}",
                said.error()
            );
        }
    }
}

/// Links that are no longer than `backhand` reads, so that it judges too.
#[test]
fn a_plain_tree_is_read_by_all() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::plain(&source);
    let expected = expected(&source).owned_by(0, 0);
    for arguments in COMPRESSIONS {
        mkfs_squashfs(&source, &image, arguments);
        judged(&image, &expected);
    }
}

#[test]
fn random_trees_come_out_as_they_are() {
    random::check(24, (random::tree(), 0..COMPRESSIONS.len(), 12_u32..=20), |(spec, compression, chunk)| {
        random_tree(&spec, COMPRESSIONS[compression], 1 << chunk);
    });
}

fn random_tree(spec: &Spec, arguments: &[&str], chunk: u64) {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    spec.make(&source);
    let chunk = format!("--chunk={chunk}");
    // The last of two is taken by none.
    let arguments: Vec<&str> = match arguments.iter().position(|argument| *argument == "--chunk") {
        Some(at) => arguments[..at].to_vec(),
        None => arguments.to_vec(),
    };
    mkfs_squashfs(&source, &image, &[&["--owner", "preserve", &chunk], arguments.as_slice()].concat());
    judged(&image, &expected(&source));
}

/// A folder with a source, and where its image goes.
fn made(folder: &Path, make: impl FnOnce(&mut tree::Maker)) -> (PathBuf, PathBuf) {
    let source = folder.join("source");
    let mut maker = tree::Maker::new(&source);
    make(&mut maker);
    maker.finish();
    (source, folder.join("out.img"))
}

#[test]
fn lengths_around_blocks_and_the_chunks_of_threads() {
    let folder = scratch();
    let (source, image) = made(folder.path(), |maker| {
        for (block, name) in [(4 * KIB, "4k"), (128 * KIB, "128k"), (MIB, "1m")] {
            for size in [block - 1, block, block + 1, 2 * block - 1, 2 * block, 2 * block + 1] {
                maker.file(format!("{name}-{size}"), tree::noise(size, size));
                maker.file(format!("text-{name}-{size}"), vec![b'x'; usize::try_from(size).unwrap()]);
                maker.sparse(format!("hole-{name}-{size}"), size, &[]);
                maker.sparse(format!("end-{name}-{size}"), size, &[(size - 1, 1)]);
            }
        }
        // Small files that fill a fragment to the last byte, and one byte more.
        for (number, size) in [4000_u64, 96, 4000, 97, 2048, 2048, 4095, 1, 1].into_iter().enumerate() {
            maker.file(format!("small-{number}"), tree::noise(size + 7, size));
        }
    });
    let expected = expected(&source).owned_by(0, 0);
    for arguments in COMPRESSIONS {
        mkfs_squashfs(&source, &image, arguments);
        judged(&image, &expected);
    }
}

/// Equal files are stored once, whatever their length; what only looks alike is not.
#[test]
fn equal_files_are_stored_once() {
    let folder = scratch();
    let large = tree::noise(5, 3 * MIB + 100);
    let mut other = large.clone();
    other[2 << 20] ^= 0x80;
    let length = |number: usize| {
        let folder = tempfile::tempdir_in(folder.path()).unwrap();
        let (source, image) = made(folder.path(), |maker| {
            for copy in 0..number {
                maker.file(format!("large-{copy}"), &large).file(format!("small-{copy}"), &large[..5000]);
                maker.file(format!("block-{copy}"), &large[..131_072]);
            }
            maker.file("other", &other).file("other-small", &other[1..5001]);
        });
        mkfs_squashfs(&source, &image, &[]);
        judged(&image, &expected(&source).owned_by(0, 0));
        std::fs::metadata(image).unwrap().len()
    };
    let (one, three) = (length(1), length(3));
    assert!(one > 5 * MIB, "{one}");
    assert!(three <= one + 4096, "{one} {three}");
}

#[test]
fn what_is_lost_is_told() {
    let folder = scratch();
    let (source, image) = made(folder.path(), |maker| {
        for name in ["early", "late", "whole", "part", "acl"] {
            maker.file(name, name);
        }
        maker.time("early", (-1, 0)).time("late", (1 << 32, 5)).time("part", (7, 1));
        let entries = [
            (tree::USER_OBJ, 6, tree::NOBODY),
            (tree::USER, 4, 1234),
            (tree::GROUP_OBJ, 4, tree::NOBODY),
            (tree::MASK, 4, tree::NOBODY),
            (tree::OTHER, 4, tree::NOBODY),
        ];
        maker.xattr("acl", "system.posix_acl_access", tree::acl(&entries)).xattr("acl", "user.kept", "1");
    });
    let said = mkfs_squashfs(&source, &image, &[]).error();
    for part in [
        "times from 1970-01-01 to 2106-02-07: others became the nearest, of 2 names: /early, /late",
        "SquashFS keeps no fractions of seconds: they are cut off the times of 2 names: /late, /part",
        "SquashFS holds no system.posix_acl_access: lost of 1 name: /acl",
    ] {
        assert!(said.contains(part), "no `{part}` in\n{said}");
    }
    judged(&image, &expected(&source).owned_by(0, 0));
    // Nothing is said where nothing is lost.
    let (source, image) = made(&folder.path().join("plain"), |maker| {
        maker.file("a", "a").xattr("a", "user.a", "1");
    });
    assert_eq!(mkfs_squashfs(&source, &image, &["--owner", "root"]).error().lines().count(), 0);
}

#[test]
fn attributes_of_every_namespace_are_kept_and_shared() {
    left_out::need_root("attributes of the namespace trusted");
    let folder = scratch();
    let (source, image) = made(folder.path(), |maker| {
        maker.directory("d").symlink("l", "x").special("p", rustix::fs::FileType::Fifo, (0, 0));
        maker.special("c", rustix::fs::FileType::CharacterDevice, (4, 5));
        maker.symlink("long", tree::target(300));
        for name in ["d", "l", "p", "c", "long"] {
            maker.xattr(name, "trusted.every", "kind of inode");
        }
        for number in 0..300 {
            let name = format!("f{number:03}");
            maker.file(&name, "f").xattr(&name, "user.same", "x".repeat(500));
        }
        maker.xattr("f007", "user.one", "more").xattr("f008", "security.capability", tree::capability());
        maker.file("big", "b");
        for number in 0..4 {
            maker.xattr("big", &format!("user.{number}"), tree::noise(number, 700));
        }
    });
    mkfs_squashfs(&source, &image, &["--xattrs", "*"]);
    let mut expected = Snapshot::of(&source).links_as_in_ext4().owned_by(0, 0);
    expected.0.values_mut().for_each(|entry| entry.mtime.1 = 0);
    judged(&image, &expected);
    assert!(std::fs::metadata(&image).unwrap().len() <= 16 * KIB, "300 equal sets are one");
}

#[test]
fn many_owners_and_deep_directories() {
    left_out::need_root("foreign owners");
    let folder = scratch();
    let (source, image) = made(folder.path(), |maker| {
        // Over 2048 of them: a second block of the table.
        for id in 0..3000_u32 {
            let name = format!("{id}");
            maker.file(&name, "f").owner(&name, id * 3, id * 5 + 1);
        }
        let mut path = String::from("deep");
        for _ in 0..300 {
            maker.directory(&path);
            path.push_str("/d");
        }
    });
    mkfs_squashfs(&source, &image, &["--owner", "preserve"]);
    judged(&image, &expected(&source));
}

#[test]
fn an_empty_filesystem_is_one() {
    let folder = scratch();
    let (source, image) = made(folder.path(), |_| ());
    for arguments in COMPRESSIONS {
        mkfs_squashfs(&source, &image, arguments);
        judged(&image, &expected(&source).owned_by(0, 0));
    }
}

/// A file of many gigabytes that is mostly hole is read only where it has data.
#[test]
fn a_large_file_is_mostly_hole() {
    let folder = scratch();
    let (source, image) = made(folder.path(), |maker| {
        maker.sparse("large", (5 << 30) + 77, &[(0, 1), (1 << 32, 200_000), (5 << 30, 77)]);
    });
    for arguments in [&[][..], &["--compress", "none"]] {
        mkfs_squashfs(&source, &image, arguments);
        assert!(std::fs::metadata(&image).unwrap().len() < MIB);
        if kernels::can_judge() {
            let mount = kernels::Mount::new(&image, "ro");
            let path = mount.path().join("large");
            let meta = std::fs::metadata(&path).unwrap();
            assert_eq!(meta.len(), (5 << 30) + 77);
            use std::os::unix::fs::{FileExt, MetadataExt};
            assert!(meta.blocks() < 2000, "holes are counted as such");
            let file = std::fs::File::open(path).unwrap();
            let mut bytes = vec![0; 200_000];
            file.read_exact_at(&mut bytes, 1 << 32).unwrap();
            assert!(bytes == tree::noise(((5 << 30) + 77) ^ (1 << 32), 200_000));
        }
        assert_same("the reader", &expected(&source).owned_by(0, 0), &view(&*opened(&image)).unwrap(), &ALL);
    }
}

#[test]
fn sizes_are_the_least_or_those_asked_for() {
    let folder = scratch();
    let (source, image) = made(folder.path(), |maker| {
        maker.file("noise", tree::noise(3, 300_000));
    });
    let length = |arguments: &[&str]| {
        mkfs_squashfs(&source, &image, arguments);
        assert_clean(&image);
        if kernels::can_judge() {
            kernel(&image, &expected(&source).owned_by(0, 0));
        }
        std::fs::metadata(&image).unwrap().len()
    };
    let least = length(&[]);
    assert_eq!(least % 4096, 0);
    assert_eq!(length(&["--free", "1MiB"]), least + MIB);
    assert_eq!(length(&["--free", "1"]), least + 4096);
    assert_eq!(length(&["--size", "1MiB"]), MIB);
    let sized = |size: u64| {
        let mut command = diskwright();
        command.args(["mkfs", "squashfs", "--size", &size.to_string()]);
        run(command.arg(&source).arg("-o").arg(&image))
    };
    let said = sized(least - 4096);
    assert_eq!(said.code, 1);
    for part in ["the contents do not fit the SquashFS", "/noise (292.9 KiB)", &format!("({least} bytes)")] {
        assert!(said.error().contains(part), "no `{part}` in\n{}", said.error());
    }
    assert_eq!(sized(least).code, 0);
    // As it is used: with an exact number of sectors.
    let used = unsquashed(&image).0.len();
    assert_eq!(used, 2);
}

#[test]
fn a_manifest_has_it_as_a_partition() {
    let folder = scratch();
    let (_, image) = made(folder.path(), |maker| {
        maker.file("file", tree::noise(1, 200_000));
    });
    let manifest = folder.path().join("disk.toml");
    let text = r#"
version = 1
[disk]
table = "gpt"
[[partition]]
type = "root-x86-64"
filesystem = { type = "squashfs", compress = "xz", level = 2, chunk = "256KiB", free = "1MiB" }
contents = [ { source = "source", target = "/" }, { text = "text\n", target = "/etc/text" } ]
"#;
    std::fs::write(&manifest, text).unwrap();
    build(&manifest, &image);
    let partition = folder.path().join("partition.img");
    must(
        command("dd")
            .args(["bs=1M", "skip=1", "status=none"])
            .arg(format!("if={}", image.display()))
            .arg(format!("of={}", partition.display())),
    );
    let found = view(&*opened(&partition)).unwrap();
    assert_eq!(found.0.len(), 4);
    if kernels::can_judge() {
        let mount = kernels::Mount::new(&partition, "ro");
        assert_eq!(std::fs::read_to_string(mount.path().join("etc/text")).unwrap(), "text\n");
    }
    let said = must(diskwright().args(["inspect", "--json"]).arg(&image)).text();
    assert!(said.contains("\"squashfs\""), "{said}");
}
