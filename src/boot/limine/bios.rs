//! Limine for a BIOS: the boot code of the first sector, and the stage that it loads from sectors outside of filesystems. That
//! one reads `limine-bios.sys`, the third stage, from a filesystem.
//!
//! Source: Limine 8.2, `stage1/hdd/bootsect.asm` for the fields, and `host/limine.c` (`bios-install`) for their values.

use std::path::Path;

use crate::boot::{Area, BOOT_CODE, Embedding};
use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, u64_of};

/// What a folder with Limine calls it: the bytes themselves, or as an array in C, which its releases have.
pub const NAMES: [&str; 2] = ["limine-bios-hdd.bin", "limine-bios-hdd.h"];

/// The third stage, which lies at the top of a filesystem.
pub const THIRD_STAGE: &str = "limine-bios.sys";

/// The largest description of an image that is read: a byte takes six characters, and 64 KiB are the most that is loaded.
pub const LARGEST: u64 = 1 << 20;

const SECTOR: usize = 512;
/// The name of the maker in the place of a BIOS parameter block.
const OEM: std::ops::Range<usize> = 3..11;
/// The lengths of both halves of the second stage in bytes (two of 2 bytes), and their places on the disk in bytes (two of 8
/// bytes): `stage2_size_a` to `stage2_loc_b`.
const HALVES: std::ops::Range<usize> = 0x1a4..0x1b8;
/// The second stage is loaded to 0x70000, by one segment with offsets of 16 bits.
const MOST: usize = 1 << 16;

/// Boot sector and second stage, as they are built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image(Vec<u8>);

impl Image {
    /// What the file `name` holds: bytes, or an array in C.
    ///
    /// # Errors
    /// [`Kind::Source`] for anything but an image of Limine for hard disks.
    pub fn new(name: &str, bytes: Vec<u8>) -> Result<Self> {
        let is_array = Path::new(name).extension().is_some_and(|extension| extension == "h");
        let bytes = if is_array { array(&bytes) } else { Some(bytes) };
        let is_image = |bytes: &Vec<u8>| {
            bytes.len() > SECTOR
                && bytes.len() <= SECTOR + MOST
                && bytes.get(SECTOR - 2..SECTOR) == Some(&[0x55, 0xaa])
                && bytes.get(OEM) == Some(b"LIMINE  ")
                && bytes[HALVES].iter().all(|byte| *byte == 0)
        };
        match bytes {
            Some(bytes) if is_image(&bytes) => Ok(Self(bytes)),
            other => Err(Error::new(Kind::Source, "this is not Limine for the hard disk of a BIOS")
                .expected("a boot sector of LIMINE that knows no disk yet, and at most 64 KiB behind it")
                .found(
                    other.map_or("no array of bytes".to_owned(), |bytes| format!("{} bytes", bytes.len())),
                )),
        }
    }

    /// The code outside of all filesystems, with the second stage in `area`.
    ///
    /// # Errors
    /// [`Kind::Capacity`] where the second stage is larger than the area.
    pub fn embed(&self, area: Area) -> Result<Embedding> {
        let mut core = self.0[SECTOR..].to_vec();
        let sectors = Bytes::new(u64_of(core.len())).div_ceil(u64_of(SECTOR));
        if sectors > area.length.get() {
            return Err(Error::new(Kind::Capacity, "Limine's second stage is larger than the space for it")
                .expected(format!("at most {} sectors at sector {}", area.length.get(), area.first.get()))
                .found(format!("{sectors} sectors: {} too many", sectors - area.length.get()))
                .why("it has to lie before the first partition, or in the BIOS boot partition"));
        }
        core.resize(crate::units::usize_of(sectors) * SECTOR, 0);
        // The first half has the odd sector.
        let second = sectors / 2;
        let sectors_of = |sectors: u64| sectors * u64_of(SECTOR);
        let length = |sectors: u64| {
            u16::try_from(sectors_of(sectors)).map_err(|_| Error::bug("half of a stage has over 64 KiB"))
        };
        let (first, start) = (sectors - second, area.first.get());
        let mut halves = Vec::new();
        halves.extend(length(first)?.to_le_bytes());
        halves.extend(length(second)?.to_le_bytes());
        halves.extend(sectors_of(start).to_le_bytes());
        halves.extend(sectors_of(start + first).to_le_bytes());
        let mut boot_code = self.0[..BOOT_CODE].to_vec();
        boot_code[HALVES].copy_from_slice(&halves);
        Ok(Embedding { boot_code, first: area.first, core })
    }
}

/// The bytes of an array in C, `const uint8_t NAME[] = { 0xeb, … };`.
fn array(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, values) = text.split_once('{')?;
    let (values, _) = values.split_once('}')?;
    let values = values.split(',').map(str::trim).filter(|value| !value.is_empty());
    values.map(|value| u8::from_str_radix(value.strip_prefix("0x")?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Sectors;

    /// A boot sector like that of Limine, and `length` bytes of second stage.
    fn image(length: usize) -> Vec<u8> {
        let mut image = vec![0x90; SECTOR + length];
        image[OEM].copy_from_slice(b"LIMINE  ");
        image[HALVES].fill(0);
        image[SECTOR - 2..SECTOR].copy_from_slice(&[0x55, 0xaa]);
        image[SECTOR..].fill(0x22);
        image
    }

    fn area(first: u64, length: u64) -> Area {
        Area { first: Sectors::new(first), length: Sectors::new(length) }
    }

    /// 22,600 bytes are 45 sectors, 23 and 22: behind an MBR, and in a partition at sector 2048.
    #[test]
    fn the_boot_sector_knows_both_halves() {
        let made = Image::new("limine-bios-hdd.bin", image(22600)).unwrap();
        for (first, halves) in [
            (1, "002e002c00020000000000000030000000000000"),
            (2048, "002e002c0000100000000000002e100000000000"),
        ] {
            let Embedding { boot_code, core, first: at } = made.embed(area(first, 45)).unwrap();
            assert_eq!((boot_code.len(), core.len(), at.get()), (440, 45 * 512, first));
            assert_eq!(
                boot_code[HALVES].iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
                halves
            );
            assert!(
                core[..22600].iter().all(|byte| *byte == 0x22) && core[22600..].iter().all(|byte| *byte == 0)
            );
        }
        let error = made.embed(area(1, 40)).unwrap_err();
        assert!(error.to_string().contains("45 sectors: 5 too many"), "{error}");
    }

    #[test]
    fn an_array_in_c_is_the_image() {
        let bytes = image(700);
        let values: Vec<String> = bytes.iter().map(|byte| format!("0x{byte:02x}")).collect();
        let text =
            format!("const uint8_t binary_limine_hdd_bin_data[] = {{\n    {},\n}};\n", values.join(", "));
        let (read, plain) = (Image::new("limine-bios-hdd.h", text.into()), Image::new("x.bin", bytes));
        assert_eq!(read.unwrap(), plain.unwrap());
    }

    #[test]
    fn what_is_no_image_of_limine_is_refused() {
        let mut installed = image(700);
        installed[HALVES.start] = 1;
        let mut other = image(700);
        other[3] = b'M';
        for (name, bytes) in [
            ("x.bin", vec![]),
            ("x.bin", image(0)),
            ("x.bin", image(MOST + 1)),
            ("x.bin", installed),
            ("x.bin", other),
            ("x.h", image(700)),
            ("x.h", b"{ 0xeb, 3 }".to_vec()),
            ("x.h", b"{ 0xeb, 0x3 }".to_vec()),
        ] {
            let error = Image::new(name, bytes).unwrap_err();
            assert_eq!(error.what(), "this is not Limine for the hard disk of a BIOS");
        }
    }
}
