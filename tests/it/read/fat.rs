//! FAT12, FAT16 and FAT32, as mtools and fsck.fat show them.

use std::collections::BTreeMap;
use std::path::Path;

use super::view::{assert_clean, opened, view};
use crate::support::fat;
use crate::support::program::mkfs_vfat;
use crate::support::snapshot::Kind;
use crate::support::tools::{command, must, quick_scratch};
use crate::support::tree;

/// What mkfs.fat is asked for, and the size of the volume.
const FORMS: &[(&str, &str)] = &[
    ("-F 12", "4M"),
    ("-F 12 -n LABEL", "1440K"),
    ("-F 16", "40M"),
    ("-F 16 -f 1 -s 8", "60M"),
    ("-F 32", "100M"),
    ("-F 32 -S 4096 -s 2", "700M"),
];

/// A volume as the reader shows it: names and bytes, `None` for a directory.
fn seen(image: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let volume = opened(image);
    let snapshot = view(&*volume).unwrap();
    let paths = snapshot.0.iter().filter(|(path, _)| !path.is_empty());
    let mut found = BTreeMap::new();
    for (path, entry) in paths {
        let mut at = volume.root();
        for part in path.split(|byte| *byte == b'/') {
            at = volume.lookup(at, part).unwrap().unwrap();
        }
        let bytes = (entry.kind == Kind::File).then(|| {
            let file = diskwright::filesystem::contents(&*volume, at).unwrap();
            let mut bytes = vec![0; usize::try_from(entry.size).unwrap()];
            file.read(0, &mut bytes).unwrap();
            bytes
        });
        found.insert(String::from_utf8(path.clone()).unwrap(), bytes);
    }
    found
}

/// Names of every kind, files of several clusters.
fn source(folder: &Path) {
    let mut maker = tree::Maker::new(folder);
    maker.directory("A Long Directory Name.with ext").directory("A Long Directory Name.with ext/below");
    maker.directory("lower").directory("UPPER");
    for number in 0..90 {
        maker.file(format!("lower/A file with a long name {number}.txt"), tree::noise(number, number * 97));
    }
    for name in
        ["MIXed.Txt", "UPPER.TXT", "lower.txt", "no-extension", "a.b.c", "empty", "gr\u{fc}n \u{2603}.txt"]
    {
        maker.file(name, if name == "empty" { "" } else { name });
    }
    maker.file("large", tree::noise(7, 300_000)).time("large", (1_893_553_446, 0));
    maker.finish();
}

#[test]
fn whatever_mtools_write_is_read_as_they_read_it() {
    let folder = quick_scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    self::source(&source);
    for (form, size) in FORMS {
        must(command("truncate").args(["-s", size]).arg(&image));
        must(command("mkfs.fat").args(form.split(' ')).arg(&image));
        let mut copy = command("mcopy");
        copy.env("LC_ALL", "C.UTF-8").args(["-s", "-m", "-Q", "-i"]).arg(&image);
        must(copy.args(std::fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().path())).arg("::/"));
        for number in (0..90).step_by(3) {
            let name = format!("::/lower/A file with a long name {number}.txt");
            must(command("mdel").arg("-i").arg(&image).arg(name));
        }
        // Into the gaps.
        let pieces = folder.path().join("pieces");
        std::fs::write(&pieces, tree::noise(9, 200_000)).unwrap();
        must(command("mcopy").arg("-i").arg(&image).arg(&pieces).arg("::/"));
        fat::assert_clean(&image);
        assert_clean(&image);
        let found = seen(&image);
        let ours = found.keys().cloned().collect::<Vec<_>>();
        // In the C locale mtools replaces letters outside ASCII; their bytes were compared by the source.
        let ascii = |it: BTreeMap<String, Option<Vec<u8>>>| -> BTreeMap<_, _> {
            it.into_iter().filter(|(name, _)| name.is_ascii() && !name.contains('_')).collect()
        };
        assert_eq!(ascii(fat::view(&image)), ascii(found.clone()), "{form}");
        assert_eq!(
            found["gr\u{fc}n \u{2603}.txt"].as_deref(),
            Some("gr\u{fc}n \u{2603}.txt".as_bytes()),
            "{ours:?}"
        );
        let snapshot = view(&*opened(&image)).unwrap();
        assert_eq!(snapshot.0[b"large".as_slice()].mtime, (1_893_553_446, 0));
        if form.contains("LABEL") {
            assert_eq!(opened(&image).facts().label, "LABEL");
        }
        std::fs::remove_file(&image).unwrap();
    }
}

#[test]
fn what_the_program_writes_is_read_as_it_was() {
    let folder = quick_scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    self::source(&source);
    for arguments in [&["--size", "4MiB"][..], &["--size", "40MiB", "--label", "ESP"], &["--size", "600MiB"]]
    {
        mkfs_vfat(&source, &image, arguments);
        assert_eq!(seen(&image), fat::files(&source), "{arguments:?}");
        assert_clean(&image);
        let volume = opened(&image);
        let label = if arguments.contains(&"ESP") { "ESP" } else { "" };
        assert_eq!((volume.facts().kind, volume.facts().label.as_str()), ("vfat", label));
        // A short name and any case lead to a file too.
        let root = volume.root();
        let file = volume.lookup(root, b"no-extension").unwrap().unwrap();
        for name in ["NO-EXT~1", "No-Extension"] {
            assert_eq!(volume.lookup(root, name.as_bytes()).unwrap(), Some(file), "{name}");
        }
        std::fs::remove_file(&image).unwrap();
    }
}

/// The comparison notices another byte, another name and an extra file.
#[test]
fn the_comparison_sees_differences() {
    let folder = quick_scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    self::source(&source);
    mkfs_vfat(&source, &image, &["--size", "4MiB"]);
    let before = seen(&image);
    std::fs::write(source.join("large"), b"other").unwrap();
    assert_ne!(before, fat::files(&source));
    must(command("mdel").arg("-i").arg(&image).arg("::/lower.txt"));
    assert_ne!(before, seen(&image));
}
