//! What a new partition holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::Options;
use super::definition::{CopyFiles, Definition, Line};
use super::inside;
use super::kind::Designator;
use super::plan::{Part, Plan};
use super::targets::{Last, Targets};
use super::verity::Set;
use crate::disk::{Entry, Payload};
use crate::error::{Error, Kind, Result};
use crate::filesystem::{Spec, erofs, ext4, fat, squashfs, swap};
use crate::identity;
use crate::nix::STORE;
use crate::tree::{Exclusions, Hardlinks, Meta, Owner, Rules, Time, Xattr};
use crate::units::Bytes;
use crate::values::{FatBits, Guid, VolumeId};

/// The filesystems that are made here; others are refused by name.
pub(super) const FILESYSTEMS: [&str; 5] = ["ext4", "vfat", "erofs", "squashfs", "swap"];

/// Those that nothing can be added to when they are made.
pub(super) const READ_ONLY: [&str; 2] = ["erofs", "squashfs"];
/// Those that have no id of their own.
pub(super) const WITHOUT_ID: [&str; 1] = ["squashfs"];

/// What is in these directories of a running system is never copied, the directories themselves are.
const NEVER: [&str; 6] = ["/proc", "/sys", "/dev", "/tmp", "/run", "/var/tmp"];

/// What filesystems are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Making<'a> {
    pub(super) options: &'a Options,
    pub(super) definitions: &'a [Definition],
    pub(super) plan: &'a Plan,
    /// The sets of dm-verity by their keys; `None` before partitions have places.
    pub(super) sets: Option<&'a BTreeMap<String, Set>>,
}

/// What a filesystem holds, and where each of it was written.
#[derive(Debug, Default)]
pub(super) struct Filled {
    pub(super) entries: Vec<Entry>,
    pub(super) lines: Vec<Option<Line>>,
    pub(super) warnings: Vec<String>,
}

impl Filled {
    pub(super) fn add(&mut self, target: &str, payload: Payload, line: Option<Line>) {
        self.entries.push(Entry::new(target, payload));
        self.lines.push(line);
    }
}

impl Making<'_> {
    /// The time of everything without a time of its own.
    pub(super) fn time(&self) -> Time {
        self.options.dates().time
    }

    /// What files may not be later than.
    fn latest(&self) -> Option<Time> {
        self.options.dates().latest.filter(|_| self.options.level.clamps())
    }

    /// The filesystem of a partition of `size`, where that is given.
    ///
    /// # Errors
    /// [`Kind::Bug`] for a name that was not refused before.
    pub(super) fn spec(
        &self,
        definition: &Definition,
        part: &Part,
        size: Option<Bytes>,
        sector: u32,
    ) -> Result<Spec> {
        let uuid = identity::filesystem_uuid(part.guid);
        let name = definition.filesystem().unwrap_or_default();
        let label = Some(label(name, &part.label)).filter(|label| !label.is_empty());
        Ok(match name {
            // Nothing more fits, and nothing is kept free, as small as it is.
            "ext4" => Spec::Ext4(ext4::Options {
                label,
                uuid: Some(Guid(uuid)),
                free: Some(Bytes::ZERO),
                ..ext4::Options::default()
            }),
            "vfat" => Spec::Vfat(fat::Options {
                label,
                volume_id: Some(VolumeId(identity::fat_volume_id(uuid))),
                free: Some(Bytes::ZERO),
                fat: fat_bits(part, size, sector),
                ..fat::Options::default()
            }),
            "erofs" => Spec::Erofs(self.erofs(definition, uuid, sector)?),
            "squashfs" => Spec::Squashfs(squashfs(definition)?),
            "swap" => Spec::Swap(swap::Options { label, uuid: Some(Guid(uuid)), ..swap::Options::default() }),
            other => return Err(Error::bug(format!("no {other} is made, and that was not refused"))),
        })
    }

    /// An EROFS: blocks as large as the sectors where the release has it so. What is compressed needs blocks of 4 KiB.
    fn erofs(&self, definition: &Definition, uuid: uuid::Uuid, sector: u32) -> Result<erofs::Options> {
        let compress = word(definition)?;
        let small = self.options.level.erofs_blocks_are_sectors() && compress.is_none();
        Ok(erofs::Options {
            uuid: Some(Guid(uuid)),
            free: Some(Bytes::ZERO),
            compress,
            level: level(definition)?.map(erofs::Level::Of),
            block_size: small.then_some(sector.min(4096)),
            ..erofs::Options::default()
        })
    }

    /// What a filesystem holds.
    ///
    /// # Errors
    /// [`Kind::Source`] for a source that is not there and has to be, with its line.
    pub(super) fn fill(&self, definition: &Definition, part: &Part) -> Result<Filled> {
        let mut filled = Filled::default();
        let mut targets = Targets::default();
        for copy in &definition.copy_files {
            self.copy(definition, part, copy, (&mut filled, &mut targets))?;
        }
        definition.nix.fill(definition, self.time(), &mut filled)?;
        definition.boot.fill(definition, self, &mut filled)?;
        let meta = Meta::root(0o755, self.time());
        for directory in &definition.directories {
            let directory = targets.resolve(directory, Last::Kept);
            targets.directory(&directory);
            filled.add(
                &directory,
                Payload::Fallback { meta },
                definition.lines.get("MakeDirectories").cloned(),
            );
        }
        for (link, to) in &definition.symlinks {
            let meta = Meta::root(0o777, self.time());
            let line = definition.lines.get("MakeSymlinks").cloned();
            let link = targets.resolve(link, Last::Kept);
            targets.link(&link, to);
            filled.add(&link, Payload::Symlink { to: to.clone(), meta }, line);
        }
        let xattrs = self.marks(definition, part);
        if !xattrs.is_empty() {
            filled.add("/", Payload::Attributes { xattrs: xattrs.into() }, None);
        }
        Ok(filled)
    }

    fn copy(
        &self,
        definition: &Definition,
        part: &Part,
        copy: &CopyFiles,
        (filled, targets): (&mut Filled, &mut Targets),
    ) -> Result<()> {
        let host = self.options.below_source(&copy.source);
        let found = inside::find(self.options.source(), Path::new(&copy.source));
        let path = found.map_err(|error| copy.line.blame(error))?;
        let missing = || std::io::Error::from(Errno::NOENT);
        let found = path.ok_or_else(missing).and_then(|path| Ok((path.canonicalize()?, path)));
        let (real, path) = match found {
            Ok(found) => found,
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound
                    && (!copy.wanted || self.options.faithful) =>
            {
                let source = crate::text::printable_path(&host);
                let why = if copy.wanted { "" } else { " without a target" };
                filled.warnings.push(format!(
                    "{source} does not exist, it is not copied (CopyFiles={}{why})",
                    copy.source
                ));
                return Ok(());
            }
            Err(error) => {
                let error = Error::io(Kind::Source, "cannot read the source", &host, error);
                return Err(copy.line.blame(error));
            }
        };
        let Some(without) = self.without(definition, part, copy, &real)? else { return Ok(()) };
        let without = Arc::new(without);
        let last = if real.is_dir() { Last::Followed } else { Last::Kept };
        let target = targets.resolve(&copy.target, last);
        targets.copy(&target, &real, &without);
        // What Nix has made is the same whatever the host keeps of it.
        let store = real.starts_with(STORE) && real != Path::new(STORE);
        let rules = Rules {
            store,
            owner: self.options.owner,
            hardlinks: if store { Hardlinks::Dissolve } else { Hardlinks::Preserve },
            latest: self.latest(),
            tell_owners: self.options.owner == Owner::Root && !store,
            merge: true,
            without,
            ..Rules::default()
        };
        let payload = Payload::Source { path, rules, xattrs: self.options.xattrs.clone() };
        filled.add(&target, payload, Some(copy.line.clone()));
        Ok(())
    }

    /// What is left out below a source; `None` where that is the source itself.
    ///
    /// # Errors
    /// [`Kind::Source`] for a loop of links, with the line.
    fn without(
        &self,
        definition: &Definition,
        part: &Part,
        copy: &CopyFiles,
        real: &Path,
    ) -> Result<Option<Exclusions>> {
        let begins = |path: &str, list: &[String]| list.iter().any(|out| Path::new(path).starts_with(out));
        if begins(&copy.source, &definition.exclude_sources)
            || begins(&copy.target, &definition.exclude_targets)
        {
            return Ok(None);
        }
        // Everything below is left out by what it is, wherever the links of its path lead to (systemd compares inodes).
        let found = |path: &Path| -> Result<Option<PathBuf>> {
            Ok(inside::find(self.options.source(), path)?.and_then(|path| path.canonicalize().ok()))
        };
        // The target `path` of this entry, as a path of the tree that is copied.
        let source_of =
            |path: &str| Some(Path::new(&copy.source).join(Path::new(path).strip_prefix(&copy.target).ok()?));
        let mut contents: Vec<PathBuf> = NEVER.iter().map(PathBuf::from).collect();
        if part.kind.designator == Designator::Root {
            let others = self.plan.parts.iter().filter(|other| !std::ptr::eq(*other, part));
            let mounted = others.flat_map(|other| other.kind.mount_points().iter().copied());
            let below = NEVER.into_iter().chain(mounted).filter(|path| *path != copy.target && *path != "/");
            contents.extend(below.filter_map(source_of));
        }
        let mut out = Exclusions::default();
        for path in contents {
            out.contents.extend(found(&path)?);
        }
        let mut emptied = BTreeSet::new();
        let sources = definition.exclude_sources.iter();
        let sources = sources.map(|text| ("ExcludeFiles", text, Some(PathBuf::from(text))));
        let targets = definition.exclude_targets.iter();
        let targets = targets.map(|text| ("ExcludeFilesTarget", text, source_of(text)));
        for (key, text, path) in sources.chain(targets) {
            let Some(path) = path else { continue };
            let list = if text.ends_with('/') { &mut emptied } else { &mut out.paths };
            list.extend(found(&path).map_err(|error| definition.place(error, key))?);
        }
        let is_out = |path: &Path| out.paths.contains(path) || emptied.contains(path);
        // A directory is copied wherever it lies, a file only where nothing above it is left out by a definition.
        if !real.is_dir() && real.ancestors().any(is_out) {
            return Ok(None);
        }
        out.contents.append(&mut emptied);
        out.paths.retain(|path| path != real && path.starts_with(real));
        out.contents.retain(|path| path.starts_with(real));
        Ok(Some(out))
    }

    /// The attributes that systemd-validatefs holds against the partition table: labels, types and mount points.
    fn marks(&self, definition: &Definition, part: &Part) -> Vec<Xattr> {
        let name = definition.filesystem().unwrap_or_default();
        let wanted = definition.add_validatefs.unwrap_or_else(|| self.options.level.validates());
        if !wanted || matches!(name, "swap" | "vfat") {
            return Vec::new();
        }
        // Hashes and signature of the same set have their own.
        let set = self.plan.parts.iter().filter(|other| {
            let other = other.definition.and_then(|number| self.definitions.get(number));
            other.is_some_and(|other| other.match_key.is_some() && other.match_key == definition.match_key)
        });
        let mut set: Vec<&Part> = set.collect();
        if set.is_empty() {
            set.push(part);
        }
        let labels: BTreeSet<String> = set.iter().map(|part| part.label.clone()).collect();
        let kinds: BTreeSet<String> = set.iter().map(|part| part.kind.guid.to_string()).collect();
        let usual = || part.kind.mount_points().iter().map(|place| (*place).to_owned()).collect();
        let places: Vec<String> = match definition.mounts.as_slice() {
            [] => usual(),
            written => written.iter().map(|(place, _)| place.clone()).collect(),
        };
        [
            ("gpt_label", labels.into_iter().collect::<Vec<_>>()),
            ("gpt_type_uuid", kinds.into_iter().collect()),
            ("mount_point", places),
        ]
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| Xattr {
            name: format!("user.validatefs.{name}").into_bytes(),
            // Each value ends with NUL.
            value: (values.join("\0") + "\0").into_bytes(),
        })
        .collect()
    }
}

/// A SquashFS: gzip where nothing is said, as mksquashfs has it.
fn squashfs(definition: &Definition) -> Result<squashfs::Options> {
    let gzip = || "gzip".parse().ok();
    Ok(squashfs::Options {
        compress: word(definition)?.or_else(gzip),
        level: level(definition)?,
        free: Some(Bytes::ZERO),
        ..squashfs::Options::default()
    })
}

/// `Compression=`.
fn word<T: std::str::FromStr>(definition: &Definition) -> Result<Option<T>>
where
    T::Err: std::fmt::Display,
{
    let Some(text) = &definition.compression else { return Ok(None) };
    text.parse().map(Some).map_err(|error: T::Err| {
        let name = definition.filesystem().unwrap_or_default();
        let what = format!("no {name} is compressed with {text} here");
        definition.place(Error::new(Kind::Manifest, what), "Compression").why(error.to_string())
    })
}

/// `CompressionLevel=`.
fn level(definition: &Definition) -> Result<Option<u8>> {
    let Some(text) = &definition.compression_level else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        let error = Error::new(Kind::Manifest, "CompressionLevel= is no level").found(text);
        definition.place(error, "CompressionLevel")
    })
}

/// The width of a FAT that nobody asked for: systemd-repart always asks for 32 bits, also where there are too few clusters
/// for that. On a system partition the writer itself prefers FAT32, and says where that is impossible.
fn fat_bits(part: &Part, size: Option<Bytes>, sector: u32) -> Option<FatBits> {
    let fits = size.is_some_and(|size| size >= fat::least_fat32(u64::from(sector)));
    (!part.kind.is_system() && fits).then_some(FatBits::Fixed(fat::FatType::Fat32))
}

/// The label of a filesystem, from that of its partition (systemd `src/shared/mkfs-util.c`).
pub(super) fn label(filesystem: &str, label: &str) -> String {
    let most = match filesystem {
        "ext4" => 16,
        "swap" => 15,
        "vfat" => return fat_label(label),
        _ => return label.to_owned(),
    };
    let cut = (0..=label.len().min(most)).rev().find(|end| label.is_char_boundary(*end)).unwrap_or(0);
    label[..cut].to_owned()
}

/// A label that FAT allows: 11 characters of ASCII, upper case.
fn fat_label(label: &str) -> String {
    let allowed = |c: char| c.is_ascii() && !c.is_ascii_control() && !"*?.,;:/\\|+=<>[]\"".contains(c);
    label.chars().take(11).map(|c| if allowed(c) { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_cut_and_changed_as_systemd_does() {
        assert_eq!(label("vfat", "boot é.x"), "BOOT __X");
        assert_eq!(label("vfat", "very long label"), "VERY LONG L");
        assert_eq!(label("ext4", "0123456789abcdeé"), "0123456789abcde");
        assert_eq!(label("swap", "0123456789abcdef"), "0123456789abcde");
        assert_eq!(label("erofs", "any label of any length"), "any label of any length");
    }
}
