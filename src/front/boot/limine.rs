//! Limine for UEFI firmware, a BIOS or both. Its files are those of a folder of this machine, or those of the root.

use super::find::{self, Kernel, Release};
use super::{Making, Seat};
use crate::boot::limine::{self, bios};
use crate::boot::uki::Part;
use crate::disk::boot::{Code, Program};
use crate::error::{Error, Kind, Result};
use crate::units::usize_of;

/// Where a root has the files of Limine.
const INSIDE: &str = "/usr/share/limine";
const HINT: &str = "give the folder that holds it by `limine`";

impl Making<'_> {
    pub(super) fn limine(&mut self, release: &Release, kernels: &[Kernel]) -> Result<()> {
        let plan = self.plan;
        if let Some(esp) = plan.esp() {
            let firmware = self.firmware(kernels)?;
            let given = plan.wish.limine.as_ref().map(|folder| folder.join(firmware.removable()));
            let inside = [format!("{INSIDE}/{}", firmware.removable())];
            let program = self.program(given.as_ref(), &inside, firmware, ("Limine", HINT))?;
            self.copy(esp, format!("/EFI/BOOT/{}", firmware.removable()), &program, "Limine")?;
        }
        let volume = plan.fat().ok_or_else(|| Error::bug("Limine has no place for its files"))?;
        if plan.bios {
            self.limine_bios()?;
            let part = self.part_of_limine(&[bios::THIRD_STAGE])?;
            self.copy(volume, format!("/{}", bios::THIRD_STAGE), &part, "Limine")?;
        }
        let entries = self.menu(Seat { volume, above: "" }, release, kernels)?;
        let payload = plan.text(&limine::menu(&entries, plan.wish.timeout)?, volume, 0o644)?;
        self.add(volume, "/limine.conf", payload);
        Ok(())
    }

    fn limine_bios(&mut self) -> Result<()> {
        let part = self.part_of_limine(&bios::NAMES)?;
        let slice = part.whole("Limine")?;
        let name = match &part {
            Part::Host(path) => path.to_string_lossy(),
            Part::Inside { path, .. } => path.into(),
        };
        // What is longer is none, and says so.
        let length = slice.length().get().min(bios::LARGEST);
        let image = bios::Image::new(&name, slice.bytes(0, usize_of(length))?);
        let image = image.map_err(|error| part.place(error))?;
        self.booted.program = Some(Program { code: Code::Limine(image), partition: self.plan.core });
        Ok(())
    }

    /// A file of Limine with the first of `names` that is there.
    fn part_of_limine(&self, names: &[&str]) -> Result<Part> {
        let folder = self.plan.wish.limine.as_ref();
        for name in names {
            let found = match folder {
                Some(folder) => Some(folder.join(name)).filter(|path| path.is_file()).map(Part::from),
                None => find::part(self.view, &format!("{INSIDE}/{name}"))?,
            };
            if let Some(part) = found {
                return Ok(part);
            }
        }
        let error = Error::new(Kind::Source, "there is no Limine for a BIOS");
        Err(match folder {
            Some(folder) => error.expected(names.join(" or ")).at(folder),
            None => error.expected(format!("{} in {INSIDE} of the contents of the root", names.join(" or "))),
        }
        .hint("a build of Limine has both, its releases have the array in C; or give the folder by `limine`"))
    }
}
