//! Readers that share no code with QEMU or with us.

use std::path::Path;

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
    pub(crate) open: fn(&Path) -> Result<Box<dyn Disk>, String>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// imago for qcow2, without zstd. It opens no other file than the one named.
pub(crate) const IMAGO: Reader = Reader {
    name: "imago",
    open: |path| {
        let file = File::open(imago::storage::StorageOpenOptions::new().filename(path)).map_err(text)?;
        let open = imago::qcow2::Qcow2::<File>::builder(file).open(DenyImplicitOpenGate::default());
        Ok(Box::new(FormatAccess::new(open.map_err(text)?)))
    },
};

/// imago for raw disks.
pub(crate) const IMAGO_RAW: Reader = Reader {
    name: "imago",
    open: |path| {
        let open = imago::raw::Raw::<File>::builder_path(path).open(PermissiveImplicitOpenGate::default());
        Ok(Box::new(FormatAccess::new(open.map_err(text)?)))
    },
};

impl<S: Storage + 'static> Disk for FormatAccess<S> {
    fn size(&self) -> u64 {
        FormatAccess::size(self)
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<(), String> {
        FormatAccess::read(self, out, offset).map_err(text)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn text(error: std::io::Error) -> String {
    error.to_string()
}
