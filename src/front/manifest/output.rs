//! `[[output]]`: the files that the disk of a manifest goes to.

use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Manifest;
use crate::container::qcow2::Compat;
use crate::container::vmdk::Adapter;
use crate::container::{Compression, Container, Format, Settings, Subformat};
use crate::error::{Error, Result};
use crate::front::output::{self, Wanted};
use crate::host::elsewhere;
use crate::key::KeyPath;
use crate::package::Package;
use crate::units::Bytes;

/// A file that the disk goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Its name. A relative one begins at the current directory, or at the folder that `-o` names.
    pub path: String,
    /// Format of the file; default what the suffix of its name says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// What the disk is packed into; default what the end of its name says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<Package>,
    /// Kind of the format, as in `[disk]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subformat: Option<Subformat>,
    /// How the data in the format is compressed, as in `[disk]`. A raw disk is compressed by a package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress: Option<Compression>,
    /// Level of the compression: of the format as in `[disk]`, or of the package gzip or xz (1 to 9) or zstd (1 to 19).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 19))]
    pub level: Option<u8>,
    /// Size of a cluster of a qcow2, as in `[disk]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_size: Option<Bytes>,
    /// Version of a qcow2 by the QEMU that reads it: 0.10 (version 2) or 1.1 (version 3, default).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qcow2_compat: Option<Compat>,
    /// Controller that a vmdk is for: ide (default), buslogic, lsilogic (default of streamOptimized) or legacyESX.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<Adapter>,
    /// Version of virtual hardware that a vmdk is for: 3 to 99, default 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3, max = 99))]
    pub hardware_version: Option<u8>,
    /// Whether the file NAME.bmap stands beside it, by which bmaptool writes a raw disk; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bmap: Option<bool>,
    /// Whether the file NAME.sha256 stands beside it; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<bool>,
    /// Cuts the file into NAME.000, NAME.001 and so on, of at most this size each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Bytes>,
    /// The length of the disk is a multiple of this. All outputs have one disk, whose length fits all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_multiple: Option<Bytes>,
}

impl Output {
    fn wanted(&self) -> Wanted {
        Wanted {
            settings: Settings {
                format: self.format,
                subformat: self.subformat,
                compress: self.compress,
                level: self.level,
                cluster_size: self.cluster_size,
                qcow2_compat: self.qcow2_compat,
                adapter: self.adapter,
                hardware_version: self.hardware_version,
            },
            package: self.package,
            bmap: self.bmap.unwrap_or(false),
            sha256: self.sha256.unwrap_or(false),
            split: self.split,
            size_multiple: self.size_multiple,
        }
    }
}

/// The outputs that a manifest names.
///
/// # Errors
/// [`Kind::Manifest`](crate::error::Kind::Manifest) and others with the line for what does not fit together, and for two of
/// one name.
pub(super) fn outputs(manifest: &Manifest) -> Result<Vec<output::Output>> {
    let written = &manifest.written;
    let top = KeyPath::top("output");
    if let (false, Some(key)) = (written.output.is_empty(), written.disk.settings().first()) {
        return Err(manifest
            .refuse(&KeyPath::top("disk").key(key), format!("`{key}` means nothing beside [[output]]"))
            .hint("write it at the output that it is for"));
    }
    let own_format = written.nixos.as_ref().is_some_and(|system| system.format.is_some());
    if own_format && !written.output.is_empty() {
        return Err(manifest
            .refuse(&KeyPath::top("nixos").key("format"), "`format` means nothing beside [[output]]")
            .hint("write it at the output that it is for"));
    }
    let mut outputs: Vec<output::Output> = Vec::new();
    for (number, one) in written.output.iter().enumerate() {
        let at = top.clone().index(number);
        let path = named(manifest, &one.path, &at.key("path"))?;
        if let Some(other) = outputs.iter().position(|other| other.path == path) {
            let other = manifest.describe_key(&top.clone().index(other).key("path"));
            return Err(manifest.refuse(&at.key("path"), "two outputs have one name").found(other));
        }
        let wanted = one.wanted();
        let form = wanted.form(Some(&path), None, |format| Container::new(format, &wanted.settings));
        let form = form.map_err(|error| place(manifest, error, &at))?;
        outputs.push(output::Output { path, form });
    }
    Ok(outputs)
}

/// The name of an output, without what changes nothing in it.
fn named(manifest: &Manifest, path: &str, key: &KeyPath) -> Result<PathBuf> {
    if let Some((what, hint)) = elsewhere(path) {
        return Err(manifest.refuse(key, what).hint(hint));
    }
    if path.is_empty() || path.contains('\0') || path.ends_with('/') {
        return Err(manifest.refuse(key, "`path` is not the name of a file").found(format!("\"{path}\"")));
    }
    if path == "-" {
        return Err(manifest
            .refuse(key, "standard output is no file that appears together with others")
            .hint("leave the outputs out, and write there by `-o -`"));
    }
    Ok(Path::new(path).components().filter(|part| *part != Component::CurDir).collect())
}

/// Adds the line of the key that an error is about, or that of the output's name.
fn place(manifest: &Manifest, error: Error, at: &KeyPath) -> Error {
    let key = error.key().unwrap_or("path");
    manifest.place(error, &at.key(key))
}
