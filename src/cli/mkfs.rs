//! `diskwright mkfs`: one filesystem from one directory, which is a manifest with one partition and no table.

use std::path::{Path, PathBuf};

use super::job::{Common, Target};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::filesystem::ext4::{Journal, Reserved, TimePolicy};
use crate::front::manifest::Manifest;
use crate::front::manifest::resolve::{Body, What, resolve};
use crate::front::manifest::schema::{self, Disk, Entry, Filesystem, FilesystemKind, Partition};
use crate::front::manifest::values::{DiskSize, FatBits, FilesystemId, Guid, Inodes, PartitionSize};
use crate::table::Scheme;
use crate::tree::{Hardlinks, Owner};
use crate::units::Bytes;

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
  diskwright mkfs ext4 -o empty.img --size 10GiB --owner 1000:100")]
    Ext4(Box<Ext4>),
    /// Make a FAT filesystem: FAT12, FAT16 or FAT32 with long names
    #[command(after_help = "Examples:
  diskwright mkfs vfat esp -o esp.img --label ESP --size 256MiB
  diskwright mkfs vfat floppy -o floppy.img --size 1440KiB --fat 12")]
    Vfat(Box<Vfat>),
}

/// What both filesystems take.
#[derive(Debug, clap::Args)]
struct Shared {
    /// Directory whose contents the filesystem holds [default: none, an empty filesystem]
    #[arg(value_name = "SOURCE")]
    source: Option<PathBuf>,
    /// Where the filesystem goes; `-` is standard output
    #[arg(short, long, value_name = "OUT", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Size, as 4096, 64MiB, 1.5GiB; or auto, as small as the contents and --free allow [default: auto]
    #[arg(long, value_name = "SIZE")]
    size: Option<DiskSize>,
    /// Room left for the running system where the size is auto [default: 16MiB for ext4, 0 for vfat]
    #[arg(long, value_name = "SIZE")]
    free: Option<Bytes>,
    /// Volume label: up to 16 bytes for ext4, 11 for vfat [default: none]
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    /// UUID, or for vfat a volume id such as 1234-ABCD [default: derived from the seed]
    #[arg(long, value_name = "ID")]
    uuid: Option<FilesystemId>,
    /// UUID from which every id derives that is not given [default: derived from the flags]
    #[arg(long, value_name = "UUID")]
    seed: Option<Guid>,
    /// Time the writer dates itself with, in seconds since 1970 [default: SOURCE_DATE_EPOCH, or else 0]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
    /// Owner of everything: root, preserve (as on the host), or UID:GID [default: root]
    #[arg(long, value_name = "OWNER")]
    owner: Option<Owner>,
    /// Names of one file: preserve, dissolve (into files), or dedupe (equal files become one)
    /// [default: preserve for ext4, dissolve for vfat]
    #[arg(long, value_name = "POLICY")]
    hardlinks: Option<Hardlinks>,
    /// Extended attributes that are kept, as patterns with `*`; give it again for more; '' keeps none
    /// [default: user.*, security.capability and POSIX ACLs for ext4, none for vfat]
    #[arg(long, value_name = "PATTERN")]
    xattrs: Vec<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Ext4 {
    #[command(flatten)]
    shared: Shared,
    /// Size up to which the kernel grows it while mounted before it needs meta_bg [default: 1024 times its own]
    #[arg(long, value_name = "SIZE")]
    grow_to: Option<Bytes>,
    /// Number of inodes, or auto: one for 16 KiB and some more than needed [default: auto]
    #[arg(long, value_name = "N")]
    inodes: Option<Inodes>,
    /// Journal: true, of the size e2fsprogs gives it; false, none; or a size [default: true]
    #[arg(long, value_name = "SIZE")]
    journal: Option<Journal>,
    /// What only the super-user can fill: a size, or percents as 5% [default: 0]
    #[arg(long, value_name = "SIZE")]
    reserved: Option<Reserved>,
    /// UUID that seeds the hashes of directories [default: the filesystem's own]
    #[arg(long, value_name = "UUID")]
    hash_seed: Option<Guid>,
    /// Times before 1901 and after 2446: refuse them, or clamp them to what ext4 holds [default: refuse]
    #[arg(long, value_name = "POLICY")]
    times: Option<TimePolicy>,
}

#[derive(Debug, clap::Args)]
struct Vfat {
    #[command(flatten)]
    shared: Shared,
    /// Width of the FAT: 12, 16 or 32 [default: by size, as mkfs.fat chooses]
    #[arg(long, value_name = "BITS")]
    fat: Option<FatBits>,
    /// Size of a cluster of the FAT: 1, 2, 4, … 128 sectors [default: by size, as mkfs.fat chooses]
    #[arg(long, value_name = "SIZE")]
    fat_cluster_size: Option<Bytes>,
    /// Bytes in a sector: 512 or 4096 [default: 512]
    #[arg(long, value_name = "BYTES")]
    sector_size: Option<u32>,
}

/// Runs `mkfs`.
pub(super) fn run(args: Args) -> Result<()> {
    match args.kind {
        Kind::Ext4(own) => {
            let mut filesystem = own.shared.filesystem(FilesystemKind::Ext4);
            filesystem.grow_to = own.grow_to;
            filesystem.inodes = own.inodes;
            filesystem.journal = own.journal;
            filesystem.reserved = own.reserved;
            filesystem.hash_seed = own.hash_seed;
            filesystem.times = own.times;
            own.shared.run(filesystem, None)
        }
        Kind::Vfat(own) => {
            let mut filesystem = own.shared.filesystem(FilesystemKind::Vfat);
            filesystem.fat = own.fat;
            filesystem.cluster_size = own.fat_cluster_size;
            own.shared.run(filesystem, own.sector_size)
        }
    }
}

impl Shared {
    /// The part of the filesystem's options that both have.
    fn filesystem(&self, kind: FilesystemKind) -> Filesystem {
        Filesystem {
            kind,
            label: self.label.clone(),
            uuid: self.uuid,
            free: self.free,
            hash_seed: None,
            grow_to: None,
            inodes: None,
            journal: None,
            reserved: None,
            times: None,
            fat: None,
            cluster_size: None,
        }
    }

    /// The flags as a manifest. The source is put in later: it may have a name of any bytes, and ids that derive from
    /// the flags shall not hang on it.
    fn manifest(&self, filesystem: Filesystem, sector_size: Option<u32>) -> schema::Manifest {
        let top = Entry { target: "/".to_owned(), owner: self.owner, ..Entry::default() };
        let contents = match (&self.source, self.owner) {
            (Some(_), _) => Some(Entry {
                source: Some(".".to_owned()),
                hardlinks: self.hardlinks,
                xattrs: Some(self.xattrs.clone()).filter(|patterns| !patterns.is_empty()),
                ..top
            }),
            // The root itself is all that an empty filesystem has an owner of.
            (None, Some(Owner::Preserve | Owner::Ids { .. })) => Some(Entry { directory: Some(true), ..top }),
            (None, None | Some(Owner::Root)) => None,
        };
        let size = match self.size {
            None | Some(DiskSize::Auto) => PartitionSize::Auto,
            Some(DiskSize::Fixed(size)) => PartitionSize::Fixed(size),
        };
        schema::Manifest {
            version: 1,
            disk: Disk {
                table: Some(Scheme::None),
                seed: self.seed,
                time: self.time,
                sector_size,
                ..Disk::default()
            },
            partition: vec![Partition {
                size: Some(size),
                filesystem: Some(filesystem),
                contents: contents.map(|entry| vec![entry]),
                ..Partition::default()
            }],
            nixos: None,
        }
    }

    /// What would be told in the words of a manifest otherwise.
    fn check(&self, sector_size: u32) -> Result<()> {
        if let Some(DiskSize::Fixed(size)) = self.size
            && (size == Bytes::ZERO || !size.is_multiple_of(sector_size.into()))
        {
            return Err(Error::new(ErrorKind::Usage, "a filesystem cannot have this size")
                .expected(format!("a multiple of {sector_size} bytes, or auto"))
                .found(format!("{} bytes", size.get())));
        }
        for (flag, given) in
            [("--hardlinks", self.hardlinks.is_some()), ("--xattrs", !self.xattrs.is_empty())]
        {
            if given && self.source.is_none() {
                return Err(Error::new(ErrorKind::Usage, format!("{flag} is for what a SOURCE brings"))
                    .hint("leave it out, or give a directory"));
            }
        }
        match &self.source {
            Some(source) if source.metadata().is_ok_and(|meta| !meta.is_dir()) => Err(Error::new(
                ErrorKind::Usage,
                "the source of a filesystem is a directory, whose contents it holds",
            )
            .at(source)
            .found("something else")
            .hint("give the directory that holds it, or describe the filesystem in a manifest")),
            _ => Ok(()),
        }
    }

    fn run(&self, filesystem: Filesystem, sector_size: Option<u32>) -> Result<()> {
        let options = self.common.options()?;
        let target = self.output.clone().map(Target::of);
        self.common.check(target.as_ref())?;
        self.check(sector_size.unwrap_or(512))?;
        let folder = self.source.as_deref().unwrap_or(Path::new("."));
        let manifest = Manifest::new(self.manifest(filesystem, sector_size), folder);
        let mut disk = resolve(&manifest, options.epoch)?;
        for partition in &mut disk.partitions {
            if let (Body::Filesystem(_, entries), Some(source)) = (&mut partition.body, &self.source) {
                for entry in entries {
                    if let What::Source { path, .. } = &mut entry.what {
                        path.clone_from(source);
                    }
                }
            }
        }
        self.common.run(&manifest, &disk, target.as_ref(), &options)
    }
}
