//! What follows from a definition by itself, and what does not fit together: of one, and of several.

use super::Options;
use super::body::{FILESYSTEMS, READ_ONLY};
use super::definition::{Definition, Format, Minimize, Range, Verity};
use super::kind::Designator;
use crate::error::{Error, Kind, Result};
use crate::units::Bytes;

/// Fills in the defaults that follow from other keys, and refuses what does not fit together.
///
/// # Errors
/// [`Kind::Manifest`] with file and line.
pub(super) fn complete(definition: &mut Definition, options: &Options) -> Result<()> {
    sizes(definition)?;
    formats(definition, options)?;
    protection(definition)?;
    let verity = definition.verity;
    let locked = matches!(definition.kind.designator, Designator::Verity)
        || verity == Verity::Data
        || (definition.kind.designator == Designator::Signature && options.level.locks_signatures());
    if locked && definition.read_only.is_none() {
        definition.read_only = Some(true);
    }
    let grows = definition.kind.may_grow() && definition.read_only != Some(true);
    // systemd sets it whatever was written.
    if grows && (definition.grow.is_none() || options.faithful) {
        definition.grow = Some(true);
    }
    Ok(())
}

fn refuse(definition: &Definition, key: &str, what: &str) -> Error {
    definition.place(Error::new(Kind::Manifest, what), key)
}

/// The keys of a definition whose least size is above its largest, with both sizes.
fn crossed(definition: &Definition) -> Option<(&'static str, &'static str, Bytes, Bytes)> {
    let ranges = [
        (definition.size, "SizeMinBytes", "SizeMaxBytes"),
        (definition.padding, "PaddingMinBytes", "PaddingMaxBytes"),
    ];
    let crossed = |(range, least, most): (Range, _, _)| {
        let (low, high) = (range.least?, range.most?);
        (low > high).then_some((least, most, low, high))
    };
    ranges.into_iter().find_map(crossed)
}

fn sizes(definition: &Definition) -> Result<()> {
    if let Some((least, most, low, high)) = crossed(definition) {
        return Err(refuse(definition, least, &format!("{least}= is larger than {most}="))
            .expected(format!("at most {high}"))
            .found(low));
    }
    if definition.verity == Verity::Signature {
        for key in ["SizeMinBytes", "SizeMaxBytes"] {
            if definition.lines.contains_key(key) {
                return Err(refuse(definition, key, "a signature partition has a size of its own: 16 KiB"));
            }
        }
    }
    Ok(())
}

fn formats(definition: &mut Definition, options: &Options) -> Result<()> {
    let copies = definition.copy_blocks.is_some();
    // Marks are something that only a filesystem can hold (systemd `partition_needs_populate`).
    let marked = definition.add_validatefs == Some(true)
        && !matches!(definition.verity, Verity::Hash | Verity::Signature);
    if copies && (definition.format.is_some() || definition.populates()) {
        return Err(refuse(definition, "CopyBlocks", "CopyBlocks= is everything that a partition holds")
            .hint("leave out Format=, CopyFiles=, MakeDirectories= and MakeSymlinks=, or CopyBlocks="));
    }
    if let (Some(name), Some(Format::Filesystem(_))) = (&options.filesystem, &definition.format) {
        definition.format = Some(Format::Filesystem(name.clone()));
    }
    if definition.format.is_none() && !copies {
        definition.format = match definition.kind.designator {
            Designator::Esp | Designator::Xbootldr if definition.populates() => named("vfat"),
            Designator::Esp | Designator::Xbootldr if marked => named("vfat"),
            _ if definition.populates() => named("ext4"),
            Designator::Swap => named("swap"),
            _ if marked => named("ext4"),
            _ => None,
        };
    }
    if definition.format == Some(Format::Empty) {
        definition.label.get_or_insert_with(|| "_empty".to_owned());
        definition.no_auto.get_or_insert(true);
    }
    filesystem(definition)?;
    if !definition.subvolumes.is_empty() {
        return Err(refuse(definition, "Subvolumes", "subvolumes are not made")
            .why("only btrfs has them, and no btrfs is written here yet"));
    }
    if definition.minimize != Minimize::Off
        && definition.filesystem().is_none()
        && definition.verity != Verity::Hash
    {
        return Err(refuse(
            definition,
            "Minimize",
            "Minimize= needs a filesystem or hashes that it is about",
        )
        .expected("Format= or Verity=hash"));
    }
    Ok(())
}

fn named(name: &str) -> Option<Format> {
    Some(Format::Filesystem(name.to_owned()))
}

/// What goes with a filesystem.
fn filesystem(definition: &Definition) -> Result<()> {
    let Some(name) = definition.filesystem() else { return Ok(()) };
    if !FILESYSTEMS.contains(&name) {
        let names: Vec<&str> = FILESYSTEMS.into_iter().chain(["empty"]).collect();
        return Err(refuse(definition, "Format", &format!("no {name} is written here"))
            .expected(names.join(", "))
            .why("every format is written by this program itself, without mkfs programs"));
    }
    if name == "swap" && definition.populates() {
        return Err(refuse(definition, "Format", "swap holds no files"));
    }
    if definition.compression.is_some() && !READ_ONLY.contains(&name) {
        return Err(refuse(definition, "Compression", &format!("{name} has no compression"))
            .expected(format!("Format={}", READ_ONLY.join(" or "))));
    }
    Ok(())
}

fn protection(definition: &Definition) -> Result<()> {
    // An empty value takes an earlier one back.
    let named = definition.lines.get("VolumeName").is_some_and(|line| line.text != "VolumeName=");
    if named && !definition.encrypt {
        return Err(refuse(definition, "VolumeName", "VolumeName= needs Encrypt="));
    }
    if definition.encrypt {
        return Err(refuse(definition, "Encrypt", "no LUKS2 volume is made")
            .why("its keys and salts are random, so it cannot be the same twice; the header, the key slots and a cipher are not written here yet")
            .hint("leave Encrypt= out, and encrypt when the system is installed (systemd-repart, cryptsetup reencrypt)"));
    }
    let Some(match_key) = &definition.match_key else {
        return match definition.verity {
            Verity::Off => Ok(()),
            _ => Err(refuse(definition, "Verity", "Verity= has no VerityMatchKey=")
                .expected("the same VerityMatchKey= in the data, hash and signature partitions")),
        };
    };
    if definition.verity == Verity::Off {
        return Err(
            refuse(definition, "VerityMatchKey", "VerityMatchKey= is without Verity=").found(match_key)
        );
    }
    let holds = [
        ("Format", definition.format.is_some()),
        ("CopyFiles", !definition.copy_files.is_empty()),
        ("MakeDirectories", !definition.directories.is_empty()),
        ("MakeSymlinks", !definition.symlinks.is_empty()),
    ];
    if matches!(definition.verity, Verity::Hash | Verity::Signature)
        && let Some((key, _)) = holds.iter().find(|(_, there)| *there)
    {
        return Err(refuse(definition, key, &format!("{key}= is in a partition of hashes or a signature"))
            .why("what such a partition holds follows from its data partition"));
    }
    if definition.verity == Verity::Data
        && definition.copy_blocks.is_none()
        && definition.filesystem().is_none()
    {
        return Err(refuse(definition, "Verity", "there is nothing that hashes could be of")
            .expected("CopyBlocks=, Format= or CopyFiles="));
    }
    Ok(())
}

/// Refuses what does not fit together of several definitions.
///
/// # Errors
/// [`Kind::Manifest`] with file and line.
pub(super) fn together(definitions: &[Definition]) -> Result<()> {
    for definition in definitions {
        if definition.verity != Verity::Off {
            siblings(definition, definitions)?;
        }
        if let Some(name) = &definition.supplement_for {
            supplement(definition, name, definitions)?;
        }
    }
    Ok(())
}

/// The partitions of one set of dm-verity.
fn siblings(definition: &Definition, all: &[Definition]) -> Result<()> {
    let set = || all.iter().filter(|other| other.match_key == definition.match_key);
    let key = definition.match_key.as_deref().unwrap_or_default();
    for (verity, name, needed) in
        [(Verity::Data, "data", true), (Verity::Hash, "hash", true), (Verity::Signature, "signature", false)]
    {
        let mut those = set().filter(|other| other.verity == verity);
        let first = those.next();
        if let Some(second) = those.next() {
            let error = refuse(
                second,
                "Verity",
                &format!("there are two partitions with Verity={name} and VerityMatchKey={key}"),
            );
            return Err(
                first.map_or_else(|| Error::bug("there is no first"), |first| first.place(error, "Verity"))
            );
        }
        if needed && first.is_none() {
            return Err(refuse(
                definition,
                "VerityMatchKey",
                &format!("no partition has Verity={name} and VerityMatchKey={key}"),
            )
            .expected("one data and one hash partition of each key"));
        }
    }
    if let Some(other) = set().find(|other| other.priority != definition.priority) {
        let error =
            refuse(definition, "Priority", "partitions of one dm-verity set have different priorities");
        return Err(other
            .place(error, "Priority")
            .expected("one Priority= for all, since they are dropped together"));
    }
    copied(definition, set())?;
    let data = set().find(|other| other.verity == Verity::Data);
    let exact = data.is_some_and(|data| data.minimize != Minimize::Off || data.copy_blocks.is_some());
    if definition.verity == Verity::Hash && definition.minimize != Minimize::Off && !exact {
        return Err(refuse(
            definition,
            "Minimize",
            "the size of the data is not known when the hashes are sized",
        )
        .expected("Minimize= or CopyBlocks= in the data partition"));
    }
    Ok(())
}

/// Hashes and signatures are copied together with what they are of.
fn copied<'a>(definition: &Definition, mut set: impl Iterator<Item = &'a Definition>) -> Result<()> {
    let before: &[Verity] = match definition.verity {
        Verity::Hash => &[Verity::Data],
        Verity::Signature => &[Verity::Data, Verity::Hash],
        Verity::Data | Verity::Off => return Ok(()),
    };
    let copies = definition.copy_blocks.is_some();
    let wrong = |other: &&Definition| match (copies, other.copy_blocks.is_some()) {
        (true, false) => before.contains(&other.verity),
        // The root hash of hashes that are copied is not known, and nothing can be signed.
        (false, true) => other.verity == Verity::Hash && definition.verity == Verity::Signature,
        (true, true) | (false, false) => false,
    };
    let Some(other) = set.find(wrong) else { return Ok(()) };
    let error = refuse(definition, "CopyBlocks", "of a dm-verity set one partition is copied and one is not");
    Err(other
        .place(error, "CopyBlocks")
        .why("hashes are of the data that they were made with, and a signature of their root hash")
        .hint("copy all of them, or none but the data"))
}

fn supplement(definition: &Definition, name: &str, all: &[Definition]) -> Result<()> {
    let key = "SupplementFor";
    let Some(target) = all.iter().find(|other| other.name() == name) else {
        return Err(refuse(definition, key, "SupplementFor= names no definition").found(name));
    };
    let set = |it: &Definition| it.copy_blocks.is_some() || it.encrypt || it.verity != Verity::Off;
    if set(definition) || set(target) {
        return Err(refuse(
            definition,
            key,
            "SupplementFor= does not go with CopyBlocks=, Encrypt= or Verity=",
        ));
    }
    if target.supplement_for.is_some() {
        return Err(refuse(definition, key, "a supplement is no target of another supplement").found(name));
    }
    let twin = all
        .iter()
        .find(|other| other.path != definition.path && other.supplement_for.as_deref() == Some(name));
    if let Some(twin) = twin {
        let error = refuse(definition, key, &format!("{name} has two supplements"));
        return Err(twin.place(error, key));
    }
    // Also where they would not be merged, as systemd has it.
    match crossed(&target.clone().with(definition)) {
        Some((least, most, low, high)) => {
            let what = format!("{least}= is larger than {most}= once {name} has its supplement");
            let error = definition.place(Error::new(Kind::Manifest, what), least);
            Err(target.place(error, most).expected(format!("at most {high}")).found(low))
        }
        None => Ok(()),
    }
}
