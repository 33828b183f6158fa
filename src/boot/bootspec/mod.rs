//! What boots: a [`System`], read from a toplevel's `boot.json` (NixOS RFC 125, version 1). Without that file
//! it is read from the other files in the toplevel.

mod files;
mod json;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use super::architecture::{self, Firmware};
use super::source::Source;
use crate::error::{Error, Kind, Result, Warning};
use crate::nix::Store;
use crate::text::printable;

/// What a boot loader must know about a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// The store path of the toplevel.
    pub toplevel: String,
    /// Nix's name of the platform: `x86_64-linux`.
    pub system: String,
    /// For people: `NixOS 21.11 (Linux 5.15.30)`.
    pub label: String,
    /// The program that the initrd starts.
    pub init: String,
    /// The kernel.
    pub kernel: Source,
    /// The initrd; optional.
    pub initrd: Option<Source>,
    /// Parameters of the kernel, without `init=`.
    pub kernel_params: Vec<String>,
    /// The key by which systemd-boot sorts entries.
    pub sort_key: String,
    /// The device tree that systemd-boot loads.
    pub devicetree: Option<Source>,
    /// Further initrds, as paths on the boot filesystem; something else puts them there.
    pub extra_initrds: Vec<String>,
    /// The directory of all device trees, for extlinux.
    pub dtbs: Option<Source>,
    /// The hypervisor, for GRUB.
    pub xen: Option<Xen>,
    /// The text of `nixos-version`, or else the version of the kernel.
    pub version: String,
    /// The text of `configuration-name`, for GRUB.
    pub configuration_name: Option<String>,
    /// Variants of this system, by name.
    pub specialisations: BTreeMap<String, System>,
}

/// A hypervisor that is started before the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xen {
    /// `xen.gz`.
    pub kernel: Source,
    /// Its parameters.
    pub params: String,
}

/// How to treat secrets that a program of the system would put into its initrd. That program needs the
/// system's own processor, and reads the secrets from the system's own disk, so it cannot run here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Secrets {
    /// Such a system is an error.
    #[default]
    Refuse,
    /// The initrd is used without them, with a warning.
    Skip,
}

impl System {
    /// Reads the system whose toplevel is at `toplevel`, a path of the store or a link to one.
    ///
    /// # Errors
    /// [`Kind::Source`] for a toplevel that does not exist, a `boot.json` of another version than 1, a file that is
    /// missing or outside the store, and, under [`Secrets::Refuse`], for an initrd that wants secrets.
    pub fn read(
        store: &Store,
        toplevel: &Path,
        secrets: Secrets,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self> {
        let top = Source::find(store, toplevel)?;
        let mut reader = Reader { store, secrets, warnings };
        if let Some(document) = top.below(store, "boot.json")? {
            if let Some(system) = json::read(&mut reader, &top, &document)? {
                return Ok(system);
            }
            reader.warnings.push(Warning(format!(
                "{}/boot.json has no version; what boots is read from the files beside it",
                printable(top.path.as_bytes())
            )));
        }
        files::read(&mut reader, &top)
    }

    /// Checks that the program which the initrd starts exists, for this system and its specialisations.
    ///
    /// # Errors
    /// As [`Source::find`].
    pub fn check_init(&self, store: &Store) -> Result<()> {
        Source::find(store, Path::new(&self.init)).map_err(|error| {
            let top = store.host_of(Path::new(&self.toplevel));
            let init = printable(self.init.as_bytes());
            error.at(top).expected(format!("the first program that the system names: {init}"))
        })?;
        self.specialisations.values().try_for_each(|system| system.check_init(store))
    }

    /// `init=` and the parameters of the kernel, joined by blanks.
    #[must_use]
    pub fn command_line(&self) -> String {
        let init = std::iter::once(format!("init={}", self.init));
        init.chain(self.kernel_params.iter().cloned()).collect::<Vec<_>>().join(" ")
    }

    /// The firmware that its EFI programs are for.
    ///
    /// # Errors
    /// [`Kind::Source`] for a system that does not say its processor, and for a processor without EFI.
    pub fn firmware(&self) -> Result<Firmware> {
        match architecture::of_system(&self.system)? {
            Some(architecture) => Firmware::of(architecture),
            None => Err(Error::new(Kind::Source, "the system does not say for which processor it is")
                .expected("a file `system`, or the field `system` of boot.json, such as x86_64-linux")),
        }
    }

    /// The name of the toplevel in the store: `HASH-nixos-system-NAME-VERSION`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.toplevel.rsplit('/').next().unwrap_or(&self.toplevel)
    }
}

/// What all readers need.
#[derive(Debug)]
struct Reader<'a> {
    store: &'a Store,
    secrets: Secrets,
    warnings: &'a mut Vec<Warning>,
}

impl Reader<'_> {
    /// Handles an initrd of `top` to which `program` would append secrets.
    fn secrets(&mut self, top: &Source, program: &str) -> Result<()> {
        if !self.appends(program) {
            return Ok(());
        }
        match self.secrets {
            Secrets::Refuse => Err(Error::new(Kind::Source, "the initrd wants secrets, which are not here")
                .at(&top.host)
                .found(format!("the program that would append them: {}", printable(program.as_bytes())))
                .why("it has to run on the system itself, where the secrets are")
                .hint("boot.initrd.secrets has to be empty, or the secrets are to be skipped")),
            Secrets::Skip => {
                self.warnings.push(Warning(format!(
                    "the initrd of {} is written without its secrets: {} has to append them",
                    printable(top.path.as_bytes()),
                    printable(program.as_bytes())
                )));
                Ok(())
            }
        }
    }

    /// Whether `program` appends anything. Every NixOS has such a program. If `boot.initrd.secrets` is empty,
    /// the one of nixpkgs (`system/boot/stage-1.nix`) has an `exit 0` on a line of its own. A program that
    /// cannot be read may append something.
    fn appends(&self, program: &str) -> bool {
        let text = self.file(program, "program").and_then(|file| file.text());
        !text.is_ok_and(|text| text.lines().any(|line| line == "exit 0"))
    }

    /// A file at `path` of the system.
    fn file(&self, path: &str, what: &str) -> Result<Source> {
        Source::find(self.store, Path::new(path))?.file(what)
    }

    /// The text of the file `name` in `folder`, without one final newline, if there is such a file.
    fn text(&self, folder: &Source, name: &str) -> Result<Option<String>> {
        let Some(file) = folder.below(self.store, name)? else { return Ok(None) };
        let text = file.clone().file(name)?.text()?;
        line(text.strip_suffix('\n').unwrap_or(&text), name, &file.host).map(|text| Some(text.to_owned()))
    }

    /// The version of the kernel: the first name under `lib/modules` in the toplevel's `kernel-modules`, or beside the
    /// kernel.
    fn kernel_version(&self, top: &Source, kernel: &Source) -> Result<Option<String>> {
        let beside = Path::new(&kernel.path).parent().and_then(Path::to_str).unwrap_or("/").to_owned();
        let own = top.below(self.store, "kernel-modules")?;
        // A kernel that is a store object itself has no files beside it.
        let beside = Some(beside).filter(|path| path.len() >= super::source::STORE.len());
        let beside = beside.map(|path| Source::find(self.store, Path::new(&path))).transpose()?;
        for folder in [own, beside].into_iter().flatten() {
            if let Some(modules) = folder.below(self.store, "lib/modules")?
                && let Some(name) = modules.names()?.into_iter().next()
            {
                return line(&name, "the kernel's version", &modules.host).map(|name| Some(name.to_owned()));
            }
        }
        Ok(None)
    }

    /// The version for menus, and the label of a system that has none.
    fn version(&self, top: &Source, kernel: &Source) -> Result<String> {
        match self.text(top, "nixos-version")? {
            Some(version) => Ok(version),
            None => Ok(self.kernel_version(top, kernel)?.unwrap_or_default()),
        }
    }

    /// The hypervisor of a toplevel, if it has one.
    fn xen(&self, top: &Source) -> Result<Option<Xen>> {
        let Some(kernel) = top.below(self.store, "xen.gz")? else { return Ok(None) };
        let params = self.text(top, "xen-params")?.unwrap_or_default();
        Ok(Some(Xen { kernel: kernel.file("hypervisor")?, params }))
    }

    /// The directory of device trees of a toplevel, if it has one.
    fn dtbs(&self, top: &Source) -> Result<Option<Source>> {
        Ok(top.below(self.store, "dtbs")?.filter(|dtbs| dtbs.host.is_dir()))
    }
}

/// `text`, which must be one line: it becomes part of a line in a boot loader's files, where a newline would
/// begin another. `what` it is and the `file` it comes from are for errors.
fn line<'a>(text: &'a str, what: &str, file: &Path) -> Result<&'a str> {
    if text.chars().any(char::is_control) {
        return Err(Error::new(Kind::Source, format!("{what} holds a control character"))
            .at(file)
            .expected("one line of text")
            .found(printable(text.as_bytes())));
    }
    Ok(text)
}
