//! GRUB 2: its configuration, its files, and its two ways to start, from a BIOS and from UEFI firmware.
//!
//! Sources: GNU GRUB manual 2.06, GRUB's `util/grub-install.c` and `util/setup.c`, nixpkgs'
//! `nixos/modules/system/boot/loader/grub`.

pub mod bios;
pub mod config;
pub mod efi;
mod mkimage;
pub mod options;
mod script;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use super::files::Files;
use crate::error::{Error, Kind, Result};
use crate::text::{printable, printable_path};

/// A GRUB on the host: its files for one or more platforms, and the program that makes core images from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grub {
    folder: PathBuf,
    mkimage: PathBuf,
}

/// The packages with GRUB's files for a platform, in nixpkgs and in Debian.
const PACKAGES: [(&str, &str, &str); 7] = [
    ("i386-pc", "grub2", "grub-pc-bin"),
    ("x86_64-efi", "grub2_efi", "grub-efi-amd64-bin"),
    ("i386-efi", "pkgsi686Linux.grub2_efi", "grub-efi-ia32-bin"),
    ("arm64-efi", "grub2_efi", "grub-efi-arm64-bin"),
    ("arm-efi", "grub2_efi", "grub-efi-arm-bin"),
    ("riscv64-efi", "grub2_efi", "grub-efi-riscv64-bin"),
    ("loongarch64-efi", "grub2_efi", "grub-efi-loong64-bin"),
];

impl Grub {
    /// The GRUB whose files are in `folder`, with a folder for each platform: `/usr/lib/grub` in Debian,
    /// `lib/grub` of the package in nixpkgs. `mkimage` is grub-mkimage. Without it, grub-mkimage is looked
    /// for in `../../bin`, where these packages have it.
    ///
    /// # Errors
    /// [`Kind::Source`] where one of them is missing, with the package that has it.
    pub fn new(folder: &Path, mkimage: Option<&Path>) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::new(Kind::Source, "GRUB is not there")
                .at(folder)
                .expected("a folder that holds one for each platform, such as i386-pc")
                .hint("it is lib/grub of nixpkgs' grub2 or grub2_efi, and /usr/lib/grub of Debian's grub-pc-bin or grub-efi-amd64-bin"));
        }
        let beside = folder.join("../../bin/grub-mkimage");
        let mkimage = mkimage.map_or(beside, Path::to_owned);
        if !mkimage.is_file() {
            return Err(Error::new(Kind::Source, "grub-mkimage is not there").at(&mkimage).hint(
                "it is bin/grub-mkimage of nixpkgs' grub2 and grub2_efi, and in Debian's grub-common",
            ));
        }
        Ok(Self { folder: folder.to_owned(), mkimage })
    }

    /// The folder of the platform `name`.
    ///
    /// # Errors
    /// [`Kind::Source`] where it is missing, with the package that has it.
    fn platform(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        // Every platform has the list of dependencies between modules.
        if folder.join("moddep.lst").is_file() {
            return Ok(folder);
        }
        let error = Error::new(Kind::Source, format!("GRUB has no files for the platform {name}"))
            .at(&folder)
            .expected("a folder with moddep.lst and modules");
        Err(match PACKAGES.iter().find(|(platform, ..)| *platform == name) {
            Some((_, nixpkgs, debian)) => {
                error.hint(format!("they are in nixpkgs' {nixpkgs} and in Debian's {debian}"))
            }
            None => error,
        })
    }

    /// Name and version of this GRUB, from modinfo.sh of its files for `platform`: `grub`, `2.06`. `None` if
    /// that file does not have them.
    ///
    /// # Errors
    /// [`Kind::Source`] where the files are missing or modinfo.sh cannot be read.
    pub fn release(&self, platform: &str) -> Result<Option<(String, String)>> {
        let file = self.platform(platform)?.join("modinfo.sh");
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(Kind::Source, "cannot read a file of GRUB", &file, error)),
        };
        let text = String::from_utf8_lossy(&bytes);
        let value = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix("=\""));
            value
                .and_then(|value| value.strip_suffix('"'))
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        Ok(value("grub_package").zip(value("grub_version")))
    }

    /// The files that grub-install copies beside the configuration: the modules and lists of a platform, as
    /// `/grub/PLATFORM/...` below the boot directory.
    fn modules(&self, platform: &str, files: &mut Files) -> Result<()> {
        let folder = self.platform(platform)?;
        for (name, path) in names(&folder)? {
            let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
            // A GRUB for BIOS uses efiemu32.o and efiemu64.o to emulate UEFI for a kernel that wants it.
            if matches!(suffix, "mod" | "lst" | "o") {
                files.host(format!("/grub/{platform}/{name}"), &path)?;
            }
        }
        Ok(())
    }

    /// The files that grub-install copies for all platforms: the font of the graphical terminal, if this GRUB
    /// has it, and with `locales` the translations of its messages. Paths begin at the boot directory.
    ///
    /// # Errors
    /// [`Kind::Source`] for a folder that cannot be read.
    pub fn shared(&self, locales: bool) -> Result<Files> {
        let mut files = Files::new();
        files.add("/grub", super::files::Content::Directory, 0o700)?;
        let share = self.folder.join("../../share");
        let font = share.join("grub/unicode.pf2");
        if font.is_file() {
            files.host("/grub/fonts/unicode.pf2", &font)?;
        }
        let locale = share.join("locale");
        if locales && locale.is_dir() {
            for (language, path) in names(&locale)? {
                let messages = path.join("LC_MESSAGES/grub.mo");
                if messages.is_file() {
                    files.host(format!("/grub/locale/{language}.mo"), &messages)?;
                }
            }
        }
        Ok(files)
    }
}

/// The names in a folder of the host with their paths, sorted.
fn names(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let unreadable = |error| Error::io(Kind::Source, "cannot read a folder of GRUB", folder, error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().into_string().map_err(|name| {
            Error::new(Kind::Source, "a name in a folder of GRUB is not UTF-8")
                .at(folder)
                .found(printable_path(name))
        })?;
        names.push((name, entry.path()));
    }
    names.sort();
    Ok(names)
}

/// The filesystem that GRUB must read before it can load a module. Its module is built into the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// ext2, ext3, ext4.
    Ext,
    /// FAT12, FAT16, FAT32.
    Fat,
    /// Another one, by the name of GRUB's module for it: `btrfs`, `xfs`, `zfs`, `squash4`.
    Module(String),
}

impl Filesystem {
    fn module(&self) -> &str {
        match self {
            Self::Ext => "ext2",
            Self::Fat => "fat",
            Self::Module(name) => name,
        }
    }
}

/// How GRUB finds a filesystem, even if the number of its disk changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// By its UUID, as blkid prints it: `4e2f…-…` for ext4, `1234-ABCD` for FAT.
    Uuid(String),
    /// By its label.
    Label(String),
    /// No search: it is the filesystem that GRUB was loaded from.
    Root,
}

impl Search {
    /// The option of the search command for this way, with its value: `--fs-uuid …`.
    fn options(&self) -> Option<String> {
        match self {
            Self::Uuid(uuid) => Some(format!("--fs-uuid {}", script::word(uuid))),
            Self::Label(label) => Some(format!("--label {}", script::word(label))),
            Self::Root => None,
        }
    }
}

/// A directory as GRUB sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// How its filesystem is found.
    pub search: Search,
    /// Its path from the root of that filesystem, with a slash at the front and none at the end: `/boot`, or
    /// `/` for a filesystem of its own.
    pub path: String,
}

impl Place {
    /// Refuses a path that is not plain, and an empty value to search for.
    fn check(&self) -> Result<()> {
        let plain = self.path == "/"
            || self.path.strip_prefix('/').is_some_and(|rest| {
                !rest.split('/').any(|part| matches!(part, "" | "." | ".."))
                    && !rest.chars().any(|c| c.is_control() || c.is_whitespace())
            });
        if !plain {
            return Err(Error::new(Kind::Manifest, "GRUB cannot be given this directory")
                .expected("an absolute path without blanks, empty parts, `.` and `..`")
                .found(printable(self.path.as_bytes())));
        }
        if let Search::Uuid(value) | Search::Label(value) = &self.search
            && (value.is_empty() || value.chars().any(char::is_control))
        {
            return Err(Error::new(Kind::Manifest, "GRUB cannot search for this filesystem")
                .expected("a UUID or a label")
                .found(printable(value.as_bytes())));
        }
        Ok(())
    }

    /// `name`, which begins with a slash, below this directory.
    fn below(&self, name: &str) -> String {
        if self.path == "/" { name.to_owned() } else { format!("{}{name}", self.path) }
    }
}
