//! What the command line of systemd-repart says, as far as it is about files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ddi::Ddi;
use super::inside;
use super::kind::Kind;
use super::level::Level;
use super::section::Sections;
use super::torito::ElTorito;
use super::verity::Signing;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::front::Dates;
use crate::identity::Seed;
use crate::key::KeyPath;
use crate::table::Architecture;
use crate::tree::Owner;
use crate::tree::xattr::Patterns;
use crate::units::Bytes;

/// What the command line of systemd-repart says, as far as it is about files.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which release is imitated.
    pub level: Level,
    /// The image, which is made, or which exists and is worked on.
    pub image: PathBuf,
    /// Folders with definitions.
    pub definitions: Vec<PathBuf>,
    /// Definitions that are in no file, by their names without `.conf`; each hides files of its name.
    pub written: BTreeMap<String, Sections>,
    /// The kind of image whose definitions are built in, in place of all others.
    pub ddi: Option<Ddi>,
    /// What paths in definitions are below, and where else definitions are looked for.
    pub root: Option<PathBuf>,
    /// What the sources of `CopyFiles=` are below instead.
    pub copy_source: Option<PathBuf>,
    /// Images whose partitions are copied, before all definitions.
    pub copy_from: Vec<PathBuf>,
    /// What ids derive from.
    pub seed: Seed,
    /// What an image is made of, and what may be there already.
    pub empty: Empty,
    /// How large the image is at least.
    pub size: Size,
    /// Bytes in a logical sector of the disk: 512, 1024, 2048 or 4096.
    pub sector_size: Option<u32>,
    /// What starts and sizes are multiples of.
    pub grain: Option<u32>,
    /// The processor of the types that depend on one, whatever definitions say.
    pub architecture: Option<Architecture>,
    /// The processor of such types without one, where `architecture` names none.
    pub native: Option<Architecture>,
    /// The types that are looked at; empty for all.
    pub include: Vec<String>,
    /// The types that are not looked at.
    pub exclude: Vec<String>,
    /// The types that get a place and are not written.
    pub defer: Vec<String>,
    /// Whether empty slots are deferred.
    pub defer_empty: bool,
    /// Whether what a factory reset removes is deferred.
    pub defer_factory_reset: bool,
    /// Whether existing partitions that are marked so are removed first.
    pub factory_reset: bool,
    /// Whether partitions are written to files of their own too.
    pub split: bool,
    /// The ISO 9660 in front of the partitions, where there is one.
    pub el_torito: Option<ElTorito>,
    /// Who signs root hashes.
    pub signing: Signing,
    /// The filesystem in place of every one that definitions name (`SYSTEMD_REPART_OVERRIDE_FSTYPE`).
    pub filesystem: Option<String>,
    /// Who owns what is copied.
    pub owner: Owner,
    /// Which extended attributes of what is copied are kept.
    pub xattrs: Patterns,
    /// The time of everything without a time of its own, in seconds since 1970, in place of `epoch`.
    pub time: Option<i64>,
    /// SOURCE_DATE_EPOCH. Where it is given, files are not later than the time.
    pub epoch: Option<i64>,
    /// Whether what systemd only tells is an error.
    pub strict: bool,
    /// Whether what systemd writes by mistake is written too.
    pub faithful: bool,
}

/// What may be there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Empty {
    /// There has to be an image with a GPT.
    #[default]
    Refuse,
    /// There has to be an image, with a GPT or without.
    Allow,
    /// There has to be an image without a table.
    Require,
    /// There has to be an image, and what is on it is lost.
    Force,
    /// A new image is made.
    Create,
}

/// How large an image is at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// As large as it is.
    #[default]
    Given,
    /// As large as the least sizes of its partitions together.
    Auto,
    /// This, rounded up to 4096 bytes.
    Fixed(Bytes),
}

impl Options {
    /// Those of an image that is made anew, as small as its partitions.
    #[must_use]
    pub fn new(image: PathBuf, seed: Seed) -> Self {
        Self {
            level: Level::default(),
            image,
            definitions: Vec::new(),
            written: BTreeMap::new(),
            ddi: None,
            root: None,
            copy_source: None,
            copy_from: Vec::new(),
            seed,
            empty: Empty::Create,
            size: Size::Auto,
            sector_size: None,
            grain: None,
            architecture: None,
            native: host(),
            include: Vec::new(),
            exclude: Vec::new(),
            defer: Vec::new(),
            defer_empty: false,
            defer_factory_reset: false,
            factory_reset: false,
            split: false,
            el_torito: None,
            signing: Signing::default(),
            filesystem: None,
            owner: Owner::Root,
            xattrs: Patterns::default(),
            time: None,
            epoch: None,
            strict: false,
            faithful: false,
        }
    }

    /// The processor of types without one: that which was given, or else that of the host, as systemd has it.
    pub(super) fn native(&self) -> Option<Architecture> {
        self.architecture.or(self.native)
    }

    /// The image as systemd calls it: one that is there by the name that the kernel gives it.
    pub(super) fn node(&self) -> PathBuf {
        let there = self.empty != Empty::Create;
        let real = there.then(|| self.image.canonicalize().ok()).flatten();
        real.unwrap_or_else(|| self.image.clone())
    }

    /// The times of what is made.
    pub(super) fn dates(&self) -> Dates {
        Dates::new(self.time, self.epoch)
    }

    /// A path of the definitions on this host, with its links followed inside the root.
    ///
    /// # Errors
    /// As [`inside::settled`].
    pub(super) fn inside_root(&self, path: &str) -> Result<PathBuf> {
        inside::settled(self.root.as_deref(), path)
    }

    /// A source of `CopyFiles=` on this host, with its links followed inside the tree that is copied.
    ///
    /// # Errors
    /// As [`inside::settled`].
    pub(super) fn inside_source(&self, path: &str) -> Result<PathBuf> {
        inside::settled(self.source(), path)
    }

    /// A source of `CopyFiles=` on this host, as it is written.
    pub(super) fn below_source(&self, path: &str) -> PathBuf {
        inside::below(self.source(), path)
    }

    /// What the sources of `CopyFiles=` are below.
    pub(super) fn source(&self) -> Option<&Path> {
        self.copy_source.as_deref().or(self.root.as_deref())
    }

    /// A definition as systemd names it: one that was found below the root by its path there.
    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        let root = self.root.as_ref().filter(|_| self.definitions.is_empty());
        let root = root.and_then(|root| std::path::absolute(root).ok());
        let below = root.and_then(|root| path.strip_prefix(root).map(Path::to_owned).ok());
        below.unwrap_or_else(|| path.to_owned())
    }

    /// Whether partitions of a type are passed over.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a name in a list that is no type.
    pub(super) fn leaves_out(&self, kind: &Kind) -> Result<bool> {
        let excluded = self.lists(&self.exclude, kind, "exclude_partitions")?;
        let included = self.include.is_empty() || self.lists(&self.include, kind, "include_partitions")?;
        Ok(excluded || !included)
    }

    /// Whether partitions of a type get a place and are not written.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a name in the list that is no type.
    pub(super) fn defers(&self, kind: &Kind) -> Result<bool> {
        self.lists(&self.defer, kind, "defer_partitions")
    }

    fn lists(&self, list: &[String], kind: &Kind, option: &'static str) -> Result<bool> {
        let kinds = list.iter().map(|name| {
            Kind::parse(name, self.native())
                .map_err(|error| error.with_kind(ErrorKind::Usage).at_key(&option_key(option)))
        });
        Ok(kinds.collect::<Result<Vec<_>>>()?.iter().any(|listed| listed.guid == kind.guid))
    }

    /// Refuses what does not go together.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`], naming the option.
    pub(super) fn check(&self) -> Result<()> {
        let usage = |what: &str, option| Error::new(ErrorKind::Usage, what).at_key(&option_key(option));
        if !self.include.is_empty() && !self.exclude.is_empty() {
            return Err(usage("types are either included or excluded", "include_partitions")
                .at_key(&option_key("exclude_partitions")));
        }
        if let Some(sector) = self.sector_size
            && !matches!(sector, 512 | 1024 | 2048 | 4096)
        {
            return Err(usage("no disk has sectors of this size", "sector_size")
                .expected("512, 1024, 2048 or 4096")
                .found(sector));
        }
        if let Some(grain) = self.grain
            && !(grain.is_power_of_two() && grain >= self.sector_size.unwrap_or(512))
        {
            return Err(usage("places cannot be multiples of that", "grain_size")
                .expected("a power of two that is at least the sector")
                .found(grain));
        }
        if self.ddi.is_some() && !(self.definitions.is_empty() && self.written.is_empty()) {
            return Err(usage("an image of that kind has definitions of its own", "definitions"));
        }
        if self.ddi.is_some() && self.copy_source.is_none() {
            return Err(usage("there is no tree to make the image of", "copy_source"));
        }
        if let Some(el_torito) = &self.el_torito {
            el_torito.check()?;
        }
        // `-` names no image: what it would be made of is only measured, and has no table that a reset could be about.
        let anew = matches!(self.empty, Empty::Require | Empty::Force | Empty::Create);
        if self.factory_reset && anew && self.image.as_os_str() != "-" {
            return Err(usage("there is nothing that a factory reset could remove", "factory_reset")
                .at_key(&option_key("empty"))
                .why("the table is made anew"));
        }
        if self.empty == Empty::Create && self.size == Size::Given {
            return Err(usage("a new image needs a size", "size").expected("auto, or a size such as 10G"));
        }
        Ok(())
    }
}

/// The name of an option in errors: that of the flag of systemd-repart, which the command line makes of it.
pub(super) fn option_key(option: &'static str) -> KeyPath {
    KeyPath::top("repart").key(option)
}

/// The processor of this machine.
fn host() -> Option<Architecture> {
    let name = match std::env::consts::ARCH {
        "powerpc64" if cfg!(target_endian = "little") => "ppc64-le",
        "powerpc64" => "ppc64",
        "powerpc" => "ppc",
        other => other,
    };
    name.parse().ok()
}
