//! Checks the index of a directory: its blocks, the order of its hashes, and that each name lies where its hash leads.

use super::{Pass, Say};
use crate::error::Result;
use crate::filesystem::ext4::format::features::ro_compat;
use crate::filesystem::ext4::format::{IndexCount, IndexEntry, IndexRoot, IndexTail, entry_length};
use crate::filesystem::ext4::hash::half_md4;
use crate::filesystem::ext4::read::Ext4;
use crate::filesystem::ext4::read::inode::{FLAG_CASEFOLD, FLAG_ENCRYPT, FLAG_INDEX, FLAG_INLINE_DATA, Raw};
use crate::filesystem::ext4::read::map::{Go, Mapped};
use crate::filesystem::volume::Fault;
use crate::units::{index, usize_of};
use crate::wire::Wire;

/// Where the root of an index is in block 0: behind `.` and `..`.
const ROOT: usize = entry_length(1) + entry_length(2);
/// Half MD4 (EXT2_HASH_HALF_MD4), the only hash that is computed here; others are not compared with names.
const HALF_MD4: u8 = 1;
/// Names are hashed as signed bytes (s_flags, EXT2_FLAGS_SIGNED_HASH).
const SIGNED: u32 = 1;
/// The deepest index that the kernel reads, with large_dir.
const DEEPEST: u8 = 3;

/// A part of an index: its block in the directory, how many levels are below it, and the hashes that lead to it.
#[derive(Clone, Copy)]
struct Part {
    block: u32,
    levels: u8,
    from: u32,
    /// `None` where nothing follows.
    to: Option<u32>,
}

/// The directory as it is checked.
struct Directory<'a> {
    volume: &'a Ext4,
    raw: &'a Raw,
    /// Its blocks.
    places: Vec<u64>,
    /// Which of them the index leads to.
    seen: Vec<bool>,
    /// Whether names can be compared with hashes, and whether all their bytes can.
    hashed: bool,
    signed: bool,
    faults: Vec<String>,
}

impl Pass<'_> {
    /// Checks the index of a directory that has one. Its names were read before.
    pub(super) fn index(&self, raw: &Raw, subject: &str, remark: Say<'_>) -> Result<()> {
        if !self.first || !raw.has(FLAG_INDEX) || raw.has(FLAG_INLINE_DATA) {
            return Ok(());
        }
        let mut places = Vec::new();
        self.volume.walk(raw, &mut |mapped| {
            if let Mapped::Data { physical, length, .. } = mapped {
                places.extend(physical..physical + length);
            }
            Ok(Go::On)
        })?;
        let seen = vec![false; places.len()];
        let (volume, signed) = (self.volume, self.volume.layout.superblock.s_flags & SIGNED != 0);
        let hashed = !raw.has(FLAG_CASEFOLD) && !raw.has(FLAG_ENCRYPT);
        let mut own = Directory { volume, raw, places, seen, hashed, signed, faults: Vec::new() };
        let checked = own.check();
        if self.told(checked, subject, remark)?.is_some() {
            for fault in own.faults {
                self.once(Fault::Structure, subject, format!("the index of the directory: {fault}"), remark)?;
            }
        }
        Ok(())
    }
}

impl Directory<'_> {
    fn check(&mut self) -> Result<()> {
        let Some(bytes) = self.block(0)? else { return Ok(()) };
        let root = IndexRoot::read(bytes.get(ROOT..).unwrap_or_default())?;
        self.hashed &= root.hash_version == HALF_MD4;
        if root.indirect_levels > DEEPEST {
            self.fault(format!("it has {} levels", root.indirect_levels));
            return Ok(());
        }
        let mut stack = vec![Part { block: 0, levels: root.indirect_levels + 1, from: 0, to: None }];
        while let Some(part) = stack.pop() {
            let at = index(part.block);
            match self.seen.get(at).copied() {
                Some(false) => self.seen[at] = true,
                Some(true) => {
                    self.fault(format!("two pointers lead to block {}", part.block));
                    continue;
                }
                None => {
                    self.fault(format!("a pointer leads to block {}, which it does not have", part.block));
                    continue;
                }
            }
            let Some(bytes) = self.block(part.block)? else { continue };
            if part.levels == 0 {
                self.leaf(part, &bytes)?;
            } else {
                self.node(part, &bytes, &mut stack)?;
            }
        }
        if let Some(lost) = self.seen.iter().position(|seen| !seen) {
            self.fault(format!("no pointer leads to block {lost}"));
        }
        Ok(())
    }

    /// The pointers of a block.
    fn node(&mut self, part: Part, bytes: &[u8], stack: &mut Vec<Part>) -> Result<()> {
        let Some(at) = self.volume.index_pointers(self.raw, part.block.into(), bytes) else {
            self.fault(format!("block {} has names instead of pointers", part.block));
            return Ok(());
        };
        let count = IndexCount::read(bytes.get(at..).unwrap_or_default())?;
        let has_tail = self.volume.layout.ro_compatible(ro_compat::METADATA_CSUM);
        let tail = if has_tail { IndexTail::LENGTH } else { 0 };
        let limit = usize_of(self.volume.layout.block).saturating_sub(at + tail) / IndexEntry::LENGTH;
        if usize::from(count.limit) != limit || count.count == 0 || count.count > count.limit {
            let (count, own) = (count.count, count.limit);
            self.fault(format!("block {} has {count} of {own} pointers, and space for {limit}", part.block));
            return Ok(());
        }
        let pointers = bytes[at..].chunks_exact(IndexEntry::LENGTH).take(usize::from(count.count));
        let pointers: Vec<IndexEntry> = pointers.map(IndexEntry::read).collect::<Result<_>>()?;
        for (number, pointer) in pointers.iter().enumerate() {
            // The count stands in place of the first hash.
            let from = if number == 0 { part.from } else { pointer.hash };
            let to = pointers.get(number + 1).map(|next| next.hash).or(part.to);
            if from < part.from || to.is_some_and(|to| to < from) {
                self.fault(format!("the hashes in block {} do not ascend", part.block));
                return Ok(());
            }
            // The upper bits of a block's number are not used.
            stack.push(Part { block: pointer.block & 0x0fff_ffff, levels: part.levels - 1, from, to });
        }
        Ok(())
    }

    /// The names of a block.
    fn leaf(&mut self, part: Part, bytes: &[u8]) -> Result<()> {
        let (hashed, signed) = (self.hashed, self.signed);
        let seed = self.volume.layout.superblock.s_hash_seed;
        let mut wrong = None;
        self.volume.entries(self.raw, bytes, &mut |name| {
            let comparable = hashed && (signed || name.name.is_ascii());
            let hash = half_md4(name.name, &seed).major;
            // The lowest bit of a pointer says that names of one hash go on from the block before.
            let before = hash < part.from & !1;
            let behind = part.to.is_some_and(|to| hash > to & !1 || hash == to & !1 && to & 1 == 0);
            if comparable && (before || behind) && !matches!(name.name, b"." | b"..") {
                wrong.get_or_insert_with(|| crate::text::printable(name.name));
            }
            Ok(())
        })?;
        if let Some(name) = wrong {
            self.fault(format!("the name {name} is in block {}, where its hash does not lead", part.block));
        }
        Ok(())
    }

    fn block(&self, number: u32) -> Result<Option<Vec<u8>>> {
        self.places.get(index(number)).map(|place| self.volume.block(*place)).transpose()
    }

    fn fault(&mut self, what: String) {
        self.faults.push(what);
    }
}
