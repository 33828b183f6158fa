//! From the lines of a definition file to a [`Definition`]: every key of repart.d(5) of systemd 262.
//!
//! What is wrong with a value is fatal where systemd refuses it, and a warning in its words where it goes on.

use super::Options;
use super::definition::{CopyBlocks, CopyFiles, Definition, Format, Line, Minimize, Place, Verity};
use super::kind::Kind;
use super::specifier::Specifiers;
use super::value;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::text::{nearest, printable_path};
use crate::units::Bytes;

/// The keys of `[Partition]`, for "did you mean".
const KEYS: [&str; 47] = [
    "Type",
    "Label",
    "VolumeLabel",
    "UUID",
    "Priority",
    "Weight",
    "PaddingWeight",
    "SizeMinBytes",
    "SizeMaxBytes",
    "PaddingMinBytes",
    "PaddingMaxBytes",
    "CopyBlocks",
    "Format",
    "CopyFiles",
    "ExcludeFiles",
    "ExcludeFilesTarget",
    "MakeDirectories",
    "MakeSymlinks",
    "Subvolumes",
    "DefaultSubvolume",
    "BlockDeviceReplace",
    "VolumeName",
    "Encrypt",
    "Discard",
    "EncryptKDF",
    "Verity",
    "VerityMatchKey",
    "VerityDataBlockSizeBytes",
    "VerityHashBlockSizeBytes",
    "FactoryReset",
    "Flags",
    "NoAuto",
    "ReadOnly",
    "GrowFileSystem",
    "SplitName",
    "Minimize",
    "MountPoint",
    "EncryptedVolume",
    "TPM2PCRs",
    "KeyFile",
    "Integrity",
    "IntegrityAlgorithm",
    "Compression",
    "CompressionLevel",
    "SupplementFor",
    "AddValidateFS",
    "FileSystemSectorSize",
];

/// What becomes of a value that cannot be read.
type Read = std::result::Result<(), Trouble>;

/// What is wrong with a value.
enum Trouble {
    /// systemd goes on without it.
    Told(String),
    /// systemd stops, or this program does.
    Refused(Error),
    /// There is no such key.
    Unknown,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// A definition that is being read.
pub(super) struct Reader<'a> {
    pub(super) options: &'a Options,
    pub(super) specifiers: &'a Specifiers,
    pub(super) definition: Definition,
    /// Whether the type was given.
    pub(super) typed: bool,
    /// What is told: the place, and the text.
    pub(super) warnings: Vec<String>,
}

impl Reader<'_> {
    /// Takes one assignment of a section.
    ///
    /// # Errors
    /// [`ErrorKind::Manifest`] with the place, for what systemd refuses; with `--strict` and in a manifest also for what it
    /// only tells.
    pub(super) fn take(&mut self, section: &str, key: &str, value: &str, place: &Place) -> Result<()> {
        let line = Line { place: place.clone(), text: format!("{key}={value}") };
        if section == super::nix::SECTION {
            let taken = match super::boot::KEYS.contains(&key) {
                true => self.definition.boot.take(key, value, &line, self.options),
                false => self.definition.nix.take(key, value, &line, self.options),
            };
            self.definition.lines.insert(key.to_owned(), line.clone());
            return taken.map_err(|error| line.blame(error));
        }
        match self.apply(key, value, place) {
            Ok(()) => {
                self.definition.lines.insert(key.to_owned(), line);
                Ok(())
            }
            Err(Trouble::Refused(error)) if error.has_line() => Err(error),
            Err(Trouble::Refused(error)) => Err(line.blame(error)),
            Err(Trouble::Told(told)) => self.tell(place, told),
            Err(Trouble::Unknown) if key.starts_with("X-") => Ok(()),
            Err(Trouble::Unknown) => {
                let near =
                    nearest(key, KEYS).map_or(String::new(), |near| format!(" Did you mean '{near}'?"));
                self.tell(place, format!("Unknown key '{key}' in section [{section}], ignoring.{near}"))
            }
        }
    }

    /// Tells what is wrong with a line and does not stop the work.
    ///
    /// # Errors
    /// [`ErrorKind::Manifest`] with `--strict`, and in a manifest, where every key means something.
    pub(super) fn tell(&mut self, place: &Place, told: String) -> Result<()> {
        let (path, line) = match place {
            Place::Key(_) => {
                let told = told.replacen(", ignoring", "", 1);
                return Err(place.blame(Error::new(ErrorKind::Manifest, told), ""));
            }
            Place::File(path, line) => (path, line),
        };
        if self.options.strict {
            let hint = "if it need not be strict, it is passed over with a warning, as systemd-repart does";
            return Err(place.blame(Error::new(ErrorKind::Manifest, told), "").hint(hint));
        }
        let name = self.options.shown(path);
        self.warnings.push(format!("{}:{line}: {told}", printable_path(name)));
        Ok(())
    }

    fn apply(&mut self, key: &str, value: &str, at: &Place) -> Read {
        match self.identity(key, value) {
            Err(Trouble::Unknown) => {}
            done => return done,
        }
        match self.extent(key, value, at) {
            Err(Trouble::Unknown) => {}
            done => return done,
        }
        match self.filesystem(key, value) {
            Err(Trouble::Unknown) => {}
            done => return done,
        }
        match self.contents(key, value, at) {
            Err(Trouble::Unknown) => self.protection(key, value),
            done => done,
        }
    }

    /// What a partition is.
    fn identity(&mut self, key: &str, value: &str) -> Read {
        let definition = &mut self.definition;
        match key {
            "Type" => {
                let kind = Kind::parse(value, self.options.native())?;
                definition.kind = match self.options.architecture {
                    Some(architecture) => kind.of(architecture),
                    None => kind,
                };
                self.typed = true;
            }
            "Label" => {
                let label = self.specifiers.expand(value)?;
                if label.encode_utf16().count() > 36 {
                    return told(format!(
                        "Partition label too long for GPT table, ignoring: \"{value}\" \u{2192} \"{label}\""
                    ));
                }
                definition.label = Some(label);
            }
            "UUID" if value.is_empty() => definition.uuid = None,
            "UUID" => match value::uuid(value) {
                Some(uuid) => definition.uuid = Some(uuid),
                None => return told(format!("Failed to parse 128-bit ID/UUID, ignoring: {value}")),
            },
            "Priority" => definition.priority = parsed(value.parse().ok(), key, value)?,
            "FactoryReset" => definition.factory_reset = truth(key, value)?,
            "Flags" if value.is_empty() => definition.flags = 0,
            "Flags" => match value::number(value) {
                Some(flags) => definition.flags = flags,
                None => return told(format!("Failed to parse Flags= value, ignoring: {value}")),
            },
            "NoAuto" => definition.no_auto = Some(truth(key, value)?),
            "ReadOnly" => definition.read_only = Some(truth(key, value)?),
            "GrowFileSystem" => definition.grow = Some(truth(key, value)?),
            "SplitName" => definition.split_name = if value.is_empty() { "%t" } else { value }.to_owned(),
            "SupplementFor" => {
                definition.supplement_for = Some(value.to_owned()).filter(|name| !name.is_empty());
            }
            _ => return Err(Trouble::Unknown),
        }
        Ok(())
    }

    /// How large a partition and the space behind it are.
    fn extent(&mut self, key: &str, value: &str, at: &Place) -> Read {
        let padding = key.starts_with("Padding");
        let level = self.options.level;
        let rounded = match key {
            "SizeMinBytes" | "PaddingMinBytes" => {
                Some(size(key, value)?).map(|size| (size, level.minimum(size)))
            }
            "SizeMaxBytes" | "PaddingMaxBytes" => {
                Some(size(key, value)?).map(|size| (size, level.maximum(size)))
            }
            _ => None,
        };
        if let Some((written, rounded)) = rounded
            && written != rounded
        {
            let (from, to) = (written.get(), rounded.get());
            self.tell(at, format!("Rounded {key}= size {from} \u{2192} {to}, a multiple of 4096."))?;
        }
        let range = if padding { &mut self.definition.padding } else { &mut self.definition.size };
        match (key, rounded) {
            ("SizeMinBytes" | "PaddingMinBytes", Some((_, rounded))) => range.least = Some(rounded),
            ("SizeMaxBytes" | "PaddingMaxBytes", Some((_, rounded))) => range.most = Some(rounded),
            ("Weight" | "PaddingWeight", _) => match value.parse::<u32>() {
                Ok(weight @ 0..=1_000_000) => range.weight = weight,
                Ok(_) => {
                    return told(
                        "Weight needs to be in range 0\u{2026}1000000, ignoring: ".to_owned() + value,
                    );
                }
                Err(_) => return told(format!("Failed to parse weight value, ignoring: {value}")),
            },
            _ => return Err(Trouble::Unknown),
        }
        Ok(())
    }

    /// What it is formatted as.
    fn filesystem(&mut self, key: &str, value: &str) -> Read {
        let definition = &mut self.definition;
        match key {
            "Format" => {
                definition.format = match value {
                    "" => None,
                    "empty" => Some(Format::Empty),
                    name if name.contains('/') || name.starts_with('.') => {
                        return Err(Error::new(ErrorKind::Manifest, "this is no name of a filesystem").into());
                    }
                    name => Some(Format::Filesystem(name.to_owned())),
                }
            }
            "Minimize" => {
                definition.minimize = match (value, value::boolean(value)) {
                    ("best", _) | (_, Some(true)) => Minimize::Best,
                    ("guess", _) => Minimize::Guess,
                    (_, Some(false)) => Minimize::Off,
                    _ => return Err(choice(key, "off, best or guess").into()),
                }
            }
            "FileSystemSectorSize" => definition.sector_size = Some(power(key, value, 1 << 20)?),
            "Compression" => definition.compression = some(value),
            "CompressionLevel" => definition.compression_level = some(value),
            "AddValidateFS" => definition.add_validatefs = Some(truth(key, value)?),
            "MountPoint" => {
                let fields =
                    value::fields(value, true).filter(|fields| fields.len() <= 2 && !value.is_empty());
                let Some(fields) = fields else {
                    return told(format!("Failed to parse {key}= value, ignoring: {value}"));
                };
                let mut fields = fields.into_iter();
                let place = absolute(key, &self.specifiers.expand(&fields.next().unwrap_or_default())?)?;
                definition.mounts.push((place, fields.next().unwrap_or_default()));
            }
            "EncryptedVolume" | "VolumeLabel" | "VolumeName" | "TPM2PCRs" | "KeyFile" | "Discard"
            | "EncryptKDF" | "IntegrityAlgorithm" => {}
            "Integrity" if matches!(value, "" | "off" | "no") => {}
            "Integrity" => {
                return Err(Error::new(ErrorKind::Manifest, "authenticated encryption is not made")
                    .why("it needs LUKS2 and the kernel's dm-integrity, which formats the device")
                    .into());
            }
            "BlockDeviceReplace" if value.is_empty() => {}
            "BlockDeviceReplace" => {
                return Err(Error::new(ErrorKind::Manifest, "no mounted filesystem is replaced")
                    .why("that is an operation of a running kernel, and this program only writes files")
                    .into());
            }
            _ => return Err(Trouble::Unknown),
        }
        Ok(())
    }

    /// What is put into it.
    fn contents(&mut self, key: &str, value: &str, at: &Place) -> Read {
        match key {
            "CopyBlocks" if value.is_empty() => self.definition.copy_blocks = None,
            "CopyBlocks" if value == "auto" => {
                return Err(Error::new(ErrorKind::Manifest, "CopyBlocks=auto is not done")
                    .why("it copies a partition that the running system is mounted from")
                    .hint("name the file or the device")
                    .into());
            }
            "CopyBlocks" => {
                let path = absolute(key, &self.specifiers.expand(value)?)?;
                let path = self.options.below_root(&path);
                self.definition.copy_blocks = Some(CopyBlocks::File(path));
            }
            "CopyFiles" => return self.copy_files(value, at),
            "ExcludeFiles" | "ExcludeFilesTarget" => {
                let paths = self.paths(key, value)?;
                match (key, value.is_empty()) {
                    ("ExcludeFiles", true) => self.definition.exclude_sources.clear(),
                    ("ExcludeFiles", false) => self.definition.exclude_sources.extend(paths),
                    (_, true) => self.definition.exclude_targets.clear(),
                    (_, false) => self.definition.exclude_targets.extend(paths),
                }
            }
            "MakeDirectories" => {
                let paths = self.paths(key, value)?;
                self.definition.directories.extend(paths);
            }
            "MakeSymlinks" => {
                for word in self.words(key, value)? {
                    let fields = value::fields(&word, false).filter(|fields| fields.len() == 2);
                    let Some([link, target]) = fields.and_then(|fields| <[String; 2]>::try_from(fields).ok())
                    else {
                        return told(format!("Failed to parse {key}= parameter, ignoring: {word}"));
                    };
                    let link = absolute(key, &self.specifiers.expand(&link)?)?;
                    let expands = self.options.level >= super::Level::V262;
                    let target = if expands { self.specifiers.expand(&target)? } else { target };
                    self.definition.symlinks.push((link, target));
                }
            }
            "Subvolumes" | "DefaultSubvolume" => self.definition.subvolumes.extend(some(value)),
            _ => return Err(Trouble::Unknown),
        }
        Ok(())
    }

    fn words(&self, key: &str, value: &str) -> std::result::Result<Vec<String>, Trouble> {
        value::words(value)
            .ok_or_else(|| Trouble::Told(format!("Failed to parse {key}= parameter, ignoring: {value}")))
    }

    /// Absolute paths between blanks; one that ends with `/` keeps that.
    fn paths(&self, key: &str, value: &str) -> std::result::Result<Vec<String>, Trouble> {
        let words = self.words(key, value)?.into_iter();
        words
            .map(|word| {
                let path = self.specifiers.expand(&word)?;
                let simple = absolute(key, &path)?;
                Ok(if path.ends_with('/') && simple != "/" { simple + "/" } else { simple })
            })
            .collect()
    }

    fn copy_files(&mut self, value: &str, at: &Place) -> Read {
        if value.is_empty() {
            self.definition.copy_files.clear();
            return Ok(());
        }
        let refuse = |what: &str| Error::new(ErrorKind::Manifest, what).expected("SOURCE[:TARGET[:OPTIONS]]");
        let fields = value::fields(value, false).ok_or_else(|| refuse("the value does not parse"))?;
        let (source, target, options) = match fields.as_slice() {
            [source] => (source, None, ""),
            [source, target] => (source, Some(target), ""),
            [source, target, options] => (source, Some(target), options.as_str()),
            _ => return Err(refuse("there are too many fields").into()),
        };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "fsverity=off" => {}
                "fsverity=copy" => {
                    return Err(Error::new(ErrorKind::Manifest, "fs-verity is not copied")
                        .why("the writers here make no Merkle trees of single files; dm-verity covers a whole filesystem")
                        .hint("leave fsverity= out, or protect the partition with Verity=")
                        .into());
                }
                other => return told(format!("Encountered unknown option '{other}', ignoring.")),
            }
        }
        let target = target.filter(|target| !target.is_empty());
        let source = absolute("CopyFiles", &self.specifiers.expand(source)?)?;
        let wanted = target.is_some();
        let target = match target {
            Some(target) => absolute("CopyFiles", &self.specifiers.expand(target)?)?,
            None => source.clone(),
        };
        let line = Line { place: at.clone(), text: format!("CopyFiles={value}") };
        self.definition.copy_files.push(CopyFiles { source, target, wanted, line });
        Ok(())
    }

    /// How it is protected.
    fn protection(&mut self, key: &str, value: &str) -> Read {
        let definition = &mut self.definition;
        match key {
            "Encrypt" => {
                definition.encrypt = match (value, value::boolean(value)) {
                    ("key-file" | "tpm2" | "key-file+tpm2", _) | (_, Some(true)) => true,
                    (_, Some(false)) => false,
                    _ => return Err(choice(key, "off, key-file, tpm2 or key-file+tpm2").into()),
                }
            }
            "Verity" => {
                definition.verity = match value {
                    "" | "off" => Verity::Off,
                    "data" => Verity::Data,
                    "hash" => Verity::Hash,
                    "signature" => Verity::Signature,
                    _ => return Err(choice(key, "off, data, hash or signature").into()),
                }
            }
            "VerityMatchKey" => definition.match_key = some(value),
            "VerityDataBlockSizeBytes" => definition.data_block_size = Some(power(key, value, 4096)?),
            "VerityHashBlockSizeBytes" => definition.hash_block_size = Some(power(key, value, 4096)?),
            _ => return Err(Trouble::Unknown),
        }
        Ok(())
    }
}

fn told<T>(text: String) -> std::result::Result<T, Trouble> {
    Err(Trouble::Told(text))
}

fn some(value: &str) -> Option<String> {
    Some(value.to_owned()).filter(|value| !value.is_empty())
}

fn parsed<T>(value: Option<T>, key: &str, text: &str) -> std::result::Result<T, Trouble> {
    value.ok_or_else(|| Trouble::Told(format!("Failed to parse {key}= value, ignoring: {text}")))
}

fn truth(key: &str, value: &str) -> std::result::Result<bool, Trouble> {
    match value::boolean(value) {
        Some(truth) => Ok(truth),
        None => told(format!("Failed to parse {key}= as boolean, ignoring: {value}")),
    }
}

fn choice(key: &str, expected: &str) -> Error {
    Error::new(ErrorKind::Manifest, format!("{key}= has no such value")).expected(expected)
}

fn size(key: &str, value: &str) -> Result<Bytes> {
    value::size(value).ok_or_else(|| {
        Error::new(ErrorKind::Manifest, format!("{key}= is no size"))
            .expected("a number, with K, M, G or T for powers of 1024")
    })
}

/// A power of two from 512 to `most`.
fn power(key: &str, value: &str, most: u32) -> Result<u32> {
    let size = value::size(value).and_then(|size| u32::try_from(size.get()).ok());
    size.filter(|size| size.is_power_of_two() && (512..=most).contains(size)).ok_or_else(|| {
        Error::new(ErrorKind::Manifest, format!("{key}= cannot have this value"))
            .expected(format!("a power of two from 512 to {most}"))
    })
}

/// An absolute path without `.`, double or final slashes.
///
/// # Errors
/// What systemd says of one that is not absolute or goes up, which it passes over.
fn absolute(key: &str, path: &str) -> std::result::Result<String, Trouble> {
    if !path.starts_with('/') {
        return told(format!("{key}= path is not absolute, ignoring: {path}"));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return told(format!("{key}= path is not normalized, ignoring: {path}"));
    }
    Ok(format!("/{}", parts.join("/")))
}
