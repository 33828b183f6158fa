//! Modules of a kernel, in the order in which they are loaded (modules.dep(5), depmod(8)).

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::archive::uncompressed;
use crate::error::{Error, Kind, Result};

/// A kernel's folder of modules.
#[derive(Debug)]
pub(super) struct Modules {
    folder: PathBuf,
    /// Files with the files that each depends on.
    files: Vec<(String, Vec<String>)>,
    builtin: Vec<String>,
}

/// The name of a module, from its file: without suffixes, and with `_` for `-`, which are one in names of modules.
fn name(file: &str) -> Option<String> {
    let last = file.rsplit('/').next()?;
    let (name, suffix) = last.split_once(".ko")?;
    matches!(suffix, "" | ".gz" | ".xz" | ".zst").then(|| name.replace('-', "_"))
}

impl Modules {
    /// Reads the lists of a folder; `None` if it is no folder of modules.
    pub(super) fn open(folder: &Path) -> Option<Self> {
        let list = std::fs::read_to_string(folder.join("modules.dep")).ok()?;
        let files = list.lines().filter_map(|line| line.split_once(':'));
        let files = files
            .map(|(file, others)| (file.to_owned(), others.split_whitespace().map(str::to_owned).collect()))
            .collect();
        // A kernel without modules of its own need not have the list.
        let builtin = std::fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        let builtin = builtin.lines().filter_map(name).collect();
        Some(Self { folder: folder.to_owned(), files, builtin })
    }

    /// The release of the kernel, which its folder is named by.
    pub(super) fn release(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn find(&self, wanted: &str) -> Option<&(String, Vec<String>)> {
        self.files.iter().find(|(file, _)| name(file).as_deref() == Some(wanted))
    }

    /// Whether the kernel has a module, as a file or in itself.
    pub(super) fn has(&self, wanted: &str) -> bool {
        self.builtin.iter().any(|builtin| builtin == wanted) || self.find(wanted).is_some()
    }

    /// The files of modules and of all that they depend on, dependencies first: their names and bytes.
    ///
    /// # Errors
    /// [`Kind::Source`] for a module that the kernel does not have, or that cannot be read.
    pub(super) fn load(&self, names: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut order: Vec<&str> = Vec::new();
        for wanted in names {
            let Some((file, others)) = self.find(wanted) else {
                if self.has(wanted) {
                    continue;
                }
                return Err(
                    Error::new(Kind::Source, format!("the kernel has no module {wanted}")).at(&self.folder)
                );
            };
            // "a.ko: b.ko c.ko": c before b before a.
            for file in others.iter().rev().chain([file]) {
                if !order.contains(&file.as_str()) {
                    order.push(file);
                }
            }
        }
        order.into_iter().map(|file| Ok((name(file).unwrap_or_default(), self.read(file)?))).collect()
    }

    /// The bytes of a module, which may be compressed.
    fn read(&self, file: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(file);
        let failed = |error| Error::io(Kind::Source, "cannot read a module of the kernel", &path, error);
        let packed = std::fs::read(&path).map_err(failed)?;
        let mut bytes = Vec::new();
        uncompressed(packed)?.read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_behind_what_they_need() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write(
            "modules.dep",
            b"extra/zfs.ko.gz: extra/icp.ko extra/spl.ko\nextra/spl.ko:\nextra/icp.ko: extra/spl.ko\n",
        );
        write("modules.builtin", b"kernel/drivers/virtio/virtio-blk.ko\n");
        std::fs::create_dir(folder.path().join("extra")).unwrap();
        write("extra/spl.ko", b"spl");
        write("extra/icp.ko", b"icp");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, b"zfs").unwrap();
        write("extra/zfs.ko.gz", &packed.finish().unwrap());
        let modules = Modules::open(folder.path()).unwrap();
        let loaded = modules.load(&["virtio_blk", "zfs"]).unwrap();
        let named: Vec<(&str, &[u8])> =
            loaded.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        assert_eq!(named, [("spl", b"spl".as_slice()), ("icp", b"icp"), ("zfs", b"zfs")]);
        assert!(modules.has("virtio_blk") && !modules.has("erofs"));
        let error = modules.load(&["erofs"]).unwrap_err().to_string();
        assert!(error.contains("no module erofs"), "{error}");
        assert!(Modules::open(&folder.path().join("extra")).is_none());
    }
}
