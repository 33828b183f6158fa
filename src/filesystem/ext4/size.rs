//! The size of a volume: the smallest one that holds its contents, or a given one if that is large enough.

use super::form::Form;
use super::geometry::{Geometry, Wish, most_inodes_per_group, too_large, with_spare};
use super::plan::{Allocation, Contents, Plan};
use super::{Journal, Parameters, Reserved};
use crate::error::{Error, Kind, Result};
use crate::filesystem::Size;
use crate::units::Bytes;

/// Journal blocks for a volume, as e2fsprogs gives them (lib/ext2fs/mkjournal.c, ext2fs_default_journal_size).
const fn default_journal(blocks: u64) -> u64 {
    match blocks {
        0..2048 => 0,
        2048..32_768 => 1024,
        32_768..262_144 => 4096,
        262_144..524_288 => 8192,
        524_288..4_194_304 => 16_384,
        4_194_304..8_388_608 => 32_768,
        8_388_608..16_777_216 => 65_536,
        16_777_216..33_554_432 => 131_072,
        _ => 262_144,
    }
}

/// The journal sizes of e2fsprogs, largest first. If the one for the grown volume does not fit, the next one
/// is tried.
const JOURNALS: [u64; 9] = [262_144, 131_072, 65_536, 32_768, 16_384, 8192, 4096, 1024, 0];
/// The smallest journal in blocks (JBD2_MIN_JOURNAL_BLOCKS), and the largest that e2fsprogs makes.
const SMALLEST_JOURNAL: u64 = 1024;
const LARGEST_JOURNAL: u64 = 10_240_000;

/// Reserved clusters: blocks that the kernel keeps back from everyone, so that a write that it has accepted
/// finds space for its metadata. They are 2 percent, at most 4096 (linux/fs/ext4/super.c,
/// ext4_calculate_resv_clusters). So users can fill less than the free space.
pub(super) fn kept_back(blocks: u64) -> u64 {
    (blocks / 50).min(4096)
}

impl Plan {
    /// Finds the size, then allocates a place for every block.
    pub(super) fn new(contents: Contents, options: &Parameters) -> Result<Self> {
        match options.size {
            Size::Auto => Self::smallest(contents, options),
            Size::Fixed(size) => Self::fixed(contents, options, size),
        }
    }

    /// The smallest volume that holds the contents and the free space asked for. It is found by fixed-point
    /// iteration: the needs of a volume grow with its size, but slower than the size. The first rounds use a
    /// lower bound of the used blocks, which is one sum; the next rounds use real allocations. If an
    /// additional group makes the tables smaller, the result is a few blocks too large, so the size that it
    /// needs is tried as well.
    fn smallest(contents: Contents, options: &Parameters) -> Result<Self> {
        let mut blocks = 1 + contents.form.first();
        let sure = contents.surely_used();
        loop {
            let geometry = geometry(&contents, options, blocks)?;
            let used = sure + journal(options, blocks)? + u64::from(geometry.resize_inode);
            let needed = needed(&contents, options, &geometry, used);
            if needed <= blocks {
                break;
            }
            blocks = needed;
        }
        let mut found = None;
        loop {
            let geometry = geometry(&contents, options, blocks)?;
            let allocation = contents.allocate(&geometry, journal(options, blocks)?)?;
            let needed = needed(&contents, options, &geometry, allocation.used);
            if needed > blocks && found.is_some() {
                break;
            }
            if needed <= blocks {
                found = Some((geometry, allocation));
            }
            if needed == blocks {
                break;
            }
            blocks = needed;
        }
        let Some((geometry, allocation)) = found else { return Err(Error::bug("no size suffices")) };
        let inodes = wanted_inodes(&contents, options);
        if geometry.inodes() < inodes {
            return Err(too_many_inodes(inodes, &geometry));
        }
        let reserved_blocks = reserved(options, &geometry.form, geometry.blocks);
        Ok(Self { contents, geometry, allocation, reserved_blocks })
    }

    /// A volume of a given size.
    fn fixed(contents: Contents, options: &Parameters, size: Bytes) -> Result<Self> {
        let form = contents.form;
        let blocks = size.get() / form.block;
        if blocks > form.most_blocks() {
            return Err(too_large(&form, blocks).about("size"));
        }
        match fit(&contents, options, blocks)? {
            Ok((geometry, allocation)) => {
                let reserved_blocks = reserved(options, &form, geometry.blocks);
                if reserved_blocks > geometry.blocks / 2 {
                    let half = Bytes::new(geometry.blocks / 2 * form.block);
                    return Err(Error::new(
                        Kind::Capacity,
                        "ext4 keeps no more than half of itself for the super-user",
                    )
                    .about("reserved")
                    .expected(format!("at most {}", half.human()))
                    .found(Bytes::new(reserved_blocks * form.block).human()));
                }
                Ok(Self { contents, geometry, allocation, reserved_blocks })
            }
            Err(Missing(mut missing)) => {
                // A larger volume needs slightly more metadata; the size in the error must suffice.
                while let Err(Missing(more)) = fit(&contents, options, blocks + missing)? {
                    missing += more;
                }
                Err(too_small(&contents, size, missing))
            }
        }
    }
}

/// Blocks that a volume of this geometry must have if its contents use `used` blocks.
fn needed(contents: &Contents, options: &Parameters, geometry: &Geometry, used: u64) -> u64 {
    let form = &geometry.form;
    let reserved = reserved(options, form, geometry.blocks);
    let free = Bytes::new(options.free.map_or(DEFAULT_FREE, Bytes::get)).div_ceil(form.block)
        + kept_back(geometry.blocks)
        + reserved;
    (form.first() + geometry.metadata() + used)
        .saturating_add(free)
        .max(geometry.shortest())
        .max(inodes_need(wanted_inodes(contents, options), geometry))
        // At most half of the blocks may be reserved for the super-user (e2fsck/super.c, check_super_block).
        .max(reserved.saturating_mul(2))
}

/// At least how many blocks a volume lacks.
struct Missing(u64);

/// Tries to fit contents into a volume of `blocks` blocks.
fn fit(
    contents: &Contents,
    options: &Parameters,
    mut blocks: u64,
) -> Result<Result<(Geometry, Allocation), Missing>> {
    let asked = blocks;
    let mut geometry = geometry(contents, options, blocks)?;
    if geometry.shortest() > blocks && geometry.groups > 1 {
        // A last group that is too short for its own metadata is left out, as in mke2fs.
        blocks = geometry.form.group_start(geometry.groups - 1);
        geometry = self::geometry(contents, options, blocks)?;
    }
    let wanted = journal(options, blocks)?;
    // Only a journal of default size may be smaller than the one for the grown volume.
    let least = match options.journal {
        Journal::Auto => default_journal(blocks).max(least_journal(options)),
        _ => wanted,
    };
    let sizes = std::iter::once(wanted)
        .chain(JOURNALS.into_iter().filter(|journal| *journal < wanted && *journal >= least));
    let mut needed = 0;
    for journal in sizes {
        let allocation = contents.allocate(&geometry, journal)?;
        needed = (geometry.form.first() + geometry.metadata() + allocation.used).max(geometry.shortest());
        if needed <= blocks {
            return Ok(Ok((geometry, allocation)));
        }
    }
    // If the last group is cut, the sum may still fit. Then one block more is needed for that group.
    Ok(Err(Missing(needed.saturating_sub(asked).max(1))))
}

/// Free space if none is asked for, 16 MiB. A system needs some to make directories and files at its first
/// boot (an exactly full root does not boot), and with it every filesystem of automatic size is large enough
/// for a journal.
const DEFAULT_FREE: u64 = 16 << 20;

fn geometry(contents: &Contents, options: &Parameters, blocks: u64) -> Result<Geometry> {
    let used_inodes = contents.inodes.used();
    if let Some(inodes) = options.inodes
        && inodes < used_inodes
    {
        return Err(Error::new(Kind::Capacity, "fewer inodes are asked for than the contents need")
            .about("inodes")
            .expected(format!("at least {used_inodes}, of which 11 are reserved"))
            .found(inodes));
    }
    if let Some(inodes) = options.inodes.filter(|inodes| *inodes > u64::from(u32::MAX)) {
        return Err(Error::new(Kind::Capacity, "no filesystem has so many inodes")
            .about("inodes")
            .expected(format!("at most {}, as their numbers have 32 bits", u32::MAX))
            .found(inodes));
    }
    let form = contents.form;
    let geometry = Geometry::new(&Wish {
        form,
        blocks,
        used_inodes,
        inodes: options.inodes,
        ratio: options.ratio.get(),
        grow_to: options.grow_to.map(|size| size.get() / form.block),
    })?;
    let inodes = wanted_inodes(contents, options);
    match options.size {
        Size::Fixed(_) if geometry.inodes() < inodes => Err(too_many_inodes(inodes, &geometry)),
        _ => Ok(geometry),
    }
}

/// The number of inodes that the filesystem needs: those in use or those asked for, whichever is more. If nobody asks
/// and the size is automatic, it has spare ones for the running system.
fn wanted_inodes(contents: &Contents, options: &Parameters) -> u64 {
    let used = contents.inodes.used();
    match (options.inodes, options.size) {
        (Some(inodes), _) => inodes.max(used),
        (None, Size::Auto) => with_spare(used),
        (None, Size::Fixed(_)) => used,
    }
}

fn too_many_inodes(inodes: u64, geometry: &Geometry) -> Error {
    Error::new(Kind::Capacity, "the filesystem cannot hold that many inodes at its size")
        .about("inodes")
        .expected(format!(
            "at most {} for {}",
            geometry.most_inodes(),
            Bytes::new(geometry.blocks * geometry.form.block).human()
        ))
        .found(inodes)
}

/// The smallest number of blocks with enough groups for this many inodes.
fn inodes_need(inodes: u64, geometry: &Geometry) -> u64 {
    if geometry.inodes() >= inodes {
        return 0;
    }
    let most = most_inodes_per_group(&geometry.form, 1);
    geometry.form.group_start(inodes.div_ceil(most) - 1) + 1
}

fn reserved(options: &Parameters, form: &Form, blocks: u64) -> u64 {
    match options.reserved {
        Reserved::Bytes(bytes) => bytes.div_ceil(form.block),
        Reserved::Percent(percent) => blocks * u64::from(percent.min(50)) / 100,
    }
}

/// The fewest blocks of a journal, where there has to be one.
const fn least_journal(options: &Parameters) -> u64 {
    if options.needs_journal { SMALLEST_JOURNAL } else { 0 }
}

/// Blocks of the journal, for the size to which the volume may grow.
fn journal(options: &Parameters, blocks: u64) -> Result<u64> {
    let block = options.form.block;
    match options.journal {
        Journal::None => Ok(0),
        Journal::Auto => {
            let grown = options.grow_to.map_or(0, |size| size.get() / block);
            Ok(default_journal(blocks.max(grown)).max(least_journal(options)))
        }
        Journal::Size(size) => {
            let journal = size.div_ceil(block);
            if (SMALLEST_JOURNAL..=LARGEST_JOURNAL).contains(&journal) {
                return Ok(journal);
            }
            Err(Error::new(Kind::Manifest, "an ext4 journal cannot have that size")
                .about("journal")
                .expected(format!(
                    "{} to {}",
                    Bytes::new(SMALLEST_JOURNAL * block).human(),
                    Bytes::new(LARGEST_JOURNAL * block).human()
                ))
                .found(size.human())
                .or_hint(size.number_alone()))
        }
    }
}

/// The error for contents that do not fit: by how much, and which of them are large.
fn too_small(contents: &Contents, size: Bytes, missing: u64) -> Error {
    let block = contents.form.block;
    let missing = Bytes::new(missing.saturating_mul(block));
    Error::new(
        Kind::Capacity,
        format!("the contents do not fit the ext4 filesystem: {} too much", missing.human()),
    )
    .needs(size.round_down(block) + missing)
    .expected(format!("a size of at least {}", (size.round_down(block) + missing).to_write()))
    .found(size.human())
    .or_hint(contents.tree.largest_hint())
}
