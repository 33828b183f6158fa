//! `diskwright mkfs`: one filesystem from one directory. It is a disk with one partition and no table.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::job::{Common, Container, Target, epoch};
use crate::archive::{Archive, Format};
use crate::container::Settings;
use crate::disk::{Contents, Disk, Form, Partition, Payload, Size};
use crate::error::{Error, Kind as ErrorKind, Result, Subject};
use crate::filesystem::{Spec, erofs, ext4, fat, squashfs, zfs};
use crate::front::{Dates, Description, Locator, seed};
use crate::identity::Seed;
use crate::key::KeyPath;
use crate::option::Spelling;
use crate::table::{Scheme, Type};
use crate::tree::xattr::Patterns;
use crate::tree::{self, Exclusions, Hardlinks, Meta, Owner, Rules, Selection};
use crate::units::Bytes;
use crate::values::{DiskSize, Guid, Property};

/// Arguments of `mkfs`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, clap::Subcommand)]
enum Kind {
    /// Make an ext4 filesystem
    #[command(after_help = "Examples:
  diskwright mkfs ext4 rootfs -o root.img --label nixos --free 512MiB
  diskwright mkfs ext4 rootfs.tar.zst -o root.img
  docker save trial | diskwright mkfs ext4 - --from oci -o root.img
  diskwright mkfs ext4 -o empty.img --size 10GiB --owner 1000:100")]
    Ext4(Box<Make<ext4::Options>>),
    /// Make an ext3 filesystem: block pointers and a journal
    #[command(after_help = "Examples:
  diskwright mkfs ext3 rootfs -o root.img --inode-size 128")]
    Ext3(Box<Make<ext4::Options>>),
    /// Make an ext2 filesystem: block pointers and no journal
    #[command(after_help = "Examples:
  diskwright mkfs ext2 boot -o boot.img --block-size 1KiB --size 32MiB")]
    Ext2(Box<Make<ext4::Options>>),
    /// Make a FAT filesystem: FAT12, FAT16 or FAT32 with long names
    #[command(
        // FAT holds none of these, and says so where they are given.
        mut_arg("owner", |owner| owner.hide(true)),
        mut_arg("hardlinks", |hardlinks| hardlinks.hide(true)),
        mut_arg("xattrs", |xattrs| xattrs.hide(true)),
        after_help = "Examples:
  diskwright mkfs vfat esp -o esp.img --label ESP --size 256MiB
  diskwright mkfs vfat floppy -o floppy.img --size 1440KiB --fat 12"
    )]
    Vfat(Box<Make<fat::Options>>),
    /// Make an EROFS filesystem, which is only read: plain, or compressed
    #[command(after_help = "Examples:
  diskwright mkfs erofs rootfs -o root.img
  diskwright mkfs erofs store -o store.img --compress zstd --chunk 1MiB")]
    Erofs(Box<Packed<erofs::Options>>),
    /// Make a SquashFS: compressed, and only read
    #[command(after_help = "Examples:
  diskwright mkfs squashfs rootfs -o root.squashfs
  diskwright mkfs squashfs rootfs -o root.squashfs --compress xz --chunk 1MiB")]
    Squashfs(Box<Packed<squashfs::Options>>),
    /// Make a ZFS pool on a disk without partitions
    #[command(after_help = "Examples:
  diskwright mkfs zfs rootfs -o pool.img --label tank --free 1GiB
  diskwright mkfs zfs rootfs -o pool.img --size 8GiB --grow-to 1TiB
  diskwright mkfs zfs rootfs -o pool.img --property atime=off")]
    Zfs(Box<Packed<Pool>>),
}

/// A filesystem with its own options.
#[derive(Debug, clap::Args)]
struct Make<O: clap::Args> {
    #[command(flatten)]
    shared: Shared,
    #[command(flatten)]
    options: O,
}

/// A filesystem that is compressed itself: `--compress` and `--level` are its own, and those of the container have longer
/// names.
#[derive(Debug)]
struct Packed<O: clap::Args>(Make<O>);

impl<O: clap::Args> Packed<O> {
    fn renamed(command: clap::Command) -> clap::Command {
        command
            .mut_arg("compress", |argument| argument.long("container-compress"))
            .mut_arg("level", |argument| argument.long("container-level"))
    }
}

impl<O: clap::Args> clap::FromArgMatches for Packed<O> {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        Make::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl<O: clap::Args> clap::Args for Packed<O> {
    fn augment_args(command: clap::Command) -> clap::Command {
        Self::renamed(Make::<O>::augment_args(command))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::renamed(Make::<O>::augment_args_for_update(command))
    }
}

/// The options of a pool, and the properties that a manifest has as tables.
#[derive(Debug, clap::Args)]
struct Pool {
    #[command(flatten)]
    options: zfs::Options,
    /// Property of the pool, as `zpool create -o` takes it: autoexpand=on, comment=TEXT, feature@NAME=disabled, …; may be
    /// given several times
    #[arg(long = "pool-property", value_name = "NAME=VALUE", value_parser = property)]
    pool_properties: Vec<(String, Property)>,
    /// Property of the pool's own dataset, as `zpool create -O` takes it: atime=off, acltype=posix, mountpoint=none, …; may be
    /// given several times
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = property)]
    properties: Vec<(String, Property)>,
}

/// A property and its value.
fn property(text: &str) -> Result<(String, Property), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), Property(value.to_owned()))),
        _ => Err("a property is NAME=VALUE".to_owned()),
    }
}

impl Pool {
    /// All options.
    fn whole(mut self) -> Result<zfs::Options> {
        for (flag, given, all) in [
            ("--pool-property", self.pool_properties, &mut self.options.pool_properties),
            ("--property", self.properties, &mut self.options.properties),
        ] {
            for (name, value) in given {
                if all.contains_key(&name) {
                    return Err(Error::new(ErrorKind::Usage, "a property is given twice")
                        .at_flag(flag)
                        .expected("each property once")
                        .found(name));
                }
                all.insert(name, value);
            }
        }
        Ok(self.options)
    }
}

/// What kind of source it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum From {
    Directory,
    Archive,
    Oci,
}

/// The flags of all filesystems.
#[derive(Debug, clap::Args)]
struct Shared {
    /// What the filesystem holds: the contents of a directory, or of a tar or cpio, which may be compressed; `-` is one on
    /// standard input [default: none, an empty filesystem]
    #[arg(value_name = "SOURCE")]
    source: Option<PathBuf>,
    /// What the source is: directory, archive (a tar or cpio), or oci (an image of a container: an OCI image layout, or what
    /// `docker save` writes) [default: directory or archive, whichever it is]
    #[arg(long, value_name = "KIND", hide_possible_values = true)]
    from: Option<From>,
    /// Which image of an oci source, where there are several: a tag or a name
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// Which platform of an oci source, where there are several, such as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Path of the source to leave out with all that is below it, from its top; `*` stands for anything in one name, `?`
    /// and `[a-z]` for one character, `**` for any number of directories; may be given several times
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Path of the source to take over with all that is below it, in place of everything; may be given several times
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// Leave out what other filesystems hold that are mounted below SOURCE; the directories on which they are stay, empty
    #[arg(long)]
    one_file_system: bool,
    /// Where the filesystem goes; `-` is standard output
    #[arg(short, long, value_name = "OUT", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Size of the filesystem, such as 64MiB or 1.5GiB; or auto: as small as the contents and --free allow [default: auto]
    #[arg(long, value_name = "SIZE")]
    size: Option<DiskSize>,
    /// Seed of all UUIDs and serial numbers that no other option gives; itself a UUID [default: derived from the other
    /// options]
    #[arg(long, value_name = "UUID")]
    seed: Option<Guid>,
    /// Time at which the filesystem was made, in seconds since 1970 [default: SOURCE_DATE_EPOCH, or else 0]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
    /// Owner of all files: root, preserve (as they are owned on this machine, or in the archive), or UID:GID [default: root,
    /// and preserve for an archive]
    #[arg(long, value_name = "OWNER")]
    owner: Option<Owner>,
    /// What becomes of hard links: preserve keeps them, dissolve makes every name a file of its own, dedupe also makes
    /// files with the same contents one file with several names [default: preserve]
    #[arg(long, value_name = "POLICY")]
    hardlinks: Option<Hardlinks>,
    /// Extended attributes to keep, as a pattern with `*`; may be given several times; '' keeps none [default: user.*,
    /// security.capability and POSIX ACLs]
    #[arg(long, value_name = "PATTERN")]
    xattrs: Vec<String>,
    /// Bytes in a logical sector of the disk that it is for: 512 or 4096 [default: 512]
    #[arg(long, value_name = "BYTES")]
    sector_size: Option<u32>,
    #[command(flatten)]
    common: Common,
}

impl Args {
    fn parts(self) -> Result<(Shared, Spec)> {
        Ok(match self.kind {
            Kind::Ext4(make) => (make.shared, Spec::Ext4(make.options)),
            Kind::Ext3(make) => (make.shared, Spec::Ext3(make.options)),
            Kind::Ext2(make) => (make.shared, Spec::Ext2(make.options)),
            Kind::Vfat(make) => (make.shared, Spec::Vfat(make.options)),
            Kind::Erofs(make) => (make.0.shared, Spec::Erofs(make.0.options)),
            Kind::Squashfs(make) => (make.0.shared, Spec::Squashfs(make.0.options)),
            Kind::Zfs(make) => (make.0.shared, Spec::Zfs(make.0.options.whole()?)),
        })
    }
}

/// Runs `mkfs`.
pub(super) fn run(args: Args) -> Result<()> {
    let (shared, spec) = args.parts()?;
    shared.run(&spec)
}

/// The disk that the arguments describe, and what a server shows of it.
pub(super) fn served(args: Args, outer: &Container) -> Result<(Description, Form)> {
    let (shared, spec) = args.parts()?;
    let description = shared.checked(&spec)?;
    let form = shared.common.served(&description, shared.output.as_slice(), outer)?;
    Ok((description, form))
}

impl Shared {
    fn described(&self, spec: &Spec) -> Result<Description> {
        let dates = Dates::new(self.time, epoch()?);
        let seed = self.seed.map_or_else(|| seed::derived(&self.said(spec)), |seed| Seed::new(seed.0));
        let size = match self.size {
            None | Some(DiskSize::Auto) => Size::Auto,
            Some(DiskSize::Fixed(size)) => Size::Fixed(size),
        };
        let partition = Partition { size, ..Partition::new(Type::LINUX) };
        let contents = Contents::new();
        let payload = self.payload(dates);
        let mut spec = spec.clone();
        spec.look_in(|| payload.iter().flat_map(Payload::folders).collect());
        let contents = match payload {
            Some(payload) => contents.entry("/", payload),
            None => contents,
        };
        let disk = Disk { sector_size: self.sector_size.unwrap_or(512), ..Disk::new(Scheme::None, seed) };
        Ok(Description {
            locator: Box::new(Flags { vfat: matches!(&spec, Spec::Vfat(_)) }),
            disk: disk.time(dates.time).partition(partition.filesystem(spec, contents)),
            settings: Settings::default(),
            closure: None,
            warnings: Vec::new(),
            beside: Vec::new(),
            outputs: Vec::new(),
            boot: None,
        })
    }

    /// What kind of source it is. A path that leads nowhere is told of where it is read.
    fn kind(&self) -> From {
        let Some(source) = &self.source else { return From::Directory };
        let file = source.as_os_str() == "-" || source.metadata().is_ok_and(|meta| !meta.is_dir());
        self.from.unwrap_or(if file { From::Archive } else { From::Directory })
    }

    /// The contents of the filesystem.
    fn payload(&self, dates: Dates) -> Option<Payload> {
        let owner = self.owner.unwrap_or_default();
        match (&self.source, owner) {
            (Some(source), _) => {
                // FAT has no hard links; a warning says how many were dissolved.
                let hardlinks = self.hardlinks.unwrap_or_default();
                let select = Selection::new(
                    self.include.iter().map(String::as_str),
                    self.exclude.iter().map(String::as_str),
                );
                let rules = Rules {
                    owner,
                    hardlinks,
                    latest: dates.latest,
                    tell_owners: self.owner.is_none(),
                    select: (select != Selection::default()).then(|| Arc::new(select)),
                    without: Arc::new(Exclusions {
                        other_filesystems: self.one_file_system,
                        ..Exclusions::default()
                    }),
                    ..Rules::default()
                };
                let patterns = Some(self.xattrs.clone()).filter(|patterns| !patterns.is_empty());
                let xattrs = patterns.map(Patterns::new).unwrap_or_default();
                let format = match self.kind() {
                    From::Directory => return Some(Payload::Source { path: source.clone(), rules, xattrs }),
                    From::Archive => Format::TarOrCpio,
                    From::Oci => {
                        Format::Container { image: self.image.clone(), platform: self.platform.clone() }
                    }
                };
                let rules =
                    Rules { owner: self.owner.unwrap_or(Owner::Preserve), tell_owners: false, ..rules };
                let written = source.to_str().unwrap_or_default();
                Some(Payload::Archive {
                    archive: Archive::new(written, source.clone(), format),
                    rules,
                    xattrs,
                })
            }
            // In an empty filesystem, only the root has an owner.
            (None, Owner::Ids { uid, gid }) => {
                let meta = Meta { uid, gid, ..Meta::root(0o755, dates.time) };
                Some(Payload::Node { content: tree::Content::Directory, meta })
            }
            (None, Owner::Root | Owner::Preserve) => None,
        }
    }

    /// The flags as the manifest with the same meaning would say it, so that both give the same ids. The
    /// source is left out, since it may lie anywhere.
    fn said(&self, spec: &Spec) -> serde_json::Value {
        let mut disk = serde_json::json!({ "table": "none" });
        let set = |table: &mut serde_json::Value, key: &str, value: Option<serde_json::Value>| {
            if let (Some(table), Some(value)) = (table.as_object_mut(), value) {
                table.insert(key.to_owned(), value);
            }
        };
        set(&mut disk, "time", self.time.map(Into::into));
        set(&mut disk, "sector_size", self.sector_size.map(Into::into));
        let mut top = serde_json::json!({ "target": "/" });
        set(&mut top, "owner", self.owner.map(|owner| owner.to_string().into()));
        let contents = match (&self.source, self.owner) {
            (Some(_), _) => {
                let kind = match self.kind() {
                    From::Directory => "source",
                    From::Archive => "tar",
                    From::Oci => "oci",
                };
                set(&mut top, kind, Some(".".into()));
                set(&mut top, "image", self.image.clone().map(Into::into));
                set(&mut top, "platform", self.platform.clone().map(Into::into));
                for (key, patterns) in [("include", &self.include), ("exclude", &self.exclude)] {
                    let patterns = Some(patterns).filter(|patterns| !patterns.is_empty());
                    set(&mut top, key, patterns.map(|patterns| patterns.clone().into()));
                }
                set(&mut top, "one_file_system", self.one_file_system.then_some(true.into()));
                set(&mut top, "hardlinks", self.hardlinks.map(|links| links.to_string().into()));
                let patterns = Some(&self.xattrs).filter(|patterns| !patterns.is_empty());
                set(&mut top, "xattrs", patterns.map(|patterns| patterns.clone().into()));
                Some(top)
            }
            (None, Some(Owner::Preserve | Owner::Ids { .. })) => {
                set(&mut top, "directory", Some(true.into()));
                Some(top)
            }
            (None, None | Some(Owner::Root)) => None,
        };
        let size = self.size.unwrap_or(DiskSize::Auto).to_string();
        let mut partition = serde_json::json!({ "size": size, "filesystem": spec.without_way() });
        set(&mut partition, "contents", contents.map(|entry| vec![entry].into()));
        serde_json::json!({ "version": 1, "disk": disk, "partition": [partition] })
    }

    /// Refuses mistakes that would otherwise be reported in the words of a manifest.
    fn check(&self, sector_size: u32) -> Result<()> {
        if !matches!(sector_size, 512 | 4096) {
            return Err(Error::new(ErrorKind::Usage, "no disk has sectors of this size")
                .at_flag("--sector-size")
                .expected("512 or 4096")
                .found(sector_size));
        }
        if let Some(DiskSize::Fixed(size)) = self.size
            && (size == Bytes::ZERO || !size.is_multiple_of(sector_size.into()))
        {
            return Err(Error::new(ErrorKind::Usage, "a filesystem cannot have this size")
                .at_flag("--size")
                .expected(format!("a multiple of {sector_size} bytes, or auto"))
                .found(size.in_full())
                .or_hint(size.unit_forgotten()));
        }
        for (flag, given) in [
            ("--hardlinks", self.hardlinks.is_some()),
            ("--xattrs", !self.xattrs.is_empty()),
            ("--from", self.from.is_some()),
            ("--exclude", !self.exclude.is_empty()),
            ("--include", !self.include.is_empty()),
            ("--one-file-system", self.one_file_system),
        ] {
            if given && self.source.is_none() {
                return Err(Error::new(ErrorKind::Usage, format!("{flag} is for what a SOURCE brings"))
                    .hint("leave it out, or give a directory"));
            }
        }
        self.source.as_deref().map_or(Ok(()), super::check_path)?;
        for (flag, given) in [("--image", self.image.is_some()), ("--platform", self.platform.is_some())] {
            if given && self.kind() != From::Oci {
                return Err(Error::new(ErrorKind::Usage, format!("{flag} is for an image of a container"))
                    .hint("add --from oci, or leave it out"));
            }
        }
        if self.one_file_system && self.kind() != From::Directory {
            return Err(Error::new(ErrorKind::Usage, "--one-file-system is for a directory")
                .why("nothing is mounted in an archive")
                .hint("leave it out"));
        }
        match &self.source {
            Some(source)
                if self.kind() == From::Directory && source.metadata().is_ok_and(|meta| !meta.is_dir()) =>
            {
                Err(Error::new(ErrorKind::Usage, "the source is not a directory")
                    .at(source)
                    .found("something else")
                    .hint("give the directory that holds it, or describe the filesystem in a manifest"))
            }
            Some(source) if self.kind() == From::Archive && source.is_dir() => {
                Err(Error::new(ErrorKind::Usage, "the source is a directory, and not an archive").at(source))
            }
            _ => Ok(()),
        }
    }

    /// Refuses options that exclude each other.
    fn check_options(&self, spec: &Spec) -> Result<()> {
        if spec.free().is_some() && matches!(self.size, Some(DiskSize::Fixed(_))) {
            return Err(Error::new(
                ErrorKind::Usage,
                "--free means nothing for a filesystem whose size is given",
            )
            .expected("a size of auto, which leaves that much space, or a size without --free"));
        }
        if self.source.is_none() && self.owner == Some(Owner::Preserve) {
            return Err(Error::new(ErrorKind::Usage, "there is no owner to preserve")
                .at_flag("--owner")
                .expected("root or UID:GID"));
        }
        let Spec::Vfat(_) = spec else { return Ok(()) };
        let owner = self.owner.is_some_and(|owner| owner != Owner::Root);
        let links = self.hardlinks.is_some_and(|links| links != Hardlinks::Dissolve);
        let xattrs = self.xattrs.iter().any(|pattern| !pattern.is_empty());
        for (flag, there, what) in [
            ("--owner", owner, "owners"),
            ("--hardlinks", links, "hard links"),
            ("--xattrs", xattrs, "extended attributes"),
        ] {
            if there {
                return Err(Error::new(ErrorKind::Usage, format!("vfat holds no {what}"))
                    .at_flag(flag)
                    .hint("leave it out"));
            }
        }
        Ok(())
    }

    fn checked(&self, spec: &Spec) -> Result<Description> {
        self.check(self.sector_size.unwrap_or(512))?;
        self.check_options(spec)?;
        self.described(spec)
    }

    fn run(&self, spec: &Spec) -> Result<()> {
        let work = self.common.work();
        let target = self.output.clone().map(Target::of);
        self.common.check(target.as_slice())?;
        let mut description = self.checked(spec)?;
        self.common.fit(&mut description, target.as_slice())?;
        let folder = match self.kind() {
            From::Directory => self.source.as_deref().unwrap_or(Path::new(".")),
            From::Archive | From::Oci => Path::new("."),
        };
        self.common.run(&description, Some(folder), target.as_slice(), &work)
    }
}

/// The flags that stand for parts of a filesystem's description.
#[derive(Debug)]
struct Flags {
    vfat: bool,
}

impl Flags {
    /// The flag of an option that has another name as a flag of `mkfs`.
    fn own(&self, key: &str) -> Option<&'static str> {
        match key {
            "cluster_size" if self.vfat => Some("--fat-cluster-size"),
            "volume_id" => Some("--uuid"),
            "pool_properties" => Some("--pool-property"),
            "properties" => Some("--property"),
            _ => None,
        }
    }
}

impl Locator for Flags {
    fn locate(&self, error: Error) -> Error {
        let error = error.spelled(|key| self.spell(key));
        let key = error.key();
        let error = error.without_subjects();
        match key {
            Some(key) => error.at_flag(match self.own(key) {
                Some(flag) => flag.to_owned(),
                None => format!("--{}", key.replace('_', "-")),
            }),
            None => error,
        }
    }

    fn describe(&self, subject: Subject) -> String {
        subject.to_string()
    }

    fn key(&self, _: Subject) -> KeyPath {
        KeyPath::default()
    }

    fn spell(&self, key: &str) -> Option<Spelling> {
        // Hints speak of the clusters of qcow2, and never of FAT's.
        let own = self.own(key).filter(|_| key != "cluster_size");
        own.map(|flag| Spelling::Flag(flag.to_owned())).or_else(|| super::spelling("mkfs", key))
    }
}
