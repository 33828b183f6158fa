//! The table that every general test runs over: a format with options in each row.

use std::path::Path;

use diskwright::container::{
    Container, Format, Identity, OpenOptions, Opened, SectorSize, Settings, Subformat, open,
};
use diskwright::error::Result;
use diskwright::image::Image;
use diskwright::pour::PourOptions;
use diskwright::progress::Progress;
use diskwright::units::{Bytes, GIB, KIB, MIB, TIB};
use uuid::Uuid;

use crate::readers::{self, Reader};

/// A format with options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// What it is called in messages, digests and golden maps.
    pub(crate) name: &'static str,
    pub(crate) format: Format,
    pub(crate) subformat: Option<Subformat>,
    pub(crate) compress: Option<&'static str>,
    pub(crate) cluster_size: Option<u64>,
    /// Bytes of a cluster, block or grain: disks around its size are tried.
    pub(crate) unit: u64,
    /// The size of the disk that comes back for a disk of this size.
    pub(crate) rounds: fn(u64) -> u64,
    /// The largest disk; a larger one is refused.
    pub(crate) largest: u64,
    /// Whether `qemu-img check` knows the format.
    pub(crate) checks: bool,
    /// Whether it can be written to a pipe.
    pub(crate) streams: bool,
    /// Whether QEMU writes to any sector of it.
    pub(crate) rewritable: bool,
    /// Whether QEMU knows its holes.
    pub(crate) mapped: bool,
    /// The smallest disk that QEMU reads.
    pub(crate) smallest: u64,
    /// The options with which `qemu-img create -f … -o` makes the same; `None` if QEMU cannot.
    pub(crate) qemu: Option<&'static str>,
    /// Readers that share no code with QEMU or with us.
    pub(crate) readers: &'static [Reader],
}

/// The defaults of a row.
const USUAL: Row = Row {
    name: "",
    format: Format::Raw,
    subformat: None,
    compress: None,
    cluster_size: None,
    unit: 64 * KIB,
    rounds: sectors,
    largest: u64::MAX,
    checks: true,
    streams: false,
    rewritable: true,
    mapped: true,
    smallest: 0,
    qemu: Some(""),
    readers: &[],
};

const QCOW2: Row = Row {
    format: Format::Qcow2,
    // The L1 table has at most 2^22 entries, each for a table of 2^13 clusters of 64 KiB.
    largest: 2048 * TIB,
    readers: &[readers::IMAGO],
    ..USUAL
};

/// imago 0.2 does not know zstd.
const QCOW2_ZSTD: Row =
    Row { compress: Some("zstd"), readers: &[], qemu: Some("compression_type=zstd"), ..QCOW2 };

/// Blocks of 2 MiB. QEMU makes no more exact sizes than ours with force_size.
const VPC: Row = Row {
    format: Format::Vhd,
    unit: 2 * MIB,
    largest: 2040 * GIB,
    checks: false,
    readers: &[readers::VHD, readers::SEVEN_ZIP_VHD],
    ..USUAL
};

/// Blocks of 1 MiB up to 1 TiB.
const VHDX: Row = Row {
    format: Format::Vhdx,
    unit: MIB,
    rounds: |size| sectors(size).max(512),
    largest: 64 * TIB,
    smallest: 512,
    mapped: false,
    readers: &[readers::VHDX_CORE],
    ..USUAL
};

/// Readers of VMDK take a file without a sector for a descriptor, so the smallest disk has one sector.
const VMDK: Row = Row {
    format: Format::Vmdk,
    rounds: |size| sectors(size).max(512),
    // Less than 2^32 sectors.
    largest: 2 * TIB - 512,
    smallest: 512,
    readers: &[readers::VMDK_CORE, readers::SEVEN_ZIP_VMDK],
    ..USUAL
};

/// Blocks of 1 MiB, each with 4 bytes of a map that begins at 512 and ends a MiB before 4 GiB.
const VDI: Row = Row {
    format: Format::Vdi,
    unit: MIB,
    largest: 0x1fff_ff80 * MIB,
    readers: &[readers::SEVEN_ZIP_VDI],
    ..USUAL
};

/// The identity of the disks: seed and time are arbitrary but constant.
pub(crate) const IDENTITY: Identity = Identity {
    seed: Uuid::from_u128(0x0867_da16_f251_457d_a9e8_c31f_9a3c_220b),
    id: None,
    time: 1_700_000_000,
    sector_size: SectorSize::B512,
};

/// All of them.
pub(crate) const ROWS: &[Row] = &[
    // Raw is as long as it is; QEMU alone sees it in sectors.
    Row {
        name: "raw",
        rounds: |size| size,
        checks: false,
        streams: true,
        readers: &[readers::IMAGO_RAW],
        ..USUAL
    },
    Row { name: "qcow2", ..QCOW2 },
    // Clusters of 512 bytes: the L1 table reaches 128 GiB, a refcount block 128 KiB.
    Row {
        name: "qcow2-512",
        cluster_size: Some(512),
        unit: 512,
        largest: TIB / 8,
        qemu: Some("cluster_size=512"),
        ..QCOW2
    },
    Row {
        name: "qcow2-4k",
        cluster_size: Some(4 * KIB),
        unit: 4 * KIB,
        largest: 8 * TIB,
        qemu: Some("cluster_size=4k"),
        ..QCOW2
    },
    Row {
        name: "qcow2-2m",
        cluster_size: Some(2 * MIB),
        unit: 2 * MIB,
        largest: u64::MAX,
        qemu: Some("cluster_size=2M"),
        ..QCOW2
    },
    Row { name: "qcow2-zlib", compress: Some("zlib"), ..QCOW2 },
    Row {
        name: "qcow2-zlib-512",
        compress: Some("zlib"),
        cluster_size: Some(512),
        unit: 512,
        largest: TIB / 8,
        qemu: Some("cluster_size=512"),
        ..QCOW2
    },
    Row {
        name: "qcow2-zlib-2m",
        compress: Some("zlib"),
        cluster_size: Some(2 * MIB),
        unit: 2 * MIB,
        largest: u64::MAX,
        qemu: Some("cluster_size=2M"),
        ..QCOW2
    },
    Row { name: "qcow2-zstd", ..QCOW2_ZSTD },
    Row {
        name: "qcow2-zstd-4k",
        cluster_size: Some(4 * KIB),
        unit: 4 * KIB,
        largest: 8 * TIB,
        qemu: Some("cluster_size=4k,compression_type=zstd"),
        ..QCOW2_ZSTD
    },
    Row {
        name: "vpc",
        subformat: Some(Subformat::Dynamic),
        qemu: Some("subformat=dynamic,force_size=on"),
        ..VPC
    },
    Row {
        name: "vpc-fixed",
        subformat: Some(Subformat::Fixed),
        unit: MIB,
        rounds: mebibytes,
        qemu: Some("subformat=fixed,force_size=on"),
        ..VPC
    },
    Row { name: "vdi", ..VDI },
    Row { name: "vdi-static", subformat: Some(Subformat::Fixed), qemu: Some("static=on"), ..VDI },
    Row { name: "vmdk", ..VMDK },
    Row {
        name: "vmdk-stream",
        subformat: Some(Subformat::StreamOptimized),
        compress: Some("zlib"),
        // Less than 2^32 grains.
        largest: 256 * TIB - 64 * KIB,
        streams: true,
        rewritable: false,
        qemu: Some("subformat=streamOptimized"),
        ..VMDK
    },
    Row { name: "vhdx", ..VHDX },
    Row { name: "vhdx-fixed", subformat: Some(Subformat::Fixed), qemu: Some("subformat=fixed"), ..VHDX },
];

/// A size in whole sectors of 512 bytes, as QEMU counts all disks.
pub(crate) fn sectors(size: u64) -> u64 {
    size.next_multiple_of(512)
}

/// A size in whole MiBs, as Azure wants it, and at least one.
fn mebibytes(size: u64) -> u64 {
    size.next_multiple_of(MIB).max(MIB)
}

impl Row {
    /// How the library writes it.
    pub(crate) fn container(&self) -> Container {
        let settings = Settings {
            subformat: self.subformat,
            compress: self.compress.map(|name| name.parse().unwrap()),
            cluster_size: self.cluster_size.map(Bytes::new),
            ..Settings::default()
        };
        Container::new(self.format, &settings).unwrap()
    }

    /// The container as an image, if it is laid out before it is written.
    pub(crate) fn wrap(&self, image: &Image) -> Result<Image> {
        self.container().wrap(image, &IDENTITY)
    }

    /// The arguments with which the program writes it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--format".to_owned(), self.format.name().to_owned()];
        for (flag, value) in [
            ("--subformat", self.subformat.map(|subformat| subformat.to_string())),
            ("--compress", self.compress.map(str::to_owned)),
            ("--cluster-size", self.cluster_size.map(|size| Bytes::new(size).to_string())),
        ] {
            if let Some(value) = value {
                arguments.extend([flag.to_owned(), value]);
            }
        }
        arguments
    }

    /// Writes `image` to `path`.
    pub(crate) fn write(&self, image: &Image, path: &Path, jobs: usize) -> Result<()> {
        self.container().write(image, &IDENTITY, path, &PourOptions::new(jobs, &Progress::default()))
    }

    /// Opens the file; the format is recognised by the bytes if it has any of its own.
    pub(crate) fn open(&self, path: &Path) -> Result<Opened> {
        let format = (self.format == Format::Raw).then_some(Format::Raw);
        let opened = open(path, &OpenOptions { format, allow_backing: false })?;
        assert_eq!(opened.format, self.format, "{}", self.name);
        Ok(opened)
    }
}
