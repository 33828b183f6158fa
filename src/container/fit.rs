//! Which disks a container can hold: their lengths and sector sizes.

use super::{Container, Format, SectorSize, qcow2, vdi, vhd, vhdx, vmdk};
use crate::error::{Error, Kind, Result, Warning};
use crate::units::Bytes;

/// The lengths of disks that a container can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lengths {
    /// All are multiples of this.
    pub(crate) step: u64,
    /// The smallest.
    pub(crate) least: u64,
}

impl Lengths {
    /// The smallest length that is not below `length`.
    pub(crate) fn round_up(self, length: Bytes) -> Bytes {
        length.round_up(self.step).max(Bytes::new(self.least))
    }

    /// The largest length that is not above `length`, or else the smallest.
    fn round_down(self, length: Bytes) -> Bytes {
        length.round_down(self.step).max(Bytes::new(self.least))
    }

    /// The warning that a disk of `length` bytes becomes longer in `what`, if it does.
    pub(crate) fn lengthened(self, length: Bytes, what: impl std::fmt::Display) -> Option<Warning> {
        let seen = self.round_up(length);
        (seen != length).then(|| {
            Warning(format!(
                "the disk has {} bytes, and {} in {what}, which holds no disk of exactly this length; zeros follow it",
                length.get(),
                seen.get(),
            ))
        })
    }

    /// Refuses a length that is none of them, with the nearest that are. `what` is the error.
    ///
    /// # Errors
    /// [`Kind::Usage`] about `size`.
    pub(crate) fn check(self, length: Bytes, what: impl FnOnce() -> String) -> Result<()> {
        let (below, above) = (self.round_down(length), self.round_up(length));
        if above == length {
            return Ok(());
        }
        let nearest = if below < above { format!("{below} or {above}") } else { above.to_string() };
        Err(Error::new(Kind::Usage, what()).about("size").expected(nearest).found(length.in_full()))
    }
}

impl Container {
    fn lengths(&self, sector_size: SectorSize) -> Lengths {
        match self {
            Self::Raw => Lengths { step: 1, least: 0 },
            Self::Qcow2(_) => qcow2::LENGTHS,
            Self::Vhd(options) => options.lengths(),
            Self::Vdi(_) => vdi::LENGTHS,
            Self::Vmdk(_) => vmdk::LENGTHS,
            Self::Vhdx(_) => vhdx::lengths(sector_size),
        }
    }

    /// What all lengths of disks in this container are a multiple of.
    pub(crate) fn step(&self, sector_size: SectorSize) -> u64 {
        self.lengths(sector_size).step
    }

    /// The length that a guest sees of a disk of `length` bytes in this container. If the container rounds
    /// up, zeros fill the rest. The backup of a GPT belongs at the end of that length.
    #[must_use]
    pub fn disk_length(&self, length: Bytes, sector_size: SectorSize) -> Bytes {
        self.lengths(sector_size).round_up(length)
    }

    /// The warning that a disk of `length` bytes becomes longer in this container, if it does.
    pub(crate) fn lengthened(&self, length: Bytes, sector_size: SectorSize) -> Option<Warning> {
        self.lengths(sector_size).lengthened(length, self.described())
    }

    /// The warning that the container does not say how long a sector of its disk is, where that is not 512 bytes.
    pub(crate) fn sectors_untold(&self, sector_size: SectorSize) -> Option<Warning> {
        let untold = matches!(self, Self::Raw | Self::Qcow2(_)) && sector_size != SectorSize::B512;
        untold.then(|| {
            Warning(format!(
                "{} does not record that sectors have {bytes} bytes; a guest sees 512 unless its device says so \
                 (QEMU: logical_block_size={bytes})",
                self.format(),
                bytes = sector_size.get(),
            ))
        })
    }

    /// Refuses a length that the container would round up.
    ///
    /// # Errors
    /// [`Kind::Usage`] about `size`, with the nearest lengths that the container can hold.
    pub fn check_length(&self, length: Bytes, sector_size: SectorSize) -> Result<()> {
        let what = || format!("{} holds no disk of exactly this length", self.described());
        self.lengths(sector_size).check(length, what)
    }

    /// Refuses a sector size that readers of the container would not see.
    ///
    /// The program that runs a raw or a qcow2 disk is told the sector size (QEMU's `logical_block_size`), and
    /// VHDX records it. All readers of VHD, VDI and VMDK assume 512 bytes: their tables count in those
    /// sectors, and VDI's field for the sector size may have no other value.
    ///
    /// # Errors
    /// [`Kind::Usage`] about `sector_size`.
    pub fn check_sector_size(&self, sector_size: SectorSize) -> Result<()> {
        let held = matches!(self, Self::Raw | Self::Qcow2(_) | Self::Vhdx(_));
        if held || sector_size == SectorSize::B512 {
            return Ok(());
        }
        let what = format!("{} has only disks with sectors of 512 bytes", self.format());
        Err(Error::new(Kind::Usage, what)
            .about("sector_size")
            .expected(512)
            .found(sector_size.get())
            .hint("take vhdx, qcow2 or raw"))
    }

    /// Its name, with its kind if the kind matters for what it can hold.
    pub(crate) fn described(&self) -> String {
        match self {
            Self::Vhd(vhd::Options { fixed: true }) => format!("{} of subformat fixed", Format::Vhd),
            _ => self.format().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MIB;

    #[test]
    fn lengths_are_what_readers_see() {
        let fixed = Container::Vhd(vhd::Options { fixed: true });
        let of = Container::of;
        for (container, sector, length, seen) in [
            (Container::Raw, SectorSize::B512, 700, 700),
            (of(Format::Qcow2), SectorSize::B512, 0, 0),
            (of(Format::Qcow2), SectorSize::B4096, 513, 1024),
            (of(Format::Vhd), SectorSize::B512, MIB + 1, MIB + 512),
            (fixed.clone(), SectorSize::B512, 0, MIB),
            (fixed.clone(), SectorSize::B512, MIB, MIB),
            (fixed, SectorSize::B512, MIB + 512, 2 * MIB),
            (of(Format::Vdi), SectorSize::B512, 1, 512),
            (of(Format::Vmdk), SectorSize::B512, 0, 512),
            (of(Format::Vmdk), SectorSize::B512, 65_537, 66_048),
            (of(Format::Vhdx), SectorSize::B512, 0, 512),
            (of(Format::Vhdx), SectorSize::B4096, 0, 4096),
            (of(Format::Vhdx), SectorSize::B4096, 4097, 8192),
        ] {
            let found = container.disk_length(Bytes::new(length), sector);
            assert_eq!(found.get(), seen, "{container:?}, {length}");
            let checked = container.check_length(Bytes::new(length), sector);
            assert_eq!(checked.is_ok(), length == seen);
            assert!(container.check_length(found, sector).is_ok());
        }
    }

    #[test]
    fn a_length_that_is_not_held_is_refused_with_the_nearest_that_are() {
        let fixed = Container::Vhd(vhd::Options { fixed: true });
        for (length, nearest) in [(20_975_104, "20MiB or 21MiB"), (MIB - 1, "1MiB")] {
            let error = fixed.check_length(Bytes::new(length), SectorSize::B512).unwrap_err();
            assert_eq!(error.key(), Some("size"));
            assert!(error.to_string().contains(&format!("expected: {nearest}\n")), "{error}");
        }
    }

    #[test]
    fn sectors_are_held_or_refused_by_name() {
        for (format, held) in [
            (Format::Raw, true),
            (Format::Qcow2, true),
            (Format::Vhd, false),
            (Format::Vdi, false),
            (Format::Vmdk, false),
            (Format::Vhdx, true),
        ] {
            let container = Container::of(format);
            assert!(container.check_sector_size(SectorSize::B512).is_ok());
            match container.check_sector_size(SectorSize::B4096) {
                Ok(()) => assert!(held, "{format}"),
                Err(error) => {
                    assert!(!held, "{format}");
                    assert_eq!((error.kind(), error.key()), (Kind::Usage, Some("sector_size")));
                    assert!(error.to_string().contains("vhdx, qcow2 or raw"), "{error}");
                }
            }
        }
    }
}
