//! GRUB for a BIOS, without a device. boot.img becomes the boot code of the first sector. A core image is
//! embedded outside of filesystems: after an MBR or in a BIOS boot partition.
//!
//! Sources: GRUB's `include/grub/i386/pc/boot.h`, `util/setup.c` and `grub-core/boot/i386/pc`, and the effect
//! of grub-bios-setup on a device. Offsets are beside the fields; docs/formats/boot.md explains each value.

use std::path::PathBuf;

use super::mkimage::Core;
use super::{Filesystem, Grub, Place, Search};
use crate::boot::files::Files;
use crate::boot::{Area, BOOT_CODE, Embedding};
use crate::error::{Error, Kind, Result};
use crate::numbers::Numbers;
use crate::progress::Progress;
use crate::units::{Bytes, Sectors, u64_of};

/// GRUB's name of this platform.
const PLATFORM: &str = "i386-pc";

/// Sectors of a disk that a BIOS reads have this many bytes.
const SECTOR: usize = 512;

/// The place of a BIOS parameter block. It begins after the jump and belongs to a filesystem.
const BPB: std::ops::Range<usize> = 0x03..0x5a;
/// The place of the number of the core's first sector in boot.img (GRUB_BOOT_MACHINE_KERNEL_SECTOR).
const KERNEL_SECTOR: usize = 0x5c;
/// The place of the jump over the check of the drive's number (GRUB_BOOT_MACHINE_DRIVE_CHECK).
const DRIVE_CHECK: usize = 0x66;
/// The jump as shipped, `jmp 3f`, and its replacement for a hard disk: two nops.
const JUMP: [u8; 2] = [0xeb, 0x05];
const NO_JUMP: [u8; 2] = [0x90, 0x90];

/// Where the list of blocks in the core's first sector begins; it grows downwards
/// (GRUB_BOOT_MACHINE_LIST_SIZE is 12).
const BLOCK_LIST: usize = 0x1f4;
/// A block of the list: first sector (8 bytes), number of sectors (2 bytes), segment (2 bytes).
const BLOCK: usize = 12;
/// The segment of the second sector: 0x800 for the first one, plus 0x20 times 16 bytes for one sector.
const SEGMENT: u16 = 0x800 + 0x20;

/// The largest core in sectors. It is loaded to 0x8000, and its second sector may not begin beyond 0x78000,
/// with 0x1000 to spare (GRUB's `util/setup.c`: `(0x78000 - GRUB_KERNEL_I386_PC_LINK_ADDR) / 512`, linked to
/// 0x9000).
const MOST_SECTORS: u64 = (0x78000 - 0x9000) / 512;

/// The kind of partition table that GRUB's core must read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// MBR.
    Mbr,
    /// GPT.
    Gpt,
}

/// Where the boot directory lies on GRUB's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The disk's table.
    pub table: Table,
    /// The number of the partition, from 1.
    pub partition: u32,
    /// The type of its filesystem.
    pub filesystem: Filesystem,
    /// The boot directory's path from the root of that filesystem: `/boot`, or `/` for a filesystem of its
    /// own.
    pub path: String,
}

/// GRUB for a BIOS, before it is known where its core image goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// boot.img.
    boot: Vec<u8>,
    /// Where that is.
    image: PathBuf,
    /// The core image as grub-mkimage writes it.
    core: Vec<u8>,
    /// The contents of the boot directory: modules, lists, and copies of both images, as `/grub/i386-pc/...`.
    pub files: Files,
}

impl Made {
    /// The code outside of all filesystems, with the core image in `area`.
    ///
    /// # Errors
    /// [`Kind::Source`] for files that do not belong to a GRUB; [`Kind::Capacity`] where the core image is larger than the
    /// area.
    pub fn embed(&self, area: Area) -> Result<Embedding> {
        let boot_code = boot_code(&self.boot, area.first).map_err(|error| error.at(&self.image))?;
        Ok(Embedding { boot_code, first: area.first, core: embed(self.core.clone(), area)? })
    }
}

/// GRUB for a BIOS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bios {
    /// The code outside of all filesystems.
    pub embedding: Embedding,
    /// The contents of the boot directory: modules, lists, and copies of both images, as `/grub/i386-pc/...`.
    pub files: Files,
}

/// Makes GRUB for a disk with the boot directory `home`, whose core image goes into `area`. It does not
/// depend on the place of the disk: GRUB looks for its directory on the disk that it was loaded from.
///
/// # Errors
/// [`Kind::Source`] where GRUB's files or grub-mkimage are missing, or do not belong to a GRUB;
/// [`Kind::Capacity`] where the core image is larger than the area.
pub fn build(grub: &Grub, home: &Home, area: Area, progress: &Progress) -> Result<Bios> {
    let made = make(grub, home, progress)?;
    let embedding = made.embed(area)?;
    let mut files = made.files;
    // grub-bios-setup records in the copy where it put the image.
    files.set_bytes(&format!("/grub/{PLATFORM}/core.img"), &embedding.core);
    Ok(Bios { embedding, files })
}

/// As [`build`], for a core image whose place is decided later.
///
/// # Errors
/// [`Kind::Source`] where GRUB's files or grub-mkimage are missing.
pub fn make(grub: &Grub, home: &Home, progress: &Progress) -> Result<Made> {
    // The configuration must be able to name the directory too.
    let directory = Place { search: Search::Root, path: home.path.clone() };
    directory.check()?;
    if home.partition == 0 {
        return Err(
            Error::new(Kind::Manifest, "the boot directory's partition has no number").expected("from 1")
        );
    }
    let (name, module) = match home.table {
        Table::Mbr => ("msdos", "part_msdos"),
        Table::Gpt => ("gpt", "part_gpt"),
    };
    let prefix = format!("(,{name}{}){}", home.partition, directory.below("/grub"));
    let modules = [home.filesystem.module(), module, "biosdisk"];
    let core =
        Core { platform: PLATFORM, prefix: &prefix, config: None, modules: &modules }.make(grub, progress)?;
    let image = grub.platform(PLATFORM)?.join("boot.img");
    let boot = std::fs::read(&image)
        .map_err(|error| Error::io(Kind::Source, "cannot read GRUB's boot.img", &image, error))?;

    let mut files = Files::new();
    grub.modules(PLATFORM, &mut files)?;
    files.host(format!("/grub/{PLATFORM}/boot.img"), &image)?;
    files.bytes(format!("/grub/{PLATFORM}/core.img"), core.clone())?;
    Ok(Made { boot, image, core, files })
}

/// The boot code of a disk whose core image begins at sector `first`. `boot` is boot.img.
///
/// # Errors
/// [`Kind::Source`] where `boot` is not a boot.img.
pub fn boot_code(boot: &[u8], first: Sectors) -> Result<Vec<u8>> {
    let is_boot = boot.len() == SECTOR
        && boot.ends_with(&[0x55, 0xaa])
        && boot.get(DRIVE_CHECK..DRIVE_CHECK + 2) == Some(&JUMP);
    if !is_boot {
        return Err(Error::new(Kind::Source, "this is not the boot.img of a GRUB for a BIOS")
            .expected("512 bytes that end with 55 aa, and eb 05 at byte 0x66")
            .found(format!("{} bytes", boot.len())));
    }
    let mut code = boot[..BOOT_CODE].to_vec();
    // No filesystem begins at the start of the disk.
    code[BPB].fill(0);
    code[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&first.get().to_le_bytes());
    // Only floppies need the check: for a hard disk a BIOS gives the right number.
    code[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&NO_JUMP);
    Ok(code)
}

/// `core` in the form for `area`: whole sectors, with the list of its own sectors.
///
/// # Errors
/// [`Kind::Source`] where `core` is not a core image; [`Kind::Capacity`] where it is larger than `area`, or
/// than a BIOS can load.
pub fn embed(mut core: Vec<u8>, area: Area) -> Result<Vec<u8>> {
    let sectors = Bytes::new(u64_of(core.len())).div_ceil(u64_of(SECTOR));
    let behind_first = sectors.checked_sub(1).and_then(|behind| u16::try_from(behind).ok());
    let list = core
        .get(..SECTOR)
        .map(|head| (Numbers(head).le16(BLOCK_LIST + 8), Numbers(head).le16(BLOCK_LIST + 10)));
    // grub-mkimage writes the list for a core that begins at sector 1.
    let Some(behind_first) = behind_first.filter(|behind| list == Some((*behind, SEGMENT))) else {
        return Err(Error::new(Kind::Source, "this is not a core image of a GRUB for a BIOS")
            .expected("a list of its own sectors at byte 0x1f4")
            .found(format!("{} bytes", core.len())));
    };
    let most = area.length.get().min(MOST_SECTORS);
    if sectors > most {
        let why = if most == MOST_SECTORS {
            "a BIOS can load no more below the 640 KiB"
        } else {
            "it has to lie before the first partition, or in the BIOS boot partition"
        };
        return Err(Error::new(Kind::Capacity, "GRUB's core image is larger than the space for it")
            .expected(format!("at most {most} sectors ({} bytes) at sector {}", most * 512, area.first.get()))
            .found(format!(
                "{sectors} sectors ({} bytes): {} bytes too many",
                sectors * 512,
                (sectors - most) * 512
            ))
            .why(why)
            .hint("another GRUB may make a smaller one, or choose a layout or a boot loader without GRUB for a BIOS"));
    }
    core.resize(crate::units::usize_of(sectors) * SECTOR, 0);
    let mut list = (area.first.get() + 1).to_le_bytes().to_vec();
    list.extend(behind_first.to_le_bytes());
    list.extend(SEGMENT.to_le_bytes());
    core[BLOCK_LIST..BLOCK_LIST + BLOCK].copy_from_slice(&list);
    // A block without sectors ends the list.
    core[BLOCK_LIST - BLOCK..BLOCK_LIST].fill(0);
    Ok(core)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A core image of `sectors` sectors, the last one incomplete, as grub-mkimage makes it for sector 1.
    fn core(sectors: u16) -> Vec<u8> {
        let mut core = vec![0x11; usize::from(sectors) * SECTOR - 100];
        core[BLOCK_LIST - BLOCK..BLOCK_LIST].fill(0x22);
        core[BLOCK_LIST..BLOCK_LIST + 8].copy_from_slice(&2_u64.to_le_bytes());
        core[BLOCK_LIST + 8..BLOCK_LIST + 10].copy_from_slice(&(sectors - 1).to_le_bytes());
        core[BLOCK_LIST + 10..SECTOR].copy_from_slice(&[0x20, 0x08]);
        core
    }

    fn area(first: u64, length: u64) -> Area {
        Area { first: Sectors::new(first), length: Sectors::new(length) }
    }

    #[test]
    fn a_core_knows_its_sectors() {
        for (first, list) in [
            (1, [2, 0, 0, 0, 0, 0, 0, 0, 0x34, 0, 0x20, 8]),
            (2048, [1, 8, 0, 0, 0, 0, 0, 0, 0x34, 0, 0x20, 8]),
            (u64::from(u32::MAX), [0, 0, 0, 0, 1, 0, 0, 0, 0x34, 0, 0x20, 8]),
        ] {
            let embedded = embed(core(53), area(first, 53)).unwrap();
            assert_eq!(embedded.len(), 53 * SECTOR);
            assert_eq!(embedded[BLOCK_LIST..SECTOR], list);
            assert_eq!(embedded[BLOCK_LIST - BLOCK..BLOCK_LIST], [0; BLOCK]);
            assert_eq!(embedded[53 * SECTOR - 100..], [0; 100]);
            assert!(embedded[..BLOCK_LIST - BLOCK].iter().all(|byte| *byte == 0x11));
        }
    }

    #[test]
    fn a_core_that_does_not_fit_says_by_how_much() {
        embed(core(888), area(1, 2047)).unwrap();
        assert_eq!(
            embed(core(889), area(1, 2047)).unwrap_err().to_string(),
            "GRUB's core image is larger than the space for it\n  expected: at most 888 sectors (454656 bytes) at sector \
             1\n  found: 889 sectors (455168 bytes): 512 bytes too many\n  because: a BIOS can load no more below the \
             640 KiB\n  hint: another GRUB may make a smaller one, or choose a layout or a boot loader without GRUB for a BIOS"
        );
        let error = embed(core(53), area(1, 33)).unwrap_err();
        assert_eq!(error.kind(), Kind::Capacity);
        let text = error.to_string();
        assert!(text.contains("found: 53 sectors (27136 bytes): 10240 bytes too many\n"), "{text}");
        assert!(text.contains("because: it has to lie before the first partition"), "{text}");
    }

    #[test]
    fn what_is_no_image_of_grub_is_refused() {
        for bytes in [vec![], vec![0; 512], vec![0; 27026], core(3)[..511].to_vec(), core(3)[..1024].to_vec()]
        {
            let error = embed(bytes, area(1, 2047)).unwrap_err();
            assert_eq!(error.what(), "this is not a core image of a GRUB for a BIOS");
        }
        for bytes in [vec![], vec![0; 512], vec![0; 513]] {
            let error = boot_code(&bytes, Sectors::new(1)).unwrap_err();
            assert_eq!(error.what(), "this is not the boot.img of a GRUB for a BIOS");
        }
    }
}
