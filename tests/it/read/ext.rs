//! ext2, ext3 and ext4 of every form, compared with the kernel and debugfs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::view::{assert_clean, opened, slice, view};
use crate::support::compare::{ALL, Aspect, assert_same, differences};
use crate::support::kernel::{Mount, can_judge};
use crate::support::program::mkfs_ext4;
use crate::support::snapshot::Snapshot;
use crate::support::tools::{command, is_root, must, quick_scratch};
use crate::support::{debugfs, ext4, tree};

/// The options of mke2fs, each a form that the reader must know, and whether the kernel mounts it: it does
/// not mount blocks larger than a page.
pub(super) const FORMS: &[(&str, bool)] = &[
    ("-t ext4 -b 4096 -O metadata_csum_seed,orphan_file", true),
    ("-t ext4 -b 1024", true),
    ("-t ext4 -b 2048", true),
    ("-t ext4 -b 65536 -N 9000", false),
    ("-t ext2 -b 1024 -I 128", true),
    ("-t ext2 -r 0 -I 128 -O none", true),
    ("-t ext3 -b 4096", true),
    ("-t ext4 -b 4096 -O inline_data", true),
    ("-t ext4 -b 1024 -O inline_data,^metadata_csum -I 512", true),
    ("-t ext4 -b 4096 -O bigalloc -C 65536 -N 9000", true),
    ("-t ext4 -b 1024 -O bigalloc -C 16384", true),
    ("-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode", true),
    ("-t ext4 -O ^64bit,^extent", true),
    ("-t ext4 -O ^metadata_csum,uninit_bg", true),
    ("-t ext4 -O ^filetype", true),
    ("-t ext4 -b 1024 -O ^sparse_super,^resize_inode,^metadata_csum", true),
    ("-t ext4 -O sparse_super2,^resize_inode", true),
    ("-t ext4 -b 1024 -O ^flex_bg", true),
    ("-t ext4 -b 4096 -I 128", true),
    ("-t ext4 -b 4096 -I 1024", true),
    ("-t ext4 -O mmp", true),
    ("-t ext4 -O ea_inode,large_dir", true),
    ("-t ext4 -O ^has_journal,^resize_inode", true),
];

/// Makes a filesystem of a form in a file of 96 MiB, filled from `source` where there is one.
pub(super) fn mke2fs(image: &Path, form: &str, source: Option<&Path>) {
    mke2fs_of("96M", image, form, source);
}

/// As [`mke2fs`], of another size.
pub(super) fn mke2fs_of(size: &str, image: &Path, form: &str, source: Option<&Path>) {
    let mut command = command("mke2fs");
    command.args(["-q", "-F"]).args(form.split(' '));
    if let Some(source) = source {
        command.arg("-d").arg(source);
    }
    must(command.arg(image).arg(size));
}

/// A tree that all forms hold and mke2fs copies: whole seconds from 1970 to 2038, attributes of some hundred bytes.
pub(super) fn source(folder: &Path) -> PathBuf {
    let source = folder.join("source");
    let mut maker = tree::Maker::new(&source);
    for size in [0_u64, 1, 59, 60, 61, 100, 150, 400, 1024, 4096, 4097, 70_000, 3_000_000] {
        maker.file(format!("file-{size}"), tree::noise(size, size));
    }
    for length in [1, 59, 60, 61, 100, 1000] {
        maker.symlink(format!("link-{length}"), tree::target(length));
    }
    // More than the 340 extents of one leaf, and more than the 12 pointers of an inode.
    let pieces: Vec<(u64, u64)> = (0..700).map(|piece| (piece * 8192, 10)).collect();
    maker.sparse("pieces", 6_000_000, &pieces).sparse("hole", 9_000_000, &[(4_500_000, 5000)]);
    maker.directory("directory").directory("directory/empty").directory("many");
    for number in 0..1500 {
        maker.file(format!("many/a-name-of-some-length-{number}"), "");
    }
    maker.file("names", "of one file").link("names", "many/another").link("names", "directory/third");
    for (name, value) in [("user.short", b"value".to_vec()), ("user.long", vec![b'x'; 500])] {
        maker.xattr("file-100", name, &value).xattr("directory", name, &value);
    }
    let acl =
        tree::acl(&[(1, 7, u32::MAX), (2, 5, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]);
    maker.xattr("file-150", "system.posix_acl_access", &acl);
    maker.mode("file-60", 0o4711).mode("file-61", 0o400).mode("directory/empty", 0o1777);
    maker.special("pipe", rustix::fs::FileType::Fifo, (0, 0));
    if is_root() {
        // Nobody else could read it.
        maker.mode("file-61", 0);
        maker.special("old", rustix::fs::FileType::CharacterDevice, (5, 1));
        maker.special("new", rustix::fs::FileType::BlockDevice, (259, 0x12345));
        maker.owner("file-400", 70_000, 80_000).owner("link-59", 1, 2);
    }
    maker.time("file-1", (0, 0)).time("file-59", (2_000_000_000, 0));
    maker.finish();
    source
}

/// The kernel and debugfs show the same of an image, and nobody finds a fault.
fn judged(form: &str, image: &Path, mounts: bool) {
    let found = view(&*opened(image)).unwrap_or_else(|error| panic!("{form}: {error}"));
    // For small inodes debugfs prints times in another form, and of inline data it copies at least 60 bytes.
    if !form.contains("-I 128") && !form.contains("inline_data") {
        assert_same(&format!("{form}: debugfs"), &debugfs::view(image), &found, &debugfs::VIEW);
    }
    if mounts && can_judge() {
        let mount = Mount::new(image, "ro");
        let expected = Snapshot::of(mount.path());
        mount.unmount();
        assert_same(&format!("{form}: the kernel"), &expected, &found, &SEEN);
    }
    let theirs = ext4::remarks(image);
    assert!(theirs.is_empty(), "{form}: e2fsck: {theirs:?}");
    assert_clean(image);
}

/// Everything except holes, which do not always match blocks of 4 KiB.
const SEEN: [Aspect; 9] = debugfs::VIEW;

#[test]
fn whatever_mke2fs_makes_is_read_as_the_kernel_and_debugfs_read_it() {
    let folder = quick_scratch();
    let source = source(folder.path());
    for (form, mounts) in FORMS {
        let image = folder.path().join("image.img");
        mke2fs(&image, form, Some(&source));
        judged(form, &image, *mounts);
        std::fs::remove_file(&image).unwrap();
    }
}

/// A filesystem that the kernel wrote: indexes, trees of extents, attributes, and unwritten blocks.
#[test]
fn whatever_the_kernel_writes_is_read_as_it_reads_it() {
    if !can_judge() {
        return;
    }
    let folder = quick_scratch();
    let source = source(folder.path());
    for (form, _) in FORMS.iter().filter(|(_, mounts)| *mounts) {
        let image = folder.path().join("image.img");
        mke2fs(&image, form, None);
        let mount = Mount::new(&image, "rw");
        must(command("cp").arg("-a").arg(source.join(".")).arg(mount.path()));
        worn(mount.path());
        mount.unmount();
        judged(form, &image, true);
        std::fs::remove_file(&image).unwrap();
    }
}

/// Writes, removes and moves, so that the layout becomes irregular.
fn worn(top: &Path) {
    for number in (0..1500).step_by(3) {
        std::fs::remove_file(top.join(format!("many/a-name-of-some-length-{number}"))).unwrap();
    }
    let (one, other) = (File::create(top.join("one")).unwrap(), File::create(top.join("other")).unwrap());
    for number in 0..600 {
        one.write_all_at(&tree::noise(number, 4096), number * 8192).unwrap();
        other.write_all_at(&tree::noise(number, 4096), number * 4096).unwrap();
        if number % 40 == 0 {
            one.sync_all().unwrap();
            other.sync_all().unwrap();
        }
    }
    // Refused where there are no extents.
    let _ = rustix::fs::fallocate(&other, rustix::fs::FallocateFlags::KEEP_SIZE, 0, 9_000_000);
    let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    let _ = rustix::fs::fallocate(&other, hole, 100_000, 50_000);
    std::fs::create_dir_all(top.join("deep/er/and/deeper")).unwrap();
    std::fs::rename(top.join("directory"), top.join("deep/er/moved")).unwrap();
    std::fs::rename(top.join("names"), top.join("renamed")).unwrap();
    for (name, time) in [("file-4096", (5_000_000_000, 123_456_789)), ("file-4097", (-1_000_000_000, 5))] {
        tree::date(&top.join(name), time);
    }
}

#[test]
fn what_the_program_writes_is_read_as_it_was() {
    let folder = quick_scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::strange(&source, 20_000, tree::Host::Linux);
    mkfs_ext4(&source, &image, &["--owner", "preserve"]);
    let expected = Snapshot::of(&source).links_as_in_ext4().without_host_labels();
    let found = view(&*opened(&image)).unwrap().without_lost_and_found();
    assert_same("the reader", &expected, &found, &ALL);
    assert_clean(&image);
    // Times before 1970 and after 2038, link targets of every length.
    let (source, image) = (folder.path().join("unread"), folder.path().join("unread.img"));
    tree::unread(&source);
    mkfs_ext4(&source, &image, &["--owner", "preserve"]);
    let expected = Snapshot::of(&source).links_as_in_ext4().without_host_labels();
    assert_same("the reader", &expected, &view(&*opened(&image)).unwrap().without_lost_and_found(), &ALL);
    assert_clean(&image);
}

/// The comparison notices each aspect: each differs once.
#[test]
fn the_comparison_sees_differences() {
    let folder = quick_scratch();
    let (source, image) = (source(folder.path()), folder.path().join("image.img"));
    mke2fs(&image, "-t ext4 -b 4096 -O ^metadata_csum", Some(&source));
    let before = debugfs::view(&image);
    let mut changes =
        "sif /file-100 uid 7\nsif /file-150 mode 0100600\nsif /file-400 mtime 20200101\nsif /file-1024 size 1023\n\
         sif /names links_count 9\nsif /link-59 block[0] 0x41414141\nea_set /file-59 user.new 1\nrm /many/another\n"
            .to_owned();
    if is_root() {
        changes.push_str("sif /old block[0] 0x0506\n");
    }
    debugfs::damage(&image, &changes);
    let found = view(&*opened(&image)).unwrap();
    let lines = differences(&before, &found, &SEEN).join("\n");
    for words in ["Owner", "Mode", "Time", "Bytes", "Links", "Target", "Device", "Xattrs", "missing"] {
        if words != "Device" || is_root() {
            assert!(lines.contains(words), "no {words} in {lines}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = quick_scratch();
    let image = folder.path().join("image.img");
    mke2fs(&image, "-b 4096 -O journal_dev", None);
    let text = diskwright::filesystem::open(&slice(&image)).unwrap_err().to_string();
    assert!(
        text.contains("a feature that is not understood") && text.contains("found: journal_dev"),
        "{text}"
    );
    std::fs::remove_file(&image).unwrap();
    // A journal that was not replayed, as after a power failure.
    mke2fs(&image, "-t ext4", None);
    debugfs::damage(&image, "feature needs_recovery\n");
    let volume = opened(&image);
    let warnings: Vec<String> = volume.warnings().iter().map(ToString::to_string).collect();
    assert!(warnings.iter().any(|warning| warning.contains("needs_recovery")), "{warnings:?}");
    // Cut off.
    let length = std::fs::metadata(&image).unwrap().len();
    File::options().write(true).open(&image).unwrap().set_len(length - 4096).unwrap();
    let error = diskwright::filesystem::open(&slice(&image)).unwrap_err().to_string();
    assert!(error.contains("longer than what holds it"), "{error}");
}

#[test]
fn a_value_in_an_inode_of_its_own_is_read() {
    if !can_judge() {
        return;
    }
    let folder = quick_scratch();
    let image = folder.path().join("image.img");
    mke2fs(&image, "-t ext4 -b 4096 -O ea_inode", None);
    let mount = Mount::new(&image, "rw");
    let file = mount.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let value = tree::noise(1, 20_000);
    rustix::fs::setxattr(&file, "user.long", &value, rustix::fs::XattrFlags::empty()).unwrap();
    mount.unmount();
    let found = view(&*opened(&image)).unwrap();
    assert_eq!(found.0[b"file".as_slice()].xattrs[b"user.long".as_slice()], value);
    assert_clean(&image);
}
