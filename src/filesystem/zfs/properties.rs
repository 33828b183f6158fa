//! Properties of pools and datasets: which there are, what they may be, and how they are stored (zfs-props(7),
//! zpool-props(7); module/zcommon/zfs_prop.c, zpool_prop.c).

use super::checksum::Checksum;
use super::compress::Compression;
use super::format::OLD_LARGEST;
use super::zap;
use crate::error::{Error, Kind, Result};
use crate::text::{nearest, shortened};

/// How the value of a property is written and stored.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// One of these words, which stand for numbers.
    Words(&'static [(&'static str, u64)]),
    Size,
    Compression,
    Checksum,
    Record,
    Mountpoint,
}

/// What is reserved for a dataset without what is below it, and the value that says: all that a volume may need.
pub(super) const REFERENCED_RESERVATION: &str = "refreservation";
pub(super) const AUTO: &str = "auto";
/// How `acltype=posix` is stored (zfs_prop.c, acltype_table).
pub(super) const POSIX_ACL: u64 = 1;
const SWITCH: Form = Form::Words(&[("off", 0), ("on", 1)]);
const CACHE: Form = Form::Words(&[("none", 0), ("metadata", 1), ("all", 2)]);

/// The properties of datasets.
const DATASET: [(&str, Form); 33] = [
    (
        "acltype",
        Form::Words(&[("off", 0), ("noacl", 0), ("posix", POSIX_ACL), ("posixacl", POSIX_ACL), ("nfsv4", 2)]),
    ),
    ("atime", SWITCH),
    ("canmount", Form::Words(&[("off", 0), ("on", 1), ("noauto", 2)])),
    ("casesensitivity", Form::Words(&[("sensitive", 0), ("insensitive", 1), ("mixed", 2)])),
    ("checksum", Form::Checksum),
    ("compression", Form::Compression),
    ("copies", Form::Words(&[("1", 1), ("2", 2), ("3", 3)])),
    ("devices", SWITCH),
    (
        "dnodesize",
        Form::Words(&[
            ("legacy", 0),
            ("auto", 1),
            ("1k", 1 << 10),
            ("2k", 2 << 10),
            ("4k", 4 << 10),
            ("8k", 8 << 10),
            ("16k", 16 << 10),
        ]),
    ),
    ("exec", SWITCH),
    ("logbias", Form::Words(&[("latency", 0), ("throughput", 1)])),
    ("mountpoint", Form::Mountpoint),
    ("nbmand", SWITCH),
    // sys/u8_textprep.h.
    (
        "normalization",
        Form::Words(&[("none", 0), ("formD", 0x10), ("formKC", 0x60), ("formC", 0x50), ("formKD", 0x20)]),
    ),
    ("overlay", SWITCH),
    ("primarycache", CACHE),
    ("quota", Form::Size),
    ("readonly", SWITCH),
    ("recordsize", Form::Record),
    ("redundant_metadata", Form::Words(&[("all", 0), ("most", 1), ("some", 2), ("none", 3)])),
    ("refquota", Form::Size),
    (REFERENCED_RESERVATION, Form::Size),
    ("relatime", SWITCH),
    ("reservation", Form::Size),
    ("secondarycache", CACHE),
    ("setuid", SWITCH),
    ("snapdev", Form::Words(&[("hidden", 0), ("visible", 1)])),
    ("snapdir", Form::Words(&[("hidden", 0), ("visible", 1)])),
    ("sync", Form::Words(&[("standard", 0), ("always", 1), ("disabled", 2)])),
    ("utf8only", SWITCH),
    ("volblocksize", Form::Size),
    ("volmode", Form::Words(&[("default", 0), ("full", 1), ("geom", 1), ("dev", 2), ("none", 3)])),
    ("xattr", Form::Words(&[("off", 0), ("dir", 1), ("sa", 2)])),
];

/// Properties of volumes alone, and those that volumes and filesystems have; all others are of filesystems alone.
const VOLUME: [&str; 1] = ["volblocksize"];
const BOTH: [&str; 13] = [
    "checksum",
    "compression",
    "copies",
    "logbias",
    "primarycache",
    "readonly",
    "redundant_metadata",
    REFERENCED_RESERVATION,
    "reservation",
    "secondarycache",
    "snapdev",
    "sync",
    "volmode",
];

/// The properties of pools that are stored as numbers.
const POOL: [(&str, Form); 5] = [
    ("autoexpand", SWITCH),
    ("autotrim", SWITCH),
    ("delegation", SWITCH),
    ("failmode", Form::Words(&[("wait", 0), ("continue", 1), ("panic", 2)])),
    ("listsnapshots", SWITCH),
];
/// Those that are stored elsewhere, or say nothing that is stored.
const POOL_OTHERS: [&str; 5] = ["ashift", "bootfs", "cachefile", "comment", "compatibility"];

/// The longest name and value of a property that users make up (fs/zfs.h, ZAP_MAXNAMELEN, ZAP_MAXVALUELEN).
const LONGEST_NAME: usize = 255;
const LONGEST_VALUE: usize = 8191;

/// What a property of a dataset is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Stored and nothing else.
    Stored(zap::Value),
    /// Of names: fixed when a filesystem is made, and in its master node.
    Case(u64),
    Normalization(u64),
    Utf8Only(bool),
    /// `None` for what OpenZFS takes by itself.
    Compression(zap::Value, Option<Compression>),
    Checksum(zap::Value, Checksum),
    Record(u64),
    Copies(u64),
    Quota(u64),
    Reservation(u64),
    ReferencedQuota(u64),
    ReferencedReservation(u64),
    /// What is reserved for a volume unless something else is said.
    Thick,
    /// Bytes of a block of a volume.
    Block(u64),
}

/// The error for a value that OpenZFS would refuse, or that is not written here.
fn refused(name: &str, value: &str, expected: impl Into<String>) -> Error {
    Error::new(Kind::Manifest, format!("this cannot be the value of the property `{name}`"))
        .expected(expected.into())
        .found(shortened(value.as_bytes(), 80))
}

/// The error for a property that is not among `known`.
fn unknown<'a>(name: &str, what: &str, known: impl Iterator<Item = &'a str> + Clone) -> Error {
    let shown = shortened(name.as_bytes(), 80);
    let error = Error::new(Kind::Manifest, format!("{what} is not written with the property `{shown}`"));
    match nearest(name, known.clone()) {
        Some(near) => error.hint(format!("`{near}` is one")),
        None => error.expected(known.collect::<Vec<_>>().join(", ")),
    }
}

/// The number that a word stands for.
fn word(name: &str, value: &str, words: &[(&str, u64)]) -> Result<u64> {
    let found = words.iter().find(|(word, _)| *word == value).map(|(_, number)| *number);
    found.ok_or_else(|| {
        refused(name, value, words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "))
    })
}

/// A size as zfs(8) takes it: a number with K, M, G, T, P or E, with `B` or `iB` or not; or `none`.
fn size(name: &str, value: &str) -> Result<u64> {
    let bad = || refused(name, value, "none, or a size such as 512M or 10GiB");
    if value == "none" {
        return Ok(0);
    }
    let digits =
        value.len() - value.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.').len();
    let (number, unit) = value.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    if !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(bad());
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
    // A byte is more than 2^-60 of the largest unit, so further places change nothing.
    let fraction = fraction.get(..fraction.len().min(18)).unwrap_or(fraction);
    let places = u32::try_from(fraction.len()).map_err(|_| bad())?;
    let fraction: u64 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| bad())? };
    let unit = unit.to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let units = ["", "k", "m", "g", "t", "p", "e"];
    let power = units.iter().position(|own| *own == unit).and_then(|at| u32::try_from(10 * at).ok());
    let factor = power.map(|power| 1_u64 << power);
    // What is left of a byte is cut off, as by zfs_nicestrtonum of lib/libzfs/libzfs_util.c.
    let parts = u128::from(fraction) * u128::from(factor.unwrap_or_default()) / 10_u128.pow(places);
    let parts = u64::try_from(parts).map_err(|_| bad())?;
    factor.and_then(|factor| whole.checked_mul(factor)?.checked_add(parts)).ok_or_else(bad)
}

/// What `compression` may be.
const COMPRESSIONS: &str = "on, off, lz4, zle, gzip, gzip-1 to gzip-9, zstd, zstd-1 to zstd-19";

/// A compression by its word, with what is stored.
fn compression(name: &str, value: &str) -> Result<(u64, Option<Compression>)> {
    let level = |text: &str, most: u8| {
        text.parse().ok().filter(|level| (1..=most).contains(level) && !text.starts_with(['0', '+']))
    };
    let own = match value {
        // What is stored says "on", whatever that is when a block is written.
        "on" => return Ok((1, None)),
        "off" => Some(Compression::Off),
        "lz4" => Some(Compression::Lz4),
        "zle" => Some(Compression::Zle),
        "gzip" => Some(Compression::Gzip(6)),
        "zstd" => return Ok((u64::from(Compression::Zstd(3).number()), Some(Compression::Zstd(3)))),
        _ => match value.split_once('-') {
            Some(("gzip", text)) => level(text, 9).map(Compression::Gzip),
            Some(("zstd", text)) => level(text, 19).map(Compression::Zstd),
            _ => None,
        },
    };
    let own = own.ok_or_else(|| refused(name, value, COMPRESSIONS))?;
    Ok((own.property(), Some(own)))
}

/// The meaning of a property that is a size.
fn sized(name: &str, value: &str) -> Result<Meaning> {
    Ok(match (size(name, value)?, name) {
        // zfs_prop_parse of lib/libzfs/libzfs_util.c: a quota of nothing is no quota, and that has a word.
        (0, "quota" | "refquota") if value != "none" => {
            return Err(refused(name, value, "none, or a size above 0"));
        }
        (size, "quota") => Meaning::Quota(size),
        (size, "reservation") => Meaning::Reservation(size),
        (size, "refquota") => Meaning::ReferencedQuota(size),
        (size, "volblocksize") => match size {
            512..=OLD_LARGEST if size.is_power_of_two() => Meaning::Block(size),
            _ => return Err(refused(name, value, "a power of two from 512 to 128K")),
        },
        (size, _) => Meaning::ReferencedReservation(size),
    })
}

/// The meaning of a property of a dataset.
///
/// # Errors
/// [`Kind::Manifest`] for a property that is not written here, and for a value that OpenZFS would refuse.
pub(super) fn dataset(name: &str, value: &str, is_volume: bool) -> Result<Meaning> {
    if name.contains(':') {
        return user(name, value);
    }
    let alone = if is_volume { !VOLUME.contains(&name) } else { VOLUME.contains(&name) };
    if alone && !BOTH.contains(&name) && DATASET.iter().any(|(own, _)| *own == name) {
        let (what, other) = if is_volume { ("volume", "filesystem") } else { ("filesystem", "volume") };
        return Err(Error::new(Kind::Manifest, format!("no {what} has the property `{name}`"))
            .hint(format!("a {other} has it")));
    }
    let form = DATASET.iter().find(|(own, _)| *own == name).map(|(_, form)| *form);
    let form = form.ok_or_else(|| unknown(name, "a dataset", DATASET.iter().map(|(own, _)| *own)))?;
    Ok(match form {
        Form::Words(words) => match (name, word(name, value, words)?) {
            ("casesensitivity", number) => Meaning::Case(number),
            ("normalization", number) => Meaning::Normalization(number),
            ("utf8only", number) => Meaning::Utf8Only(number == 1),
            ("copies", number) => Meaning::Copies(number),
            (_, number) => Meaning::Stored(number.into()),
        },
        // lib/libzfs/libzfs_util.c, zprop_parse_value: of this property alone, and of volumes alone.
        Form::Size if (name, value) == (REFERENCED_RESERVATION, AUTO) => {
            if !is_volume {
                return Err(refused(name, value, "none, or a size: only a volume knows how much `auto` is"));
            }
            Meaning::Thick
        }
        Form::Size => sized(name, value)?,
        Form::Compression => {
            let (stored, own) = compression(name, value)?;
            Meaning::Compression(stored.into(), own)
        }
        Form::Checksum => {
            let known = [("on", 1), ("fletcher4", 7), ("sha256", 8)];
            let number = word(name, value, &known)?;
            let own = if number == 8 { Checksum::Sha256 } else { Checksum::Fletcher4 };
            Meaning::Checksum(number.into(), own)
        }
        Form::Record => match size(name, value)? {
            size if size.is_power_of_two() && (512..=16 << 20).contains(&size) => Meaning::Record(size),
            _ => return Err(refused(name, value, "a power of two from 512 to 16M")),
        },
        Form::Mountpoint => {
            if !value.starts_with('/') && !matches!(value, "none" | "legacy") || value.contains('\0') {
                return Err(refused(name, value, "an absolute path, none or legacy"));
            }
            Meaning::Stored(value.into())
        }
    })
}

/// A property that users make up.
fn user(name: &str, value: &str) -> Result<Meaning> {
    let allowed =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || ":+.-_".contains(letter);
    if name.len() > LONGEST_NAME || name.starts_with('-') || !name.chars().all(allowed) {
        return Err(Error::new(Kind::Manifest, "no property can have this name")
            .expected("at most 255 lower-case letters, digits and :+.-_")
            .found(shortened(name.as_bytes(), 80)));
    }
    if value.len() > LONGEST_VALUE || value.contains('\0') {
        return Err(refused(name, value, format!("at most {LONGEST_VALUE} bytes without NUL")));
    }
    Ok(Meaning::Stored(value.into()))
}

/// What a property of a pool is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PoolMeaning {
    Stored(u64),
    Ashift(u8),
    Boot,
    /// It says where a running system lists its pools, which is nothing of the pool.
    Cache,
    Comment,
    Compatibility,
    /// A feature by its name: enabled or not.
    Feature(String, bool),
}

/// The meaning of a property of a pool.
///
/// # Errors
/// As [`dataset`].
pub(super) fn pool(name: &str, value: &str) -> Result<PoolMeaning> {
    if let Some(feature) = name.strip_prefix("feature@") {
        let enabled = word(name, value, &[("disabled", 0), ("enabled", 1)])? == 1;
        return Ok(PoolMeaning::Feature(feature.to_owned(), enabled));
    }
    let form = POOL.iter().find(|(own, _)| *own == name).map(|(_, form)| *form);
    if let Some(Form::Words(words)) = form {
        return Ok(PoolMeaning::Stored(word(name, value, words)?));
    }
    match name {
        "ashift" => {
            let number = value.parse().map_err(|_| refused(name, value, "9 to 16"))?;
            Ok(PoolMeaning::Ashift(number))
        }
        "bootfs" => Ok(PoolMeaning::Boot),
        "cachefile" => Ok(PoolMeaning::Cache),
        // fs/zfs.h, ZPROP_MAX_COMMENT.
        "comment" if value.len() <= 32 && value.chars().all(|letter| (' '..='~').contains(&letter)) => {
            Ok(PoolMeaning::Comment)
        }
        "comment" => Err(refused(name, value, "at most 32 printable ASCII characters")),
        "compatibility" => Ok(PoolMeaning::Compatibility),
        _ => {
            let known = POOL.iter().map(|(own, _)| *own).chain(POOL_OTHERS);
            Err(unknown(name, "a pool", known))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_stored_as_openzfs_stores_them() {
        for (name, value, stored) in [
            ("acltype", "posixacl", 1),
            ("atime", "off", 0),
            ("xattr", "sa", 2),
            ("canmount", "noauto", 2),
            ("dnodesize", "auto", 1),
            ("sync", "disabled", 2),
            ("secondarycache", "metadata", 1),
        ] {
            assert_eq!(dataset(name, value, false).unwrap(), Meaning::Stored(stored.into()), "{name}");
        }
        for (value, stored, own) in [
            ("on", 1, None),
            ("off", 2, Some(Compression::Off)),
            ("gzip-9", 13, Some(Compression::Gzip(9))),
            ("zstd", 16, Some(Compression::Zstd(3))),
            ("zstd-19", 16 | 19 << 7, Some(Compression::Zstd(19))),
        ] {
            assert_eq!(
                dataset("compression", value, true).unwrap(),
                Meaning::Compression(stored.into(), own),
                "{value}"
            );
        }
        for (name, value, meaning) in [
            ("recordsize", "1M", Meaning::Record(1 << 20)),
            ("mountpoint", "legacy", Meaning::Stored("legacy".into())),
            ("com.example:a", "b", Meaning::Stored("b".into())),
            ("normalization", "formC", Meaning::Normalization(0x50)),
            ("casesensitivity", "mixed", Meaning::Case(2)),
            ("utf8only", "on", Meaning::Utf8Only(true)),
            ("quota", "none", Meaning::Quota(0)),
            ("refquota", "10G", Meaning::ReferencedQuota(10 << 30)),
            ("refquota", "1.5G", Meaning::ReferencedQuota(3 << 29)),
            ("reservation", "1.0001k", Meaning::Reservation(1024)),
            ("reservation", ".5k", Meaning::Reservation(512)),
            ("reservation", "0.50000000000000000000001k", Meaning::Reservation(512)),
            ("refreservation", "3G", Meaning::ReferencedReservation(3 << 30)),
        ] {
            assert_eq!(dataset(name, value, false).unwrap(), meaning, "{name}");
        }
        assert_eq!(dataset("refreservation", "auto", true).unwrap(), Meaning::Thick);
        assert_eq!(dataset("volblocksize", "8K", true).unwrap(), Meaning::Block(8 << 10));
        assert_eq!(pool("failmode", "panic").unwrap(), PoolMeaning::Stored(2));
        assert_eq!(
            pool("feature@edonr", "disabled").unwrap(),
            PoolMeaning::Feature("edonr".to_owned(), false)
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        for (name, value, words) in [
            ("compression", "zstd-20", "zstd-1 to zstd-19"),
            ("compression", "gzip-0", "gzip-1 to gzip-9"),
            ("compression", "lzjb", "on, off, lz4"),
            ("checksum", "sha512", "on, fletcher4, sha256"),
            ("recordsize", "100K", "a power of two"),
            ("recordsize", "32M", "a power of two"),
            ("copies", "4", "1, 2, 3"),
            ("mountpoint", "relative", "an absolute path"),
            ("quota", "much", "512M"),
            ("quota", "99E", "512M"),
            ("quota", "0", "none, or a size above 0"),
            ("refquota", "0K", "none, or a size above 0"),
            ("quota", "1.2.3G", "512M"),
            ("quota", ".", "512M"),
            ("refreservation", "auto", "only a volume"),
            ("reservation", "auto", "512M"),
            ("casesensitivity", "any", "sensitive, insensitive, mixed"),
            ("volblocksize", "8K", "a volume has it"),
            ("xatr", "sa", "`xattr` is one"),
            ("encryption", "on", "acltype, atime"),
            ("COM:x", "y", "lower-case"),
        ] {
            let error = dataset(name, value, false).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        for (name, value, words) in [
            ("autoexpand", "yes", "off, on"),
            ("ashift", "x", "9 to 16"),
            ("comment", "a comment that is longer than OpenZFS takes", "at most 32"),
            ("feature@edonr", "active", "disabled, enabled"),
            ("autoexpant", "on", "`autoexpand` is one"),
        ] {
            let error = pool(name, value).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
