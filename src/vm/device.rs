//! The disks and folders that a machine gets beside its system, each written as `key=value,key=value` or as a JSON object.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::units::Bytes;

/// Options of QEMU by their keys.
pub type Options = BTreeMap<String, String>;

/// An empty disk, which keeps what is written to it (nixpkgs, `virtualisation.emptyDiskImages`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmptyDisk {
    /// Its size.
    pub size: Bytes,
    /// The name by which QEMU knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Options of `-drive`.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub drive: Options,
    /// Options of `-device`, `serial` among them.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub device: Options,
}

/// A disk that is there (nixpkgs, `virtualisation.qemu.drives`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drive {
    /// Its file, as QEMU takes it; `$NAME` in it is a variable of the environment.
    pub file: String,
    /// The name by which QEMU knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Options of `-drive`, `format` among them.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub drive: Options,
    /// Options of `-device`, `serial` among them.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub device: Options,
}

/// A folder of the host that a machine can mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The name by which it is mounted.
    pub tag: String,
    /// The folder; `$NAME` and `${NAME}` in it are variables of the environment.
    pub source: String,
    /// Whether the machine may write to it.
    #[serde(default)]
    pub writable: bool,
}

/// How a machine gets a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum By {
    /// As a string of its SMBIOS.
    #[serde(rename = "smbios")]
    Smbios,
    /// As a file of its firmware.
    #[serde(rename = "fw_cfg")]
    FwCfg,
}

/// A credential of systemd (nixpkgs, `virtualisation.credentials`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// Its name.
    pub name: String,
    /// What it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The file that has it, which is read when the machine starts; `$NAME` in its path is a variable of the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How the machine gets it; by its SMBIOS on x86, else by a file of the firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
}

/// Keys and values of one flag.
struct Pairs {
    /// What stands first without a key.
    first: Option<String>,
    pairs: Vec<(String, String)>,
}

impl Pairs {
    /// Splits `text` at commas; two commas are one comma of a value, as in QEMU's options.
    fn new(text: &str) -> Result<Self, String> {
        let mut parts: Vec<String> = vec![String::new()];
        let mut rest = text;
        while let Some(at) = rest.find(',') {
            let (before, after) = (&rest[..at], &rest[at + 1..]);
            let Some(last) = parts.last_mut() else { break };
            last.push_str(before);
            match after.strip_prefix(',') {
                Some(after) => {
                    last.push(',');
                    rest = after;
                }
                None => {
                    parts.push(String::new());
                    rest = after;
                }
            }
        }
        if let Some(last) = parts.last_mut() {
            last.push_str(rest);
        }
        let mut found = Self { first: None, pairs: Vec::new() };
        for (number, part) in parts.into_iter().enumerate() {
            match part.split_once('=') {
                Some((key, value)) => found.pairs.push((key.to_owned(), value.to_owned())),
                None if number == 0 && !part.is_empty() => found.first = Some(part),
                None => return Err(format!("`{part}` is no key with its value")),
            }
        }
        Ok(found)
    }

    /// The value of `key`, or what stands first without a key where `is_first`.
    fn take(&mut self, key: &str, is_first: bool) -> Result<Option<String>, String> {
        let first = if is_first { self.first.take() } else { None };
        let at = self.pairs.iter().position(|(own, _)| own == key);
        match (first, at.map(|at| self.pairs.remove(at).1)) {
            (Some(_), Some(_)) => Err(format!("`{key}` is there twice")),
            (first, value) => Ok(first.or(value)),
        }
    }

    /// The options whose keys begin with `prefix`.
    fn options(&mut self, prefix: &str) -> Options {
        let (taken, rest) =
            std::mem::take(&mut self.pairs).into_iter().partition(|(key, _)| key.starts_with(prefix));
        self.pairs = rest;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(key, value)| (key[prefix.len()..].to_owned(), value)).collect()
    }

    /// What every disk may have: its name, and the options of its drive and of its device.
    fn disk(&mut self) -> Result<(Option<String>, Options, Options), String> {
        let name = self.take("name", false)?;
        let (drive, mut device) = (self.options("drive."), self.options("device."));
        put(&mut device, "serial", self.take("serial", false)?);
        Ok((name, drive, device))
    }

    /// Refuses what nobody took; `known` are the keys.
    fn finish(self, known: &str) -> Result<(), String> {
        match (self.first, self.pairs.first()) {
            (Some(first), _) => Err(format!("`{first}` has no key; there are {known}")),
            (None, Some((key, _))) => {
                Err(format!("unknown key `{key}`, or one that is there twice; there are {known}"))
            }
            (None, None) => Ok(()),
        }
    }
}

/// A value from JSON, where the text begins like it, or else from its keys and values. `known` lists the keys.
fn parsed<T: for<'de> Deserialize<'de>>(
    text: &str,
    known: &str,
    of: impl FnOnce(&mut Pairs) -> Result<T, String>,
) -> Result<T, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    let mut pairs = Pairs::new(text)?;
    let value = of(&mut pairs)?;
    pairs.finish(known)?;
    Ok(value)
}

/// Adds what has a key of its own to options.
fn put(options: &mut Options, key: &str, value: Option<String>) {
    options.extend(value.map(|value| (key.to_owned(), value)));
}

impl FromStr for EmptyDisk {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parsed(text, "size, serial, name, drive.KEY, device.KEY", |pairs| {
            let size = pairs.take("size", true)?.ok_or("an empty disk has a size")?;
            let size = size.parse().map_err(|why: crate::units::SizeError| format!("size: {why}"))?;
            let (name, drive, device) = pairs.disk()?;
            Ok(Self { size, name, drive, device })
        })
    }
}

impl FromStr for Drive {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parsed(text, "file, format, serial, name, drive.KEY, device.KEY", |pairs| {
            let file = pairs.take("file", true)?.ok_or("a disk has a file")?;
            let (name, mut drive, device) = pairs.disk()?;
            put(&mut drive, "format", pairs.take("format", false)?);
            Ok(Self { file, name, drive, device })
        })
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parsed(text, "tag, source, writable", |pairs| {
            let tag = pairs.take("tag", false)?.ok_or("a share has a tag")?;
            let source = pairs.take("source", false)?.ok_or("a share has a source")?;
            let writable = match pairs.take("writable", false)?.as_deref() {
                None | Some("false") => false,
                Some("true") => true,
                Some(other) => return Err(format!("writable: true or false, not `{other}`")),
            };
            Ok(Self { tag, source, writable })
        })
    }
}

impl FromStr for Credential {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parsed(text, "name, text, file, by", |pairs| {
            let name = pairs.take("name", false)?.ok_or("a credential has a name")?;
            let (text, file) = (pairs.take("text", false)?, pairs.take("file", false)?);
            let by = match pairs.take("by", false)?.as_deref() {
                None => None,
                Some("smbios") => Some(By::Smbios),
                Some("fw_cfg") => Some(By::FwCfg),
                Some(other) => return Err(format!("by: smbios or fw_cfg, not `{other}`")),
            };
            if text.is_some() == file.is_some() {
                return Err("a credential has a text or a file".to_owned());
            }
            Ok(Self { name, text, file, by })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_read_in_both_spellings() {
        let one: EmptyDisk = "1GiB,serial=a,,b,drive.cache=unsafe,device.bootindex=3,name=x".parse().unwrap();
        let other = r#"{"size":"1GiB","name":"x","drive":{"cache":"unsafe"},"device":{"serial":"a,b","bootindex":"3"}}"#;
        assert_eq!(one, other.parse().unwrap());
        assert_eq!(serde_json::to_string(&one).unwrap().parse::<EmptyDisk>().unwrap(), one);
        assert_eq!("size=1GiB".parse::<EmptyDisk>().unwrap(), "1GiB".parse().unwrap());
        let one: Drive = "/a/b,format=raw,serial=s".parse().unwrap();
        assert_eq!(one, "file=/a/b,drive.format=raw,device.serial=s".parse().unwrap());
        let one: Credential = "name=a,text=x,,y,by=fw_cfg".parse().unwrap();
        assert_eq!(one, r#"{"name":"a","text":"x,y","by":"fw_cfg"}"#.parse().unwrap());
        let one: Share = "tag=xchg,source=$TMPDIR/xchg,writable=true".parse().unwrap();
        assert_eq!(one, r#"{"tag":"xchg","source":"$TMPDIR/xchg","writable":true}"#.parse().unwrap());
    }

    #[test]
    fn what_is_no_disk_and_no_share_is_refused() {
        for (bad, words) in [
            ("", "`` is no key"),
            ("serial=a", "has a size"),
            ("12,size=13", "`size` is there twice"),
            ("size=1GiB,size=2GiB", "unknown key `size`, or one that is there twice"),
            ("64M", "64MiB"),
            ("1GiB,colour=red", "unknown key `colour`"),
            ("1GiB,red", "`red` is no key"),
            ("{}", "missing field `size`"),
        ] {
            let error = bad.parse::<EmptyDisk>().unwrap_err();
            assert!(error.contains(words), "{bad}: {error}");
        }
        for (bad, words) in [
            ("source=/a", "has a tag"),
            ("tag=a", "has a source"),
            ("/a,tag=a,source=/b", "`/a` has no key"),
            ("tag=a,source=/b,writable=yes", "true or false"),
        ] {
            let error = bad.parse::<Share>().unwrap_err();
            assert!(error.contains(words), "{bad}: {error}");
        }
        assert!("serial=a".parse::<Drive>().is_err());
        for (bad, words) in [
            ("text=a", "has a name"),
            ("name=a", "a text or a file"),
            ("name=a,text=b,file=c", "a text or a file"),
            ("name=a,text=b,by=post", "smbios or fw_cfg"),
        ] {
            let error = bad.parse::<Credential>().unwrap_err();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }
}
