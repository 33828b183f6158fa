//! The pool of a system whose root is on ZFS, as nixpkgs' make-multi-disk-zfs-image.nix and make-single-disk-zfs-image.nix
//! make it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr;

use super::options::Layout;
use super::schema::{Dataset, Properties, Section};
use crate::error::{Error, Kind, Result};
use crate::filesystem::zfs::Options;
use crate::units::Bytes;
use crate::values::Property;

/// The usual name of the pool (`rootPoolName`).
const POOL: &str = "tank";
/// The properties of the pool (`rootPoolProperties`), and of its own dataset (`rootPoolFilesystemProperties`).
const POOL_PROPERTIES: [(&str, &str); 1] = [("autoexpand", "on")];
const FILESYSTEM_PROPERTIES: [(&str, &str); 5] = [
    ("acltype", "posixacl"),
    ("atime", "off"),
    ("compression", "on"),
    ("mountpoint", "legacy"),
    ("xattr", "sa"),
];

/// The pool of a system.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) options: Options,
    /// Datasets with their mount points, without the pool's own.
    mounts: Vec<(String, String)>,
}

/// Properties, or else the usual ones.
fn properties(given: Option<&Properties>, usual: &[(&str, &str)]) -> BTreeMap<String, Property> {
    given.map_or_else(
        || usual.iter().map(|(name, value)| ((*name).to_owned(), Property((*value).to_owned()))).collect(),
        |given| given.0.clone(),
    )
}

impl Pool {
    /// The pool that a section describes.
    ///
    /// # Errors
    /// [`Kind::Manifest`] where a dataset is mounted at /boot, which is on another filesystem.
    pub(super) fn new(section: &Section, layout: Layout, free: Option<Bytes>) -> Result<Self> {
        let name = section.pool.clone().unwrap_or_else(|| POOL.to_owned());
        let mut options = Options {
            free,
            whole_disk: Some(layout == Layout::Zfs),
            pool_properties: properties(section.pool_properties.as_ref(), &POOL_PROPERTIES),
            properties: properties(section.filesystem_properties.as_ref(), &FILESYSTEM_PROPERTIES),
            via: section.via,
            vm: Box::new(section.vm.clone()),
            ..Options::default()
        };
        let mut mounts = Vec::new();
        for dataset in &section.datasets {
            let refuse = |what: &str| {
                Err(Error::new(Kind::Manifest, what.to_owned()).about("datasets").found(dataset.name.clone()))
            };
            if dataset.mount.as_deref().is_some_and(|mount| mount == "/boot" || mount.starts_with("/boot/")) {
                return refuse("a dataset cannot be mounted at /boot, which is on the boot partition");
            }
            let prefix = format!("{name}/");
            let Some(own) = dataset.name.strip_prefix(&prefix) else {
                if dataset.name != name || dataset.mount.as_deref().is_some_and(|mount| mount != "/") {
                    return refuse(
                        "a dataset is named with its pool, and the pool's own is mounted at / or nowhere",
                    );
                }
                options.properties.extend(dataset.properties.clone());
                continue;
            };
            // `zfs create -p` makes what is missing above it.
            for (cut, _) in own.match_indices('/') {
                options.datasets.entry(own[..cut].to_owned()).or_default();
            }
            let here = options.datasets.entry(own.to_owned()).or_default();
            here.properties.clone_from(&dataset.properties);
            if let Some(mount) = &dataset.mount {
                here.mount = Some(mount.clone());
                mounts.push((mount.clone(), dataset.name.clone()));
            }
        }
        mounts.sort();
        options.pool = Some(name);
        Ok(Self { options, mounts })
    }

    /// The directories that datasets are mounted on.
    pub(super) fn mount_points(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().map(|(mount, _)| mount.as_str()).filter(|mount| *mount != "/")
    }

    /// The configuration of NixOS that mounts the datasets, with that of the user if there is one.
    pub(super) fn configuration(&self, own: Option<&str>) -> String {
        let mut text = "{\n".to_owned();
        for (mount, dataset) in &self.mounts {
            let (mount, dataset) = (quoted(mount), quoted(dataset));
            // Writing to a text does not fail.
            let _ = write!(
                text,
                "  fileSystems.{mount} = {{\n    device = {dataset};\n    fsType = \"zfs\";\n  }};\n"
            );
        }
        text.push_str("}\n");
        let Some(own) = own else { return text };
        // Spaces before lines of a text between double quotes would be part of it, so the user's lines get none.
        format!("{{\n  imports = [\n(\n{text})\n(\n{}\n)\n  ];\n}}\n", own.trim_end())
    }
}

/// A text of Nix.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${");
    format!("\"{text}\"")
}

impl FromStr for Properties {
    type Err = String;

    /// `NAME=VALUE`, several with commas between them.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut properties = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or("a property is NAME=VALUE")?;
            if properties.insert(name.to_owned(), Property(value.to_owned())).is_some() {
                return Err(format!("`{name}` is there twice"));
            }
        }
        Ok(Self(properties))
    }
}

impl FromStr for Dataset {
    type Err = String;

    /// `name=NAME,mount=PATH`, and properties.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text.trim_start().starts_with('{') {
            return serde_json::from_str(text).map_err(|error| error.to_string());
        }
        let Properties(mut properties) = text.parse()?;
        let mut take = |key: &str| properties.remove(key).map(|value| value.0);
        let (name, mount) = (take("name").ok_or("a dataset has a name")?, take("mount"));
        Ok(Self { name, mount, properties })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(datasets: &[&str]) -> Result<Pool> {
        let datasets = datasets.iter().map(|text| text.parse().unwrap()).collect();
        Pool::new(&Section { datasets, ..Section::default() }, Layout::Zfs, None)
    }

    #[test]
    fn datasets_get_what_is_missing_above_them() {
        let made = pool(&[
            "name=tank/user/home,mount=/home",
            "name=tank/root,mount=/,compression=zstd-3",
            "name=tank,dedup=off",
        ]);
        let made = made.unwrap();
        let names: Vec<&String> = made.options.datasets.keys().collect();
        assert_eq!(names, ["root", "user", "user/home"]);
        assert_eq!(made.options.datasets["root"].properties["compression"].0, "zstd-3");
        assert_eq!(made.options.properties["dedup"].0, "off");
        assert_eq!(made.options.properties["xattr"].0, "sa");
        assert_eq!(made.mount_points().collect::<Vec<_>>(), ["/home"]);
        for bad in ["name=root,mount=/", "name=tank/b,mount=/boot", "name=tank,mount=/x"] {
            assert_eq!(pool(&[bad]).unwrap_err().key(), Some("datasets"), "{bad}");
        }
    }

    #[test]
    fn the_configuration_mounts_what_was_made() {
        let made = pool(&["name=tank/a ${x},mount=/", "name=tank/home,mount=/home"]).unwrap();
        let alone = "{\n  fileSystems.\"/\" = {\n    device = \"tank/a \\${x}\";\n    fsType = \"zfs\";\n  };\n  \
                     fileSystems.\"/home\" = {\n    device = \"tank/home\";\n    fsType = \"zfs\";\n  };\n}\n";
        assert_eq!(made.configuration(None), alone);
        let merged = made.configuration(Some("{ pkgs, ... }:\n\n{ }\n"));
        assert!(merged.starts_with("{\n  imports = [\n(\n{\n  fileSystems"), "{merged}");
        assert!(merged.ends_with("\n(\n{ pkgs, ... }:\n\n{ }\n)\n  ];\n}\n"), "{merged}");
    }

    #[test]
    fn datasets_are_read_in_both_spellings() {
        let one: Dataset = "name=tank/a,mount=/,com.example:x=y".parse().unwrap();
        let other: Dataset =
            r#"{"name":"tank/a","mount":"/","properties":{"com.example:x":"y"}}"#.parse().unwrap();
        assert_eq!(one, other);
        for bad in ["", "mount=/", "name=a,name=b", "name"] {
            assert!(bad.parse::<Dataset>().is_err(), "{bad}");
        }
        assert_eq!("ashift=12".parse::<Properties>().unwrap().0["ashift"].0, "12");
    }
}
