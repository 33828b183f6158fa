//! Arbitrary bytes: the result is an answer or an error for people, soon and with little memory. The fuzz
//! targets `ext4`, `fat`, `erofs`, `squashfs` and `zfs` continue from here.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use diskwright::error::{Error, Kind};
use diskwright::filesystem::{Content, Volume, open};
use diskwright::image::Builder;
use diskwright::units::Bytes;

use super::erofs;
use super::ext::{FORMS, mke2fs_of};
use crate::support::program::{self, mkfs_erofs, mkfs_squashfs, mkfs_vfat};
use crate::support::tools::{command, must, quick_scratch, run, scratch};
use crate::support::tree;

/// An error of these is no surprise.
fn acceptable(error: &Error) {
    assert!(matches!(error.kind(), Kind::Format | Kind::Interrupted), "{error}");
}

/// Walks over all of a volume that can be reached, and checks it; returns how many names there are.
fn exercise(volume: &dyn Volume) -> u64 {
    let (mut names, mut places, mut stack) = (0, BTreeSet::new(), vec![volume.root()]);
    while let Some(inode) = stack.pop() {
        let node = match volume.node(inode) {
            Ok(node) => node,
            Err(error) => {
                acceptable(&error);
                continue;
            }
        };
        let result = match node.content {
            Content::Directory { place } if places.insert(place) => volume.list(inode, &mut |_, child| {
                names += 1;
                stack.push(child);
                Ok(())
            }),
            Content::File { .. } => volume.data(inode, &mut |_, piece| {
                let mut bytes = [0; 64];
                piece.read(0, &mut bytes)
            }),
            _ => Ok(()),
        };
        result.unwrap_or_else(|error| acceptable(&error));
    }
    let mut left = 500;
    let heard = volume.check(&mut |_| {
        left -= 1;
        if left == 0 { Err(Error::new(Kind::Interrupted, "enough")) } else { Ok(()) }
    });
    heard.unwrap_or_else(|error| acceptable(&error));
    names
}

/// Memory of the program on a small image that is whole: under 4 MiB of it is not shared with its file.
const OWN: u64 = 4 << 20;
/// What an image may make it ask for beyond that, whether it is touched or not.
const MOST: u64 = 64 << 20;

/// Looks at an image with no more memory than is promised; without enough the program would abort.
fn frugal(image: &Path) {
    for words in [&["check"][..], &["ls", "-lR"]] {
        let mut limited = command("prlimit");
        limited.arg(format!("--data={}", OWN + MOST)).arg(program::path()).args(words).arg(image);
        let said = run(&mut limited);
        assert!((0..=2).contains(&said.code), "{limited:?}\n{}", said.error());
    }
}

/// Changes a few bytes that are not zero, again and again, and reads the result.
fn mutated(image: &Path, rounds: u64) {
    let bytes = std::fs::read(image).unwrap();
    // Structures: the first blocks of 256 bytes that hold something.
    let used: Vec<usize> =
        (0..bytes.len() / 256).filter(|at| bytes[at * 256..][..256].iter().any(|byte| *byte != 0)).collect();
    let used = &used[..used.len().min(6000)];
    let mut opened = 0;
    for round in 0..rounds {
        let noise = tree::noise(round, 16);
        let mut changed = bytes.clone();
        for pick in noise.chunks(4).take(1 + usize::from(noise[0] >> 6)) {
            let at = used[(usize::from(pick[0]) << 8 | usize::from(pick[1])) % used.len()] * 256;
            let value = if pick[3] & 2 == 0 { 0xff } else { pick[3] & 0xf0 };
            changed[at + usize::from(pick[2])] = value;
        }
        if round % 10 == 0 {
            let damaged = image.with_extension("damaged");
            std::fs::write(&damaged, &changed).unwrap();
            frugal(&damaged);
        }
        let mut disk = Builder::new(Bytes::new(changed.len().try_into().unwrap()));
        disk.bytes(Bytes::ZERO, "bytes", changed);
        let start = Instant::now();
        match open(&disk.finish().unwrap().whole()) {
            Ok(Some(volume)) => {
                exercise(&*volume);
                opened += 1;
            }
            Ok(None) => {}
            Err(error) => acceptable(&error),
        }
        assert!(start.elapsed() < Duration::from_secs(60), "round {round} takes {:?}", start.elapsed());
    }
    assert!(opened * 2 > rounds, "only {opened} of {rounds} are opened");
}

#[test]
fn ext4_that_is_damaged_at_random_is_no_danger() {
    let folder = quick_scratch();
    let source = folder.path().join("source");
    tree::plain(&source);
    let forms = ["inline_data,^metadata_csum", "ext2 -b 1024", "bigalloc -C 16384", "meta_bg"];
    for form in forms {
        let (form, _) = FORMS.iter().find(|(known, _)| known.contains(form)).unwrap();
        let image = folder.path().join("image.img");
        // Without checksums, which would keep the reader from the rest.
        let bare = "-O ^metadata_csum,^has_journal";
        let form = if form.contains("-O ") {
            form.replace("-O ", &format!("{bare},"))
        } else {
            format!("{form} {bare}")
        };
        mke2fs_of("6M", &image, &form, Some(&source));
        mutated(&image, 150);
        std::fs::remove_file(&image).unwrap();
    }
}

#[test]
fn erofs_that_is_damaged_at_random_is_no_danger() {
    let folder = scratch();
    let (source, image) = (erofs::source(folder.path()), folder.path().join("image.img"));
    // Without the checksum, which would hide what is behind it: its bit is the lowest of byte 1032.
    let bare = |image: &Path| {
        let mut bytes = std::fs::read(image).unwrap();
        bytes[1032] &= !1;
        std::fs::write(image, bytes).unwrap();
    };
    for form in erofs::FORMS.iter().filter(|form| form.contains("-z") || form.contains("chunk")) {
        erofs::mkfs(&image, form, &source);
        bare(&image);
        mutated(&image, 60);
        std::fs::remove_file(&image).unwrap();
    }
    for form in [&[][..], &["--compress", "zstd"], &["--compress", "lz4", "--chunk", "8KiB"]] {
        mkfs_erofs(&source, &image, form);
        bare(&image);
        mutated(&image, 200);
    }
}

#[test]
fn fat_that_is_damaged_at_random_is_no_danger() {
    let folder = quick_scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    tree::plain(&source);
    for size in ["2MiB", "12MiB"] {
        mkfs_vfat(&source.join("bin"), &image, &["--size", size]);
        mutated(&image, 300);
        std::fs::remove_file(&image).unwrap();
    }
}

#[test]
fn squashfs_that_is_damaged_at_random_is_no_danger() {
    let folder = quick_scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    tree::plain(&source);
    for compress in ["none", "zstd", "gzip", "xz", "lz4"] {
        mkfs_squashfs(&source, &image, &["--chunk", "4KiB", "--compress", compress]);
        mutated(&image, 150);
        std::fs::remove_file(&image).unwrap();
    }
}

#[test]
fn zfs_that_is_damaged_at_random_is_no_danger() {
    let folder = quick_scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    tree::plain(&source);
    // One block of the largest size, of which little is stored.
    tree::Maker::new(&source).file("large", vec![b'a'; 16 << 20]).finish();
    let manifest = folder.path().join("disk.toml");
    for properties in
        ["compression = \"off\"", "compression = \"zstd-3\", recordsize = \"16M\", copies = \"2\""]
    {
        let text = format!(
            "version = 1\n[disk]\ntable = \"none\"\nsize = \"64MiB\"\n[[partition]]\n\
             contents = [ {{ source = \"source\", target = \"/\" }} ]\n\
             [partition.filesystem]\ntype = \"zfs\"\nproperties = {{ {properties} }}\n"
        );
        std::fs::write(&manifest, text).unwrap();
        program::build(&manifest, &image);
        frugal(&image);
        mutated(&image, 40);
    }
}

#[test]
fn memory_beyond_what_is_promised_would_be_seen() {
    let folder = quick_scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    tree::plain(&source);
    mkfs_squashfs(&source, &image, &[]);
    frugal(&image);
    // The limit is one: without any memory nothing runs.
    let said = run(command("prlimit").arg("--data=1").arg(program::path()).arg("check").arg(&image));
    assert!(!(0..=2).contains(&said.code), "{}", said.code);
    must(command("prlimit").arg(format!("--data={OWN}")).arg(program::path()).arg("check").arg(&image));
}
