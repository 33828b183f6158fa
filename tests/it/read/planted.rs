//! Faults of ext4 that debugfs plants in the program's own filesystems and those of mke2fs: in inodes that are not plain
//! files, reserved inodes, and fields and features of the superblock. Where e2fsck complains, so must the check.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::ext::{mke2fs, source};
use super::view::{assert_clean, opened, remarks};
use crate::support::program::mkfs_ext4;
use crate::support::tools::quick_scratch;
use crate::support::{debugfs, ext4};

/// What debugfs does to a filesystem, and words of the remark.
const PLANTED: &[(&str, &str)] = &[
    // The journal.
    ("ssv journal_inum 0", "superblock: it has a journal, which cannot be inode 0"),
    ("ssv journal_uuid 12345678-1234-1234-1234-123456789012", "its s_journal_uuid names a journal"),
    // Symbolic links: link-1 and link-59 are inside their inodes, and link-100 has a block.
    ("sif /link-59 size 40", "its size is not the length of its target"),
    ("sif /link-59 block[1] 0", "its size is not the length of its target"),
    ("sif /link-100 size 90", "its size is not the length of its target"),
    ("sif /link-100 size 5000", "a symbolic link cannot have that length"),
    ("sif /link-1 size 0", "it is a symbolic link, and cannot have that size"),
    ("sif /link-1 flags 0x80000", "it has the flag of extents"),
    ("sif /link-59 flags 0x1000", "a symbolic link with the flag of an indexed directory"),
    ("sif /link-59 flags 0x10", "it is immutable or append-only"),
    // Special files.
    ("sif /pipe size 5", "it is a special file, and its size is not 0"),
    ("sif /pipe flags 0x80000", "it is a special file, and has the flag of"),
    ("sif /pipe flags 0x1000", "it is a special file, and has the flag of"),
    ("sif /pipe flags 0x10000000", "it is a special file, and has the flag of"),
    ("sif /pipe flags 0x10\nsif /pipe block[5] 7", "it is a special file, and has block pointers"),
    // Flags that features and types exclude.
    ("sif /file-4096 flags 0x82000", "it has the imagic flag"),
    ("sif /file-4096 flags 0x80800", "it has the encrypt flag, and no attribute"),
    ("sif /directory flags 0x80800", "it has the encrypt flag, and no attribute"),
    ("sif /directory flags 0x40080000", "the casefold flag, and the superblock lacks casefold"),
    ("sif /file-4096 flags 0x40080000", "the casefold flag, and is not a directory"),
    ("sif /file-4096 flags 0x81000", "the flag of an indexed directory, and is not a directory"),
    ("feature ^extent", "it has extents, and the superblock lacks extent"),
    ("feature ^extent", "superblock: it has 64bit, which needs extent"),
    ("feature ^ext_attr", "a block of attributes, and the superblock lacks ext_attr"),
    // Reserved inodes.
    ("sif <3> block[0] 3000", "inode 3: it is that of a journal, of quotas"),
    ("sif <4> links_count 1", "inode 4: it is that of a journal, of quotas"),
    ("sif <9> mode 0100644", "inode 9: it is reserved, and has a mode"),
    ("sif <1> uid 5", "inode 1: it is that of bad blocks"),
    ("ssv usr_quota_inum 7", "inode 7 cannot be that of user quotas"),
    ("ssv usr_quota_inum 12", "inode 12 is reserved"),
    ("ssv grp_quota_inum 8", "inode 8 cannot be that of group quotas"),
    ("ssv prj_quota_inum 12", "inode 12: it is that of a journal, of quotas"),
    ("ssv orphan_file_inum 12", "inode 12: it is that of a journal, of quotas or of orphans"),
    // The resize inode.
    ("feature ^resize_inode", "it lacks resize_inode, and reserves"),
    (
        "feature ^resize_inode\nssv reserved_gdt_blocks 0",
        "the superblock lacks resize_inode, and it has blocks",
    ),
    ("sif <7> block[DIND] 0", "it is not a file with only a double-indirect block"),
    ("sif <7> block[2] 3000", "it is not a file with only a double-indirect block"),
    ("sif <7> blocks 8", "inode 7: it tells 4096 bytes of blocks"),
    ("feature meta_bg", "it has resize_inode and meta_bg"),
    // Links of a directory.
    ("sif / links_count 1", "inode 2: it tells 1 names"),
    // Features without what they need.
    ("feature casefold", "it has casefold, and no encoding has the number 0"),
    ("feature orphan_file", "it has an orphan file, which cannot be inode 0"),
    ("feature mmp", "it has mmp, whose block cannot be 0"),
];

/// The same for indexed directories, which mke2fs does not make from a folder.
const INDEXED: &[(&str, &str)] =
    &[("feature ^dir_index", "it is an indexed directory, and the superblock lacks dir_index")];

/// All that the check says.
fn said(image: &Path) -> String {
    remarks(&*opened(image)).iter().map(|remark| format!("{remark}\n")).collect()
}

/// Plants each fault in a copy of `whole`, and asks the check and e2fsck.
fn planted(faults: &[(&str, &str)], whole: &Path, image: &Path) {
    for (commands, words) in faults {
        std::fs::copy(whole, image).unwrap();
        debugfs::damage(image, &format!("{commands}\n"));
        let text = said(image);
        assert!(text.contains(words), "{commands}: no `{words}` in\n{text}");
        assert!(!ext4::remarks(image).is_empty(), "{commands}: e2fsck has no remark");
    }
}

#[test]
fn what_debugfs_plants_in_the_programs_own_filesystem_is_seen() {
    let folder = quick_scratch();
    let (source, whole) = (source(folder.path()), folder.path().join("whole.img"));
    mkfs_ext4(&source, &whole, &["--size", "64MiB", "--owner", "preserve"]);
    assert_clean(&whole);
    let image = folder.path().join("image.img");
    planted(PLANTED, &whole, &image);
    planted(INDEXED, &whole, &image);
}

#[test]
fn what_debugfs_plants_in_a_filesystem_of_mke2fs_is_seen() {
    let folder = quick_scratch();
    let (source, whole) = (source(folder.path()), folder.path().join("whole.img"));
    mke2fs(&whole, "-t ext4 -b 4096 -N 9000", Some(&source));
    assert_clean(&whole);
    planted(PLANTED, &whole, &folder.path().join("image.img"));
}

/// The blocks that the resize inode lists have no checksum.
#[test]
fn a_resize_inode_that_lists_other_blocks_is_seen() {
    let folder = quick_scratch();
    let (source, whole) = (source(folder.path()), folder.path().join("whole.img"));
    let image = folder.path().join("image.img");
    // 12 groups of 8 MiB, of which 5 have copies.
    mke2fs(&whole, "-t ext4 -b 1024", Some(&source));
    assert_clean(&whole);
    let stat = debugfs::debugfs(&whole, "stat <7>\n").text();
    let double = stat.split("(DIND):").nth(1).unwrap_or_else(|| panic!("no (DIND) in {stat}"));
    let double: u64 = double.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
    let mut list = [0; 1024];
    File::open(&whole).unwrap().read_exact_at(&mut list, double * 1024).unwrap();
    let pointers = list.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
    // e2fsck compares the first quarter of them (e2fsck/super.c, check_resize_inode).
    let listed = (0_u64..).zip(pointers).filter(|(_, pointer)| *pointer != 0);
    let (slot, first) = listed.min_by_key(|(_, pointer)| *pointer).unwrap();
    for (at, words) in [
        (double * 1024 + slot * 4, "its double-indirect block does not list the reserved block"),
        (u64::from(first) * 1024, "does not list its copies"),
        // Behind all entries: only the count of blocks tells e2fsck.
        (u64::from(first) * 1024 + 1000, "does not list its copies"),
    ] {
        std::fs::copy(&whole, &image).unwrap();
        File::options().write(true).open(&image).unwrap().write_all_at(&[0x60, 0x61], at).unwrap();
        let text = said(&image);
        assert!(text.contains(words), "no `{words}` in\n{text}");
        assert!(!ext4::remarks(&image).is_empty(), "{words}: e2fsck has no remark");
    }
}
