//! From the lines of a definition file to a [`Definition`]: every key of repart.d(5) of systemd 262.
//!
//! What is wrong with a value is fatal where systemd refuses it, and a warning in its words where it goes on.

use super::Options;
use super::definition::{CopyBlocks, CopyFiles, Definition, Format, Line, Minimize, Place, Verity};
use super::kind::Kind;
use super::specifier::Specifiers;
use super::value::{self, Cut};
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

impl From<String> for Trouble {
    fn from(told: String) -> Self {
        Self::Told(told)
    }
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
                definition.kind = match self.options.architecture {
                    // Of whichever processor it is, it becomes that of this one.
                    Some(processor) => {
                        let of_root = ["root-", "usr-"].into_iter().any(|begin| value.starts_with(begin));
                        let value =
                            if of_root { value.replacen("-secondary", "", 1) } else { value.to_owned() };
                        Kind::parse(&value, Some(processor))?.of(processor)
                    }
                    None => Kind::parse(value, self.options.native())?,
                };
                self.typed = true;
            }
            "Label" => {
                let label = self.specifiers.expand(value)?;
                // A GPT has room for 36 units of UTF-16; systemd counts the bytes of UTF-8.
                if label.len() > 36 {
                    return told(format!("Failed to expand specifiers in Label=, ignoring: {value}"));
                }
                definition.label = Some(label);
            }
            "UUID" if value.is_empty() => definition.uuid = None,
            "UUID" => match value::uuid(value) {
                Some(uuid) => definition.uuid = Some(uuid),
                None => return told(format!("Failed to parse 128-bit ID/UUID, ignoring: {value}")),
            },
            "Priority" => {
                let number = value::number(value).ok_or_else(|| unread(key, value, INVALID))?;
                definition.priority = i32::try_from(number).map_err(|_| unread(key, value, RANGE))?;
            }
            "FactoryReset" => definition.factory_reset = truth(key, value)?,
            "Flags" => match value::number(value).and_then(|flags| u64::try_from(flags).ok()) {
                Some(flags) => definition.flags = flags,
                None => return told(format!("Failed to parse Flags= value, ignoring: {value}")),
            },
            "NoAuto" => definition.no_auto = tristate(key, value)?,
            "ReadOnly" => definition.read_only = tristate(key, value)?,
            "GrowFileSystem" => definition.grow = tristate(key, value)?,
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
            ("Weight" | "PaddingWeight", _) => {
                match value::number(value).and_then(|weight| u32::try_from(weight).ok()) {
                    Some(weight @ 0..=1_000_000) => range.weight = weight,
                    Some(_) => {
                        return told(format!(
                            "Weight needs to be in range 0\u{2026}1000000, ignoring: {value}"
                        ));
                    }
                    None => return told(format!("Failed to parse weight value, ignoring: {value}")),
                }
            }
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
                    "" => return told("File system type is not valid, refusing: ".to_owned()),
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
                    ("", _) | (_, Some(false)) => Minimize::Off,
                    _ => return Err(choice(key, "off, best or guess").into()),
                }
            }
            "FileSystemSectorSize" if value.is_empty() => definition.sector_size = None,
            "FileSystemSectorSize" => definition.sector_size = Some(power(key, value, 1 << 20)?),
            "Compression" => definition.compression = some(value),
            "CompressionLevel" => definition.compression_level = some(value),
            "AddValidateFS" => definition.add_validatefs = tristate(key, value)?,
            "MountPoint" => {
                let fields =
                    value::fields(value, true).filter(|fields| fields.len() <= 2 && !value.is_empty());
                let Some(fields) = fields else {
                    return told(format!("Failed to parse {key}= value, ignoring: {value}"));
                };
                let mut fields = fields.into_iter();
                // Specifiers stay as they are (systemd `config_parse_mountpoint`).
                let place = absolute(key, &fields.next().unwrap_or_default())?;
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
                let path = self.options.inside_root(&path)?;
                self.definition.copy_blocks = Some(CopyBlocks::File(path));
            }
            "CopyFiles" => return self.copy_files(value, at),
            "ExcludeFiles" | "ExcludeFilesTarget" => return self.exclusions(key, value, at),
            "MakeDirectories" => return self.directories(value, at),
            "MakeSymlinks" => return self.symlinks(value, at),
            "Subvolumes" | "DefaultSubvolume" => self.definition.subvolumes.extend(some(value)),
            _ => return Err(Trouble::Unknown),
        }
        Ok(())
    }

    /// Absolute paths between blanks; one that ends with `/` keeps that. Behind one that is wrong systemd reads no further.
    fn exclusions(&mut self, key: &str, value: &str, at: &Place) -> Read {
        let mut paths = Vec::new();
        let mut wrong = None;
        let Cut { parts, whole } = value::words(value);
        for word in parts {
            let path = self.specifiers.expand(&word)?;
            match absolute(key, &path) {
                Ok(simple) if path.ends_with('/') && simple != "/" => paths.push(simple + "/"),
                Ok(simple) => paths.push(simple),
                Err(told) => {
                    wrong = Some(told);
                    break;
                }
            }
        }
        let list = match key {
            "ExcludeFiles" => &mut self.definition.exclude_sources,
            _ => &mut self.definition.exclude_targets,
        };
        if value.is_empty() {
            list.clear();
        }
        list.append(&mut paths);
        match wrong {
            Some(told) => self.tell(at, told)?,
            None if !whole => self.tell(at, cut_short(value))?,
            None => {}
        }
        Ok(())
    }

    /// Absolute paths between blanks. One that is wrong is passed over, and those behind it are made.
    fn directories(&mut self, value: &str, at: &Place) -> Read {
        let Cut { parts, whole } = value::words(value);
        for word in parts {
            match absolute("MakeDirectories", &self.specifiers.expand(&word)?) {
                Ok(path) => self.definition.directories.push(path),
                Err(told) => self.tell(at, told)?,
            }
        }
        if !whole {
            self.tell(at, cut_short(value))?;
        }
        Ok(())
    }

    /// `LINK:TARGET` between blanks, of which more fields mean nothing. One that is wrong is passed over, as with directories.
    fn symlinks(&mut self, value: &str, at: &Place) -> Read {
        let Cut { parts, whole } = value::words(value);
        for word in parts {
            let fields = value::plain_fields(&word);
            let [link, target, ..] = fields.parts.as_slice() else {
                let told = match fields.whole {
                    true => format!("Missing source or target in {value}, ignoring"),
                    false => cut_short(&word),
                };
                self.tell(at, told)?;
                continue;
            };
            let link = match absolute("MakeSymlinks", &self.specifiers.expand(link)?) {
                Ok(link) => link,
                Err(told) => {
                    self.tell(at, told)?;
                    continue;
                }
            };
            let expands = self.options.level >= super::Level::V262;
            let target = if expands { self.specifiers.expand(target)? } else { target.clone() };
            self.definition.symlinks.push((link, target));
        }
        if !whole {
            self.tell(at, cut_short(value))?;
        }
        Ok(())
    }

    fn copy_files(&mut self, value: &str, at: &Place) -> Read {
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
                other if other.starts_with("fsverity=") => {
                    self.tell(at, "fsverity= expects either 'off' or 'copy'.".to_owned())?;
                }
                other => self.tell(at, format!("Encountered unknown option '{other}', ignoring."))?,
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

/// What systemd says of a number or a truth value that it cannot read.
fn unread(key: &str, value: &str, why: &str) -> Trouble {
    Trouble::Told(format!("Failed to parse {key}={value}, ignoring: {why}"))
}

/// What the C library calls these errors.
const INVALID: &str = "Invalid argument";
const RANGE: &str = "Numerical result out of range";

/// What systemd says of words that end in the middle of a quote or of an escape.
fn cut_short(text: &str) -> String {
    format!("Invalid syntax, ignoring: {text}")
}

fn truth(key: &str, value: &str) -> std::result::Result<bool, Trouble> {
    value::boolean(value).ok_or_else(|| unread(key, value, INVALID))
}

/// A truth value, or nothing for the default.
fn tristate(key: &str, value: &str) -> std::result::Result<Option<bool>, Trouble> {
    if value.is_empty() { Ok(None) } else { truth(key, value).map(Some) }
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
fn absolute(key: &str, path: &str) -> std::result::Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!("{key}= path is not absolute, ignoring: {path}"));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err(format!("{key}= path is not normalized, ignoring: {path}"));
    }
    Ok(format!("/{}", parts.join("/")))
}
