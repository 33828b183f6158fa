//! What a dataset is, with every default filled in and every name and value checked.

use std::collections::HashSet;

use super::checksum::Checksum;
use super::compress::Compression;
use super::data;
use super::division::Member;
use super::features::{EMBEDDED_DATA, Enabled};
use super::format::OLD_LARGEST;
use super::names::Names;
use super::options::{DatasetKind, DatasetOptions};
use super::properties::{self, Meaning};
use super::volume;
use super::zap;
use crate::error::{Error, Kind, Result};
use crate::filesystem::Spec;
use crate::text::shortened;
use crate::units::{Bytes, usize_of};

/// What a dataset is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Filesystem(Names),
    /// Bytes, and those of a block.
    Volume {
        size: u64,
        block: u64,
    },
}

/// A dataset with every default filled in.
#[derive(Clone, Debug)]
pub(super) struct Dataset {
    /// The whole name.
    pub(super) name: String,
    pub(super) shape: Shape,
    /// The directory whose contents it has; of a volume the file.
    pub(super) mount: Option<String>,
    /// What a volume holds, if that is not a file of the contents.
    pub(super) filesystem: Option<Box<Spec>>,
    /// Local properties as they are stored.
    pub(super) properties: Vec<(String, zap::Value)>,
    /// `None` for what the pool takes by itself.
    pub(super) compression: Option<Compression>,
    pub(super) checksum: Checksum,
    pub(super) record: u64,
    pub(super) copies: usize,
    pub(super) quota: u64,
    pub(super) reservation: u64,
    pub(super) referenced_quota: u64,
    pub(super) referenced_reservation: u64,
    pub(super) empty_snapshots: Vec<String>,
    pub(super) snapshots: Vec<String>,
}

/// Bytes of the longest name of a dataset, with its pool and a snapshot (fs/zfs.h, ZFS_MAX_DATASET_NAME_LEN less a NUL).
const LONGEST_NAME: usize = 255;

/// Refuses a part of a name that OpenZFS does not take.
pub(super) fn check_part(part: &str, whole: &str, key: &'static str) -> Result<()> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.: ".contains(letter);
    if part.is_empty()
        || matches!(part, "." | "..")
        || !part.chars().all(allowed)
        || whole.len() > LONGEST_NAME
    {
        return Err(Error::new(Kind::Manifest, "ZFS does not take this name")
            .about(key)
            .expected("at most 255 bytes, in parts of letters, digits, -, _, ., : and spaces")
            .found(format!("`{}`", shortened(whole.as_bytes(), 80))));
    }
    Ok(())
}

impl Dataset {
    /// One that inherits from its parent.
    pub(super) fn below(parent: Option<&Self>, name: String) -> Self {
        Self {
            name,
            shape: parent.map_or(Shape::Filesystem(Names::default()), |parent| parent.shape),
            mount: None,
            filesystem: None,
            properties: Vec::new(),
            compression: parent.and_then(|parent| parent.compression),
            checksum: parent.map_or_else(Checksum::default, |parent| parent.checksum),
            record: parent.map_or(OLD_LARGEST, |parent| parent.record),
            copies: parent.map_or(1, |parent| parent.copies),
            quota: 0,
            reservation: 0,
            referenced_quota: 0,
            referenced_reservation: 0,
            empty_snapshots: Vec::new(),
            snapshots: Vec::new(),
        }
    }

    /// Takes a property.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let is_volume = self.is_volume();
        let meaning = properties::dataset(name, value, is_volume)?;
        let stored = match (meaning, &mut self.shape) {
            (Meaning::Case(case), Shape::Filesystem(names)) => {
                names.case = case;
                return Ok(());
            }
            // What has a normal form is text.
            (Meaning::Normalization(form), Shape::Filesystem(names)) => {
                (names.normalization, names.utf8_only) = (form, form > 0 || names.utf8_only);
                return Ok(());
            }
            (Meaning::Utf8Only(false), Shape::Filesystem(names)) if names.normalization > 0 => {
                return Err(Error::new(Kind::Manifest, "names with a normal form are UTF-8")
                    .expected("`utf8only` = on, or `normalization` = none")
                    .found("`utf8only` = off"));
            }
            (Meaning::Utf8Only(is), Shape::Filesystem(names)) => {
                names.utf8_only = is;
                return Ok(());
            }
            (Meaning::Block(bytes), Shape::Volume { block, .. }) => {
                *block = bytes;
                return Ok(());
            }
            // The size of its blocks may come later.
            (Meaning::Thick, Shape::Volume { .. }) => return Ok(()),
            (meaning, _) => self.take(meaning)?,
        };
        self.properties.push((name.to_owned(), stored));
        Ok(())
    }

    /// Takes what is stored with the dataset; how it is stored.
    fn take(&mut self, meaning: Meaning) -> Result<zap::Value> {
        Ok(match meaning {
            Meaning::Stored(stored) => stored,
            Meaning::Compression(stored, compression) => {
                self.compression = compression;
                stored
            }
            Meaning::Checksum(stored, checksum) => {
                self.checksum = checksum;
                stored
            }
            Meaning::Record(record) => {
                self.record = record;
                record.into()
            }
            Meaning::Copies(copies) => {
                self.copies = usize_of(copies);
                copies.into()
            }
            Meaning::Quota(quota) => {
                self.quota = quota;
                quota.into()
            }
            Meaning::Reservation(reservation) => {
                self.reservation = reservation;
                reservation.into()
            }
            Meaning::ReferencedQuota(quota) => {
                self.referenced_quota = quota;
                quota.into()
            }
            Meaning::ReferencedReservation(reservation) => {
                self.referenced_reservation = reservation;
                reservation.into()
            }
            Meaning::Case(_)
            | Meaning::Normalization(_)
            | Meaning::Utf8Only(_)
            | Meaning::Thick
            | Meaning::Block(_) => {
                return Err(Error::bug("a property of another kind of dataset was not refused"));
            }
        })
    }

    /// It as a tree is divided by it.
    pub(super) fn member(&self) -> Member<'_> {
        let mount = self.mount.as_deref().map(str::as_bytes);
        Member { name: &self.name, mount, is_volume: self.is_volume(), is_inside: self.filesystem.is_some() }
    }

    /// Whether it is a block device.
    pub(super) const fn is_volume(&self) -> bool {
        matches!(self.shape, Shape::Volume { .. })
    }

    /// Bytes of a volume, and those of its blocks.
    pub(super) const fn volume(&self) -> Option<(u64, u64)> {
        match self.shape {
            Shape::Filesystem(_) => None,
            Shape::Volume { size, block } => Some((size, block)),
        }
    }

    pub(super) const fn is_compressed_by_zstd(&self) -> bool {
        matches!(self.compression, Some(Compression::Zstd(_)))
    }

    pub(super) fn has_large_records(&self) -> bool {
        !self.is_volume() && self.record > OLD_LARGEST
    }

    /// Whether files that come later may have larger dnodes.
    pub(super) fn has_large_dnodes(&self) -> bool {
        self.properties.iter().any(|(name, value)| name == "dnodesize" && *value != 0.into())
    }

    /// How contents are stored in a pool with these features.
    pub(super) fn manner(&self, ashift: u8, enabled: &Enabled) -> data::Manner {
        let Self { compression, checksum, .. } = *self;
        let compression = compression.unwrap_or_else(|| enabled.compression());
        let embeds = enabled.has(EMBEDDED_DATA);
        let (record, is_fixed) = match self.shape {
            Shape::Filesystem(_) => (self.record, false),
            Shape::Volume { block, .. } => (block, true),
        };
        data::Manner { compression, checksum, record, is_fixed, ashift, embeds }
    }
}

/// Bytes of a block of a volume (fs/zfs.h of OpenZFS 2.2 and newer, ZVOL_DEFAULT_BLOCKSIZE).
const VOLUME_BLOCK: u64 = 16 << 10;

impl Dataset {
    /// Makes it what the options say, and takes its contents.
    pub(super) fn choose(&mut self, options: &DatasetOptions) -> Result<()> {
        let kind = options.kind.unwrap_or_default();
        let is_volume = kind == DatasetKind::Volume;
        let inside = options.filesystem.as_deref();
        let has_files = inside.is_some_and(Spec::holds_files);
        for (key, there, fits) in [
            ("mount", options.mount.is_some(), !is_volume || has_files),
            ("filesystem", inside.is_some(), is_volume),
            ("volsize", options.volsize.is_some(), is_volume),
            ("file", options.file.is_some(), is_volume),
        ] {
            if there && !fits {
                let what = if is_volume { "volume" } else { "filesystem" };
                return Err(Error::new(Kind::Manifest, format!("`{key}` means nothing for a {what}"))
                    .found(self.name.clone())
                    .hint("a dataset is a filesystem, unless it has type = \"volume\""));
            }
        }
        if inside.is_some() && options.file.is_some() {
            return Err(Error::new(Kind::Manifest, format!("the volume {} holds two things", self.name))
                .expected("`file`, which is an image, or `filesystem`"));
        }
        self.filesystem.clone_from(&options.filesystem);
        let named = options.mount.as_ref().or(options.file.as_ref());
        if let Some(mount) = named.filter(|mount| !mount.starts_with('/')) {
            return Err(Error::new(Kind::Manifest, format!("{} cannot have what lies there", self.name))
                .expected("an absolute path")
                .found(format!("`{}`", shortened(mount.as_bytes(), 80))));
        }
        self.mount = named.cloned();
        if is_volume {
            let size = options.volsize.ok_or_else(|| {
                Error::new(Kind::Manifest, format!("the volume {} has no size", self.name))
                    .expected("a `volsize`")
            })?;
            self.shape = Shape::Volume { size: size.get(), block: VOLUME_BLOCK };
        }
        Ok(())
    }

    /// Refuses a volume of parts of a block, and reserves for others what `zfs create -V` does.
    pub(super) fn check_volume(&mut self, options: &DatasetOptions) -> Result<()> {
        let Shape::Volume { size, block } = self.shape else { return Ok(()) };
        if size == 0 || !size.is_multiple_of(block) {
            return Err(Error::new(
                Kind::Manifest,
                format!("the volume {} cannot have that size", self.name),
            )
            .expected(format!("a multiple of its volblocksize, {block} bytes"))
            .found(Bytes::new(size).to_write()));
        }
        let said = options.properties.get(properties::REFERENCED_RESERVATION);
        if said.is_none_or(|said| said.0 == properties::AUTO) {
            self.referenced_reservation = volume::reservation(size, block);
            let stored = self.referenced_reservation.into();
            self.properties.push((properties::REFERENCED_RESERVATION.to_owned(), stored));
        }
        Ok(())
    }

    /// Refuses to keep more space than there may be (dsl_dir.c, dsl_dir_set_reservation_check; dsl_dataset.c,
    /// dsl_dataset_set_refreservation_check).
    pub(super) fn check_sizes(&self) -> Result<()> {
        for (kept, most, names) in [
            (self.reservation, self.quota, ["reservation", "quota"]),
            (self.referenced_reservation, self.quota, ["refreservation", "quota"]),
            (self.referenced_reservation, self.referenced_quota, ["refreservation", "refquota"]),
        ] {
            if most > 0 && kept > most {
                let [name, limit] = names;
                return Err(Error::new(
                    Kind::Manifest,
                    format!("{} keeps more space than it may have", self.name),
                )
                .expected(format!("`{name}` of at most the `{limit}`, {}", Bytes::new(most).to_write()))
                .found(Bytes::new(kept).to_write()));
            }
        }
        Ok(())
    }

    pub(super) fn take_snapshots(&mut self, options: &DatasetOptions) -> Result<()> {
        let mut seen = HashSet::new();
        for snapshot in options.empty_snapshots.iter().chain(&options.snapshots) {
            check_part(snapshot, &format!("{}@{snapshot}", self.name), "datasets")?;
            if !seen.insert(snapshot) {
                let what = format!("{} has two snapshots `{snapshot}`", self.name);
                return Err(Error::new(Kind::Manifest, what));
            }
        }
        self.empty_snapshots.clone_from(&options.empty_snapshots);
        self.snapshots.clone_from(&options.snapshots);
        Ok(())
    }
}
