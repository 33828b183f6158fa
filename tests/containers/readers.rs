//! Readers that share no code with QEMU or with us.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use diskwright::units::{MIB, u64_of, usize_of};
use imago::file::File;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate, Storage};

/// A disk that some reader opened.
pub(crate) trait Disk {
    /// Bytes of the disk.
    fn size(&self) -> u64;
    /// Fills `out` from byte `offset` of the disk, which has them.
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<(), String>;
}

/// A reader: its name, and what opens a file with it.
#[derive(Clone, Copy)]
pub(crate) struct Reader {
    pub(crate) name: &'static str,
    /// The largest disk that it gets, because some readers hold all of it in memory.
    pub(crate) largest: u64,
    pub(crate) open: fn(&Path) -> Result<Box<dyn Disk>, String>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// imago for qcow2, without zstd. It opens only the named file.
pub(crate) const IMAGO: Reader = Reader {
    name: "imago",
    largest: u64::MAX,
    open: |path| {
        let file = File::open(imago::storage::StorageOpenOptions::new().filename(path)).map_err(text)?;
        let open = imago::qcow2::Qcow2::<File>::builder(file).open(DenyImplicitOpenGate::default());
        Ok(Box::new(FormatAccess::new(open.map_err(text)?)))
    },
};

/// imago for raw disks.
pub(crate) const IMAGO_RAW: Reader = Reader {
    name: "imago",
    largest: u64::MAX,
    open: |path| {
        let open = imago::raw::Raw::<File>::builder_path(path).open(PermissiveImplicitOpenGate::default());
        Ok(Box::new(FormatAccess::new(open.map_err(text)?)))
    },
};

/// vmdk-core for VMDK in one file.
pub(crate) const VMDK_CORE: Reader = Reader {
    name: "vmdk-core",
    largest: u64::MAX,
    open: |path| {
        let file = std::fs::File::open(path).map_err(text)?;
        Ok(Box::new(vmdk::VmdkReader::open(file).map_err(|error| error.to_string())?))
    },
};

impl Disk for vmdk::VmdkReader<std::fs::File> {
    fn size(&self) -> u64 {
        self.virtual_disk_size()
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<(), String> {
        seek_and_read(self, offset, out)
    }
}

/// vhdx-core for VHDX without a parent.
pub(crate) const VHDX_CORE: Reader = Reader {
    name: "vhdx-core",
    largest: u64::MAX,
    open: |path| Ok(Box::new(vhdx::VhdxReader::open(path).map_err(|error| error.to_string())?)),
};

impl Disk for vhdx::VhdxReader {
    fn size(&self) -> u64 {
        self.virtual_disk_size()
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<(), String> {
        seek_and_read(self, offset, out)
    }
}

/// Reads from a disk that is a stream with a position.
fn seek_and_read(disk: &mut (impl Read + Seek), offset: u64, out: &mut [u8]) -> Result<(), String> {
    disk.seek(SeekFrom::Start(offset)).map_err(text)?;
    disk.read_exact(out).map_err(text)
}

impl<S: Storage + 'static> Disk for FormatAccess<S> {
    fn size(&self) -> u64 {
        FormatAccess::size(self)
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<(), String> {
        FormatAccess::read(self, out, offset).map_err(text)
    }
}

/// The crate vhd, for dynamic and fixed disks. It reads whole files and ignores bitmaps.
pub(crate) const VHD: Reader = Reader {
    name: "vhd",
    largest: 64 * MIB,
    open: |path| match vhd::VhdReader::open(path) {
        Ok(reader) => Ok(Box::new(reader)),
        Err(error) => Err(error.to_string()),
    },
};

impl Disk for vhd::VhdReader {
    fn size(&self) -> u64 {
        self.virtual_disk_size()
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<(), String> {
        seek_and_read(self, offset, out)
    }
}

/// 7-Zip, which takes an image for an archive of one file, the disk. It uses bitmaps.
const fn seven_zip(open: fn(&Path) -> Result<Box<dyn Disk>, String>) -> Reader {
    Reader { name: "7-Zip", largest: 64 * MIB, open }
}

pub(crate) const SEVEN_ZIP_VHD: Reader = seven_zip(|path| extracted("VHD", path));
pub(crate) const SEVEN_ZIP_VDI: Reader = seven_zip(|path| extracted("VDI", path));
pub(crate) const SEVEN_ZIP_VMDK: Reader = seven_zip(|path| extracted("VMDK", path));
/// Version 26.02 does not accept an odd number of sectors: it tests one bit of the size and not those below
/// it.
pub(crate) const SEVEN_ZIP_VHDX: Reader = seven_zip(|path| extracted("VHDX", path));

/// The disk in the image `path`, as 7-Zip writes it to its standard output.
fn extracted(kind: &str, path: &Path) -> Result<Box<dyn Disk>, String> {
    let kind = format!("-t{kind}");
    let said = crate::tools::run(crate::tools::command("7zz").args(["e", "-so", "-bd", &kind]).arg(path));
    if said.code != 0 || !said.error().trim().is_empty() {
        return Err(format!("{}: {}", said.code, said.error()));
    }
    Ok(Box::new(said.out))
}

impl Disk for Vec<u8> {
    fn size(&self) -> u64 {
        u64_of(self.len())
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<(), String> {
        let from = usize_of(offset);
        out.copy_from_slice(self.get(from..from + out.len()).ok_or("past the end of the disk")?);
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn text(error: std::io::Error) -> String {
    error.to_string()
}
