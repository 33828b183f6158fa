//! The features of a pool: which there are, which a pool may use, and how often it uses each (module/zcommon/
//! zfeature_common.c).

use std::collections::BTreeMap;

use super::compress::Compression;
use super::sets::{self, Sets};
use super::zap;
use crate::error::{Error, Kind, Result};
use crate::text::nearest;
use crate::units::u64_of;

/// A feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Feature {
    /// Its name with that of who made it.
    pub(super) guid: &'static str,
    /// Whether software that does not know it can read a pool that uses it.
    readable: bool,
    /// The first release of OpenZFS that has it: 20 for 2.0 and all before, up to 24.
    pub(super) since: u8,
    /// The oldest GRUB that reads a pool for which it is enabled, by the sets of cmd/zpool/compatibility.d.
    pub(super) grub: Grub,
}

/// The oldest GRUB of whose set a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grub {
    Old,
    New,
    None,
}

const fn feature(guid: &'static str, readable: bool, since: u8, grub: Grub) -> Feature {
    Feature { guid, readable, since, grub }
}

pub(super) const HOLE_BIRTH: &str = "com.delphix:hole_birth";
pub(super) const EMBEDDED_DATA: &str = "com.delphix:embedded_data";
pub(super) const LZ4: &str = "org.illumos:lz4_compress";
pub(super) const EXTENSIBLE_DATASET: &str = "com.delphix:extensible_dataset";
pub(super) const LARGE_BLOCKS: &str = "org.open-zfs:large_blocks";
pub(super) const LARGE_DNODE: &str = "org.zfsonlinux:large_dnode";
/// Checksums by Edon-R.
pub(super) const EDONR: &str = "org.illumos:edonr";
pub(super) const ZSTD: &str = "org.freebsd:zstd_compress";
pub(super) const OBJECT_ACCOUNTING: &str = "org.zfsonlinux:userobj_accounting";
pub(super) const PROJECT_QUOTA: &str = "org.zfsonlinux:project_quota";
pub(super) const SPACEMAP_V2: &str = "com.delphix:spacemap_v2";
pub(super) const SPACEMAP_HISTOGRAM: &str = "com.delphix:spacemap_histogram";
pub(super) const ENABLED_TXG: &str = "com.delphix:enabled_txg";
pub(super) const EMPTY_BPOBJ: &str = "com.delphix:empty_bpobj";

/// All features of OpenZFS 2.4.
pub(super) const ALL: [Feature; 47] = [
    feature("org.zfsonlinux:allocation_classes", true, 20, Grub::Old),
    feature("com.delphix:zpool_checkpoint", true, 20, Grub::Old),
    feature("org.openzfs:device_rebuild", true, 20, Grub::Old),
    feature("com.delphix:obsolete_counts", true, 20, Grub::None),
    feature("com.delphix:bookmarks", true, 20, Grub::New),
    feature("com.delphix:async_destroy", true, 20, Grub::Old),
    feature(SPACEMAP_V2, true, 20, Grub::Old),
    feature("com.joyent:filesystem_limits", true, 20, Grub::New),
    feature("org.openzfs:zilsaxattr", true, 22, Grub::New),
    feature(SPACEMAP_HISTOGRAM, true, 20, Grub::Old),
    feature("com.delphix:livelist", true, 20, Grub::New),
    feature("com.datto:resilver_defer", true, 20, Grub::Old),
    feature(ENABLED_TXG, true, 20, Grub::Old),
    feature(OBJECT_ACCOUNTING, true, 20, Grub::New),
    feature("com.fudosecurity:block_cloning", true, 22, Grub::Old),
    feature(PROJECT_QUOTA, true, 20, Grub::New),
    feature("com.delphix:log_spacemap", true, 20, Grub::Old),
    feature(EMPTY_BPOBJ, true, 20, Grub::Old),
    feature("com.klarasystems:fast_dedup", true, 23, Grub::None),
    feature("com.klarasystems:large_microzap", true, 23, Grub::None),
    feature("com.truenas:block_cloning_endian", true, 24, Grub::None),
    feature("com.truenas:physical_rewrite", true, 24, Grub::None),
    feature("com.delphix:bookmark_written", false, 20, Grub::None),
    feature("com.datto:encryption", false, 20, Grub::None),
    feature("org.openzfs:blake3", false, 22, Grub::None),
    feature(EDONR, false, 20, Grub::None),
    feature("com.klarasystems:vdev_zaps_v2", false, 22, Grub::None),
    feature(EXTENSIBLE_DATASET, false, 20, Grub::New),
    feature(ZSTD, false, 20, Grub::None),
    feature(HOLE_BIRTH, false, 20, Grub::Old),
    feature("com.delphix:device_removal", false, 20, Grub::None),
    feature(LZ4, false, 20, Grub::Old),
    feature("com.delphix:redacted_datasets", false, 20, Grub::None),
    feature(LARGE_DNODE, false, 20, Grub::None),
    feature("com.datto:bookmark_v2", false, 20, Grub::None),
    feature("com.joyent:multi_vdev_crash_dump", false, 20, Grub::None),
    feature("org.illumos:skein", false, 20, Grub::None),
    feature("com.delphix:head_errlog", false, 22, Grub::None),
    feature("org.openzfs:draid", false, 21, Grub::None),
    feature("com.delphix:redaction_bookmarks", false, 20, Grub::None),
    feature("org.illumos:sha512", false, 20, Grub::None),
    feature(LARGE_BLOCKS, false, 20, Grub::New),
    feature("com.delphix:redaction_list_spill", false, 23, Grub::None),
    feature(EMBEDDED_DATA, false, 20, Grub::Old),
    feature("org.openzfs:raidz_expansion", false, 23, Grub::None),
    feature("org.zfsonlinux:longname", false, 23, Grub::None),
    feature("com.klarasystems:dynamic_gang_header", false, 24, Grub::None),
];

/// Features whose first transaction group is not recorded: they are older than that, or recorded nothing when a pool was
/// made (zfeature_common.c: those without a dependency on enabled_txg that count with it all the same are recorded).
const WITHOUT_TXG: [&str; 5] =
    ["com.delphix:async_destroy", EMPTY_BPOBJ, LZ4, "com.joyent:multi_vdev_crash_dump", SPACEMAP_HISTOGRAM];

/// What a feature needs (zfeature_common.c, the lists of dependencies).
const NEEDS: [(&str, &[&str]); 27] = [
    ("bookmark_v2", &["extensible_dataset", "bookmarks"]),
    ("bookmark_written", &["bookmark_v2", "extensible_dataset", "bookmarks"]),
    ("bookmarks", &["extensible_dataset"]),
    ("blake3", &["extensible_dataset"]),
    ("block_cloning_endian", &["block_cloning"]),
    ("edonr", &["extensible_dataset"]),
    ("encryption", &["extensible_dataset", "bookmark_v2"]),
    ("filesystem_limits", &["extensible_dataset"]),
    ("head_errlog", &["extensible_dataset"]),
    ("hole_birth", &["enabled_txg"]),
    ("large_blocks", &["extensible_dataset"]),
    ("large_dnode", &["extensible_dataset"]),
    ("large_microzap", &["extensible_dataset", "large_blocks"]),
    ("livelist", &["extensible_dataset"]),
    ("log_spacemap", &["spacemap_v2"]),
    ("longname", &["extensible_dataset"]),
    ("obsolete_counts", &["extensible_dataset", "device_removal"]),
    ("physical_rewrite", &["extensible_dataset"]),
    ("project_quota", &["extensible_dataset"]),
    ("redacted_datasets", &["extensible_dataset"]),
    ("redaction_bookmarks", &["bookmark_v2", "extensible_dataset", "bookmarks"]),
    ("redaction_list_spill", &["redaction_bookmarks"]),
    ("sha512", &["extensible_dataset"]),
    ("skein", &["extensible_dataset"]),
    ("userobj_accounting", &["extensible_dataset"]),
    ("zilsaxattr", &["extensible_dataset"]),
    ("zstd_compress", &["extensible_dataset"]),
];

/// The name of a feature without that of who made it.
pub(super) fn short(guid: &str) -> &str {
    guid.split_once(':').map_or(guid, |(_, name)| name)
}

/// Whether a set has the feature of this name.
pub(super) fn set_has(set: &str, guid: &str) -> bool {
    ALL.iter().any(|feature| feature.guid == guid && sets::has(set, feature))
}

/// The features that a pool may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Enabled(Vec<&'static Feature>);

impl Enabled {
    /// Those that all `sets` have, except for those that `chosen` names: a feature is enabled or not.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for a feature that there is not, or that another one needs.
    pub(super) fn new(sets: &Sets, chosen: &[(&str, bool)]) -> Result<Self> {
        for (name, _) in chosen {
            if !ALL.iter().any(|feature| short(feature.guid) == *name) {
                let near = nearest(name, ALL.iter().map(|feature| short(feature.guid)));
                return Err(Error::new(Kind::Manifest, format!("OpenZFS 2.4 has no feature `{name}`"))
                    .or_hint(near.map(|near| format!("`{near}` is one"))));
            }
        }
        let choice = |name: &str| chosen.iter().find(|(own, _)| name == *own).map(|(_, enabled)| *enabled);
        let has = |feature: &&Feature| choice(short(feature.guid)).unwrap_or_else(|| sets.have(feature));
        let mut enabled: Vec<&Feature> = ALL.iter().filter(has).collect();
        let has = |enabled: &[&Feature], name: &str| enabled.iter().any(|own| short(own.guid) == name);
        // As OpenZFS enables what a feature needs with it. What one needs does need others.
        loop {
            let all = NEEDS.iter().flat_map(|(name, needs)| needs.iter().map(move |need| (*name, *need)));
            let missing = all.into_iter().find(|(name, need)| has(&enabled, name) && !has(&enabled, need));
            let Some((name, need)) = missing else { break };
            if choice(need) == Some(false) {
                return Err(Error::new(
                    Kind::Manifest,
                    format!("the feature `{name}` needs the feature `{need}`"),
                )
                .expected(format!("feature@{need} enabled, or feature@{name} disabled too")));
            }
            enabled.extend(ALL.iter().find(|feature| short(feature.guid) == need));
        }
        Ok(Self(ALL.iter().filter(|feature| has(&enabled, short(feature.guid))).collect()))
    }

    /// The names of those that software must know to read a pool which uses them, and that it does not know.
    pub(super) fn unread(&self, knows: impl Fn(&str) -> bool) -> Vec<&'static str> {
        let needed = self.0.iter().filter(|feature| !feature.readable && !knows(feature.guid));
        needed.map(|feature| short(feature.guid)).collect()
    }

    /// How what says no compression is compressed, metadata first of all. Without lz4 OpenZFS takes lzjb, which is not written
    /// here; runs of zeros are the most of what metadata loses.
    pub(super) fn compression(&self) -> Compression {
        if self.has(LZ4) { Compression::Lz4 } else { Compression::Zle }
    }

    /// Those of sets that a test names.
    #[cfg(test)]
    pub(super) fn of(sets: &str) -> Self {
        Self::new(&Sets::parse(sets).unwrap(), &[]).unwrap()
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) const fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether the feature of this name is among them.
    pub(super) fn has(&self, guid: &str) -> bool {
        self.0.iter().any(|feature| feature.guid == guid)
    }
}

/// How often a pool uses each feature.
#[derive(Clone, Debug)]
pub(super) struct Features<'a> {
    counts: BTreeMap<&'static str, u64>,
    enabled: &'a Enabled,
}

impl<'a> Features<'a> {
    /// Those that a pool uses as soon as they are enabled.
    pub(super) fn new(enabled: &'a Enabled) -> Self {
        let counts = [HOLE_BIRTH, EMBEDDED_DATA, LZ4, SPACEMAP_V2].map(|guid| (guid, 1)).into();
        let mut features = Self { counts, enabled };
        let recorded = u64_of(features.recorded().len());
        features.counts.insert(ENABLED_TXG, recorded);
        features
    }

    /// Counts `times` more uses.
    pub(super) fn count(&mut self, guid: &'static str, times: u64) {
        *self.counts.entry(guid).or_default() += times;
    }

    fn counted(&self, readable: bool) -> Vec<(&'static str, zap::Value)> {
        let own = self.enabled.0.iter().filter(|feature| feature.readable == readable);
        own.map(|feature| (feature.guid, self.counts.get(feature.guid).copied().unwrap_or_default().into()))
            .collect()
    }

    /// The entries of features_for_write.
    pub(super) fn for_write(&self) -> Vec<(&'static str, zap::Value)> {
        self.counted(true)
    }

    /// The entries of features_for_read.
    pub(super) fn for_read(&self) -> Vec<(&'static str, zap::Value)> {
        self.counted(false)
    }

    /// The entries of feature_descriptions: the name, since nothing reads them.
    pub(super) fn descriptions(&self) -> Vec<(&'static str, zap::Value)> {
        self.enabled.0.iter().map(|feature| (feature.guid, short(feature.guid).into())).collect()
    }

    /// Features whose first transaction group is recorded.
    pub(super) fn recorded(&self) -> Vec<&'static str> {
        let guids = self.enabled.0.iter().map(|feature| feature.guid);
        guids.filter(|guid| !WITHOUT_TXG.contains(guid)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> Enabled {
        Enabled::of(name)
    }

    fn chosen(sets: &str, features: &[(&str, bool)]) -> Result<Enabled> {
        Enabled::new(&Sets::parse(sets)?, features)
    }

    #[test]
    fn a_pool_may_have_no_features() {
        let own = set("legacy");
        assert_eq!((own.count(), own.compression()), (0, Compression::Zle));
        assert_eq!(
            (set("zol-0.6.1").compression(), set("off").compression()),
            (Compression::Lz4, Compression::Lz4)
        );
        assert!(!set("grub2-2.06").has(EXTENSIBLE_DATASET));
        let features = Features::new(&own);
        assert_eq!(
            (features.for_read(), features.for_write(), features.recorded()),
            (vec![], vec![], vec![])
        );
    }

    #[test]
    fn single_features_are_chosen_by_name() {
        let own = chosen("off", &[("edonr", false), ("zstd_compress", false)]).unwrap();
        assert_eq!(own.0.len(), 45);
        assert!(!own.has(ZSTD));
        assert!(chosen("grub2-2.06", &[("large_blocks", true)]).unwrap().has(LARGE_BLOCKS));
        let error = chosen("off", &[("zstd_compres", false)]).unwrap_err();
        assert!(error.to_string().contains("`zstd_compress` is one"), "{error}");
        // What a feature needs comes with it, and cannot be left out alone.
        let own = chosen("grub2-2.06", &[("bookmark_v2", true)]).unwrap();
        assert!(["com.delphix:bookmarks", EXTENSIBLE_DATASET].iter().all(|guid| own.has(guid)));
        for (name, needs) in
            [("extensible_dataset", "extensible_dataset"), ("device_removal", "device_removal")]
        {
            let error = chosen("off", &[(name, false)]).unwrap_err();
            assert!(error.to_string().contains(&format!("needs the feature `{needs}`")), "{error}");
        }
        let both = [("device_removal", false), ("obsolete_counts", false)];
        assert_eq!(chosen("off", &both).unwrap().0.len(), 45);
        assert!(chosen("legacy", &[("hole_birth", true)]).unwrap().has(ENABLED_TXG));
        let error = chosen("off", &[("spacemap_v2", false)]).unwrap_err();
        assert!(error.what().contains("`log_spacemap` needs"), "{error}");
    }

    #[test]
    fn what_is_in_use_is_counted() {
        let enabled = set("off");
        let mut features = Features::new(&enabled);
        features.count(ZSTD, 2);
        assert_eq!(features.recorded().len(), 42);
        assert!(features.for_write().contains(&(ENABLED_TXG, 42.into())));
        assert!(features.for_read().contains(&(ZSTD, 2.into())));
        assert!(features.for_read().contains(&("org.openzfs:draid", 0.into())));
        assert_eq!(features.for_write().len() + features.for_read().len(), 47);
    }
}
