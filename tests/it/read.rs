//! The reader of filesystems: what mke2fs, mkfs.fat and the kernel wrote, compared with what the kernel and the tools of
//! each filesystem show; damage, which it has to see; and what it refuses.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use diskwright::error::Kind;
use diskwright::filesystem::{Fault, Remark};

use crate::support::compare::{ALL, Aspect, assert_same, differences};
use crate::support::kernel::{Mount, can_judge};
use crate::support::program::{mkfs_ext4, mkfs_vfat};
use crate::support::snapshot::Snapshot;
use crate::support::tools::{command, is_root, must, quick_scratch, run, scratch};
use crate::support::volume::{assert_clean, opened, remarks, slice, view};
use crate::support::{debugfs, ext4, fat, tree};

/// What mke2fs is asked for, each a form of its own that the reader has to know: name, arguments, and whether the
/// kernel mounts it (blocks larger than a page it does not).
const FORMS: &[(&str, &str, bool)] = &[
    ("ext4", "-t ext4 -O metadata_csum_seed,orphan_file", true),
    ("blocks of 1 KiB", "-t ext4 -b 1024", true),
    ("blocks of 2 KiB", "-t ext4 -b 2048", true),
    ("blocks of 64 KiB", "-t ext4 -b 65536", false),
    ("ext2", "-t ext2", true),
    ("ext2 with blocks of 1 KiB", "-t ext2 -b 1024 -I 128", true),
    ("ext2, revision 0", "-t ext2 -r 0 -I 128 -O none", true),
    ("ext3", "-t ext3 -b 1024", true),
    ("inline data", "-t ext4 -O inline_data", true),
    ("inline data without checksums", "-t ext4 -O inline_data,^metadata_csum -I 512", true),
    ("bigalloc", "-t ext4 -O bigalloc -C 65536", true),
    ("bigalloc with blocks of 1 KiB", "-t ext4 -b 1024 -O bigalloc -C 16384", true),
    ("meta_bg", "-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode", true),
    ("32 bits", "-t ext4 -O ^64bit", true),
    ("uninit_bg", "-t ext4 -O ^metadata_csum,uninit_bg", true),
    ("no checksums", "-t ext4 -O ^metadata_csum", true),
    ("no file types", "-t ext4 -O ^filetype", true),
    ("no sparse_super", "-t ext4 -b 1024 -O ^sparse_super,^resize_inode,^metadata_csum", true),
    ("sparse_super2", "-t ext4 -O sparse_super2,^resize_inode", true),
    ("no flex_bg", "-t ext4 -b 1024 -O ^flex_bg", true),
    ("small inodes", "-t ext4 -I 128", true),
    ("large inodes", "-t ext4 -I 1024", true),
    ("mmp and quota", "-t ext4 -O mmp,quota,project", true),
    ("attributes in inodes", "-t ext4 -O ea_inode,large_dir", true),
    ("no journal", "-t ext4 -O ^has_journal,^resize_inode", true),
];

/// Makes a filesystem of a form in a file of `size`, filled from `source` where there is one.
fn mke2fs(image: &Path, form: &str, source: Option<&Path>, size: &str) {
    let mut command = command("mke2fs");
    command.args(["-q", "-F"]).args(form.split(' '));
    if let Some(source) = source {
        command.arg("-d").arg(source);
    }
    must(command.arg(image).arg(size));
}

/// A tree that mke2fs can copy: it keeps whole seconds after 1970 and before 2038.
fn source(folder: &Path) -> PathBuf {
    let source = folder.join("source");
    tree::portable(&source);
    source
}

#[test]
fn whatever_mke2fs_makes_is_read_as_the_kernel_and_debugfs_read_it() {
    let folder = quick_scratch();
    let source = source(folder.path());
    for (number, (name, form, mounts)) in FORMS.iter().enumerate() {
        let image = folder.path().join(format!("{number}.img"));
        mke2fs(&image, form, Some(&source), "96M");
        let found = view(&*opened(&image)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_same(&format!("{name}: debugfs"), &debugfs::view(&image), &found, &debugfs::VIEW);
        if *mounts && can_judge() {
            let mount = Mount::new(&image, "ro,noload");
            let expected = Snapshot::of(mount.path());
            mount.unmount();
            assert_same(&format!("{name}: the kernel"), &expected, &found, &ALL[..9]);
        }
        let ours: Vec<String> = remarks(&*opened(&image)).iter().map(Remark::to_string).collect();
        let theirs = ext4::remarks(&image);
        assert!(theirs.is_empty(), "{name}: e2fsck: {theirs:?}");
        assert!(ours.is_empty(), "{name}: {ours:#?}");
        std::fs::remove_file(&image).unwrap();
    }
}
