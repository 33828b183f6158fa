//! `--el-torito=`: an empty ISO 9660 in front of the partitions whose boot catalog leads to the EFI system partition.
//!
//! Firmware that reads the disk as a CD starts that partition. Source: ECMA-119 and El Torito 1.0; equal to what
//! systemd-repart 262.1 writes, byte by byte (fixtures/repart/el-torito).

use super::Outcome;
use crate::calendar::civil;
use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Image, Slice};
use crate::units::{Bytes, usize_of};

/// Bytes in a sector of a CD.
const SECTOR: u64 = 2048;
/// The first sector of an ISO 9660 that is not left to others.
const FIRST: u64 = 16;
/// Where the boot catalog is.
const CATALOG: u32 = 19;
/// Where the root directory is.
const ROOT: u32 = 20;
/// Sectors of the whole filesystem.
const SECTORS: u32 = 21;
/// Bytes of the root directory: `.` and `..`.
const ROOT_LENGTH: u32 = 68;

/// What an ISO 9660 calls itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElTorito {
    /// The system, at most 32 characters.
    pub system: String,
    /// The volume, at most 32 characters.
    pub volume: String,
    /// The publisher, at most 128 characters.
    pub publisher: String,
}

impl ElTorito {
    /// Refuses texts that ISO 9660 cannot hold. The option of each is named `el_torito_…`.
    ///
    /// # Errors
    /// [`Kind::Usage`], with the option.
    pub(super) fn check(&self) -> Result<()> {
        for (text, most, option) in [
            (&self.system, 32, "el_torito_system"),
            (&self.volume, 32, "el_torito_volume"),
            (&self.publisher, 128, "el_torito_publisher"),
        ] {
            let fits = |c: char| c.is_ascii_alphanumeric() || " !\"%&'()*+,-./:;<=>?_".contains(c);
            if text.len() > most || !text.chars().all(fits) {
                return Err(Error::new(Kind::Usage, "ISO 9660 holds no such text")
                    .at_key(&super::options::option_key(option))
                    .expected(format!("at most {most} letters, digits, blanks and !\"%&'()*+,-./:;<=>?_"))
                    .found(crate::values::shown(text)));
            }
        }
        Ok(())
    }

    /// The disk with an ISO 9660 in front of its partitions, dated `time`.
    ///
    /// # Errors
    /// [`Kind::Manifest`] where there is no EFI system partition, or where a partition is in the way.
    pub(super) fn put(&self, disk: &Image, outcome: &Outcome, time: i64) -> Result<Image> {
        let refuse =
            |what: &str| Error::new(Kind::Manifest, what).at_key(&super::options::option_key("el_torito"));
        let (start, end) = (Bytes::new(FIRST * SECTOR), Bytes::new(u64::from(SECTORS) * SECTOR));
        let esp = outcome.rows.iter().find(|row| row.kind == "esp");
        let esp = esp.ok_or_else(|| {
            refuse("there is no EFI system partition that a boot catalog could lead to")
                .expected("a definition with Type=esp")
        })?;
        if let Some(first) = outcome.rows.first().filter(|row| row.offset < end) {
            return Err(refuse("the first partition is where the ISO 9660 goes")
                .expected(format!("a start of at least {}", end.in_full()))
                .found(first.offset.in_full())
                .hint("--grain-size=1M, or more partitions: a disk of more than 4 MiB begins at 1 MiB"));
        }
        let at = u32::try_from(esp.offset.get() / SECTOR).ok();
        let at = at.filter(|_| esp.offset.is_multiple_of(SECTOR));
        let at = at.ok_or_else(|| {
            refuse("the EFI system partition does not begin in a sector of a CD")
                .expected("a multiple of 2048 bytes")
                .found(esp.offset.in_full())
        })?;
        let bytes = self.bytes(at, time);
        let mut image = Builder::new(disk.length());
        image.put(Bytes::ZERO, &disk.slice(Bytes::ZERO, start));
        image.put(start, &Slice::ready("the ISO 9660", bytes));
        image.put(end, &disk.slice(end, disk.length()));
        image.finish()
    }

    /// The sectors from [`FIRST`] on; the ESP begins in sector `esp`.
    fn bytes(&self, esp: u32, time: i64) -> Vec<u8> {
        let date = Date::of(time);
        let record = |name: u8| {
            let mut record = vec![34, 0];
            record.extend(both32(ROOT));
            record.extend(both32(ROOT_LENGTH));
            record.extend(date.short);
            // A directory; no interleaving; the first volume of its set; one byte of a name.
            record.extend([2, 0, 0]);
            record.extend(both16(1));
            record.extend([1, name]);
            record
        };
        let sectors = [
            self.volume_descriptor(&record(0), &date),
            boot_record(),
            descriptor(0xff),
            catalog(esp),
            [record(0), record(1)].concat(),
        ];
        let padded = sectors.into_iter().flat_map(|mut sector| {
            sector.resize(usize_of(SECTOR), 0);
            sector
        });
        padded.collect()
    }

    /// The primary volume descriptor (ECMA-119, 8.4).
    fn volume_descriptor(&self, root: &[u8], date: &Date) -> Vec<u8> {
        let text = |text: &str, length: usize| {
            let mut bytes = text.as_bytes().to_vec();
            bytes.resize(length, b' ');
            bytes
        };
        let mut out = descriptor(1);
        out.push(0);
        out.extend(text(&self.system, 32));
        out.extend(text(&self.volume, 32));
        out.extend([0; 8]);
        out.extend(both32(SECTORS));
        out.extend([0; 32]);
        // One volume, the first of its set, in blocks of 2048 bytes.
        for number in [1, 1, 2048] {
            out.extend(both16(number));
        }
        // No path tables: there is nothing to find by them.
        out.extend(both32(0));
        out.extend([0; 16]);
        out.extend(root);
        out.extend(text("", 128));
        out.extend(text(&self.publisher, 128));
        out.extend(text("", 128));
        out.extend(text("SYSTEMD-REPART", 128));
        out.extend(text("", 3 * 37));
        out.extend(date.long.as_bytes());
        out.push(0);
        out.extend(date.long.as_bytes());
        out.push(0);
        // No time of expiry, and none from which on it counts.
        out.extend([[b'0'; 16].as_slice(), &[0], &[b'0'; 16], &[0]].concat());
        out.push(1);
        out
    }
}

/// The start of every descriptor.
fn descriptor(kind: u8) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(b"CD001\x01");
    out
}

/// The descriptor that leads to the boot catalog (El Torito, figure 7).
fn boot_record() -> Vec<u8> {
    let mut out = descriptor(0);
    out.extend(b"EL TORITO SPECIFICATION");
    out.resize(71, 0);
    out.extend(CATALOG.to_le_bytes());
    out
}

/// The boot catalog: for EFI, without emulation, from sector `esp` on (El Torito, figures 2 to 4; UEFI specification, 13.3.2.1).
fn catalog(esp: u32) -> Vec<u8> {
    let mut out = vec![1, 0xef];
    out.resize(28, 0);
    // The words of the entry sum up to zero: 0xef01 and 0xaa55 take this.
    out.extend([0xaa, 0x66, 0x55, 0xaa]);
    // Bootable, no emulation; a length of zero goes to the end of the disk.
    out.extend([0x88, 0, 0, 0, 0, 0, 0, 0]);
    out.extend(esp.to_le_bytes());
    out.resize(64, 0);
    // The last header, of no more entries.
    out.push(0x91);
    out
}

/// A time as the descriptor and as a directory write it, in UTC.
struct Date {
    long: String,
    short: [u8; 7],
}

impl Date {
    fn of(time: i64) -> Self {
        let (year, month, day) = civil(time.div_euclid(86_400));
        let second = time.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let byte = |number: i64| u8::try_from(number).unwrap_or(0);
        Self {
            long: format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}00"),
            short: [
                byte(year - 1900),
                byte(month.into()),
                byte(day.into()),
                byte(hour),
                byte(minute),
                byte(second),
                0,
            ],
        }
    }
}

/// A number in both orders of bytes.
fn both16(number: u16) -> Vec<u8> {
    [number.to_le_bytes(), number.to_be_bytes()].concat()
}

fn both32(number: u32) -> Vec<u8> {
    [number.to_le_bytes(), number.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_of_the_catalog_sums_up_to_zero() {
        let entry = catalog(512);
        let words = entry[..32].chunks(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
        assert_eq!(words.fold(0_u16, u16::wrapping_add), 0);
    }

    #[test]
    fn texts_are_those_that_iso_9660_holds() {
        let named = |volume: &str| ElTorito { volume: volume.to_owned(), ..ElTorito::default() };
        for good in ["", "lower", "A b!\"q_?", &"A".repeat(32)] {
            named(good).check().unwrap();
        }
        for bad in ["a~b", "a$b", "a#b", "a@b", "a\\b", "äh", &"A".repeat(33)] {
            assert_eq!(named(bad).check().unwrap_err().kind(), Kind::Usage, "{bad}");
        }
    }
}
