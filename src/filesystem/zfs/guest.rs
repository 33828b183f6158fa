//! A pool that OpenZFS itself makes or fills, in a helper VM.
//!
//! Where the writer in process can make the pool, it makes it empty, and the machine imports it, copies and exports it: ids and
//! properties are then the same both ways. Else the machine makes it too.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::dataset::Dataset;
use super::division::Division;
use super::ids::Ids;
use super::options::{DatasetOptions, Options};
use super::parameters::{ASHIFT, Parameters};
use super::payload::Payload;
use super::vdevs::Vdevs;
use super::{Prepared, inside, properties, size, whole};
use crate::error::{Error, Kind, Result, Warning};
use crate::filesystem::{Facts, Filesystem, Other, Placement, Size};
use crate::helper::job::{Copy, Step, Word};
use crate::helper::{Disk, Helper, Need, PAYLOAD};
use crate::image::{Builder, Image};
use crate::option::{option, setting};
use crate::pour::Packer;
use crate::pour::spool::Spool;
use crate::pour::zeros::is_zero;
use crate::table::{self, Array, Scheme, Type, Wish};
use crate::tree::Tree;
use crate::units::{Bytes, MIB, u64_of, usize_of};

/// What the machine needs.
const NEED: Need = Need {
    module: "zfs",
    modules: &["erofs"],
    programs: &["zpool", "zfs"],
    data: &["share/zfs/compatibility.d", "usr/share/zfs/compatibility.d", "etc/zfs/compatibility.d"],
    modules_from: "packages have them: zfs-dkms of Debian with the kernel's headers, zfs of nixpkgs' kernelPackages (boot.zfs.enabled of a system)",
    programs_from: "packages have them: zfsutils-linux of Debian, zfs of nixpkgs",
};
/// Where a disk of the machine has the vdev: behind the table, as `zpool create` puts it.
const START: Bytes = Bytes::new(MIB);
/// Folders of the machine: the contents, datasets, keys, and what `zpool create` mounts by itself.
const CONTENTS: &str = "/contents";
const DATASETS: &str = "/datasets";
const KEYS: &str = "keys";
const ELSEWHERE: &str = "/elsewhere";
/// Bytes that are kept at a time.
const PIECE: u64 = MIB;

/// Refuses what only a helper VM does.
pub(super) fn refuse(options: &Options) -> Result<()> {
    for (key, there) in [
        ("vdevs", options.vdevs.is_some()),
        ("vdev_sizes", !options.vdev_sizes.is_empty()),
        ("keys", !options.keys.is_empty()),
    ] {
        if there {
            return Err(Error::new(
                Kind::Manifest,
                format!("{} is for pools that OpenZFS makes in a helper VM", option(key)),
            )
            .about(key)
            .hint(format!("add {}", setting("via", "vm"))));
        }
    }
    Ok(())
}

/// Builds a pool.
///
/// # Errors
/// As [`super::build`] for options that make no pool; [`Kind::Source`] where the machine lacks something, or fails, with its
/// words.
pub(super) fn build(
    tree: &std::sync::Arc<Tree>,
    options: &Options,
    at: &Placement,
    packer: &Packer,
) -> Result<Filesystem> {
    let vdevs = Vdevs::new(options)?;
    tree.check_names(super::LONGEST_NAME)?;
    let own = Parameters::new(options, at);
    let is_own = own.is_ok() && vdevs.disks.len() == 1 && options.vdevs.is_none() && options.keys.is_empty();
    let parameters = match own {
        Ok(parameters) if is_own => {
            parameters.check_grub(tree)?;
            parameters
        }
        // Names and mount points are refused here as ever; what properties mean is for OpenZFS to say.
        _ => Parameters::new(&plain(options), at)?,
    };
    let members: Vec<_> = parameters.datasets.iter().map(Dataset::member).collect();
    let division = Division::new(tree, &members)?;
    let length = match at.size {
        Size::Fixed(length) => length,
        Size::Auto if is_own => {
            let prepared = Prepared::new(tree, &parameters, packer)?;
            size::fit(tree, &parameters, &prepared, Size::Auto)?.1.round_up(MIB)
        }
        Size::Auto => {
            return Err(Error::new(Kind::Manifest, "a pool that OpenZFS makes has a size that is given")
                .about("size")
                .expected("a size, which is that of the first disk"));
        }
    };
    let is_whole = options.whole_disk.unwrap_or_default();
    if is_whole && !length.is_multiple_of(MIB) {
        return Err(Error::new(Kind::Manifest, "a pool that has a disk alone is whole MiB large")
            .about("size")
            .found(length.in_full()));
    }
    // The writer in process fills volumes itself.
    let (volumes, warnings) = match is_own {
        true => Default::default(),
        false => inside::build(tree, &parameters, &division, packer)?,
    };
    let payload = Payload::new(tree, &volumes, at, packer)?;
    let making = Making {
        tree,
        options,
        at,
        packer,
        parameters,
        division,
        payload,
        warnings,
        vdevs,
        length,
        is_own,
        is_whole,
        ids: Ids(at.id),
    };
    making.run()
}

/// The options without what only OpenZFS may understand.
fn plain(options: &Options) -> Options {
    let datasets = options.datasets.iter().map(|(name, dataset)| {
        let kept = dataset.properties.iter().filter(|(name, value)| {
            name.as_str() == "volblocksize" && properties::dataset(name, &value.0, true).is_ok()
        });
        let properties = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        (name.clone(), DatasetOptions { properties, ..dataset.clone() })
    });
    Options {
        compress: None,
        compatibility: None,
        pool_properties: BTreeMap::new(),
        properties: BTreeMap::new(),
        datasets: datasets.collect(),
        ..options.clone()
    }
}

struct Making<'a> {
    tree: &'a std::sync::Arc<Tree>,
    options: &'a Options,
    at: &'a Placement,
    packer: &'a Packer,
    parameters: Parameters,
    division: Division,
    payload: Payload,
    warnings: Vec<Warning>,
    vdevs: Vdevs,
    /// Bytes of the first vdev.
    length: Bytes,
    /// Whether the writer in process makes the pool.
    is_own: bool,
    /// Whether the pool has its disks alone.
    is_whole: bool,
    ids: Ids,
}

/// A command of the machine.
fn command<const N: usize>(words: [&str; N]) -> Vec<Word> {
    words.into_iter().map(Word::from).collect()
}

/// A mount point as the tree has its paths.
fn normal(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}

impl Making<'_> {
    fn run(mut self) -> Result<Filesystem> {
        let mut made = if self.is_own {
            self.parameters.empty();
            let prepared = Prepared::new(self.tree, &self.parameters, self.packer)?;
            Some(super::made(self.tree, &self.parameters, &prepared, Size::Fixed(self.length))?)
        } else {
            None
        };
        let spools = self.spools(made.as_ref().map(|made| &made.image))?;
        let disks =
            self.vdevs.disks.iter().zip(&spools).map(|(name, spool)| Disk { name, file: spool.file() });
        let disks: Vec<Disk<'_>> = disks.collect();
        let files = self.keys()?;
        let helper = Helper {
            options: &self.options.vm,
            need: &NEED,
            files: &files,
            disks: &disks,
            payload: &self.payload.image,
            packer: self.packer,
        };
        let outcome = helper.run(self.steps()?)?;
        drop(disks);
        let facts = self.facts(outcome.told.first().map_or("", String::as_str))?;
        let (image, others) = self.images(spools)?;
        let mut warnings = match &mut made {
            Some(made) => std::mem::take(&mut made.warnings),
            None => {
                self.tree.owner_warnings().into_iter().chain(std::mem::take(&mut self.warnings)).collect()
            }
        };
        warnings.extend(outcome.warnings.into_iter().map(Warning));
        Ok(Filesystem { image, facts, warnings, others })
    }

    fn name(&self) -> &str {
        &self.parameters.name
    }

    /// The whole name of a dataset's options.
    fn options_of(&self, dataset: &Dataset) -> Option<&DatasetOptions> {
        let own = dataset.name.strip_prefix(self.name())?.strip_prefix('/')?;
        self.options.datasets.get(own)
    }

    /// The disks of the machine, with the pool on the first one if it is there.
    fn spools(&self, pool: Option<&Image>) -> Result<Vec<Spool>> {
        let mut spools = Vec::new();
        for name in &self.vdevs.disks {
            let length = self.vdevs.size(name, self.length);
            let rest = if self.is_whole { whole::RESERVED_SIZE + START } else { START };
            let whole = START + length.round_up(MIB) + rest;
            let mut spool = self.packer.spool(format!("disk of the pool {}", self.name()))?;
            spool.lengthen(whole)?;
            // `zpool create` makes the table of a disk that it has alone.
            if self.is_own || !self.is_whole {
                keep(&self.disk(name, length, whole, pool)?, &spool)?;
            }
            spools.push(spool);
        }
        Ok(spools)
    }

    /// A disk with a table, and the pool in its first partition.
    fn disk(&self, name: &str, length: Bytes, whole: Bytes, pool: Option<&Image>) -> Result<Image> {
        let guid = |what: &str| {
            let number = |half: &str| self.ids.number(&format!("{what} {name} {half}"));
            Uuid::from_u64_pair(number("high"), number("low"))
        };
        let wish = |number, start: Option<Bytes>, size, kind: &str, label: String| -> Result<Wish> {
            Ok(Wish {
                number: Some(number),
                start,
                size: table::Size::Exactly(size),
                kind: Type::parse(kind, None)?,
                guid: guid(kind),
                label,
                attributes: 0,
                active: false,
                logical: false,
            })
        };
        let label = format!("zfs-{:016x}", self.ids.number(&format!("label {name}")));
        let mut partitions = vec![wish(1, Some(START), length, "zfs", label)?];
        if self.is_whole {
            let kind = whole::RESERVED_TYPE;
            partitions.push(wish(whole::RESERVED, None, whole::RESERVED_SIZE, kind, String::new())?);
        }
        let plan = table::place(&table::Request {
            scheme: Scheme::Gpt,
            sector_size: 512,
            disk_size: Some(whole),
            guid: guid("disk"),
            signature: 0,
            first_lba: None,
            array: Array::default(),
            align: Bytes::new(table::GRAIN),
            hybrid: table::Hybrid::default(),
            extended: None,
            same_guids: false,
            partitions,
        })?;
        let mut image = Builder::new(whole);
        plan.write(&mut image)?;
        if let Some(pool) = pool {
            image.put(START, &pool.whole());
        }
        image.finish()
    }

    /// What comes out: the first vdev, and further disks.
    fn images(&self, spools: Vec<Spool>) -> Result<(Image, Vec<Other>)> {
        let (mut first, mut others) = (None, Vec::new());
        for (name, spool) in self.vdevs.disks.iter().zip(spools) {
            let disk = spool.finish_sparse()?;
            let length = self.vdevs.size(name, self.length);
            let vdev = || {
                let mut image = Builder::new(length);
                image.put(Bytes::ZERO, &disk.slice(START, START + length));
                image.finish()
            };
            if first.is_none() {
                first = Some(vdev()?);
            } else {
                let image = if self.at.bare { vdev()? } else { disk.clone() };
                others.push(Other { name: name.clone(), image });
            }
        }
        Ok((first.ok_or_else(|| Error::bug("a pool has no disk"))?, others))
    }

    /// The files with keys, as the machine has them.
    fn keys(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        for (number, (name, path)) in self.options.keys.iter().enumerate() {
            if !self.parameters.datasets.iter().any(|dataset| dataset.name == *name) {
                return Err(Error::new(
                    Kind::Manifest,
                    "a key is given for a dataset that is not in the pool",
                )
                .about("keys")
                .expected(format!("its name with the pool, such as {}/root", self.name()))
                .found(name));
            }
            let failed = |error| Error::io(Kind::Source, "cannot read the key of a dataset", path, error);
            files.push((format!("{KEYS}/{number}"), std::fs::read(path).map_err(failed)?));
        }
        Ok(files)
    }

    /// The words that take a dataset's key from its file, in place of where it is later.
    fn key(&self, name: &str) -> Option<String> {
        let number = self.options.keys.keys().position(|key| key == name)?;
        Some(format!("keylocation=file:///{KEYS}/{number}"))
    }

    fn steps(&self) -> Result<Vec<Step>> {
        let mut steps = vec![Step::Mount {
            kind: "erofs".to_owned(),
            source: Word::Disk(PAYLOAD.to_owned()),
            at: CONTENTS.to_owned(),
            is_read: true,
        }];
        if self.is_own {
            let mut import = command(["zpool", "import", "-N", "-o", "cachefile=none", "-d"]);
            let disk = self.vdevs.disks.first().ok_or_else(|| Error::bug("a pool has no disk"))?;
            import.extend([Word::Part(disk.clone()), self.name().into()]);
            steps.push(Step::Run { words: import });
        } else {
            self.create(&mut steps);
        }
        self.copy(&mut steps)?;
        for dataset in &self.parameters.datasets {
            // Snapshots of volumes of our own are there already.
            let made = dataset.snapshots.iter().filter(|_| !self.is_own);
            for snapshot in made.chain(self.late_snapshots(dataset)) {
                steps.push(Step::Run {
                    words: command(["zfs", "snapshot", &format!("{}@{snapshot}", dataset.name)]),
                });
            }
        }
        let name = self.name();
        steps.push(Step::Ask { words: command(["zpool", "list", "-H", "-p", "-o", "guid,size,free", name]) });
        steps.push(Step::Run { words: command(["zpool", "export", name]) });
        Ok(steps)
    }

    /// Snapshots of the contents, which the empty pool does not have.
    fn late_snapshots(&self, dataset: &Dataset) -> impl Iterator<Item = &String> {
        let late = self.is_own && !dataset.is_volume();
        let options = self.options_of(dataset).filter(|_| late);
        options.into_iter().flat_map(|options| &options.snapshots)
    }

    /// Makes the pool and its datasets.
    fn create(&self, steps: &mut Vec<Step>) {
        let name = self.name();
        let mut run = |words| steps.push(Step::Run { words });
        let mut create = command(["zpool", "create", "-f", "-R", ELSEWHERE]);
        let mut option = |letter: &str, text: String| create.extend([letter.into(), Word::Text(text)]);
        let given = &self.options.pool_properties;
        if self.options.ashift.is_some() || !given.contains_key("ashift") {
            option("-o", format!("ashift={}", self.options.ashift.unwrap_or(ASHIFT)));
        }
        if let Some(set) = &self.options.compatibility {
            option("-o", format!("compatibility={set}"));
        }
        // `bootfs` names a dataset that is not there yet, and a running system has its own cache.
        let later = ["bootfs", "cachefile", if self.options.ashift.is_some() { "ashift" } else { "" }];
        for (property, value) in given.iter().filter(|(property, _)| !later.contains(&property.as_str())) {
            option("-o", format!("{property}={}", value.0));
        }
        let own = &self.options.properties;
        if !own.contains_key("compression") {
            option("-O", format!("compression={}", self.options.compress.as_deref().unwrap_or("lz4")));
        }
        for (property, value) in own.iter().filter(|(property, _)| self.is_now(name, property)) {
            option("-O", format!("{property}={}", value.0));
        }
        if let Some(key) = self.key(name) {
            option("-O", key);
        }
        create.push(name.into());
        create.extend(self.vdevs.words(self.is_whole));
        run(create);
        for (number, dataset) in (0..).zip(&self.parameters.datasets).skip(1) {
            self.create_dataset((number, dataset), steps);
        }
        if let Some(boot) = given.get("bootfs") {
            let whole = boot.0 == name || boot.0.starts_with(&format!("{name}/"));
            let boot = if whole { boot.0.clone() } else { format!("{name}/{}", boot.0) };
            steps.push(Step::Run { words: command(["zpool", "set", &format!("bootfs={boot}"), name]) });
        }
        // What was mounted by itself is mounted for the copy.
        steps.push(Step::Run { words: command(["zfs", "unmount", "-a"]) });
        for (dataset, location) in self.options.keys.keys().map(|name| (name, self.location(name))) {
            steps.push(Step::Run {
                words: command(["zfs", "set", &format!("keylocation={location}"), dataset]),
            });
        }
    }

    /// Whether a property is set when a dataset is made: the place of its key is another one until then.
    fn is_now(&self, dataset: &str, property: &str) -> bool {
        property != "keylocation" || !self.options.keys.contains_key(dataset)
    }

    /// Where a running system finds the key of a dataset.
    fn location(&self, name: &str) -> &str {
        let dataset = self.parameters.datasets.iter().find(|dataset| dataset.name == name);
        let options = dataset.and_then(|dataset| self.options_of(dataset));
        let properties = options.map_or(&self.options.properties, |options| &options.properties);
        properties.get("keylocation").map_or("prompt", |value| value.0.as_str())
    }

    fn create_dataset(&self, (number, dataset): (u16, &Dataset), steps: &mut Vec<Step>) {
        let none = DatasetOptions::default();
        let options = self.options_of(dataset).unwrap_or(&none);
        let mut create = command(["zfs", "create"]);
        if !dataset.is_volume() {
            // Mounted, it would leave a directory in its parent.
            create.push("-u".into());
        }
        let mut option = |letter: &str, text: String| create.extend([letter.into(), Word::Text(text)]);
        if let Some((size, block)) = dataset.volume() {
            option("-V", size.to_string());
            if !options.properties.contains_key("volblocksize") {
                option("-o", format!("volblocksize={block}"));
            }
        }
        // `zfs create` takes `auto` for a number, and reserves so much by itself.
        let is_thick = |name: &str, value: &str| {
            dataset.is_volume() && (name, value) == (properties::REFERENCED_RESERVATION, properties::AUTO)
        };
        for (property, value) in options
            .properties
            .iter()
            .filter(|(name, value)| self.is_now(&dataset.name, name) && !is_thick(name, &value.0))
        {
            option("-o", format!("{property}={}", value.0));
        }
        if let Some(key) = self.key(&dataset.name) {
            option("-o", key);
        }
        create.push(dataset.name.as_str().into());
        let snapshots = dataset.empty_snapshots.iter();
        let snapshots =
            snapshots.map(|name| command(["zfs", "snapshot", &format!("{}@{name}", dataset.name)]));
        let commands: Vec<Vec<Word>> = std::iter::once(create).chain(snapshots).collect();
        let filled = match (self.payload.of(number), &options.file) {
            (Some(pieces), _) => Some((Word::Disk(PAYLOAD.to_owned()), Some(pieces.to_vec()))),
            (None, Some(file)) if dataset.is_volume() => {
                Some((Word::Text(format!("{CONTENTS}{}", normal(file))), None))
            }
            _ => None,
        };
        match filled {
            Some((from, pieces)) => {
                steps.push(Step::Fill { commands, device: "zd".to_owned(), from, pieces });
            }
            None => steps.extend(commands.into_iter().map(|words| Step::Run { words })),
        }
    }

    /// Mounts the datasets with contents, and copies those.
    fn copy(&self, steps: &mut Vec<Step>) -> Result<()> {
        let mut copy = Copy { from: CONTENTS.to_owned(), ..Copy::default() };
        let mut mounted = Vec::new();
        for (number, dataset) in (0..).zip(&self.parameters.datasets) {
            let root = self.division.root(number)?;
            let Some(mount) = dataset.mount.as_deref().filter(|_| root.is_some()) else { continue };
            if dataset.is_volume() {
                copy.without.push(normal(mount));
                continue;
            }
            let at = format!("{DATASETS}/{number}");
            copy.to.insert(normal(mount), at.clone());
            steps.push(Step::Mount {
                kind: "zfs".to_owned(),
                source: dataset.name.as_str().into(),
                at: at.clone(),
                is_read: false,
            });
            mounted.push(at);
        }
        copy.ranges = self.ranges();
        steps.push(Step::Copy(copy));
        mounted.push(CONTENTS.to_owned());
        steps.extend(mounted.into_iter().map(|at| Step::Unmount { at }));
        Ok(())
    }

    /// Where files with holes have data. Names that are not UTF-8 are left out: their zeros are read and become holes all the
    /// same.
    fn ranges(&self) -> BTreeMap<String, Vec<(u64, u64)>> {
        let tree = self.tree;
        let files = tree.ids().filter_map(|node| Some((tree.path_bytes(node), tree.ranges(node)?)));
        let files =
            files.filter_map(|(path, ranges)| Some((normal(std::str::from_utf8(&path).ok()?), ranges)));
        files
            .map(|(path, ranges)| (path, ranges.iter().map(|own| (own.start, own.length)).collect()))
            .collect()
    }

    /// What the pool says of itself: GUID, size and free space.
    fn facts(&self, told: &str) -> Result<Facts> {
        let mut words = told.split_whitespace();
        let guid = words.next().unwrap_or_default().to_owned();
        let mut number = || {
            let found = words.next().and_then(|word| word.parse::<u64>().ok());
            found.ok_or_else(|| {
                Error::new(Kind::Source, "the pool says nothing of its size").found(told.trim())
            })
        };
        let (size, free) = (number()?, number()?);
        let set = self.options.pool_properties.get("ashift").and_then(|value| value.0.parse().ok());
        let ashift = self.options.ashift.or(set).unwrap_or(ASHIFT);
        let unit = 1_u64.checked_shl(ashift.into()).unwrap_or(1);
        Ok(Facts {
            kind: "zfs",
            label: self.name().to_owned(),
            uuid: guid,
            block_size: unit,
            blocks: size / unit,
            free_blocks: free / unit,
            journal: 0,
            inodes: None,
            free_inodes: None,
        })
    }
}

/// Writes an image to the file of a spool; what is zero stays a hole.
fn keep(image: &Image, spool: &Spool) -> Result<()> {
    let mut cursor = image.cursor();
    let mut piece = Vec::new();
    for segment in image.segments() {
        let (mut at, end) = (segment.offset.get(), segment.end().get());
        while at < end {
            piece.resize(usize_of(PIECE.min(end - at)), 0);
            cursor.read(at, &mut piece)?;
            if !is_zero(&piece) {
                spool.keep(&piece, at)?;
            }
            at += u64_of(piece.len());
        }
    }
    Ok(())
}
