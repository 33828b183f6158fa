//! Reads FAT12, FAT16 and FAT32 from any writer (Microsoft fatgen103).
//!
//! An [`Inode`] is the offset of the directory entry with the short name. The root has no entry and is 0.

mod check;
mod directory;
mod label;
mod layout;
mod place;
mod table;

use directory::{Entries, Entry, READ_ONLY, What, first_cluster, is_there, what};
use layout::{BOOT, FIRST, Root};
use table::Chain;

use directory::letter;
pub(crate) use layout::Layout;
pub(crate) use table::Table;

use super::FatType;
use super::format::{Date, DirectoryEntry, FsInfo};
use super::names::fold;
use crate::error::{Kind, Result, Warning};
use crate::filesystem::Facts;
use crate::filesystem::device::{Device, damaged};
use crate::filesystem::volume::{Content, Inode, Meta, Node, Remark, Space, Volume};
use crate::image::Slice;
use crate::tree::Time;
use crate::units::{Bytes, u64_of};
use crate::values::VolumeId;
use crate::wire::Wire;

/// The root directory.
const ROOT: Inode = Inode(0);

/// An open volume.
#[derive(Debug)]
pub(crate) struct Fat {
    device: Device,
    layout: Layout,
    facts: Facts,
    warnings: Vec<Warning>,
}

/// Opens a FAT filesystem; `None` if there is none.
pub(crate) fn open(slice: &Slice) -> Result<Option<Fat>> {
    let Some(mut fat) = Fat::look(slice)? else { return Ok(None) };
    let (layout, length) = (&fat.layout, fat.device.length());
    if layout.length > length {
        return Err(damaged("a FAT filesystem is longer than what holds it")
            .expected(format!("at most {length} bytes"))
            .found(format!("{} bytes", layout.length)));
    }
    if layout.active() >= layout.bpb.num_fats.into() {
        return Err(damaged("the number of the file allocation table in use is too large")
            .expected(format!("below {}", layout.bpb.num_fats))
            .found(layout.active()));
    }
    fat.facts.label = fat.label()?;
    fat.facts.free_blocks = fat.told_free()?.map_or_else(|| fat.table().free(), Ok)?.into();
    if fat.is_dirty()? {
        let what = "the FAT filesystem was not unmounted, or a system found errors in it";
        fat.warnings.push(Warning(what.to_owned()));
    }
    Ok(Some(fat))
}

impl Fat {
    /// The filesystem by its boot sector alone; `None` if there is none. Its facts have neither label nor
    /// free clusters.
    pub(crate) fn look(slice: &Slice) -> Result<Option<Self>> {
        let device = Device::new(slice);
        if device.length() < u64_of(BOOT) {
            return Ok(None);
        }
        let Some(layout) = Layout::new(&device.bytes(0, BOOT)?) else { return Ok(None) };
        let facts = Facts {
            kind: "vfat",
            label: String::new(),
            uuid: VolumeId(layout.extended.vol_id).to_string(),
            block_size: layout.cluster,
            blocks: layout.clusters.into(),
            free_blocks: 0,
            journal: 0,
            inodes: None,
            free_inodes: None,
        };
        Ok(Some(Self { device, layout, facts, warnings: Vec::new() }))
    }

    /// The layout of the volume.
    pub(crate) const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The number of free clusters, counted in the first table; `None` if that table is cut off.
    pub(crate) fn free_within(&self) -> Result<Option<u32>> {
        match Table::new(&self.layout, &self.device, 0).free() {
            Err(error) if error.kind() == Kind::Format => Ok(None),
            counted => counted.map(Some),
        }
    }

    /// The active table.
    pub(crate) fn table(&self) -> Table<'_> {
        Table::new(&self.layout, &self.device, self.layout.active())
    }

    /// The label. The label in the root directory takes precedence over the one in the boot sector, which is
    /// used if that directory is damaged.
    pub(crate) fn label(&self) -> Result<String> {
        let own = self.label_entry()?.map(|raw| raw.name);
        Ok(label_text(&own.unwrap_or(self.layout.extended.vol_lab)))
    }

    /// The entry of the label in the root directory; none if that directory is damaged before it.
    fn label_entry(&self) -> Result<Option<DirectoryEntry>> {
        let mut entries = Entries::of_root(&self.layout);
        loop {
            match entries.next(&self.table(), &self.layout, &self.device) {
                Ok(Some(entry)) if what(&entry.raw) == What::Label => return Ok(Some(entry.raw)),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(error) if error.kind() == Kind::Format => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// The number of free clusters in FSInfo, if it is a possible number.
    fn told_free(&self) -> Result<Option<u32>> {
        Ok(self.fsinfo()?.map(|info| info.free_count).filter(|free| *free <= self.layout.clusters))
    }

    /// FSInfo, if there is one.
    fn fsinfo(&self) -> Result<Option<FsInfo>> {
        let Some(wide) = &self.layout.wide else { return Ok(None) };
        let sector = u64::from(wide.fs_info);
        if sector == 0 || sector >= self.layout.bpb.rsvd_sec_cnt.into() {
            return Ok(None);
        }
        Ok(FsInfo::read(&self.device.bytes(sector * self.layout.sector, FsInfo::LENGTH)?).ok())
    }

    /// Whether the volume is marked as not unmounted, or as having errors.
    fn is_dirty(&self) -> Result<bool> {
        Ok(self.boot_is_dirty() || self.table_is_dirty()?)
    }

    /// Whether the boot sector says that the volume was not unmounted: Linux sets this bit while it has it mounted
    /// (fs/fat/inode.c, `fat_set_state`).
    const fn boot_is_dirty(&self) -> bool {
        self.layout.extended.reserved1 & 1 != 0
    }

    /// Whether the second entry of the table says that the volume was not unmounted, or has errors.
    fn table_is_dirty(&self) -> Result<bool> {
        let (value, clean) = match self.layout.fat {
            FatType::Fat12 => return Ok(false),
            FatType::Fat16 => (self.table().value(1)?, 0xc000),
            FatType::Fat32 => (self.table().value(1)?, 0x0c00_0000),
        };
        Ok(value & clean != clean)
    }

    /// The entry of an inode.
    fn entry(&self, inode: Inode) -> Result<DirectoryEntry> {
        let missing = || damaged("there is no such inode").found(format!("inode {}", inode.0));
        let inside = match self.layout.root {
            Root::Fixed(start, _) => start,
            Root::Chain(_) => self.layout.data,
        };
        if inode.0 < inside || !inode.0.is_multiple_of(u64_of(DirectoryEntry::LENGTH)) {
            return Err(missing());
        }
        let raw: DirectoryEntry = self.device.structure(inode.0)?;
        if !is_there(&raw) || !matches!(what(&raw), What::File | What::Directory) {
            return Err(missing());
        }
        Ok(raw)
    }

    /// A walk along the entries of a directory.
    fn entries(&self, directory: Inode) -> Result<Entries> {
        if directory == ROOT {
            return Ok(Entries::of_root(&self.layout));
        }
        let raw = self.entry(directory)?;
        if what(&raw) != What::Directory {
            return Err(damaged("this inode is no directory").found(format!("inode {}", directory.0)));
        }
        Ok(Entries::of_chain(first_cluster(&self.layout, &raw)))
    }

    /// The next name of a directory.
    fn next(&self, entries: &mut Entries) -> Result<Option<(String, Entry)>> {
        while let Some(entry) = entries.next(&self.table(), &self.layout, &self.device)? {
            if matches!(what(&entry.raw), What::File | What::Directory) {
                let name = entry.name();
                return match wrong(&name) {
                    Some(why) => Err(damaged("a name in a directory is not valid").found(name).why(why)),
                    None => Ok(Some((name, entry))),
                };
            }
        }
        Ok(None)
    }
}

/// Why a name is invalid, if it is.
fn wrong(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.contains(['/', '\0']) {
        Some("it holds a slash or a NUL")
    } else if name == "." || name == ".." {
        Some("it stands for a directory above")
    } else {
        None
    }
}

/// A label as it is shown. mkfs.fat and Windows write `NO NAME` for no label.
fn label_text(field: &[u8; 11]) -> String {
    let text: String = field.iter().map(|byte| letter(*byte)).collect();
    let text = text.split('\0').next().unwrap_or_default().trim_end_matches(' ');
    if text == "NO NAME" { String::new() } else { text.to_owned() }
}

impl Volume for Fat {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn root(&self) -> Inode {
        ROOT
    }

    /// Names that differ only in case are equal, and a short name is a name too.
    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>> {
        let mut entries = self.entries(directory)?;
        let Ok(wanted) = std::str::from_utf8(name).map(fold) else { return Ok(None) };
        while let Some((name, entry)) = self.next(&mut entries)? {
            if fold(&name) == wanted || fold(&directory::short_name(&entry.raw)) == wanted {
                return Ok(Some(Inode(entry.at)));
            }
        }
        Ok(None)
    }

    fn list(&self, directory: Inode, each: &mut dyn FnMut(&[u8], Inode) -> Result<()>) -> Result<()> {
        let mut entries = self.entries(directory)?;
        while let Some((name, entry)) = self.next(&mut entries)? {
            each(name.as_bytes(), Inode(entry.at))?;
        }
        Ok(())
    }

    fn node(&self, inode: Inode) -> Result<Node> {
        let meta = |mode, mtime| Meta { mode, uid: 0, gid: 0, mtime, links: 1, xattrs: Vec::new() };
        if inode == ROOT {
            let place = match self.layout.root {
                Root::Fixed(..) => 0,
                Root::Chain(cluster) => cluster.into(),
            };
            return Ok(Node { meta: meta(0o755, Time::default()), content: Content::Directory { place } });
        }
        let raw = self.entry(inode)?;
        let (mode, content) = if what(&raw) == What::Directory {
            (0o755, Content::Directory { place: first_cluster(&self.layout, &raw).into() })
        } else {
            (0o644, Content::File { size: Bytes::new(raw.file_size.into()) })
        };
        let mode = if raw.attr & READ_ONLY == 0 { mode } else { mode & !0o222 };
        Ok(Node { meta: meta(mode, Date::time(raw.wrt_date, raw.wrt_time)), content })
    }

    /// A directory is as long as its clusters, as in the kernel (linux/fs/fat/inode.c, fat_calc_dir_size).
    fn space(&self, inode: Inode) -> Result<Space> {
        let first = if inode == ROOT {
            match self.layout.root {
                Root::Fixed(_, length) => {
                    return Ok(Space { size: Bytes::new(length), allocated: Bytes::new(length) });
                }
                Root::Chain(cluster) => cluster,
            }
        } else {
            let raw = self.entry(inode)?;
            if what(&raw) == What::File {
                let size = Bytes::new(raw.file_size.into());
                return Ok(Space { size, allocated: size.round_up(self.layout.cluster) });
            }
            first_cluster(&self.layout, &raw)
        };
        let (mut chain, mut clusters) = (Chain::new(first), 0_u64);
        while chain.next(&self.table())?.is_some() {
            clusters += 1;
        }
        let size = Bytes::new(clusters.saturating_mul(self.layout.cluster));
        Ok(Space { size, allocated: size })
    }

    fn data(&self, inode: Inode, each: &mut dyn FnMut(Bytes, Slice) -> Result<()>) -> Result<()> {
        if inode == ROOT {
            return Err(damaged("this inode is no regular file").found("the root directory"));
        }
        let raw = self.entry(inode)?;
        if what(&raw) != What::File {
            return Err(damaged("this inode is no regular file").found(format!("inode {}", inode.0)));
        }
        let size = u64::from(raw.file_size);
        let mut chain = Chain::new(first_cluster(&self.layout, &raw));
        // A run of consecutive clusters: its offset in the file and in the volume, and its length.
        let mut run: Option<(u64, u64, u64)> = None;
        let mut done = 0;
        while done < size {
            let cluster = chain.next(&self.table())?;
            let at = cluster.and_then(|cluster| self.layout.at(cluster)).ok_or_else(|| {
                damaged("a file is longer than its chain of clusters")
                    .expected(format!("{size} bytes"))
                    .found(format!("{done} bytes"))
            })?;
            let length = self.layout.cluster.min(size - done);
            run = match run {
                Some((from, start, long)) if start + long == at => Some((from, start, long + length)),
                Some((from, start, long)) => {
                    each(Bytes::new(from), self.device.slice(start, long)?)?;
                    Some((done, at, length))
                }
                None => Some((done, at, length)),
            };
            done += length;
        }
        match run {
            Some((from, start, long)) => each(Bytes::new(from), self.device.slice(start, long)?),
            None => Ok(()),
        }
    }

    fn free(&self, each: &mut dyn FnMut(Bytes, Bytes) -> Result<()>) -> Result<()> {
        let layout = &self.layout;
        let at = |cluster: u32| layout.at(cluster);
        let mut give = |first: u32, end: u32| match (at(first), end.checked_sub(1).and_then(at)) {
            (Some(start), Some(last)) if first < end => {
                each(Bytes::new(start), Bytes::new(last + layout.cluster))
            }
            _ => Ok(()),
        };
        let mut next = FIRST;
        self.table().used(&mut |cluster, _| {
            give(next, cluster)?;
            next = cluster + 1;
            Ok(())
        })?;
        give(next, FIRST.saturating_add(layout.clusters))
    }

    fn structure(&self, offset: Bytes) -> Result<Option<String>> {
        place::structure(self, offset.get()).map(Some)
    }

    fn check(&self, remark: &mut dyn FnMut(Remark) -> Result<()>) -> Result<()> {
        check::check(self, remark)
    }
}
