//! ext2, ext3 and ext4 of foreign writers: sets of features, journals that were not replayed, large directories, encrypted
//! and case-insensitive ones, compared with the kernel and debugfs.

use std::path::Path;

use crate::support::compare::{ALL_BUT_HOLES, assert_same};
use crate::support::debugfs;
use crate::support::kernel::{Mount, can_judge, need};
use crate::support::program::diskwright;
use crate::support::snapshot::Snapshot;
use crate::support::tools::{Said, command, must, quick_scratch, run};
use crate::support::tree::{self, Maker};

/// Makes a filesystem of 96 MiB in `image`, with what is in `source`.
fn mke2fs(image: &Path, form: &str, source: Option<&Path>) {
    let _ = std::fs::remove_file(image);
    let mut command = command("mke2fs");
    command.args(["-q", "-F"]).args(form.split(' '));
    if let Some(source) = source {
        command.arg("-d").arg(source);
    }
    must(command.arg(image).arg("96M"));
}

fn copied(image: &Path, out: &Path) -> Snapshot {
    let _ = std::fs::remove_dir_all(out);
    let said = must(diskwright().arg("copy").arg(image).arg(out).args(["--owner", "preserve"]));
    assert_eq!(said.error(), "");
    Snapshot::of(out)
}

fn cat(image: &Path, path: &str) -> Said {
    run(diskwright().arg("cat").arg(format!("{}:{path}", image.display())))
}

/// The twelve sets of features: how mke2fs makes each, and whether the kernel here mounts it.
const SETS: &[(&str, bool)] = &[
    ("-t ext4 -O inline_data", true),
    ("-t ext4 -b 4096 -O bigalloc -C 65536 -N 9000", true),
    ("-t ext4 -b 1024", true),
    ("-t ext4 -O ea_inode", true),
    ("-t ext4 -O casefold", false),
    ("-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode", true),
    ("-t ext4 -O ^extents,^64bit", true),
    ("-t ext4 -O large_dir", true),
    ("-t ext4 -O quota,project", true),
    ("-t ext4 -O encrypt", true),
    ("-t ext4 -O metadata_csum_seed,orphan_file", true),
    ("-t ext4 -b 65536 -N 9000", false),
];

/// Attributes of any length fit only some of the sets, and no set has a socket from mke2fs.
fn source(folder: &Path) -> std::path::PathBuf {
    let source = crate::list::source(folder);
    let mut maker = Maker::new(&source);
    std::fs::remove_file(maker.path("socket")).unwrap();
    std::fs::remove_file(maker.path("etc/d")).unwrap();
    maker.directory("many");
    for number in 0..700 {
        maker.file(format!("many/a-name-of-some-length-{number}"), "");
    }
    for size in [1_u64, 59, 60, 61, 100, 150, 4096, 70_000] {
        maker.file(format!("file-{size}"), tree::noise(size, size));
    }
    for length in [1, 59, 60, 61, 1000] {
        maker.symlink(format!("link-{length}"), tree::target(length));
    }
    // mke2fs copies whole seconds up to 2038.
    maker.time("large", (1_500_000_000, 0)).time("", tree::USUAL).time("etc", tree::USUAL).finish();
    source
}

#[test]
fn every_set_of_features_is_copied_as_the_kernel_and_debugfs_show_it() {
    crate::support::left_out::need_root("owners of copies");
    let folder = quick_scratch();
    let (source, image, out) =
        (source(folder.path()), folder.path().join("image.img"), folder.path().join("out"));
    let expected = Snapshot::of(&source);
    for (form, mounts) in SETS {
        mke2fs(&image, form, Some(&source));
        let found = copied(&image, &out);
        if *mounts && can_judge() {
            let mount = Mount::new(&image, "ro");
            let theirs = Snapshot::of(mount.path());
            mount.unmount();
            let aspects: Vec<_> = ALL_BUT_HOLES.to_vec();
            assert_same(&format!("{form}: the kernel"), &theirs, &found, &aspects);
        }
        if !form.contains("inline_data") {
            assert_same(&format!("{form}: debugfs"), &debugfs::view(&image), &found, &ALL_BUT_HOLES);
        }
        assert!(found.0.len() > expected.0.len(), "{form}");
        std::fs::remove_file(&image).unwrap();
    }
}

/// The filesystem as it is on the disk while it is mounted: what was written last is in the journal only.
#[test]
fn a_journal_that_was_not_replayed_is_read_through() {
    need();
    let folder = quick_scratch();
    let (image, copy) = (folder.path().join("image.img"), folder.path().join("copy.img"));
    for form in [
        "-t ext4",
        "-t ext4 -b 1024",
        "-t ext3 -b 4096",
        "-t ext4 -O ^metadata_csum",
        "-t ext4 -O ^64bit,^metadata_csum",
        "-t ext4 -J size=4",
    ] {
        mke2fs(&image, form, None);
        let mount = Mount::new(&image, "rw,commit=1000");
        let top = mount.path();
        let mut maker = Maker::new(top);
        for number in 0..400 {
            maker
                .directory(format!("d{number}"))
                .file(format!("d{number}/file"), tree::noise(number, number * 11));
        }
        maker.finish();
        sync(top);
        // Blocks of directories that go become blocks of data, so the journal revokes them.
        for number in (0..400).step_by(2) {
            std::fs::remove_dir_all(top.join(format!("d{number}"))).unwrap();
        }
        let mut maker = Maker::new(top);
        for number in 0..60 {
            maker.file(format!("later{number}"), tree::noise(number, 9000));
        }
        maker.symlink("link", "target").mode("d1", 0o700).finish();
        sync(top);
        must(command("cp").arg("--sparse=always").arg(&image).arg(&copy));
        let expected = Snapshot::of(top);
        mount.unmount();
        let features = must(command("dumpe2fs").arg("-h").arg(&copy)).text();
        assert!(features.contains("needs_recovery"), "{form}: the copy is clean");
        let (volume, out) = (&copy, folder.path().join("out"));
        let said = must(diskwright().arg("copy").arg(volume).arg(&out).args(["--owner", "preserve"]));
        assert!(said.error().contains("read through its journal"), "{form}: {}", said.error());
        assert_same(form, &expected, &Snapshot::of(&out), &ALL_BUT_HOLES);
        std::fs::remove_dir_all(&out).unwrap();
    }
}

/// Commits the journal of a mounted filesystem.
fn sync(top: &Path) {
    let file = std::fs::File::open(top).unwrap();
    rustix::fs::syncfs(&file).unwrap();
    // The data too: they are not in the journal.
    must(command("sync").arg("-f").arg(top));
}

#[test]
fn an_encrypted_directory_is_named_and_the_rest_is_read() {
    let folder = quick_scratch();
    let image = folder.path().join("image.img");
    let source = folder.path().join("source");
    Maker::new(&source)
        .directory("plain")
        .file("plain/file", "read\n")
        .directory("secret")
        .file("secret/x", "y")
        .finish();
    mke2fs(&image, "-t ext4 -O encrypt,^metadata_csum", Some(&source));
    // EXT4_ENCRYPT_FL.
    debugfs::damage(&image, "sif /secret flags 0x80800\nsif /secret/x flags 0x80800\n");
    assert_eq!(cat(&image, "/plain/file").text(), "read\n");
    let said = cat(&image, "/secret/x");
    assert!(said.code == 1 && said.error().contains("encrypted"), "{}", said.error());
    let said = run(diskwright().args(["ls", "-R"]).arg(&image));
    assert!(said.code == 1 && said.text().contains("/plain:\nfile\n") && said.text().contains("secret\n"));
    assert!(said.error().contains("/secret"), "{}", said.error());
}

#[test]
fn names_of_a_directory_without_case_are_found_in_any() {
    let folder = quick_scratch();
    let (image, source) = (folder.path().join("image.img"), folder.path().join("source"));
    Maker::new(&source)
        .directory("folded")
        .file("folded/Read Me", "text\n")
        .file("Read Me", "other\n")
        .finish();
    mke2fs(&image, "-t ext4 -O casefold,^metadata_csum", Some(&source));
    // EXT4_CASEFOLD_FL.
    debugfs::damage(&image, "sif /folded flags 0x40080000\n");
    assert_eq!(cat(&image, "/folded/Read Me").text(), "text\n");
    let said = must(diskwright().arg("ls").arg(format!("{}:/folded", image.display())));
    assert_eq!(said.text(), "Read Me\n");
}

/// More names than an index of two levels holds.
#[test]
fn a_directory_with_an_index_of_three_levels_is_listed() {
    need();
    let folder = quick_scratch();
    let image = folder.path().join("image.img");
    let _ = std::fs::remove_file(&image);
    must(
        command("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-b", "1024", "-O", "large_dir", "-N", "80000"])
            .arg(&image)
            .arg("200M"),
    );
    let mount = Mount::new(&image, "rw");
    let long = "n".repeat(240);
    for number in 0..50_000 {
        std::fs::File::create(mount.path().join(format!("{number:06}{long}"))).unwrap();
    }
    mount.unmount();
    let said = debugfs::debugfs(&image, "htree_dump /\n").text();
    assert!(said.contains("Indirect levels: 2"), "the index has fewer levels");
    let said = must(diskwright().arg("ls").arg(&image));
    let names: Vec<String> =
        said.text().lines().filter(|line| *line != "lost+found").map(str::to_owned).collect();
    assert!(
        names.len() == 50_000
            && names.iter().zip(0..).all(|(name, number)| *name == format!("{number:06}{long}"))
    );
}
