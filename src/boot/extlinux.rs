//! extlinux.conf, which U-Boot and syslinux read: the files of nixpkgs' generic-extlinux-compatible.
//!
//! Sources: nixpkgs' `nixos/modules/system/boot/loader/generic-extlinux-compatible`; U-Boot, "Generic Distro Configuration
//! Concept" (doc/develop/distro.rst).

use std::fmt::Write as _;

use super::bootspec::System;
use super::files::Files;
use super::generations::{Generation, Generations};
use super::store::{Source, Store};
use crate::error::{Error, Kind, Result};
use crate::text::printable;

/// Which device tree an entry hands over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceTree {
    /// The one the loader picks out of the system's directory, where there is one.
    #[default]
    Directory,
    /// This one, by its path in the system's directory: `vendor/board.dtb`.
    Named(String),
    /// None of the system's: the firmware's own.
    None,
}

/// What the menu shows and where kernels lie. [`Options::new`] has nixpkgs' defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// Seconds until the default boots: 0 at once, `None` never.
    pub timeout: Option<u32>,
    /// How many generations of the system profile follow the default; other profiles get none.
    pub limit: usize,
    /// Whether kernels, initrds and device trees are copied, as they have to be where the boot directory has a filesystem
    /// of its own.
    pub copy: bool,
    /// Which device tree is handed over.
    pub device_tree: DeviceTree,
}

impl Options {
    /// nixpkgs' defaults: 5 seconds, 20 generations, copies.
    #[must_use]
    pub const fn new() -> Self {
        Self { timeout: Some(5), limit: 20, copy: true, device_tree: DeviceTree::Directory }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// The files below the boot directory, which is `/boot` or the root of a filesystem of its own.
///
/// # Errors
/// [`Kind::Source`] where the device tree that is named does not exist, [`Kind::Manifest`] for text that would break a
/// line.
pub fn build(store: &Store, generations: &Generations, options: &Options) -> Result<Files> {
    // U-Boot takes 0 for no end and a negative number for no wait; the unit is a tenth of a second.
    let timeout = match options.timeout {
        None => 0,
        Some(0) => -10,
        Some(seconds) => i64::from(seconds) * 10,
    };
    let mut writer = Writer { store, options, files: Files::new(), text: String::new() };
    let _ = write!(
        writer.text,
        "# Written by diskwright; nixos-rebuild writes it anew.\n\n\
         # nixos-N boots generation N, once it is DEFAULT.\n\
         DEFAULT nixos-default\n\n\
         MENU TITLE {}\n\
         TIMEOUT {timeout}\n",
        "-".repeat(60)
    );
    writer.entry(generations.default_system(), None)?;
    for generation in generations.system_profile(Some(options.limit)) {
        writer.entry(&generation.system, Some(generation))?;
    }
    let Writer { mut files, text, .. } = writer;
    files.bytes("/extlinux/extlinux.conf", text)?;
    Ok(files)
}

struct Writer<'a> {
    store: &'a Store,
    options: &'a Options,
    files: Files,
    text: String,
}

impl Writer<'_> {
    /// Writes an entry: of a generation, or the default one.
    fn entry(&mut self, system: &System, generation: Option<&Generation>) -> Result<()> {
        let (label, title) = match generation {
            None => ("default".to_owned(), "Default".to_owned()),
            Some(generation) => {
                let (number, minute) = (generation.number, generation.minute());
                (number.to_string(), format!("Configuration {number} ({minute} - {})", system.version))
            }
        };
        let mut lines = vec![
            format!("LABEL nixos-{label}"),
            format!("  MENU LABEL NixOS - {title}"),
            format!("  LINUX {}", self.file(&system.kernel)?),
        ];
        if let Some(initrd) = &system.initrd {
            lines.push(format!("  INITRD {}", self.file(initrd)?));
        }
        lines.push(format!("  APPEND {}", system.command_line()));
        lines.extend(self.device_tree(system)?);
        if let Some(line) = lines.iter().find(|line| line.chars().any(char::is_control)) {
            return Err(Error::new(Kind::Manifest, "a line of extlinux.conf holds a control character")
                .found(printable(line.as_bytes())));
        }
        self.text.push('\n');
        for line in lines {
            self.text.push_str(&line);
            self.text.push('\n');
        }
        Ok(())
    }

    /// The line that hands over a device tree.
    fn device_tree(&mut self, system: &System) -> Result<Option<String>> {
        let named = match &self.options.device_tree {
            DeviceTree::None => return Ok(None),
            DeviceTree::Directory => None,
            DeviceTree::Named(name) => Some(name),
        };
        let Some(dtbs) = &system.dtbs else {
            return match named {
                None => Ok(None),
                Some(name) => Err(Error::new(Kind::Source, "the system has no device trees")
                    .at(self.store.host_of(system.toplevel.as_ref()).join("dtbs"))
                    .expected(format!("a directory that holds {}", printable(name.as_bytes())))),
            };
        };
        if let Some(name) = named
            && dtbs.below(self.store, name)?.is_none_or(|file| !file.host.is_file())
        {
            return Err(Error::new(Kind::Source, "the device tree does not exist").at(dtbs.host.join(name)));
        }
        let path = if self.options.copy {
            let folder = format!("nixos/{}", dtbs.dashed());
            self.files.tree(self.store, &format!("/{folder}"), dtbs)?;
            format!("../{folder}")
        } else {
            dtbs.path.clone()
        };
        Ok(Some(match named {
            None => format!("  FDTDIR {path}"),
            Some(name) => format!("  FDT {path}/{name}"),
        }))
    }

    /// The path of a file as the loader sees it, copied where it is to be.
    fn file(&mut self, source: &Source) -> Result<String> {
        if !self.options.copy {
            return Ok(source.path.clone());
        }
        let name = source.dashed();
        self.files.host(format!("/nixos/{name}"), &source.host)?;
        // From the folder of extlinux.conf.
        Ok(format!("../nixos/{name}"))
    }
}
