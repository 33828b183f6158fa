//! The file formats that an [`Image`](crate::image::Image) can be written in: a closed set, chosen in one
//! place.

mod allocated;
pub mod codec;
mod deflate;
mod fit;
mod foreign;
mod format;
mod identity;
mod open;
pub mod qcow2;
mod settings;
mod source;
mod structure;
pub mod vdi;
pub mod vhd;
pub mod vhdx;
pub mod vmdk;
mod write;

pub(crate) use fit::Lengths;
pub use format::{Format, UnknownFormat};
pub use identity::{Identity, SectorSize};
pub use open::{OpenOptions, Opened, backing_path, open};
pub(crate) use open::{check, check_partition, open_alone, open_file, structure};
pub use settings::{Compression, Settings, Subformat, UnknownWord};
pub(crate) use source::{open_to_change, same_file};

/// The format of the output, with the options of that format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Container {
    /// The bytes of the disk without a container; holes stay holes of the file.
    #[default]
    Raw,
    /// The format of QEMU.
    Qcow2(qcow2::Options),
    /// VHD: Virtual PC, Hyper-V, Azure.
    Vhd(vhd::Options),
    /// The format of VirtualBox.
    Vdi(vdi::Options),
    /// The format of VMware.
    Vmdk(vmdk::Options),
    /// VHDX: Hyper-V.
    Vhdx(vhdx::Options),
}

impl Container {
    /// `format` with its default options.
    #[must_use]
    pub fn of(format: Format) -> Self {
        match format {
            Format::Raw => Self::Raw,
            Format::Qcow2 => Self::Qcow2(qcow2::Options::default()),
            Format::Vhd => Self::Vhd(vhd::Options::default()),
            Format::Vdi => Self::Vdi(vdi::Options::default()),
            Format::Vmdk => Self::Vmdk(vmdk::Options::default()),
            Format::Vhdx => Self::Vhdx(vhdx::Options::default()),
        }
    }

    /// Its format.
    #[must_use]
    pub const fn format(&self) -> Format {
        match self {
            Self::Raw => Format::Raw,
            Self::Qcow2(_) => Format::Qcow2,
            Self::Vhd(_) => Format::Vhd,
            Self::Vdi(_) => Format::Vdi,
            Self::Vmdk(_) => Format::Vmdk,
            Self::Vhdx(_) => Format::Vhdx,
        }
    }

    /// Whether the file contains ids and times, so that it needs a seed for them.
    #[must_use]
    pub const fn has_ids(&self) -> bool {
        !matches!(self, Self::Raw | Self::Qcow2(_))
    }
}
