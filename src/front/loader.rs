//! What boots a NixOS system that a front end names: the files of its loader, and what its unified kernel image is made of.

use std::path::{Path, PathBuf};

use crate::boot::bootspec::{Secrets, System};
use crate::boot::files::{Content, File};
use crate::boot::uki::Uki;
use crate::boot::{Files, Generations, systemd_boot};
use crate::disk::Payload;
use crate::error::{Error, Kind, Result, Warning};
use crate::nix::Store;
use crate::tree::xattr::Patterns;
use crate::tree::{Hardlinks, Meta, Rules, Time};

/// What a file of a loader brings to a filesystem; what is made here is dated `time`.
pub(super) fn payload(file: &File, time: Time) -> Payload {
    let meta = |mode| Meta::root(mode, time);
    match &file.content {
        Content::Directory => Payload::Fallback { meta: meta(file.mode) },
        Content::Bytes(bytes) => Payload::Text { text: bytes.as_slice().into(), meta: meta(file.mode) },
        Content::Symlink(to) => Payload::Symlink { to: to.clone(), meta: meta(0o777) },
        Content::Host(source) => {
            let rules = Rules {
                hardlinks: Hardlinks::Dissolve,
                mode: Some(file.mode),
                // Files of a store are dated 1970, before FAT's first day. The loader's copies are made
                // now, so they get the time of the disk.
                mtime: Some(time),
                ..Rules::default()
            };
            Payload::Source { path: source.clone(), rules, xattrs: Patterns::new(Vec::new()) }
        }
    }
}

/// grub-mkimage on PATH.
pub(super) fn mkimage_on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("grub-mkimage")).find(|program| program.is_file())
}

/// Where systemd keeps EFI programs in a toplevel.
const PROGRAMS: &str = "systemd/lib/systemd/boot/efi";

/// A system that is started, as its toplevel says it.
#[derive(Debug)]
pub(super) struct Started {
    store: Store,
    system: System,
}

impl Started {
    /// The system with this toplevel, in the store below the folder `root` of the host; the kernel is told `more` beside what
    /// the system says. What is remarkable is added to `warnings`.
    ///
    /// # Errors
    /// As [`System::read`] and [`System::check_init`].
    pub(super) fn read(
        root: &Path,
        toplevel: &Path,
        more: &str,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self> {
        let store = Store::new(root);
        let mut system = System::read(&store, toplevel, Secrets::Skip, warnings)?;
        system.check_init(&store)?;
        let more = || Some(more.to_owned()).filter(|more| !more.is_empty());
        system.kernel_params.extend(more());
        for variant in system.specialisations.values_mut() {
            variant.kernel_params.extend(more());
        }
        Ok(Self { store, system })
    }

    /// What its kernel is told.
    pub(super) fn command_line(&self) -> String {
        self.system.command_line()
    }

    /// A file or folder below its toplevel, on the host.
    fn below(&self, path: &str) -> Option<PathBuf> {
        self.store.resolve(&Path::new(&self.system.toplevel).join(path)).ok().map(|found| found.host)
    }

    /// Kernel, initrd, stub and os-release of the system, where `uki` does not name others; initrds of `uki` come behind.
    ///
    /// # Errors
    /// As [`System::firmware`]; [`Kind::Source`] for a system without stub.
    pub(super) fn complete(&self, uki: &mut Uki) -> Result<()> {
        if uki.kernel.is_missing() {
            uki.kernel = self.system.kernel.host.clone().into();
        }
        if let Some(initrd) = &self.system.initrd {
            uki.initrds.insert(0, initrd.host.clone().into());
        }
        if uki.stub.is_missing() {
            let name = format!("linux{}.efi.stub", self.system.firmware()?.efi());
            let stub = self.below(&format!("{PROGRAMS}/{name}")).ok_or_else(|| {
                Error::new(Kind::Source, "the systemd of the system has no stub for unified kernel images")
                    .expected(format!("{PROGRAMS}/{name} in the toplevel"))
                    .hint("name the stub; it is in lib/systemd/boot/efi of nixpkgs' systemd")
            })?;
            uki.stub = stub.into();
        }
        uki.os_release = uki.os_release.take().or_else(|| self.below("etc/os-release").map(Into::into));
        Ok(())
    }

    /// systemd-boot with kernel, initrd and entry of the system, dated `date`; `program` is that of the system's own systemd
    /// where it is not given.
    ///
    /// # Errors
    /// As [`System::firmware`] and [`systemd_boot::build`].
    pub(super) fn systemd_boot(
        &self,
        program: Option<&Path>,
        date: i64,
        warnings: &mut Vec<Warning>,
    ) -> Result<Files> {
        let firmware = self.system.firmware()?;
        let own = || self.below(PROGRAMS).and_then(|folder| systemd_boot::loader(&folder, firmware).ok());
        let program = program.map(Path::to_owned).or_else(own).ok_or_else(|| {
            Error::new(Kind::Source, "the system has no systemd-boot")
                .hint("name its EFI program; it is in lib/systemd/boot/efi of nixpkgs' systemd")
        })?;
        let generations = Generations::single(self.system.clone(), date);
        let trees = systemd_boot::build(&generations, &systemd_boot::Options::new(firmware, program), false)?;
        warnings.extend(trees.warnings);
        Ok(trees.esp)
    }
}
