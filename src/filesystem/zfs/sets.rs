//! Sets of features by their names: which features may be enabled (cmd/zpool/compatibility.d of OpenZFS 2.4;
//! lib/libzfs/libzfs_pool.c, zpool_load_compat).

use super::features::{EDONR, Feature, Grub, short};
use crate::error::{Error, Kind, Result};
use crate::text::{nearest, shortened};

/// The words that stand for every feature and for none. They are no sets, and stand alone.
pub(super) const ALL: &str = "off";
const NONE: &str = "legacy";

/// The sets that follow from what is said of each feature.
const NEW: [&str; 9] = [
    "openzfs-2.0-freebsd",
    "openzfs-2.0-linux",
    "openzfs-2.1-freebsd",
    "openzfs-2.1-linux",
    "openzfs-2.2",
    "openzfs-2.3",
    "openzfs-2.4",
    "grub2-2.06",
    "grub2-2.12",
];

/// The sets of what came before: each has the features of another one, and more.
const OLD: [(&str, &str, &str); 11] = [
    ("zol-0.6.1", NONE, "async_destroy empty_bpobj lz4_compress"),
    (
        "zol-0.6.4",
        "zol-0.6.1",
        "bookmarks embedded_data enabled_txg extensible_dataset hole_birth spacemap_histogram",
    ),
    ("zol-0.6.5", "zol-0.6.4", "filesystem_limits large_blocks"),
    ("freenas-9.10.2", "zol-0.6.5", "multi_vdev_crash_dump"),
    ("freebsd-11.0", "freenas-9.10.2", "sha512 skein"),
    ("freebsd-11.2", "freebsd-11.0", "device_removal obsolete_counts zpool_checkpoint"),
    ("freebsd-11.3", "freebsd-11.2", "spacemap_v2"),
    ("openzfsonosx-1.7.0", "freebsd-11.0", "edonr"),
    ("openzfsonosx-1.8.1", "freebsd-11.3", "edonr"),
    ("zol-0.7", "openzfsonosx-1.7.0", "large_dnode userobj_accounting"),
    (
        "zol-0.8",
        "openzfsonosx-1.8.1",
        "allocation_classes bookmark_v2 encryption large_dnode project_quota resilver_defer userobj_accounting",
    ),
];

/// Other names of sets (cmd/zpool/Makefile.am, zpoolcompatlinks), and sets that have the same features as another one.
const ALIASES: [(&str, &str); 36] = [
    ("2018", "zol-0.6.5"),
    ("compat-2018", "zol-0.6.5"),
    ("2019", "freebsd-11.0"),
    ("compat-2019", "freebsd-11.0"),
    ("2020", "freebsd-11.0"),
    ("compat-2020", "freebsd-11.0"),
    ("2021", "freebsd-11.3"),
    ("compat-2021", "freebsd-11.3"),
    ("freebsd-11.1", "freebsd-11.0"),
    ("freebsd-11.4", "freebsd-11.3"),
    ("freebsd-12.0", "freebsd-11.3"),
    ("freebsd-12.1", "freebsd-11.3"),
    ("freebsd-12.2", "freebsd-11.3"),
    ("freebsd-12.3", "freebsd-11.3"),
    ("freebsd-12.4", "freebsd-11.3"),
    ("freebsd-13.0", "openzfs-2.1-freebsd"),
    ("freebsd-13.1", "openzfs-2.1-freebsd"),
    ("freebsd-13.2", "openzfs-2.1-freebsd"),
    ("freenas-11.0", "freebsd-11.0"),
    ("freenas-11.1", "freebsd-11.0"),
    ("freenas-11.2", "freebsd-11.2"),
    ("freenas-11.3", "freebsd-11.3"),
    ("grub2", "grub2-2.12"),
    ("openzfs-2.2-freebsd", "openzfs-2.2"),
    ("openzfs-2.2-linux", "openzfs-2.2"),
    ("openzfs-2.3-freebsd", "openzfs-2.3"),
    ("openzfs-2.3-linux", "openzfs-2.3"),
    ("openzfs-2.4-freebsd", "openzfs-2.4"),
    ("openzfs-2.4-linux", "openzfs-2.4"),
    ("openzfsonosx-1.9.3", "zol-0.8"),
    ("openzfsonosx-1.9.4", "zol-0.8"),
    ("truenas-12.0", "openzfs-2.0-freebsd"),
    ("ubuntu-18.04", "zol-0.7"),
    ("ubuntu-20.04", "zol-0.8"),
    ("ubuntu-22.04", "openzfs-2.1-linux"),
    (NONE, NONE),
];

/// All names.
fn names() -> impl Iterator<Item = &'static str> + Clone {
    let old = OLD.iter().map(|(name, ..)| *name);
    NEW.into_iter().chain(old).chain(ALIASES.iter().map(|(name, _)| *name)).filter(|name| *name != NONE)
}

/// Which features may be enabled: those that each of these sets has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sets(Vec<&'static str>);

impl Sets {
    /// Those that a text says, as `zpool create -o compatibility=` reads it: `off`, `legacy`, or names with commas between.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for a set that there is not, and for one that is a file of somebody's own.
    pub(super) fn parse(text: &str) -> Result<Self> {
        match text {
            "" | ALL => return Ok(Self(Vec::new())),
            NONE => return Ok(Self(vec![NONE])),
            _ => {}
        }
        let own: Vec<&str> = text.split(',').filter(|name| !name.is_empty()).collect();
        if own.is_empty() {
            return Err(refused("no set of features is named", text));
        }
        own.into_iter().map(set).collect::<Result<_>>().map(Self)
    }

    /// Whether all of them have a feature.
    pub(super) fn have(&self, feature: &Feature) -> bool {
        self.0.iter().all(|set| has(set, feature))
    }
}

fn refused(what: &str, found: &str) -> Error {
    Error::new(Kind::Manifest, what).found(shortened(found.as_bytes(), 80))
}

/// The set of a name.
fn set(name: &str) -> Result<&'static str> {
    let known = names().find(|known| *known == name);
    known.ok_or_else(|| match name {
        ALL | NONE => refused("this word is no set of features, and stands alone", name)
            .expected(format!("{ALL}, {NONE}, or names of sets with commas between them")),
        _ if name.contains('/') => refused("a set of features in a file is not read", name)
            .expected("names of the sets that OpenZFS has")
            .hint("the pool property `feature@NAME` enables or disables a single feature"),
        _ => refused("a pool is not written with this set of features", name)
            .expected(format!(
                "{ALL}, {NONE}, or with commas between them: {}",
                names().collect::<Vec<_>>().join(", ")
            ))
            .or_hint(nearest(name, names()).map(|near| format!("`{near}` is one"))),
    })
}

/// Whether the set of a name has a feature.
pub(super) fn has(set: &str, feature: &Feature) -> bool {
    let set = ALIASES.iter().find(|(name, _)| *name == set).map_or(set, |(_, canonical)| canonical);
    if let Some((_, base, more)) = OLD.iter().find(|(name, ..)| *name == set) {
        return has(base, feature) || more.split(' ').any(|own| own == short(feature.guid));
    }
    match set {
        NONE => false,
        "grub2-2.12" => feature.grub != Grub::None,
        "grub2-2.06" => feature.grub == Grub::Old,
        _ => {
            let release = ["2.0", "2.1", "2.2", "2.3"].iter().position(|release| set.contains(release));
            let releases = [20, 21, 22, 23];
            let newest = release.and_then(|at| releases.get(at)).copied().unwrap_or(24);
            // FreeBSD had no edonr before release 2.2.
            let is_elsewhere = feature.guid == EDONR && newest < 22 && set.ends_with("-freebsd");
            feature.since <= newest && !is_elsewhere
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem::zfs::features::{ALL as FEATURES, Enabled};

    fn count(text: &str) -> usize {
        let sets = Sets::parse(text).unwrap();
        FEATURES.iter().filter(|feature| sets.have(feature)).count()
    }

    #[test]
    fn sets_have_as_many_features_as_those_of_openzfs() {
        // Lines of the files of cmd/zpool/compatibility.d of OpenZFS 2.4.
        for (name, lines) in [
            ("off", 47),
            ("", 47),
            ("legacy", 0),
            ("zol-0.6.1", 3),
            ("zol-0.6.4", 9),
            ("zol-0.6.5", 11),
            ("compat-2018", 11),
            ("freenas-9.10.2", 12),
            ("compat-2019", 14),
            ("compat-2020", 14),
            ("compat-2021", 18),
            ("freebsd-11.0", 14),
            ("freebsd-11.2", 17),
            ("freebsd-11.3", 18),
            ("openzfsonosx-1.7.0", 15),
            ("openzfsonosx-1.8.1", 19),
            ("openzfsonosx-1.9.3", 26),
            ("zol-0.7", 17),
            ("zol-0.8", 26),
            ("openzfs-2.4", 47),
            ("openzfs-2.3-linux", 44),
            ("openzfs-2.4-freebsd", 47),
            ("openzfs-2.2", 39),
            ("openzfs-2.2-freebsd", 39),
            ("openzfs-2.1-freebsd", 33),
            ("openzfs-2.0-freebsd", 32),
            ("openzfs-2.1-linux", 34),
            ("openzfs-2.0-linux", 33),
            ("grub2-2.06", 14),
            ("grub2-2.12", 22),
            ("grub2", 22),
        ] {
            assert_eq!(count(name), lines, "{name}");
        }
        for name in names() {
            let own = FEATURES.iter().filter(|feature| has(name, feature)).count();
            assert_eq!(Enabled::of(name).count(), own, "{name} has all that it needs");
        }
    }

    #[test]
    fn a_list_has_what_all_of_its_sets_have() {
        assert_eq!(count("openzfs-2.1-linux,grub2-2.12"), 20);
        assert_eq!(count("grub2-2.12,,openzfs-2.1-linux,"), 20, "what is empty is left out");
        assert_eq!(count("grub2-2.06,zol-0.6.1"), 3);
        for (text, words) in [
            (",", "no set of features is named"),
            ("grub2-2.13", "`grub2-2.12` is one"),
            ("grub2-2.12,off", "stands alone"),
            ("legacy,grub2-2.12", "stands alone"),
            ("grub2-2.12, openzfs-2.1-linux", "`openzfs-2.1-linux` is one"),
            ("/etc/sets/own", "in a file is not read"),
        ] {
            let error = Sets::parse(text).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
