//! `boot.json`: the document of NixOS RFC 125, version 1, with its specialisations and the extensions that
//! boot loaders read. Unknown keys are ignored.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::source::Source;
use super::{Reader, System, line};
use crate::error::{Error, Kind, Result};
use crate::text::printable;
use crate::units::u64_of;

/// The version that can be read.
const V1: &str = "org.nixos.bootspec.v1";
/// The beginning of every version's key.
const ANY: &str = "org.nixos.bootspec.";
const SPECIALISATION: &str = "org.nixos.specialisation.v1";
const SYSTEMD_BOOT: &str = "org.nixos.systemd-boot";
const EXTRA_INITRD: &str = "org.nixos.extra-initrd.v1";

/// The sort key of a system that has none, as in nixpkgs.
pub(super) const SORT_KEY: &str = "nixos";

/// Reads the document of the toplevel `top`. `None` for a document of NixOS 22.11, which had no versions and
/// no fixed structure.
pub(super) fn read(reader: &mut Reader<'_>, top: &Source, document: &Source) -> Result<Option<System>> {
    let text = document.clone().file("boot.json")?.text()?;
    let value: Value = serde_json::from_str(&text).map_err(|error| {
        Error::new(Kind::Source, "boot.json is not JSON")
            .at_line(&document.host, u64_of(error.line()), "")
            .because(error)
    })?;
    let at = At { file: document, value: &value, pointer: String::new() };
    if !at.keys()?.iter().any(|key| key.starts_with(ANY)) {
        return Ok(None);
    }
    system(reader, Some(top), &at).map(Some)
}

/// The system that a document describes. `top` is its toplevel, or `None` for a specialisation.
fn system(reader: &mut Reader<'_>, top: Option<&Source>, document: &At<'_>) -> Result<System> {
    let v1 = version_1(document)?;
    let named = v1.needed("toplevel")?.text()?;
    let top = match top {
        Some(top) => top.clone(),
        None => Source::find(reader.store, std::path::Path::new(named))?,
    };
    let kernel = v1.needed("kernel")?.file(reader, "kernel")?;
    let initrd = match v1.optional("initrd")? {
        Some(initrd) => Some(initrd.file(reader, "initrd")?),
        None => None,
    };
    if let Some(program) = v1.optional("initrdSecrets")? {
        reader.secrets(&top, program.text()?)?;
    }
    let init = v1.needed("init")?;
    let path = init.text()?;
    if !path.starts_with('/') || path.contains(' ') {
        return Err(init
            .refuse("boot.json names no program to start")
            .expected("an absolute path without blanks"));
    }
    let mut sort_key = SORT_KEY.to_owned();
    let mut devicetree = None;
    if let Some(extension) = document.optional(SYSTEMD_BOOT)? {
        if let Some(key) = extension.optional("sortKey")? {
            key.text()?.clone_into(&mut sort_key);
        }
        if let Some(path) = extension.optional("devicetree")? {
            devicetree = Some(path.file(reader, "device tree")?);
        }
    }
    Ok(System {
        system: v1.needed("system")?.text()?.to_owned(),
        label: v1.needed("label")?.text()?.to_owned(),
        init: path.to_owned(),
        kernel_params: v1.needed("kernelParams")?.texts()?,
        extra_initrds: extra_initrds(document)?,
        specialisations: specialisations(reader, document)?,
        dtbs: reader.dtbs(&top)?,
        xen: reader.xen(&top)?,
        version: reader.version(&top, &kernel)?,
        configuration_name: reader.text(&top, "configuration-name")?.filter(|name| !name.is_empty()),
        toplevel: top.path,
        kernel,
        initrd,
        sort_key,
        devicetree,
    })
}

/// The part of a document about the system.
fn version_1<'a>(document: &At<'a>) -> Result<At<'a>> {
    if let Some(v1) = document.optional(V1)? {
        return Ok(v1);
    }
    let error = document.refuse("boot.json is of a version that is not known").expected(V1);
    let found = document.keys()?.into_iter().find(|key| key.starts_with(ANY));
    Err(match found {
        Some(key) => error.found(printable(key.as_bytes())),
        None => error.found(format!("no key that begins with {ANY}")),
    })
}

/// Paths of further initrds on the boot filesystem, without a slash at the front.
fn extra_initrds(document: &At<'_>) -> Result<Vec<String>> {
    let Some(extension) = document.optional(EXTRA_INITRD)? else { return Ok(Vec::new()) };
    let Some(list) = extension.optional("paths")? else { return Ok(Vec::new()) };
    let mut paths = Vec::new();
    for path in list.texts()? {
        let plain = path.trim_start_matches('/').to_owned();
        if plain.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(list
                .refuse("an extra initrd is no path on the boot filesystem")
                .expected("a path without empty parts, `.` and `..`")
                .found(path));
        }
        paths.push(plain);
    }
    Ok(paths)
}

fn specialisations(reader: &mut Reader<'_>, document: &At<'_>) -> Result<BTreeMap<String, System>> {
    let mut found = BTreeMap::new();
    let Some(all) = document.optional(SPECIALISATION)? else { return Ok(found) };
    for name in all.keys()? {
        let one = all.needed(name)?;
        if name.is_empty() {
            return Err(one.refuse("a specialisation has no name"));
        }
        line(name, "the name of a specialisation", &one.file.host)?;
        found.insert(name.to_owned(), system(reader, None, &one)?);
    }
    Ok(found)
}

/// A value in a document.
#[derive(Clone)]
struct At<'a> {
    file: &'a Source,
    value: &'a Value,
    /// Its place as a JSON pointer (RFC 6901).
    pointer: String,
}

impl<'a> At<'a> {
    fn refuse(&self, what: &str) -> Error {
        let error = Error::new(Kind::Source, what).at(&self.file.host);
        match self.pointer.as_str() {
            "" => error,
            pointer => error.why(format!("of the value at {}", printable(pointer.as_bytes()))),
        }
    }

    /// An error for a value of the wrong type.
    fn another_type(&self, expected: &str) -> Error {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        self.refuse("boot.json holds a value of another type").expected(expected).found(found)
    }

    fn object(&self) -> Result<&'a serde_json::Map<String, Value>> {
        self.value.as_object().ok_or_else(|| self.another_type("an object"))
    }

    /// All keys of an object, sorted.
    fn keys(&self) -> Result<Vec<&'a str>> {
        let mut keys: Vec<&str> = self.object()?.keys().map(String::as_str).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// The value of a key that may be missing; null counts as missing.
    fn optional(&self, key: &str) -> Result<Option<Self>> {
        let value = self.object()?.get(key).filter(|value| !value.is_null());
        let pointer = format!("{}/{}", self.pointer, key.replace('~', "~0").replace('/', "~1"));
        Ok(value.map(|value| At { file: self.file, value, pointer }))
    }

    fn needed(&self, key: &str) -> Result<Self> {
        self.optional(key)?.ok_or_else(|| {
            self.refuse("boot.json lacks a field")
                .expected(format!("the field `{}`", printable(key.as_bytes())))
        })
    }

    /// A string of one line.
    fn text(&self) -> Result<&'a str> {
        let text = self.value.as_str().ok_or_else(|| self.another_type("a string"))?;
        line(text, &format!("the value at {}", self.pointer), &self.file.host)
    }

    /// The file in the store that a string names; `what` says what it is for.
    fn file(&self, reader: &Reader<'_>, what: &str) -> Result<Source> {
        let place = format!("{} stands at {} there", printable(self.text()?.as_bytes()), self.pointer);
        reader.file(self.text()?, what).map_err(|error| error.at(&self.file.host).why(place))
    }

    fn texts(&self) -> Result<Vec<String>> {
        let list = self.value.as_array().ok_or_else(|| self.another_type("an array of strings"))?;
        (0_usize..)
            .zip(list)
            .map(|(number, value)| {
                let at = At { file: self.file, value, pointer: format!("{}/{number}", self.pointer) };
                at.text().map(str::to_owned)
            })
            .collect()
    }
}
