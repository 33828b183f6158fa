//! Reads ext2, ext3 and ext4 from any writer.
//!
//! A wrong checksum is an error: data that the kernel rejects is not shown either.

mod check;
mod directory;
mod free;
mod inode;
mod journal;
mod layout;
mod map;
mod place;
mod xattr;

use inode::{FLAG_CASEFOLD, FLAG_ENCRYPT, FLAG_INLINE_DATA, Raw};
pub(super) use layout::{Layout, SUPERBLOCK_AT, crc16};
use map::{Go, Mapped};

use super::checksum::Checksum;
use super::format::features::{self, incompat, ro_compat};
use super::format::{ROOT, Superblock, device_of};
use crate::error::{Error, Kind, Result, Warning};
use crate::filesystem::Facts;
use crate::filesystem::device::{Device, damaged};
use crate::filesystem::mode::{
    MODE_BLOCK, MODE_CHARACTER, MODE_DIRECTORY, MODE_FIFO, MODE_FILE, MODE_SOCKET, MODE_SYMLINK,
};
use crate::filesystem::volume::{Content, Inode, Meta, Node, Remark, Space, Volume};
use crate::image::Slice;
use crate::text::printable;
use crate::units::{Bytes, joined, u64_of, usize_of};
use crate::wire::{Field, Wire, field};

/// The superblock's own checksum covers everything before it.
const CHECKSUM: Field = field(Superblock::FIELDS, "s_checksum");
/// s_state: cleanly unmounted; errors were found.
pub(super) const STATE_CLEAN: u16 = 1;
pub(super) const STATE_ERRORS: u16 = 2;

/// An open volume.
#[derive(Debug)]
pub(crate) struct Ext4 {
    device: Device,
    pub(super) layout: Layout,
    facts: Facts,
    warnings: Vec<Warning>,
}

/// The superblock of an ext filesystem; `None` if there is none.
pub(crate) fn superblock(slice: &Slice) -> Result<Option<(Superblock, Vec<u8>)>> {
    if slice.length().get() < SUPERBLOCK_AT + u64_of(Superblock::LENGTH) {
        return Ok(None);
    }
    let bytes = slice.bytes(SUPERBLOCK_AT, Superblock::LENGTH)?;
    Ok(Superblock::read(&bytes).ok().map(|superblock| (superblock, bytes)))
}

/// Opens an ext filesystem; `None` if there is none. One that was not unmounted is read through its journal.
pub(crate) fn open(slice: &Slice) -> Result<Option<Ext4>> {
    let Some(volume) = open_as_it_is(slice)? else { return Ok(None) };
    if !volume.layout.incompatible(incompat::RECOVER) {
        return Ok(Some(volume));
    }
    let missing = |volume: Ext4, why: &str| {
        let what = format!(
            "the journal of the ext4 filesystem was not replayed (needs_recovery), so what was written last is missing: {why}"
        );
        Ok(Some(volume.warned(what)))
    };
    match journal::replay(&volume, slice) {
        Ok(replayed) => {
            let Some(newer) = open_as_it_is(&replayed.slice)? else {
                return missing(volume, "with it, there is no filesystem");
            };
            let what = format!(
                "the ext4 filesystem was not unmounted (needs_recovery) and is read through its journal, which has {} newer \
                 blocks",
                replayed.blocks
            );
            let newer = newer.warned(what);
            let fast = "fast commits in the journal of the ext4 filesystem are not read";
            Ok(Some(if replayed.fast { newer.warned(fast.to_owned()) } else { newer }))
        }
        Err(error) if error.kind() == Kind::Format => missing(volume, error.what()),
        Err(error) => Err(error),
    }
}

/// Opens an ext filesystem as it is on the disk.
pub(super) fn open_as_it_is(slice: &Slice) -> Result<Option<Ext4>> {
    let Some((superblock, bytes)) = superblock(slice)? else { return Ok(None) };
    if superblock.s_feature_ro_compat & ro_compat::METADATA_CSUM != 0
        && Checksum::START.with(&bytes[..CHECKSUM.offset]).value() != superblock.s_checksum
    {
        return Err(damaged("the checksum of the superblock of an ext4 filesystem is wrong"));
    }
    let device = Device::new(slice);
    let warnings = warnings(&superblock);
    let (kind, uuid) = (features::kind(&superblock), superblock.s_uuid.to_string());
    let label = label(&superblock);
    let free = joined(superblock.s_free_blocks_count_lo, superblock.s_free_blocks_count_hi);
    let free_inodes = u64::from(superblock.s_free_inodes_count);
    // The superblock may contain a copy of the journal inode's size.
    let journal = match superblock.s_jnl_backup_type {
        1 => joined(superblock.s_jnl_size_low, superblock.s_jnl_size_high),
        _ => 0,
    };
    let layout = Layout::new(superblock, device.length())?;
    let facts = Facts {
        kind,
        label,
        uuid,
        block_size: layout.block,
        blocks: layout.blocks,
        free_blocks: free,
        journal,
        inodes: Some(layout.inodes.into()),
        free_inodes: Some(free_inodes),
    };
    Ok(Some(Ext4 { device, layout, facts, warnings }))
}

/// The label, up to its first NUL.
fn label(superblock: &Superblock) -> String {
    let name = &superblock.s_volume_name;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    printable(&name[..end])
}

/// Reasons why the data may not be what was written last.
fn warnings(superblock: &Superblock) -> Vec<Warning> {
    let mut warnings = Vec::new();
    // The reader of the journal tells of what needs recovery.
    if superblock.s_feature_incompat & incompat::RECOVER == 0 && superblock.s_state & STATE_CLEAN == 0 {
        warnings.push(Warning("the ext4 filesystem was not unmounted".to_owned()));
    }
    if superblock.s_state & STATE_ERRORS != 0 {
        warnings.push(Warning("the kernel found errors in the ext4 filesystem".to_owned()));
    }
    warnings
}

impl Ext4 {
    /// The same with one more warning, before the others.
    fn warned(mut self, what: String) -> Self {
        self.warnings.insert(0, Warning(what));
        self
    }

    /// The first superblock, with what no field declares.
    pub(super) fn superblock_bytes(&self) -> Result<Vec<u8>> {
        self.device.bytes(SUPERBLOCK_AT, Superblock::LENGTH)
    }

    /// Refuses what nobody can read without a key.
    fn unless_encrypted(raw: &Raw, what: &str) -> Result<()> {
        if raw.has(FLAG_ENCRYPT) {
            return Err(damaged(format!("{what} is encrypted (fscrypt), and its key is not in the image"))
                .found(format!("inode {}", raw.number)));
        }
        Ok(())
    }

    /// The block that keeps two machines from mounting the volume at once (mmp), if it has one.
    fn mmp_block(&self) -> Option<u64> {
        let block = self.layout.superblock.s_mmp_block;
        (self.layout.incompatible(incompat::MMP) && block != 0 && block < self.layout.blocks).then_some(block)
    }

    /// The target of a symbolic link.
    fn target(&self, raw: &Raw) -> Result<Vec<u8>> {
        let size = raw.size(self);
        if size == 0 || size >= self.layout.block.max(self.layout.inode) {
            return Err(damaged("a symbolic link cannot have that length")
                .expected(format!("less than a block of {} bytes", self.layout.block))
                .found(format!("{size} bytes in inode {}", raw.number)));
        }
        if raw.is_fast_symlink(self) {
            return Ok(raw.inode.i_block[..usize_of(size)].to_vec());
        }
        if raw.has(FLAG_INLINE_DATA) {
            let parts = self.inline_parts(raw)?;
            let target: Vec<u8> = parts.into_iter().flat_map(|part| raw.bytes[part].to_vec()).collect();
            // A file may end in zeros that are not stored, and a target has none.
            if u64_of(target.len()) < size {
                return Err(damaged("a symbolic link in an inode is longer than its data")
                    .found(format!("inode {}", raw.number)));
            }
            return Ok(target);
        }
        let mut first = None;
        self.walk(raw, &mut |mapped| {
            if let Mapped::Data { logical: 0, physical, .. } = mapped {
                first = Some(physical);
            }
            Ok(Go::On)
        })?;
        let block = first
            .ok_or_else(|| damaged("a symbolic link has no block").found(format!("inode {}", raw.number)))?;
        let mut target = self.block(block)?;
        target.truncate(usize_of(size));
        Ok(target)
    }

    /// The content of an inode.
    fn content(&self, raw: &Raw) -> Result<Content> {
        Ok(match raw.kind() {
            MODE_DIRECTORY => Content::Directory { place: raw.number.into() },
            MODE_FILE => Content::File { size: Bytes::new(raw.size(self)) },
            MODE_SYMLINK => Content::Symlink { target: self.target(raw)? },
            MODE_CHARACTER => Content::CharacterDevice(device_of(&raw.inode.i_block)),
            MODE_BLOCK => Content::BlockDevice(device_of(&raw.inode.i_block)),
            MODE_FIFO => Content::Fifo,
            MODE_SOCKET => Content::Socket,
            other => {
                let error: Error = damaged("an inode has a file type that does not exist");
                return Err(error.found(format!("{other:#o} in inode {}", raw.number)));
            }
        })
    }

    /// The pieces of a file, cut at the end of the file.
    fn pieces(&self, raw: &Raw, each: &mut dyn FnMut(Bytes, Slice) -> Result<()>) -> Result<()> {
        let size = raw.size(self);
        let block = self.layout.block;
        // A run of consecutive blocks: first block of the file, first block of the volume, and number of
        // blocks.
        let mut run: Option<(u64, u64, u64)> = None;
        let mut give = |(logical, physical, length): (u64, u64, u64)| {
            let at = logical * block;
            match size.checked_sub(at) {
                None | Some(0) => Ok(()),
                Some(left) => {
                    each(Bytes::new(at), self.device.slice(physical * block, (length * block).min(left))?)
                }
            }
        };
        self.walk(raw, &mut |mapped| {
            let Mapped::Data { logical, physical, length } = mapped else { return Ok(Go::On) };
            run = match run {
                Some((from, start, long)) if from + long == logical && start + long == physical => {
                    Some((from, start, long + length))
                }
                other => {
                    other.map_or(Ok(()), &mut give)?;
                    Some((logical, physical, length))
                }
            };
            Ok(Go::On)
        })?;
        run.map_or(Ok(()), give)
    }
}

impl Volume for Ext4 {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn root(&self) -> Inode {
        Inode(ROOT.into())
    }

    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>> {
        let raw = self.used(directory.0)?;
        let mut found = None;
        if matches!(name, b"." | b"..") {
            return Ok(None);
        }
        Self::unless_encrypted(&raw, "a directory")?;
        let mut folded = None;
        let fold = |name: &[u8]| std::str::from_utf8(name).ok().map(str::to_lowercase);
        let wanted = if raw.has(FLAG_CASEFOLD) { fold(name) } else { None };
        self.names(&raw, &mut |entry| {
            if entry.name == name {
                found = found.or(Some(Inode(entry.inode.into())));
            } else if wanted.is_some() && fold(entry.name) == wanted {
                folded = folded.or(Some(Inode(entry.inode.into())));
            }
            Ok(())
        })?;
        Ok(found.or(folded))
    }

    fn list(&self, directory: Inode, each: &mut dyn FnMut(&[u8], Inode) -> Result<()>) -> Result<()> {
        let raw = self.used(directory.0)?;
        Self::unless_encrypted(&raw, "a directory")?;
        self.names(&raw, &mut |entry| match entry.name {
            b"." | b".." => Ok(()),
            name => each(name, Inode(entry.inode.into())),
        })
    }

    fn node(&self, inode: Inode) -> Result<Node> {
        let raw = self.used(inode.0)?;
        if raw.kind() == MODE_SYMLINK {
            Self::unless_encrypted(&raw, "a symbolic link")?;
        }
        let own = &raw.inode;
        let whole = |low: u16, high: u16| u32::from(high) << 16 | u32::from(low);
        let meta = Meta {
            mode: own.i_mode & 0o7777,
            uid: whole(own.i_uid, own.l_i_uid_high),
            gid: whole(own.i_gid, own.l_i_gid_high),
            mtime: raw.mtime(),
            links: own.i_links_count.into(),
            xattrs: self.xattrs(&raw)?,
        };
        Ok(Node { meta, content: self.content(&raw)? })
    }

    fn space(&self, inode: Inode) -> Result<Space> {
        let raw = self.used(inode.0)?;
        let size = Bytes::new(raw.size(self));
        let mut allocated = raw.occupied(self);
        // The kernel counts the bytes of a file inside its inode too (linux/fs/ext4/inode.c, ext4_file_getattr).
        if raw.kind() == MODE_FILE && raw.has(FLAG_INLINE_DATA) {
            allocated += size.round_up(512).get();
        }
        Ok(Space { size, allocated: Bytes::new(allocated) })
    }

    fn data(&self, inode: Inode, each: &mut dyn FnMut(Bytes, Slice) -> Result<()>) -> Result<()> {
        let raw = self.used(inode.0)?;
        if raw.kind() != MODE_FILE {
            return Err(damaged("this inode is no regular file").found(format!("inode {}", inode.0)));
        }
        Self::unless_encrypted(&raw, "a file")?;
        if !raw.has(FLAG_INLINE_DATA) {
            return self.pieces(&raw, each);
        }
        let mut at = 0;
        for part in self.inline_parts(&raw)?.into_iter().filter(|part| !part.is_empty()) {
            let length = u64_of(part.len());
            each(Bytes::new(at), self.device.slice(raw.at + u64_of(part.start), length)?)?;
            at += length;
        }
        Ok(())
    }

    fn free(&self, each: &mut dyn FnMut(Bytes, Bytes) -> Result<()>) -> Result<()> {
        free::ranges(self, each)
    }

    fn structure(&self, offset: Bytes) -> Result<Option<String>> {
        place::structure(self, offset.get()).map(Some)
    }

    fn check(&self, remark: &mut dyn FnMut(Remark) -> Result<()>) -> Result<()> {
        check::check(self, remark)
    }
}
