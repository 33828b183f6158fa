//! Checks every inode in use: its checksum, blocks, attributes and names, and how many names lead to it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Pass, Say, Seen};
use crate::error::Result;
use crate::filesystem::ext4::format::features::{incompat, ro_compat};
use crate::filesystem::ext4::format::{
    BAD_BLOCKS, FIRST, GROUP_INODE_UNINIT, MOST_LINKS, RESIZE, XattrHeader,
};
use crate::filesystem::ext4::read::inode::{
    FLAG_EXTENTS, FLAG_INLINE_DATA, FLAG_VERITY, Group, InodeTable, Raw,
};
use crate::filesystem::ext4::read::map::{Go, Mapped};
use crate::filesystem::mode::{MODE_DIRECTORY, MODE_FILE, MODE_SYMLINK, file_type};
use crate::filesystem::volume::{Fault, Remark};
use crate::pour::zeros::is_zero;
use crate::units::narrow;
use crate::wire::Wire;

/// Files from this length on need the feature large_file.
const LARGE: u64 = 1 << 31;

/// What was found about the blocks of one inode.
struct Blocks {
    count: u64,
    /// The last cluster that was claimed for it: with bigalloc the next run may begin in the same cluster.
    last: Option<u64>,
    /// Whether none of them belongs to something else.
    own: bool,
    /// The last block of the file that is written.
    end: Option<u64>,
}

/// Blocks of attributes, which several inodes may share: how many inodes do, and how many the block records.
type Shared = BTreeMap<u64, (u32, u32)>;

impl Pass<'_> {
    /// Checks every inode in use.
    pub(super) fn inodes(&mut self, remark: Say<'_>) -> Result<()> {
        let (mut shared, mut names) = (Shared::new(), Vec::new());
        for number in 0..self.volume.layout.groups {
            // The fault of the descriptor was reported already.
            let Ok(group) = self.volume.group(number) else { continue };
            let mut directories = 0_u64;
            let used = self.inode_bitmap(number, &group, remark)?;
            let written = self.written(number, &group)?;
            let table = match used.is_empty() && written.is_empty() {
                true => None,
                false => Some(InodeTable::new(self.volume, &group)),
            };
            let subject = format!("group {number}");
            let mut table = match table {
                Some(table) => self.told(table, &subject, remark)?,
                None => None,
            };
            let mut unused = written.clone();
            for inode in used {
                let Some(table) = &mut table else { break };
                self.unused(table, unused.start..inode.min(written.end), remark)?;
                unused.start = inode + 1;
                let subject = format!("inode {inode}");
                let Some(raw) = self.told(table.raw(inode), &subject, remark)? else { continue };
                directories += u64::from(raw.is_directory());
                self.see(&raw);
                if self.inode(&raw, &subject, &mut shared, remark)? {
                    names.push(inode);
                }
            }
            if let Some(table) = &mut table {
                self.unused(table, unused, remark)?;
            }
            let told =
                u64::from(group.raw.bg_used_dirs_count_hi) << 16 | u64::from(group.raw.bg_used_dirs_count_lo);
            if told != directories {
                let what = format!("it tells {told} directories, and there are {directories}");
                self.once(Fault::Count, &format!("group {number}"), what, remark)?;
            }
        }
        for (block, (found, told)) in shared.into_iter().filter(|(_, (found, told))| found != told) {
            let what = format!("{found} inodes have it, and it tells {told}");
            self.once(Fault::Count, &format!("attribute block {block}"), what, remark)?;
        }
        // All inodes were read, so what names lead to is known.
        for inode in names {
            let subject = format!("inode {inode}");
            let raw = self.volume.raw(inode);
            let Some(raw) = self.told(raw, &subject, remark)? else { continue };
            self.spend(raw.size(self.volume).div_ceil(self.volume.layout.block))?;
            self.directory(&raw, &subject, remark)?;
        }
        Ok(())
    }

    /// The inodes of a group whose checksums count: those that were ever written, in use or not.
    fn written(&self, number: u64, group: &Group) -> Result<Range<u32>> {
        let layout = &self.volume.layout;
        let first = narrow(u64::from(layout.inodes_per_group) * number + 1, "the number of an inode")?;
        if layout.seed.is_none() || !self.first || self.has_flag(group, GROUP_INODE_UNINIT) {
            return Ok(first..first);
        }
        let written = u64::from(layout.inodes_per_group).saturating_sub(self.unused_inodes(group));
        Ok(first..first.saturating_add(narrow(written, "the number of inodes of a group")?))
    }

    /// Checks the checksums of inodes that are not in use: e2fsck looks at them too, unless all is zero.
    fn unused(&self, table: &mut InodeTable<'_>, inodes: Range<u32>, remark: Say<'_>) -> Result<()> {
        for inode in inodes {
            let subject = format!("inode {inode}");
            let Some(raw) = self.told(table.raw(inode), &subject, remark)? else { continue };
            if !is_zero(&raw.bytes) && !raw.is_sound(self.volume.layout.seed) {
                self.once(Fault::Checksum, &subject, "it is not in use, and its checksum is wrong", remark)?;
            }
        }
        Ok(())
    }

    /// Checks the fields that must be zero, or are bounded by what the filesystem can hold (e2fsck, pass1.c).
    fn fields(&self, raw: &Raw, subject: &str, remark: Say<'_>) -> Result<()> {
        let (layout, own) = (&self.volume.layout, &raw.inode);
        if own.i_dtime != 0 {
            self.once(Fault::Structure, subject, "it is in use, and has a time of deletion", remark)?;
        }
        for (wrong, name) in [
            (own.i_obso_faddr != 0, "i_faddr"),
            (own.l_i_blocks_high != 0 && !layout.ro_compatible(ro_compat::HUGE_FILE), "i_blocks_hi"),
            (own.l_i_file_acl_high != 0 && !layout.incompatible(incompat::WIDE), "i_file_acl_hi"),
            (
                own.i_size_high != 0 && raw.is_directory() && !layout.incompatible(incompat::LARGEDIR),
                "i_size_high",
            ),
        ] {
            if wrong {
                self.once(Fault::Structure, subject, format!("its {name} is not 0, and must be"), remark)?;
            }
        }
        if raw.kind() != MODE_FILE {
            return Ok(());
        }
        let (size, most) = (raw.size(self.volume), self.longest(raw));
        if size > most {
            let what = format!("it has {size} bytes, and cannot have more than {most}");
            self.once(Fault::Structure, subject, what, remark)?;
        } else if size >= LARGE && !layout.ro_compatible(ro_compat::LARGE_FILE) {
            let what = format!("it has {size} bytes, and the superblock lacks large_file");
            self.once(Fault::Structure, subject, what, remark)?;
        }
        Ok(())
    }

    /// The most bytes that a file can have: as many blocks as its map has numbers for.
    fn longest(&self, raw: &Raw) -> u64 {
        let block = self.volume.layout.block;
        if raw.has(FLAG_EXTENTS) {
            return block.saturating_mul(1 << 32) - 1;
        }
        let pointers = block / 4;
        let blocks = 12 + pointers + pointers.pow(2) + pointers.saturating_pow(3);
        blocks.saturating_mul(block)
    }

    /// Keeps what an inode in use says of itself.
    fn see(&mut self, raw: &Raw) {
        let place = self.covered(raw.number);
        if let Some(own) = place.and_then(|place| self.seen.get_mut(place)) {
            *own = Seen::of(raw);
        }
    }

    /// Checks one inode. Returns whether it is a directory whose names can be checked.
    fn inode(&mut self, raw: &Raw, subject: &str, shared: &mut Shared, remark: Say<'_>) -> Result<bool> {
        let volume = self.volume;
        let special = raw.number < volume.layout.superblock.s_first_ino.max(FIRST - 1);
        if !is_zero(&raw.bytes) && !raw.is_sound(volume.layout.seed) {
            self.once(Fault::Checksum, subject, "its checksum is wrong", remark)?;
        }
        self.reserved(raw, subject, remark)?;
        if raw.inode.i_mode == 0 && special {
            if raw.number == BAD_BLOCKS {
                self.blocks(raw, subject, remark)?;
            }
            return Ok(false);
        }
        if raw.inode.i_mode == 0 || raw.inode.i_links_count == 0 {
            self.once(Fault::Bitmap, subject, "it is marked as used, and is deleted", remark)?;
            return Ok(false);
        }
        self.told(volume.content(raw), subject, remark)?;
        self.told(volume.xattrs(raw), subject, remark)?;
        let mut count = self.attributes(raw, subject, shared, remark)?;
        // Unreadable attributes were reported already.
        count += volume.charged(raw).unwrap_or(0) * volume.layout.cluster;
        self.fields(raw, subject, remark)?;
        self.special(raw, subject, remark)?;
        let hashes = volume.wrong_hashes(raw).unwrap_or_default();
        for name in hashes {
            self.once(
                Fault::Checksum,
                subject,
                format!("the hash of its attribute {name} is wrong"),
                remark,
            )?;
        }
        let mut own = true;
        let has_blocks = match raw.kind() {
            MODE_FILE | MODE_DIRECTORY => !raw.has(FLAG_INLINE_DATA),
            MODE_SYMLINK => !raw.has(FLAG_INLINE_DATA) && !raw.is_fast_symlink(volume),
            _ => false,
        };
        if has_blocks {
            let blocks = self.blocks(raw, subject, remark)?;
            own = blocks.own;
            count += blocks.count;
            let behind = |end: u64| raw.size(volume) < end.saturating_mul(volume.layout.block);
            // The hashes of a file with fs-verity lie behind its data.
            if raw.kind() == MODE_FILE && !raw.has(FLAG_VERITY) && blocks.end.is_some_and(behind) {
                self.once(Fault::Count, subject, "it has data behind its end", remark)?;
            }
        }
        // The block count of the resize inode includes blocks that belong to groups.
        let told = raw.occupied(volume);
        if own && raw.number != RESIZE && told != count * volume.layout.block {
            let what = format!("it tells {told} bytes of blocks, and has {}", count * volume.layout.block);
            self.once(Fault::Count, subject, what, remark)?;
        }
        Ok(raw.is_directory() && own)
    }

    /// Claims blocks for an owner and reports those that have one already. Returns whether none had one.
    fn claim(
        &mut self,
        first: u64,
        length: u64,
        blocks: &mut Blocks,
        subject: &str,
        remark: Say<'_>,
    ) -> Result<()> {
        let layout = &self.volume.layout;
        let cluster = |block: u64| (block - layout.first) / layout.cluster;
        let (mut start, end) = (cluster(first), cluster(first + length - 1) + 1);
        if blocks.last == Some(start) {
            start += 1;
        }
        blocks.last = Some(end - 1);
        blocks.count += (end - start) * layout.cluster;
        let seen = self.seen(start * layout.cluster + layout.first, (end - start) * layout.cluster);
        if let Some(twice) = self.used.add(seen) {
            blocks.own = false;
            let block = (twice + self.clusters.start) * self.volume.layout.cluster + self.volume.layout.first;
            remark(Remark::new(
                Fault::Shared,
                subject,
                format!("its block {block} belongs to something else too"),
            ))?;
        }
        Ok(())
    }

    /// Claims the blocks of an inode.
    fn blocks(&mut self, raw: &Raw, subject: &str, remark: Say<'_>) -> Result<Blocks> {
        let volume = self.volume;
        let mut blocks = Blocks { count: 0, last: None, own: true, end: None };
        let walked = volume.walk(raw, &mut |mapped| {
            if let Mapped::Data { logical, length, .. } = mapped {
                blocks.end = blocks.end.max(Some((logical + length).saturating_sub(1)));
            }
            let (first, length) = match mapped {
                Mapped::Data { physical, length, .. } | Mapped::Unwritten { physical, length, .. } => {
                    (physical, length)
                }
                Mapped::Node { physical } => {
                    // The blocks below the resize inode's own block belong to groups.
                    self.spend(1)?;
                    let own = std::mem::replace(&mut blocks.own, true);
                    let last = blocks.last.take();
                    self.claim(physical, 1, &mut blocks, subject, remark)?;
                    let new = std::mem::replace(&mut blocks.own, own);
                    blocks.own &= new;
                    blocks.last = last;
                    return Ok(if new && raw.number != RESIZE { Go::On } else { Go::Past });
                }
            };
            self.spend(length)?;
            self.claim(first, length, &mut blocks, subject, remark)?;
            Ok(Go::On)
        });
        if self.exhausted {
            walked?;
        } else if self.told(walked, subject, remark)?.is_none() {
            blocks.own = false;
        }
        Ok(blocks)
    }

    /// Checks the block of attributes, which several inodes may share. Returns its number of blocks.
    fn attributes(&mut self, raw: &Raw, subject: &str, shared: &mut Shared, remark: Say<'_>) -> Result<u64> {
        let block = raw.xattr_block();
        let volume = self.volume;
        if block == 0 {
            return Ok(0);
        }
        let cluster = volume.layout.cluster;
        if let Some(known) = shared.get_mut(&block) {
            known.0 += 1;
            return Ok(cluster);
        }
        // An unreadable block was reported with the attributes.
        let Ok(header) = volume.block(block).and_then(|bytes| XattrHeader::read(&bytes)) else {
            return Ok(cluster);
        };
        let mut blocks = Blocks { count: 0, last: None, own: true, end: None };
        self.claim(block, 1, &mut blocks, subject, remark)?;
        shared.insert(block, (1, header.h_refcount));
        Ok(cluster)
    }

    /// Checks the names in a directory, and that it contains `.` and `..`.
    fn directory(&mut self, raw: &Raw, subject: &str, remark: Say<'_>) -> Result<()> {
        let volume = self.volume;
        let (mut own, mut above) = (None, None);
        let walked = volume.names(raw, &mut |name| {
            self.name(name.inode);
            match name.name {
                b"." if own.is_none() => own = Some(name.inode),
                b".." if above.is_none() => above = Some(name.inode),
                _ => {}
            }
            if self.first && !matches!(name.name, b"." | b"..") {
                let shown = || crate::text::printable(name.name);
                match self.leads_to(name.inode, name.kind) {
                    None => {}
                    Some(what) => {
                        remark(Remark::new(
                            Fault::Structure,
                            subject,
                            format!("its name {}: {what}", shown()),
                        ))?;
                    }
                }
            }
            Ok(())
        });
        if self.told(walked, subject, remark)?.is_some() {
            if own != Some(raw.number) {
                self.once(Fault::Structure, subject, "its entry `.` does not lead to itself", remark)?;
            }
            if above.is_none() {
                self.once(Fault::Structure, subject, "it has no entry `..`", remark)?;
            }
            self.index(raw, subject, remark)?;
        }
        Ok(())
    }

    /// The fault of a name that leads to this inode, if there is one.
    fn leads_to(&self, number: u32, kind: u8) -> Option<String> {
        let volume = self.volume;
        if volume.is_reserved(number) || self.is_named(number) {
            return Some(format!("inode {number} is reserved"));
        }
        let seen = match self.seen_of(number) {
            Some(seen) => seen,
            None => match volume.raw(number) {
                Ok(raw) if self.is_marked(number) => Seen::of(&raw),
                Ok(_) => Seen::default(),
                Err(error) => return Some(error.what().to_owned()),
            },
        };
        if seen.links == 0 || !seen.read {
            return Some(format!("inode {number} is not in use"));
        }
        let expected = seen.kind;
        (kind != 0 && kind != expected)
            .then(|| format!("its entry says file type {kind}, and inode {number} is of type {expected}"))
    }

    /// Whether the superblock names an inode, so that no directory may (e2fsprogs, e2fsck/pass2.c, check_dir_block).
    fn is_named(&self, number: u32) -> bool {
        let own = &self.volume.layout.superblock;
        [own.s_prj_quota_inum, own.s_orphan_file_inum].contains(&number) || self.quotas.contains(&number)
    }

    /// Whether an inode is marked as used.
    fn is_marked(&self, number: u32) -> bool {
        let layout = &self.volume.layout;
        let (group, within) =
            ((number - 1) / layout.inodes_per_group, (number - 1) % layout.inodes_per_group);
        let Ok(group) = self.volume.group(group.into()) else { return false };
        if self.has_flag(&group, GROUP_INODE_UNINIT) || group.inode_bitmap >= layout.blocks {
            return false;
        }
        let at = group.inode_bitmap * layout.block + u64::from(within / 8);
        let byte = self.volume.device.bytes(at, 1);
        byte.is_ok_and(|byte| byte.iter().any(|byte| byte >> (within % 8) & 1 == 1))
    }

    /// Compares the number of names of each inode with its link count.
    pub(super) fn links(&mut self, remark: Say<'_>) -> Result<()> {
        let (superblock, layout) = (&self.volume.layout.superblock, &self.volume.layout);
        for (number, (seen, found)) in (self.inodes.start + 1..).zip(self.seen.iter().zip(&self.names)) {
            let Ok(inode) = u32::try_from(number) else { break };
            let nameless = self.volume.is_reserved(inode)
                || inode == superblock.s_orphan_file_inum
                || inode == superblock.s_prj_quota_inum
                || seen.value;
            let told = u32::from(seen.links);
            let is_directory = seen.kind == file_type(MODE_DIRECTORY);
            // A directory with more names than are counted tells 1. It goes on to do so with fewer, and then has an
            // index (e2fsprogs, e2fsck/pass4.c, e2fsck_pass4).
            let over = is_directory && *found > MOST_LINKS;
            let expected = if over { 1 } else { *found };
            if over && seen.read && !layout.ro_compatible(ro_compat::DIR_NLINK) {
                let what = format!("it has {found} names, and the superblock lacks dir_nlink");
                remark(Remark::new(Fault::Structure, format!("inode {inode}"), what))?;
            }
            let uncounted = told == 1 && is_directory && seen.indexed && *found > 1;
            if !seen.read || nameless || told == 0 || told == expected || uncounted {
                continue;
            }
            let what = format!("it tells {told} names, and has {found}");
            remark(Remark::new(Fault::Count, format!("inode {inode}"), what))?;
        }
        Ok(())
    }
}
