//! What a pool is, with every default filled in and every name and value checked.

use std::sync::Arc;

use super::compress::Compression;
use super::data;
use super::dataset::{Dataset, check_part};
use super::features::{self, Enabled};
use super::grub;
use super::ids::Ids;
use super::options::{DatasetOptions, Options};
use super::pool;
use super::properties::{self, PoolMeaning};
use super::sets::{self, Sets};
use super::space::Geometry;
use crate::error::{Error, Kind, Result};
use crate::filesystem::Placement;
use crate::option::option;
use crate::text::shortened;
use crate::tree::{Time, Tree};
use crate::units::Bytes;

/// The parameters of a pool.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    pub(super) name: String,
    pub(super) ids: Ids,
    pub(super) time: Time,
    pub(super) ashift: u8,
    pub(super) free: Option<Bytes>,
    grow_to: Option<Bytes>,
    pub(super) enabled: Enabled,
    compatibility: Option<String>,
    comment: Option<String>,
    properties: Vec<(String, u64)>,
    boot: Option<usize>,
    is_whole_disk: bool,
    /// Whether filesystems are left empty, for OpenZFS to fill.
    is_empty: bool,
    /// Parents before children; the first is the pool's own.
    pub(super) datasets: Vec<Dataset>,
}

/// Names of pools that mean something else, or begin so (module/zcommon/zfs_namecheck.c, pool_namecheck).
const RESERVED: [&str; 4] = ["mirror", "raidz", "draid", "spare"];
/// Bytes in the longest name of a pool: the 255 of a dataset, without those of `$ORIGIN` twice and of two separators
/// (module/zcommon/zfs_namecheck.c, pool_namecheck).
const LONGEST_POOL: usize = 255 - 2 - 2 * "$ORIGIN".len();
/// Names in the deepest name of a dataset, the pool's among them (the module's parameter zfs_max_dataset_nesting).
const DEEPEST: usize = 50;
/// The usual name of a pool.
const USUAL: &str = "tank";
/// The usual unit: pages of disks that say 512 bytes are 4 KiB all the same.
pub(super) const ASHIFT: u8 = 12;

/// Refuses a name that no pool can have.
fn check_pool(name: &str) -> Result<()> {
    check_part(name, name, "pool")?;
    if name.len() > LONGEST_POOL {
        return Err(Error::new(Kind::Manifest, "the name of the pool is too long")
            .about("pool")
            .expected(format!("at most {LONGEST_POOL} bytes"))
            .found(name.len()));
    }
    let begins = name.starts_with(|letter: char| letter.is_ascii_alphabetic());
    if !begins || name == "log" || RESERVED.iter().any(|reserved| name.starts_with(reserved)) {
        return Err(Error::new(Kind::Manifest, "no ZFS pool can have this name")
            .about("pool")
            .expected("a name that begins with a letter, and not with mirror, raidz, draid or spare, nor log")
            .found(format!("`{name}`")));
    }
    Ok(())
}

impl Parameters {
    /// The parameters that options ask for.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for names and values that OpenZFS would refuse, or that are not written here.
    pub(super) fn new(options: &Options, at: &Placement) -> Result<Self> {
        let name = options.pool.clone().unwrap_or_else(|| USUAL.to_owned());
        check_pool(&name)?;
        let mut parameters = Self {
            ids: Ids(at.id),
            time: at.time,
            ashift: options.ashift.unwrap_or(ASHIFT),
            free: options.free,
            grow_to: options.grow_to,
            enabled: Enabled::new(&Sets::parse(sets::ALL)?, &[])?,
            compatibility: None,
            comment: None,
            properties: Vec::new(),
            boot: None,
            is_whole_disk: options.whole_disk.unwrap_or_default(),
            is_empty: false,
            datasets: Vec::new(),
            name,
        };
        parameters.add_datasets(options)?;
        parameters.set_pool(options).map_err(|error| match error.key() {
            Some(_) => error,
            None => error.about("pool_properties"),
        })?;
        if !(9..=16).contains(&parameters.ashift) {
            return Err(Error::new(Kind::Manifest, "ZFS cannot allocate in units of that size")
                .about("ashift")
                .expected("9 to 16, which is 512 bytes to 64 KiB")
                .found(parameters.ashift));
        }
        parameters.check_features()?;
        Ok(parameters)
    }

    /// Takes the datasets, parents first.
    fn add_datasets(&mut self, options: &Options) -> Result<()> {
        let mut own = Dataset::below(None, self.name.clone());
        if let Some(compress) = &options.compress {
            if options.properties.contains_key("compression") {
                return Err(Error::new(Kind::Manifest, "the compression is said twice")
                    .about("compress")
                    .expected(format!("{}, or the property `compression`", option("compress"))));
            }
            own.set("compression", compress).map_err(|error| error.about("compress"))?;
        }
        for (name, value) in &options.properties {
            own.set(name, &value.0).map_err(|error| error.about("properties"))?;
        }
        own.check_sizes().map_err(|error| error.about("properties"))?;
        let is_root = |dataset: &DatasetOptions| {
            dataset.mount.as_ref().is_some_and(|mount| mount.trim_matches('/').is_empty())
        };
        // What no other dataset has is the pool's own.
        own.mount = (!options.datasets.values().any(is_root)).then(|| "/".to_owned());
        self.datasets.push(own);
        for (name, dataset) in &options.datasets {
            self.add(name, dataset)
                .map_err(|error| error.at(format!("dataset {}/{name}", self.name)).about("datasets"))?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, options: &DatasetOptions) -> Result<()> {
        let whole = format!("{}/{name}", self.name);
        for part in name.split('/') {
            check_part(part, &whole, "datasets")?;
        }
        let depth = whole.split('/').count();
        if depth > DEEPEST {
            return Err(Error::new(Kind::Manifest, "the dataset lies too deep for ZFS")
                .at(shortened(whole.as_bytes(), 80))
                .expected(format!("at most {DEEPEST} names, the pool's among them"))
                .found(depth));
        }
        let parent = whole.rsplit_once('/').map_or("", |(parent, _)| parent);
        // Names are sorted, so parents came before.
        let parent = self.datasets.iter().find(|dataset| dataset.name == parent).ok_or_else(|| {
            Error::new(Kind::Manifest, format!("the dataset {whole} has no parent"))
                .expected(format!("a dataset {parent} too"))
        })?;
        if parent.is_volume() {
            return Err(Error::new(Kind::Manifest, format!("the dataset {whole} is below a volume"))
                .expected("a filesystem as its parent"));
        }
        let mut dataset = Dataset::below(Some(parent), whole);
        dataset.choose(options)?;
        self.check_mount(&dataset)?;
        for (name, value) in &options.properties {
            dataset.set(name, &value.0)?;
        }
        dataset.check_volume(options)?;
        dataset.check_sizes()?;
        dataset.take_snapshots(options)?;
        self.datasets.push(dataset);
        Ok(())
    }

    /// Refuses a mount that another dataset has, also where the contents have no such directory.
    fn check_mount(&self, dataset: &Dataset) -> Result<()> {
        let parts = |mount: &str| -> Vec<String> {
            mount.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let Some(mount) = &dataset.mount else { return Ok(()) };
        let own = parts(mount);
        let other =
            self.datasets.iter().find(|other| other.mount.as_deref().map(parts).as_ref() == Some(&own));
        match other {
            Some(other) => Err(Error::new(Kind::Manifest, "two datasets have the same mount point")
                .expected("a `mount` for each, or none")
                .found(format!("{mount} of {} and {}", other.name, dataset.name))),
            None => Ok(()),
        }
    }

    /// Takes the properties of the pool.
    fn set_pool(&mut self, options: &Options) -> Result<()> {
        let mut set = options.compatibility.clone();
        if set.is_some() && options.pool_properties.contains_key("compatibility") {
            return Err(Error::new(Kind::Manifest, "the set of features is said twice")
                .about("compatibility")
                .expected(format!("{}, or the property `compatibility`", option("compatibility"))));
        }
        let mut chosen = Vec::new();
        for (name, value) in &options.pool_properties {
            match properties::pool(name, &value.0)? {
                PoolMeaning::Stored(number) => self.properties.push((name.clone(), number)),
                PoolMeaning::Ashift(ashift) => self.ashift = options.ashift.unwrap_or(ashift),
                PoolMeaning::Boot => self.boot = Some(self.boot(&value.0)?),
                PoolMeaning::Cache => {}
                PoolMeaning::Comment => self.comment = Some(value.0.clone()),
                PoolMeaning::Compatibility => set = set.or_else(|| Some(value.0.clone())),
                PoolMeaning::Feature(name, enabled) => chosen.push((name, enabled)),
            }
        }
        let chosen: Vec<(&str, bool)> =
            chosen.iter().map(|(name, enabled)| (name.as_str(), *enabled)).collect();
        let key = if options.compatibility.is_some() { "compatibility" } else { "pool_properties" };
        let sets = Sets::parse(set.as_deref().unwrap_or(sets::ALL)).map_err(|error| error.about(key))?;
        self.enabled = Enabled::new(&sets, &chosen)?;
        self.compatibility = set;
        Ok(())
    }

    /// The number of the dataset that `bootfs` names, with the pool or without.
    fn boot(&self, name: &str) -> Result<usize> {
        let prefix = format!("{}/", self.name);
        let bare = name.strip_prefix(&prefix).unwrap_or(name);
        let found = self
            .datasets
            .iter()
            .position(|dataset| dataset.name == name || dataset.name.strip_prefix(&prefix) == Some(bare));
        let found = found.filter(|number| self.datasets.get(*number).is_some_and(|own| !own.is_volume()));
        found.ok_or_else(|| {
            Error::new(Kind::Manifest, "`bootfs` is no filesystem of the pool")
                .found(shortened(name.as_bytes(), 80))
        })
    }

    /// Whether a dataset looks at POSIX access control lists: by its own property, or by that of the nearest one above it.
    pub(super) fn obeys_acl(&self, dataset: &Dataset) -> bool {
        let mut name = dataset.name.as_str();
        loop {
            let own = self.datasets.iter().find(|dataset| dataset.name == name);
            let found = own.and_then(|own| own.properties.iter().rfind(|(name, _)| name == "acltype"));
            match (found, name.rsplit_once('/')) {
                (Some((_, value)), _) => return *value == properties::POSIX_ACL.into(),
                (None, Some((above, _))) => name = above,
                (None, None) => return false,
            }
        }
    }

    /// Refuses what needs a feature that the pool does not have.
    fn check_features(&self) -> Result<()> {
        for dataset in &self.datasets {
            for (uses, guid, what) in [
                (dataset.is_compressed_by_zstd(), features::ZSTD, "compresses by zstd"),
                (dataset.compression == Some(Compression::Lz4), features::LZ4, "compresses by lz4"),
                (dataset.has_large_records(), features::LARGE_BLOCKS, "has records of more than 128 KiB"),
                (dataset.has_large_dnodes(), features::LARGE_DNODE, "has a `dnodesize` that is not legacy"),
            ] {
                // What needs another feature has that too.
                if uses && !self.enabled.has(guid) {
                    let name = features::short(guid);
                    return Err(Error::new(Kind::Manifest, format!("{} {what}", dataset.name))
                        .about("compatibility")
                        .expected(format!("a set of features with {name}"))
                        .found(self.compatibility.as_deref().unwrap_or("off")));
                }
            }
        }
        Ok(())
    }

    /// Leaves filesystems empty, for OpenZFS to fill; snapshots of what is in them come later too.
    pub(super) fn empty(&mut self) {
        self.is_empty = true;
        for dataset in self.datasets.iter_mut().filter(|dataset| !dataset.is_volume()) {
            dataset.snapshots.clear();
        }
    }

    /// Whether a dataset is left empty.
    pub(super) const fn is_left(&self, dataset: &Dataset) -> bool {
        self.is_empty && !dataset.is_volume()
    }

    /// Refuses features that a GRUB whose files lie in the pool cannot read once they are used.
    pub(super) fn check_grub(&self, tree: &Arc<Tree>) -> Result<()> {
        let Some(grub) = grub::inside(tree)? else { return Ok(()) };
        let unknown = self.enabled.unread(|guid| grub.reads(guid));
        if unknown.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            Kind::Manifest,
            format!("GRUB, whose files lie in the pool {}, cannot read it", self.name),
        )
        .at(grub.path)
        .about("compatibility")
        .expected(format!("a set of features that {} reads: grub2-2.12, grub2-2.06", grub.name))
        .found(unknown.join(", "))
        .why("once a pool uses a feature that GRUB does not know, GRUB reads nothing of it")
        .hint("the contents without /boot, which then lies on another partition, have no such limit"))
    }

    /// A dataset by its number.
    pub(super) fn dataset(&self, number: u16) -> Result<&Dataset> {
        let dataset = self.datasets.get(usize::from(number));
        dataset.ok_or_else(|| Error::bug("a node belongs to a dataset that is not there"))
    }

    /// How the contents of a dataset are stored.
    pub(super) fn manner(&self, dataset: &Dataset) -> data::Manner {
        dataset.manner(self.ashift, &self.enabled)
    }

    /// The metaslabs of a device of `size` bytes.
    pub(super) fn geometry(&self, size: Bytes) -> Result<Geometry> {
        Geometry::new(size, self.ashift, self.grow_to)
    }

    /// Whether filesystems count the objects of owners, and give files a project.
    pub(super) fn accounts_objects(&self) -> bool {
        [features::EXTENSIBLE_DATASET, features::OBJECT_ACCOUNTING, features::PROJECT_QUOTA]
            .iter()
            .all(|guid| self.enabled.has(guid))
    }

    /// Features that a dataset uses.
    pub(super) fn features(&self, dataset: &Dataset) -> Vec<&'static str> {
        // A volume has no owners.
        let accounts = self.accounts_objects() && !dataset.is_volume();
        [
            (accounts, features::OBJECT_ACCOUNTING),
            (accounts, features::PROJECT_QUOTA),
            (dataset.is_compressed_by_zstd(), features::ZSTD),
            (dataset.has_large_records(), features::LARGE_BLOCKS),
        ]
        .into_iter()
        .filter_map(|(uses, guid)| uses.then_some(guid))
        .collect()
    }

    /// The pool itself.
    pub(super) fn pool(&self) -> pool::Wish<'_> {
        pool::Wish {
            name: &self.name,
            ids: self.ids,
            // A warning tells of a time before 1970.
            time: self.time.seconds.max(0).unsigned_abs(),
            enabled: &self.enabled,
            compatibility: self.compatibility.as_deref(),
            comment: self.comment.as_deref(),
            properties: &self.properties,
            boot: self.boot,
            is_whole_disk: self.is_whole_disk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::Property;
    use uuid::Uuid;

    fn parameters(edit: impl FnOnce(&mut Options)) -> Result<Parameters> {
        let mut options = Options::default();
        edit(&mut options);
        Parameters::new(&options, &Placement::alone(Uuid::nil()))
    }

    fn property(name: &str, value: &str) -> (String, Property) {
        (name.to_owned(), Property(value.to_owned()))
    }

    fn dataset(name: &str, mount: Option<&str>) -> (String, DatasetOptions) {
        let options = DatasetOptions { mount: mount.map(str::to_owned), ..DatasetOptions::default() };
        (name.to_owned(), options)
    }

    /// The limits of pool_namecheck and dataset_nestcheck (module/zcommon/zfs_namecheck.c), as libzfs 2.1 answers.
    #[test]
    fn names_are_as_long_and_as_deep_as_openzfs_takes_them() {
        for (length, is_taken) in [(239, true), (240, false), (255, false)] {
            let found = parameters(|options| options.pool = Some("x".repeat(length)));
            assert_eq!(found.is_ok(), is_taken, "{length}");
        }
        for (depth, is_taken) in [(49, true), (50, false)] {
            let found = parameters(|options| {
                let names = (1..=depth).map(|depth| vec!["a"; depth].join("/"));
                options.datasets.extend(names.map(|name| dataset(&name, None)));
            });
            assert_eq!(found.is_ok(), is_taken, "{depth}");
        }
    }

    #[test]
    fn datasets_inherit_and_stand_behind_their_parents() {
        let parameters = parameters(|options| {
            options.compress = Some("zstd-5".to_owned());
            options.properties.extend([property("recordsize", "1M")]);
            options.datasets.extend([
                dataset("a b", None),
                dataset("a", Some("/")),
                dataset("a/b", Some("/x")),
            ]);
            let inner = &mut options.datasets.get_mut("a/b").unwrap();
            inner.properties.extend([property("compression", "off"), property("copies", "2")]);
        })
        .unwrap();
        let names: Vec<&str> = parameters.datasets.iter().map(|dataset| dataset.name.as_str()).collect();
        assert_eq!(names, ["tank", "tank/a", "tank/a b", "tank/a/b"]);
        let [own, a, _, b] = parameters.datasets.as_slice() else { panic!() };
        assert_eq!(
            (own.compression, a.compression, b.compression),
            (Some(Compression::Zstd(5)), Some(Compression::Zstd(5)), Some(Compression::Off))
        );
        assert_eq!((b.record, b.copies, own.mount.as_deref()), (1 << 20, 2, None));
        assert_eq!(a.properties, []);
        assert!(parameters.features(a).contains(&features::ZSTD));
        assert!(!parameters.features(b).contains(&features::ZSTD));
    }

    #[test]
    fn what_openzfs_would_refuse_is_refused() {
        type Edit = fn(&mut Options);
        let edits: [(Edit, &str); 21] = [
            (|options| options.pool = Some("1tank".to_owned()), "begins with a letter"),
            (|options| options.pool = Some("mirror-1".to_owned()), "begins with a letter"),
            (|options| options.pool = Some("log".to_owned()), "begins with a letter"),
            (|options| options.pool = Some("a/b".to_owned()), "letters, digits"),
            (|options| options.pool = Some(String::new()), "letters, digits"),
            (|options| options.ashift = Some(8), "9 to 16"),
            (|options| options.ashift = Some(17), "9 to 16"),
            (|options| options.datasets.extend([dataset("a/b", None)]), "a dataset tank/a too"),
            (
                |options| options.datasets.extend([dataset("a", Some("/x")), dataset("b", Some("//x/"))]),
                "a `mount` for each",
            ),
            (|options| options.datasets.extend([dataset("a", Some("x"))]), "an absolute path"),
            (|options| options.datasets.extend([dataset("..", None)]), "letters, digits"),
            (|options| options.compatibility = Some("grub2-2.13".to_owned()), "grub2-2.12"),
            (
                |options| {
                    options.compatibility = Some("legacy".to_owned());
                    options.compress = Some("lz4".to_owned());
                },
                "a set of features with lz4_compress",
            ),
            (
                |options| {
                    options.compatibility = Some("grub2".to_owned());
                    options.pool_properties.extend([property("compatibility", "off")]);
                },
                "said twice",
            ),
            (
                |options| {
                    options.compress = Some("zstd".to_owned());
                    options.compatibility = Some("grub2".to_owned());
                },
                "a set of features with zstd_compress",
            ),
            (
                |options| {
                    options.compress = Some("lz4".to_owned());
                    options.properties.extend([property("compression", "off")]);
                },
                "said twice",
            ),
            (
                |options| options.pool_properties.extend([property("bootfs", "tank/none")]),
                "no filesystem of the pool",
            ),
            (
                |options| {
                    options.properties.extend([property("reservation", "30M"), property("quota", "20M")]);
                },
                "at most the `quota`, 20MiB",
            ),
            (
                |options| {
                    options
                        .properties
                        .extend([property("refreservation", "30M"), property("refquota", "20M")]);
                },
                "at most the `refquota`, 20MiB",
            ),
            (
                |options| {
                    options
                        .properties
                        .extend([property("normalization", "formD"), property("utf8only", "off")]);
                },
                "`utf8only` = on",
            ),
            (
                |options| {
                    options.pool_properties.extend([property("feature@extensible_dataset", "disabled")]);
                },
                "feature@extensible_dataset enabled",
            ),
        ];
        for (edit, words) in edits {
            let error = parameters(edit).unwrap_err();
            assert_eq!(error.kind(), Kind::Manifest);
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.key().is_some(), "{error}");
        }
    }

    #[test]
    fn properties_of_the_pool_are_taken() {
        let parameters = parameters(|options| {
            options.datasets.extend([dataset("root", Some("/"))]);
            options.pool_properties.extend([
                property("ashift", "13"),
                property("autoexpand", "on"),
                property("bootfs", "root"),
                property("comment", "a pool"),
                property("compatibility", "openzfs-2.1-linux"),
                property("feature@draid", "disabled"),
            ]);
        })
        .unwrap();
        let pool = parameters.pool();
        assert_eq!((parameters.ashift, pool.boot, pool.comment), (13, Some(1), Some("a pool")));
        assert_eq!(pool.properties, [("autoexpand".to_owned(), 1)]);
        assert_eq!(pool.compatibility, Some("openzfs-2.1-linux"));
        assert!(!pool.enabled.has("org.openzfs:draid"));
    }
}
