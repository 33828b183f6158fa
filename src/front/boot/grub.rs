//! GRUB for a BIOS, UEFI firmware or both. Its files are those of a folder of this machine, or those of the root.

use std::path::Path;
use std::sync::Arc;

use super::find::{Kernel, Release};
use super::{Loader, Making, Seat};
use crate::boot::Files;
use crate::boot::files::Content;
use crate::boot::grub::options::Options;
use crate::boot::grub::{self, Filesystem, Grub, Place, Search, bios, config};
use crate::boot::uki::Part;
use crate::disk::Payload;
use crate::disk::boot::{Code, Program};
use crate::error::{Error, Kind, Result};
use crate::front::loader::mkimage_on_path;
use crate::table::Scheme;
use crate::tree::Meta;
use crate::units::usize_of;

/// GRUB's name of the platform of a BIOS.
const BIOS: &str = "i386-pc";
/// Where a root has the files of GRUB, in a folder for each platform.
const INSIDE: &str = "/usr/lib/grub";

/// A GRUB, and the folder that it was unpacked to.
struct Found {
    grub: Grub,
    folder: Option<tempfile::TempDir>,
}

impl Making<'_> {
    pub(super) fn grub(&mut self, release: &Release, kernels: &[Kernel]) -> Result<()> {
        let plan = self.plan;
        let seat = plan.seat()?;
        let filesystem = seat
            .volume
            .of_grub()
            .ok_or_else(|| Error::bug("GRUB cannot read the filesystem of its files"))?;
        let path = if seat.above.is_empty() { "/" } else { seat.above };
        let place = Place { search: Search::Uuid(seat.volume.uuid.clone()), path: path.to_owned() };
        let entries = self.menu(seat, release, kernels)?;
        let mut options = Options::new(place.clone(), None);
        options.timeout = plan.wish.timeout;
        options.entry_options = format!("--class {}", release.id);
        let menu = config::menu(&entries, &options)?;
        self.files(seat, &menu, None)?;
        if plan.bios {
            self.grub_bios(seat, filesystem.clone(), path)?;
        }
        match plan.esp().cloned() {
            Some(esp) if plan.wish.loader == Loader::Grub => {
                let firmware = self.firmware(kernels)?;
                let found = self.find(&firmware.grub())?;
                let names = grub::efi::Names::default();
                let made =
                    grub::efi::build(&found.grub, firmware, &place, &filesystem, &names, self.progress)?;
                self.files(Seat { volume: &esp, above: "" }, &made.esp, Some(&found))?;
                self.files(seat, &made.files, Some(&found))
            }
            _ => Ok(()),
        }
    }

    fn grub_bios(&mut self, seat: Seat<'_>, filesystem: Filesystem, path: &str) -> Result<()> {
        let plan = self.plan;
        let found = self.find(BIOS)?;
        let table = if plan.scheme == Scheme::Mbr { bios::Table::Mbr } else { bios::Table::Gpt };
        let home = bios::Home { table, partition: seat.volume.slot, filesystem, path: path.to_owned() };
        let made = bios::make(&found.grub, &home, self.progress)?;
        self.files(seat, &made.files, Some(&found))?;
        self.booted.program = Some(Program { code: Code::Grub(made), partition: plan.core });
        Ok(())
    }

    /// Adds files of a loader to a filesystem. Those of a folder that goes away are read now.
    fn files(&mut self, seat: Seat<'_>, files: &Files, found: Option<&Found>) -> Result<()> {
        let unpacked = found.and_then(|found| found.folder.as_ref()).map(tempfile::TempDir::path);
        for (path, file) in files.iter() {
            let meta = Meta::root(file.mode, self.plan.time);
            let read = |path: &Path| {
                std::fs::read(path)
                    .map_err(|error| Error::io(Kind::Source, "cannot read a file of GRUB", path, error))
            };
            let payload = match &file.content {
                Content::Directory => Payload::Fallback { meta },
                Content::Symlink(to) => Payload::Symlink { to: to.clone(), meta },
                Content::Bytes(bytes) => Payload::Text { text: bytes.as_slice().into(), meta },
                Content::Host(path) if unpacked.is_some_and(|folder| path.starts_with(folder)) => {
                    Payload::Text { text: read(path)?.into(), meta }
                }
                Content::Host(path) if path.metadata().is_ok_and(|meta| meta.len() == 0) => {
                    Payload::Text { text: Arc::from([]), meta }
                }
                Content::Host(path) => {
                    Payload::Slice { slice: Part::from(path.clone()).whole("a file of GRUB")?, meta }
                }
            };
            self.add(seat.volume, format!("{}{path}", seat.above), payload);
        }
        Ok(())
    }

    /// The GRUB with the files of `platform`: that of the folder that is given, or that of the root, which is unpacked.
    fn find(&self, platform: &str) -> Result<Found> {
        let wish = &self.plan.wish;
        if let Some(folder) = &wish.grub {
            let beside = folder.join("../../bin/grub-mkimage").is_file();
            let mkimage = wish.grub_mkimage.clone().or_else(|| if beside { None } else { mkimage_on_path() });
            return Ok(Found { grub: Grub::new(folder, mkimage.as_deref())?, folder: None });
        }
        let inside = format!("{INSIDE}/{platform}");
        let names = self.view.names(&inside);
        if names.is_empty() {
            let package = if platform == BIOS { "grub-pc-bin" } else { "grub-efi-amd64-bin or its kin" };
            return Err(Error::new(Kind::Source, format!("there are no files of GRUB for {platform}"))
                .expected(format!("{inside} in the contents of the root"))
                .hint(format!("give a folder of this machine that holds {platform} by `grub`, such as /usr/lib/grub of Debian's {package}")));
        }
        let failed = |path: &Path, error| Error::io(Kind::Output, "cannot unpack GRUB", path, error);
        let temp = std::env::temp_dir();
        let folder = tempfile::tempdir().map_err(|error| failed(&temp, error))?;
        let below = folder.path().join(platform);
        std::fs::create_dir(&below).map_err(|error| failed(&below, error))?;
        for name in names {
            if let Some(slice) = self.view.file(&format!("{inside}/{name}"))? {
                let (path, length) = (below.join(name), usize_of(slice.length().get()));
                std::fs::write(&path, slice.bytes(0, length)?).map_err(|error| failed(&path, error))?;
            }
        }
        let mkimage = wish.grub_mkimage.clone().or_else(mkimage_on_path);
        let mkimage = mkimage.ok_or_else(|| {
            Error::new(Kind::Source, "grub-mkimage is not on this machine")
                .expected("it on PATH, or `grub_mkimage`")
                .hint("it is in Debian's grub-common and Fedora's grub2-tools")
        })?;
        Ok(Found { grub: Grub::new(folder.path(), Some(&mkimage))?, folder: Some(folder) })
    }
}
