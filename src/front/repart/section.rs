//! The `repart` section of a manifest: a disk that definitions of systemd-repart describe, instead of partitions.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::options::option_key;
use super::{Options, Signing, Size, prepare};
use crate::container::Settings;
use crate::disk::Work;
use crate::error::{Error, Kind, Result};
use crate::front::Description;
use crate::identity::Seed;
use crate::table::Architecture;
use crate::tree::Owner;
use crate::tree::xattr::Patterns;
use crate::units::Bytes;
use crate::values::DiskSize;

/// A disk that definitions of systemd-repart describe (docs/repart.md).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Repart")]
pub struct Section {
    /// Folders with definitions, `*.conf`; of two with one name, that of the earlier folder counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub definitions: Vec<String>,
    /// Definitions by their names without `.conf`, each with the sections of such a file, `Partition` and `X-Diskwright`, and
    /// their keys. A key that may be there several times has an array. Each hides files of its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub partitions: BTreeMap<String, Sections>,
    /// An image whose definitions are built in, instead of all others: sysext, confext or portable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["sysext", "confext", "portable", null]))]
    pub make_ddi: Option<String>,
    /// Release of systemd-repart that is imitated: 257, 260 or 262 (default).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [257, 260, 262, null]))]
    pub level: Option<u32>,
    /// Folder that paths in definitions are below, and that has definitions where none are given; default `/`, for paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Folder that the sources of `CopyFiles` are below instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_source: Option<String>,
    /// Images whose partitions are copied, before all definitions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copy_from: Vec<String>,
    /// What places and sizes are multiples of, a power of two; default 4KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grain_size: Option<Bytes>,
    /// Types of partitions that are looked at; default all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include_partitions: Vec<String>,
    /// Types of partitions that are passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_partitions: Vec<String>,
    /// Types of partitions that get a place and are not written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defer_partitions: Vec<String>,
    /// Whether partitions labelled `_empty` are deferred; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defer_partitions_empty: Option<bool>,
    /// Whether partitions with `FactoryReset` are deferred; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defer_partitions_factory_reset: Option<bool>,
    /// A file with the RSA key that signs root hashes, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
    /// A file with the certificate of the key, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Signatures that were made elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub join_signature: Vec<Joined>,
    /// Who owns what is copied: root (default), preserve (as on this machine), or UID:GID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Patterns of the extended attributes that are kept of what is copied; default `user.*`, `security.capability` and
    /// POSIX ACLs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xattrs: Option<Vec<String>>,
    /// Whether what systemd-repart passes over in a file is an error; default false. In `partitions` it always is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
    /// Whether what systemd-repart writes by mistake is written too; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faithful: Option<bool>,
}

/// The sections of a definition, with their keys.
pub type Sections = BTreeMap<String, BTreeMap<String, Setting>>;

/// A signature of a root hash that was made elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "JoinedSignature")]
pub struct Joined {
    /// The root hash.
    pub root_hash: String,
    /// A file with the signature: PKCS#7 in DER.
    pub pkcs7: String,
}

/// The value of a key of a definition: a text, a number, a truth value, or an array of these for a key that is there several
/// times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    values: Vec<String>,
    list: bool,
}

impl Setting {
    /// A single value.
    #[must_use]
    pub fn one(value: impl Into<String>) -> Self {
        Self { values: vec![value.into()], list: false }
    }

    /// Several values, in their order.
    #[must_use]
    pub const fn several(values: Vec<String>) -> Self {
        Self { values, list: true }
    }

    pub(super) fn values(&self) -> &[String] {
        &self.values
    }

    pub(super) const fn is_list(&self) -> bool {
        self.list
    }
}

impl Serialize for Setting {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.values.as_slice() {
            [only] if !self.list => serializer.serialize_str(only),
            values => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                values.iter().try_for_each(|value| list.serialize_element(value))?;
                list.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Values;

        impl<'de> Visitor<'de> for Values {
            type Value = Setting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a whole number, true, false, or an array of these")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Setting, E> {
                Ok(Setting::one(text))
            }

            fn visit_bool<E: de::Error>(self, truth: bool) -> std::result::Result<Setting, E> {
                Ok(Setting::one(if truth { "yes" } else { "no" }))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> std::result::Result<Setting, E> {
                Ok(Setting::one(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> std::result::Result<Setting, E> {
                Ok(Setting::one(number.to_string()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Setting, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element::<Setting>()? {
                    match <[String; 1]>::try_from(value.values) {
                        Ok([only]) if !value.list => values.push(only),
                        _ => return Err(de::Error::custom("an array in an array means nothing here")),
                    }
                }
                Ok(Setting::several(values))
            }
        }

        deserializer.deserialize_any(Values)
    }
}

impl JsonSchema for Setting {
    fn schema_name() -> Cow<'static, str> {
        "RepartSetting".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "The value of a key of a definition: a text, a number, a truth value, or an array of these for a \
                            key that is there several times.",
            "type": ["string", "integer", "boolean", "array"],
            "items": { "type": ["string", "integer", "boolean"] }
        })
    }
}

/// What the rest of a manifest says to a section.
#[derive(Clone, Debug)]
pub struct Context {
    /// The seed of ids.
    pub seed: Seed,
    /// The time of everything without a time of its own, in seconds since 1970.
    pub time: Option<i64>,
    /// SOURCE_DATE_EPOCH.
    pub epoch: Option<i64>,
    /// How large the disk is at least.
    pub size: DiskSize,
    /// Bytes in a logical sector of the disk, where they are given.
    pub sector_size: Option<u32>,
    /// The processor of the types that depend on one.
    pub architecture: Option<Architecture>,
    /// The folder at which relative paths begin.
    pub folder: PathBuf,
    /// The settings of the output file.
    pub settings: Settings,
}

impl Context {
    fn path(&self, path: &str) -> PathBuf {
        if self.folder == Path::new(".") { PathBuf::from(path) } else { self.folder.join(path) }
    }
}

/// The disk that a section describes. Everything has its place in it, so what is minimized is built here.
///
/// # Errors
/// As [`prepare`], with keys of the section.
pub fn describe(section: &Section, context: &Context, work: &Work) -> Result<Description> {
    let options = section.options(context)?;
    Ok(Description { settings: context.settings.clone(), ..prepare(&options, work)?.description })
}

impl Section {
    fn options(&self, context: &Context) -> Result<Options> {
        let path = |text: &String| context.path(text);
        let paths = |texts: &[String]| texts.iter().map(path).collect();
        if self.definitions.is_empty()
            && self.partitions.is_empty()
            && self.make_ddi.is_none()
            && self.root.is_none()
        {
            return Err(Error::new(Kind::Manifest, "there are no definitions")
                .at_key(&crate::key::KeyPath::top("repart"))
                .expected("definitions, partitions or make_ddi, or a root that has etc/repart.d or usr/lib/repart.d"));
        }
        let grain = self.grain_size.map(|grain| {
            u32::try_from(grain.get()).map_err(|_| {
                Error::new(Kind::Manifest, "places cannot be multiples of that")
                    .at_key(&option_key("grain_size"))
                    .found(grain.human())
            })
        });
        Ok(Options {
            level: parsed("level", self.level.map(|level| level.to_string()).as_deref())?.unwrap_or_default(),
            definitions: paths(&self.definitions),
            written: self.partitions.clone(),
            ddi: parsed("make_ddi", self.make_ddi.as_deref())?,
            root: self.root.as_ref().map(path),
            copy_source: self.copy_source.as_ref().map(path),
            copy_from: paths(&self.copy_from),
            size: match context.size {
                DiskSize::Auto => Size::Auto,
                DiskSize::Fixed(size) => Size::Fixed(size),
            },
            sector_size: context.sector_size,
            grain: grain.transpose()?,
            architecture: context.architecture,
            // Another machine makes the same image.
            native: None,
            include: self.include_partitions.clone(),
            exclude: self.exclude_partitions.clone(),
            defer: self.defer_partitions.clone(),
            defer_empty: self.defer_partitions_empty.unwrap_or_default(),
            defer_factory_reset: self.defer_partitions_factory_reset.unwrap_or_default(),
            signing: self.signing(context)?,
            owner: self.owner.unwrap_or_default(),
            xattrs: self.xattrs.clone().map_or_else(Patterns::default, Patterns::new),
            time: context.time,
            epoch: context.epoch,
            strict: self.strict.unwrap_or_default(),
            faithful: self.faithful.unwrap_or_default(),
            ..Options::new(PathBuf::new(), context.seed)
        })
    }

    fn signing(&self, context: &Context) -> Result<Signing> {
        let path = |text: &String| context.path(text);
        let joined = self.join_signature.iter().enumerate().map(|(number, joined)| {
            let key = option_key("join_signature").index(number);
            let root =
                joined.root_hash.parse().map_err(|error: Error| error.at_key(&key.key("root_hash")))?;
            let file = path(&joined.pkcs7);
            let failed = |error| {
                Error::io(Kind::Source, "cannot read the signature", &file, error).at_key(&key.key("pkcs7"))
            };
            Ok((root, std::fs::read(&file).map_err(failed)?))
        });
        Ok(Signing {
            private_key: self.private_key.as_ref().map(path),
            certificate: self.certificate.as_ref().map(path),
            joined: joined.collect::<Result<_>>()?,
        })
    }
}

/// A value of the section that is a text.
fn parsed<T: std::str::FromStr<Err = Error>>(key: &'static str, text: Option<&str>) -> Result<Option<T>> {
    let parse = |text: &str| {
        text.parse().map_err(|error: Error| error.with_kind(Kind::Manifest).at_key(&option_key(key)))
    };
    text.map(parse).transpose()
}
