//! What boots, as the section `[X-Diskwright]` says it: texts and unified kernel images with the root hashes of the same disk,
//! and the loader, kernel and entry of a NixOS system. systemd-repart needs a second run and a program between for that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Options;
use super::body::{Filled, Making};
use super::definition::{Definition, Line};
use super::verity::Member;
use crate::boot::files::Content;
use crate::boot::uki::Uki;
use crate::disk::verity::ROOT_HASH;
use crate::disk::{Payload, Piece};
use crate::error::{Error, Kind, Result, Warning};
use crate::front::loader::{self, Started};
use crate::tree::Meta;

/// The keys that are about it.
pub(super) const KEYS: [&str; 10] = [
    "Template",
    "NixSystem",
    "BootLoader",
    "SystemdBoot",
    "CommandLine",
    "UkiTarget",
    "UkiStub",
    "UkiKernel",
    "UkiInitrd",
    "UkiOsRelease",
];

/// What the section says of what boots.
#[derive(Clone, Debug, Default)]
pub(super) struct Boot {
    /// Texts of the host, and where they go.
    templates: Vec<(PathBuf, String, Line)>,
    /// The toplevel of a NixOS system, a path of the store.
    system: Option<PathBuf>,
    /// Whether systemd-boot starts it.
    systemd_boot: bool,
    /// The program of systemd-boot.
    loader: Option<PathBuf>,
    /// What the kernel is told beside what the system says.
    command_line: String,
    /// Where a unified kernel image goes.
    target: Option<String>,
    stub: Option<PathBuf>,
    kernel: Option<PathBuf>,
    initrds: Vec<PathBuf>,
    os_release: Option<PathBuf>,
}

impl Boot {
    /// Takes one assignment of [`KEYS`].
    ///
    /// # Errors
    /// [`Kind::Manifest`] for a bad value.
    pub(super) fn take(&mut self, key: &str, value: &str, line: &Line, options: &Options) -> Result<()> {
        let refuse = |expected: &str| {
            Error::new(Kind::Manifest, format!("{key}= has no such value")).expected(expected)
        };
        let path = || match value.starts_with('/') {
            true => options.inside_root(value),
            false => Err(refuse("an absolute path")),
        };
        match key {
            "Template" => {
                let fields = super::value::fields(value, false).unwrap_or_default();
                let Some([source, target]) = <[String; 2]>::try_from(fields)
                    .ok()
                    .filter(|both| both.iter().all(|path| path.starts_with('/')))
                else {
                    return Err(refuse("SOURCE:TARGET, both absolute"));
                };
                self.templates.push((options.inside_source(&source)?, target, line.clone()));
            }
            "NixSystem" if value.starts_with('/') => self.system = Some(PathBuf::from(value)),
            "NixSystem" => return Err(refuse("a path of the store")),
            "BootLoader" => {
                self.systemd_boot = match value {
                    "systemd-boot" => true,
                    "none" | "" => false,
                    _ => return Err(refuse("systemd-boot or none")),
                }
            }
            "SystemdBoot" => self.loader = Some(path()?),
            "CommandLine" => value.clone_into(&mut self.command_line),
            "UkiTarget" if value.starts_with('/') => self.target = Some(value.to_owned()),
            "UkiTarget" => return Err(refuse("an absolute path in the partition")),
            "UkiStub" => self.stub = Some(path()?),
            "UkiKernel" => self.kernel = Some(path()?),
            "UkiInitrd" => self.initrds.push(path()?),
            "UkiOsRelease" => self.os_release = Some(path()?),
            _ => return Err(Error::bug(format!("{key} is no key of what boots"))),
        }
        Ok(())
    }

    /// Whether it brings something.
    pub(super) fn populates(&self) -> bool {
        !self.templates.is_empty() || self.systemd_boot || self.target.is_some()
    }

    /// Adds what it brings to a filesystem.
    ///
    /// # Errors
    /// [`Kind::Source`] for what cannot be read and what cannot boot, [`Kind::Manifest`] for what is missing, and for a root
    /// hash that is not of this disk.
    pub(super) fn fill(
        &self,
        definition: &Definition,
        making: &Making<'_>,
        filled: &mut Filled,
    ) -> Result<()> {
        let value = |key: &str| making.root_hash(key);
        for (source, target, line) in &self.templates {
            let placed = |error: Error| line.blame(error);
            let text = std::fs::read(source)
                .map_err(|error| placed(Error::io(Kind::Source, "cannot read the text", source, error)))?;
            let text = String::from_utf8(text).map_err(|_| {
                placed(
                    Error::new(Kind::Source, "the text is not UTF-8")
                        .at(source)
                        .hint("CopyFiles= copies any bytes"),
                )
            })?;
            let pieces = Piece::split(&text, value).map_err(placed)?.into();
            let payload = Payload::Template { pieces, meta: Meta::root(0o644, making.time()) };
            filled.add(target, payload, Some(line.clone()));
        }
        let started = self.started(definition, making, filled)?;
        if self.systemd_boot {
            self.entries(definition, making, started.as_ref(), filled)?;
        }
        if let Some(target) = &self.target {
            let (uki, line) = self.image(definition, started.as_ref())?;
            let pieces =
                Piece::split(&line, value).map_err(|error| definition.place(error, "CommandLine"))?;
            let meta = Meta::root(0o644, making.time());
            let payload = Payload::Uki { uki: Arc::new(uki), command_line: pieces.into(), meta };
            filled.add(target, payload, definition.lines.get("UkiTarget").cloned());
        }
        Ok(())
    }

    /// The system that boots, with what it is told here.
    fn started(
        &self,
        definition: &Definition,
        making: &Making<'_>,
        filled: &mut Filled,
    ) -> Result<Option<Started>> {
        let Some(toplevel) = &self.system else { return Ok(None) };
        let root = making.options.root.as_deref().unwrap_or(Path::new("/"));
        let mut warnings = Vec::new();
        let started = Started::read(root, toplevel, &self.command_line, &mut warnings);
        filled.warnings.extend(warnings.into_iter().map(|Warning(text)| text));
        started.map(Some).map_err(|error| definition.place(error, "NixSystem"))
    }

    /// systemd-boot with kernel, initrd and an entry.
    fn entries(
        &self,
        definition: &Definition,
        making: &Making<'_>,
        started: Option<&Started>,
        filled: &mut Filled,
    ) -> Result<()> {
        let place = |error: Error| definition.place(error, "BootLoader");
        let started = started.ok_or_else(|| {
            place(Error::new(Kind::Manifest, "there is no system that systemd-boot could start"))
                .expected("NixSystem=")
        })?;
        let mut warnings = Vec::new();
        let date = making.time().seconds;
        let files = started.systemd_boot(self.loader.as_deref(), date, &mut warnings).map_err(place)?;
        filled.warnings.extend(warnings.into_iter().map(|Warning(text)| text));
        for (target, file) in files.iter() {
            let text = match &file.content {
                Content::Bytes(bytes) => {
                    std::str::from_utf8(bytes).ok().filter(|text| text.contains("{roothash:"))
                }
                _ => None,
            };
            let payload = match text {
                Some(text) => {
                    let pieces = Piece::split(text, |key| making.root_hash(key));
                    let pieces = pieces.map_err(|error| definition.place(error, "CommandLine"))?.into();
                    Payload::Template { pieces, meta: Meta::root(file.mode, making.time()) }
                }
                None => loader::payload(file, making.time()),
            };
            filled.add(target, payload, definition.lines.get("BootLoader").cloned());
        }
        Ok(())
    }

    /// A unified kernel image without its command line, and that.
    fn image(&self, definition: &Definition, started: Option<&Started>) -> Result<(Uki, String)> {
        let mut uki = Uki {
            stub: self.stub.clone().unwrap_or_default().into(),
            kernel: self.kernel.clone().unwrap_or_default().into(),
            initrds: self.initrds.iter().cloned().map(Into::into).collect(),
            os_release: self.os_release.clone().map(Into::into),
            ..Uki::default()
        };
        if let Some(started) = started {
            started.complete(&mut uki).map_err(|error| definition.place(error, "UkiTarget"))?;
            return Ok((uki, started.command_line()));
        }
        for (key, given) in [("UkiStub", &self.stub), ("UkiKernel", &self.kernel)] {
            if given.is_none() {
                let error = Error::new(Kind::Manifest, format!("the unified kernel image has no {key}="));
                let hint = "NixSystem= brings kernel, initrd, stub and command line";
                return Err(definition.place(error, "UkiTarget").hint(hint));
            }
        }
        Ok((uki, self.command_line.clone()))
    }
}

impl Making<'_> {
    /// The root hash of the set with this VerityMatchKey=: a value that is known when the hashes are, or before there are
    /// places a text that is as long.
    fn root_hash(&self, key: &str) -> Result<Piece> {
        let Some(sets) = self.sets else {
            // SHA-256 in hexadecimal digits.
            return Ok(Piece::Bytes([b'0'; 64].as_slice().into()));
        };
        match sets.get(key).map(|set| set.hash) {
            Some(Member::New(of)) => Ok(Piece::Value { of, value: ROOT_HASH }),
            _ => Err(Error::new(Kind::Manifest, format!("the root hash of {key} is not known"))
                .expected("a VerityMatchKey= whose hashes are made now")
                .found(match sets.keys().map(String::as_str).collect::<Vec<_>>().join(", ") {
                    none if none.is_empty() => "no Verity=hash".to_owned(),
                    keys => keys,
                })),
        }
    }
}
