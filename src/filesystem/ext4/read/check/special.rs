//! Checks what an inode says of itself: its flags, and that symbolic links, devices, FIFOs and sockets are as their type
//! wants (e2fsprogs, e2fsck/pass1.c).

use super::{Pass, Say};
use crate::error::Result;
use crate::filesystem::ext4::format::features::{compat, incompat};
use crate::filesystem::ext4::format::{ExtentEntry, ExtentHeader, FIRST, ROOT};
use crate::filesystem::ext4::read::Ext4;
use crate::filesystem::ext4::read::inode::{
    FLAG_CASEFOLD, FLAG_ENCRYPT, FLAG_EXTENTS, FLAG_INDEX, FLAG_INLINE_DATA, Raw,
};
use crate::filesystem::ext4::read::map::words;
use crate::filesystem::mode::{
    MODE_BLOCK, MODE_CHARACTER, MODE_DIRECTORY, MODE_FIFO, MODE_FILE, MODE_SOCKET, MODE_SYMLINK,
};
use crate::filesystem::volume::Fault;
use crate::units::{joined, joined16, u64_of};
use crate::wire::Wire;

/// Flags of inodes: EXT2_IMMUTABLE_FL, EXT2_APPEND_FL and EXT2_IMAGIC_FL.
const FLAG_IMMUTABLE: u32 = 0x10;
const FLAG_APPEND: u32 = 0x20;
const FLAG_IMAGIC: u32 = 0x2000;
/// The bytes of i_block, and those in front of the words that a device number never reaches.
const INSIDE: usize = 60;
const DEVICE: usize = 16;
/// An extent of one block, written or not (EXT_INIT_MAX_LEN + 1).
const ONE: [u16; 2] = [1, 32_769];

impl Ext4 {
    /// Whether an inode has a number below those of the files.
    pub(super) fn is_reserved(&self, number: u32) -> bool {
        number != ROOT && number < self.layout.superblock.s_first_ino.max(FIRST - 1)
    }

    /// Whether e2fsck looks at an inode as at one of a file, and not as at one that the superblock names.
    fn is_ordinary(&self, number: u32) -> bool {
        let own = &self.layout.superblock;
        !self.is_reserved(number) && number != own.s_prj_quota_inum && number != own.s_orphan_file_inum
    }
}

impl Pass<'_> {
    /// Checks the flags of an inode, and what its type wants.
    pub(super) fn special(&self, raw: &Raw, subject: &str, remark: Say<'_>) -> Result<()> {
        let volume = self.volume;
        if !self.first {
            return Ok(());
        }
        let mut faults = flags(volume, raw);
        if volume.is_ordinary(raw.number) {
            faults.extend(match raw.kind() {
                MODE_SYMLINK => self.told(symlink(volume, raw), subject, remark)?.flatten(),
                MODE_CHARACTER | MODE_BLOCK | MODE_FIFO | MODE_SOCKET => device(raw),
                _ => None,
            });
        }
        for what in faults {
            self.once(Fault::Structure, subject, what, remark)?;
        }
        Ok(())
    }
}

/// Flags that the type or the features exclude (e2fsck/pass1.c, e2fsck_pass1, handle_htree and check_ext_attr).
fn flags(volume: &Ext4, raw: &Raw) -> Vec<&'static str> {
    let layout = &volume.layout;
    let compatible = |feature: u32| layout.superblock.s_feature_compat & feature != 0;
    let (kind, ordinary) = (raw.kind(), volume.is_ordinary(raw.number));
    // Attributes that cannot be read were reported.
    let policy = || volume.has_encryption(raw).unwrap_or(true);
    let fixed = matches!(kind, MODE_CHARACTER | MODE_BLOCK | MODE_FIFO | MODE_SOCKET | MODE_SYMLINK);
    [
        (
            raw.has(FLAG_CASEFOLD) && kind != MODE_DIRECTORY,
            "it has the casefold flag, and is not a directory",
        ),
        (
            raw.has(FLAG_CASEFOLD) && !layout.incompatible(incompat::CASEFOLD),
            "it has the casefold flag, and the superblock lacks casefold",
        ),
        (
            raw.has(FLAG_EXTENTS) && !layout.incompatible(incompat::EXTENTS),
            "it has extents, and the superblock lacks extent",
        ),
        (
            raw.has(FLAG_INLINE_DATA) && ordinary && !layout.incompatible(incompat::INLINE_DATA),
            "it has inline data, and the superblock lacks inline_data",
        ),
        (
            raw.has(FLAG_INDEX) && kind == MODE_FILE,
            "it has the flag of an indexed directory, and is not a directory",
        ),
        (
            raw.has(FLAG_INDEX) && kind == MODE_DIRECTORY && !compatible(compat::DIR_INDEX),
            "it is an indexed directory, and the superblock lacks dir_index",
        ),
        (
            raw.xattr_block() != 0 && !compatible(compat::EXT_ATTR),
            "it has a block of attributes, and the superblock lacks ext_attr",
        ),
        (
            raw.has(FLAG_IMAGIC) && ordinary && !compatible(compat::IMAGIC_INODES),
            "it has the imagic flag, and the superblock lacks imagic_inodes",
        ),
        (
            raw.has(FLAG_ENCRYPT) && ordinary && !policy(),
            "it has the encrypt flag, and no attribute with its encryption policy",
        ),
        (
            fixed && ordinary && raw.has(FLAG_IMMUTABLE | FLAG_APPEND),
            "it is immutable or append-only, and only files and directories can be",
        ),
    ]
    .into_iter()
    .filter_map(|(wrong, what)| wrong.then_some(what))
    .collect()
}

/// The fault of a device, FIFO or socket (e2fsck/pass1.c, e2fsck_pass1_check_device_inode, check_extents_inlinedata and
/// check_size). The kernel leaves other bytes in i_block, so those alone are no fault.
fn device(raw: &Raw) -> Option<&'static str> {
    let own = &raw.inode;
    if raw.has(FLAG_INDEX | FLAG_EXTENTS | FLAG_INLINE_DATA) {
        return Some("it is a special file, and has the flag of an index, of extents or of inline data");
    }
    let behind = own.i_block.iter().skip(DEVICE);
    if raw.has(FLAG_IMMUTABLE | FLAG_APPEND) && behind.into_iter().any(|byte| *byte != 0) {
        return Some("it is a special file, and has block pointers");
    }
    (joined(own.i_size_lo, own.i_size_high) != 0).then_some("it is a special file, and its size is not 0")
}

/// The fault of a symbolic link (e2fsck/pass1.c, e2fsck_pass1_check_symlink). A target below 60 bytes is inside the
/// inode, whatever the block count says (lib/ext2fs/symlink.c, ext2fs_is_fast_symlink).
fn symlink(volume: &Ext4, raw: &Raw) -> Result<Option<&'static str>> {
    const WRONG: &str = "its size is not the length of its target";
    let own = &raw.inode;
    let size = u64::from(own.i_size_lo);
    if own.i_size_high != 0 || size == 0 {
        return Ok(Some("it is a symbolic link, and cannot have that size"));
    }
    if raw.has(FLAG_INDEX) {
        return Ok(Some("it is a symbolic link with the flag of an indexed directory"));
    }
    if raw.has(FLAG_INLINE_DATA) {
        let rest = volume.inline_rest(raw)?.map_or(0, |rest| rest.len());
        let wrong = raw.has(FLAG_EXTENTS) || size != u64_of(INSIDE + rest);
        return Ok(wrong.then_some(WRONG));
    }
    let bytes = if size < u64_of(INSIDE) {
        if raw.has(FLAG_EXTENTS) {
            return Ok(Some("its target is inside the inode, and it has the flag of extents"));
        }
        own.i_block.to_vec()
    } else {
        let inside = |block: &u64| *block >= volume.layout.first && *block < volume.layout.blocks;
        match only_block(raw).filter(inside) {
            Some(block) => volume.block(block)?,
            None => return Ok(Some("its target is not in one block")),
        }
    };
    let length = match bytes.as_slice() {
        [low, high, ..] if raw.has(FLAG_ENCRYPT) => u64::from(u16::from_le_bytes([*low, *high])) + 2,
        _ => u64_of(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())),
    };
    Ok((length >= u64_of(bytes.len()) || length != size).then_some(WRONG))
}

/// The block of an inode that has exactly one.
fn only_block(raw: &Raw) -> Option<u64> {
    let inside = &raw.inode.i_block;
    if !raw.has(FLAG_EXTENTS) {
        let mut words = words(inside);
        let first = words.next()?;
        return words.all(|word| word == 0).then_some(u64::from(first));
    }
    let header = ExtentHeader::read(inside).ok()?;
    let extent = ExtentEntry::read(inside.get(ExtentHeader::LENGTH..)?).ok()?;
    let single = header.eh_depth == 0 && header.eh_entries == 1 && extent.ee_block == 0;
    (single && ONE.contains(&extent.ee_len)).then_some(joined16(extent.ee_start_lo, extent.ee_start_hi))
}
