//! The names of partition types, and their values in a GPT, an MBR and a hybrid MBR.

use std::fmt;
use std::str::FromStr;

use uuid::{Uuid, uuid};

use super::format::EXTENDED;
use super::processors::{PROCESSORS, Processor};
use crate::error::{Error, Kind, Result};
use crate::text::{nearest, printable};

/// The type of a partition, as it is in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// The type GUID of a GPT. If it has a name here, it also stands for a byte in an MBR.
    Guid(Uuid),
    /// The byte of an MBR.
    Mbr(u8),
}

const ESP: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
const XBOOTLDR: Uuid = uuid!("bc13c2ff-59e6-4262-a352-b275fd6f7172");
const SWAP: Uuid = uuid!("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f");
const LINUX_GENERIC: Uuid = uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4");
const BIOS_BOOT: Uuid = uuid!("21686148-6449-6e6f-744e-656564454649");

impl Type {
    /// The EFI system partition.
    pub const ESP: Self = Self::Guid(ESP);
    /// The partition at /boot that boot loaders read beside the EFI system partition (Boot Loader Specification).
    pub const XBOOTLDR: Self = Self::Guid(XBOOTLDR);
    /// Swap space of Linux.
    pub const SWAP: Self = Self::Guid(SWAP);
    /// A filesystem of Linux for any use.
    pub const LINUX: Self = Self::Guid(LINUX_GENERIC);
    /// The place of GRUB's core image on a disk with a GPT, for a BIOS.
    pub const BIOS_BOOT: Self = Self::Guid(BIOS_BOOT);

    /// Whether it is an EFI system partition, in a GPT or by its byte in an MBR.
    pub(crate) const fn is_esp(self) -> bool {
        match self {
            Self::Guid(guid) => guid.as_u128() == ESP.as_u128(),
            Self::Mbr(byte) => byte == 0xef,
        }
    }

    /// Whether it is an extended partition of an MBR: it holds logical partitions and no filesystem.
    pub(crate) fn is_extended(self) -> bool {
        matches!(self, Self::Mbr(byte) if EXTENDED.contains(&byte))
    }

    /// Whether firmware or a boot loader reads files from it: an EFI system partition or an XBOOTLDR
    /// partition, in a GPT or by its byte in an MBR.
    #[must_use]
    pub const fn is_system(self) -> bool {
        match self {
            Self::Guid(guid) => guid.as_u128() == ESP.as_u128() || guid.as_u128() == XBOOTLDR.as_u128(),
            Self::Mbr(byte) => matches!(byte, 0xef | 0xea),
        }
    }
}

/// A type with a name of its own.
struct Named {
    /// The name in reports.
    name: &'static str,
    /// Other names that are accepted.
    aliases: &'static [&'static str],
    guid: Uuid,
    /// Its byte in an MBR; `None` if an MBR has no such type.
    mbr: Option<u8>,
    /// Its byte in a hybrid MBR: sgdisk's 16-bit code of the type (`sgdisk -L`) / 0x100.
    hybrid: u8,
}

/// The byte for types of Linux that are generic in an MBR.
const LINUX: u8 = 0x83;

/// A type with the same byte in an MBR and a hybrid MBR.
const fn named(name: &'static str, aliases: &'static [&'static str], guid: Uuid, byte: u8) -> Named {
    Named { name, aliases, guid, mbr: Some(byte), hybrid: byte }
}

/// The types that do not depend on the processor. GUIDs: Discoverable Partitions Specification, except GRUB's
/// BIOS boot partition, Microsoft's basic data and those of Solaris. Bytes: UEFI specification 5.2.2 for the ESP, Boot Loader
/// Specification for XBOOTLDR, util-linux `include/pt-mbr-partnames.h` for the rest.
const NAMED: [Named; 13] = [
    named("esp", &[], ESP, 0xef),
    named("xbootldr", &[], XBOOTLDR, 0xea),
    named("swap", &[], SWAP, 0x82),
    named("home", &[], uuid!("933ac7e1-2eb4-4f13-b844-0e14e2aef915"), LINUX),
    named("srv", &[], uuid!("3b8f8425-20e0-4f3b-907f-1a25a76f98e8"), LINUX),
    named("var", &[], uuid!("4d21b016-b534-45c2-a9fb-5c16e091fd2d"), LINUX),
    named("tmp", &[], uuid!("7ec6f557-3bc5-4aca-b293-16ef5df639d1"), LINUX),
    named("user-home", &[], uuid!("773f91ef-66d4-49b5-bd83-d683bf40ad16"), LINUX),
    named("linux-generic", &["linux"], LINUX_GENERIC, LINUX),
    Named { name: "bios-boot", aliases: &[], guid: BIOS_BOOT, mbr: None, hybrid: 0xef },
    named("microsoft-basic-data", &[], uuid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"), 0x07),
    // Of Solaris, whose partitions OpenZFS makes on a whole disk: the pool, and 8 MiB behind it.
    named("zfs", &[], uuid!("6a898cc3-1dd2-11b2-99a6-080020736631"), 0xbf),
    named("solaris-reserved", &[], uuid!("6a945a3b-1dd2-11b2-99a6-080020736631"), 0xbf),
];

/// The endings of the three types of root and usr, in the order of [`Processor::root`].
const ENDINGS: [&str; 3] = ["", "-verity", "-verity-sig"];

/// The processor of a type whose name does not give one.
#[derive(Clone, Copy, Debug)]
pub struct Architecture(&'static Processor);

impl Architecture {
    /// Its name, as in `root-x86-64`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    fn find(text: &str) -> Option<Self> {
        PROCESSORS.iter().find(|known| known.name == text || known.aliases.contains(&text)).map(Self)
    }
}

impl PartialEq for Architecture {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Architecture {}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl FromStr for Architecture {
    type Err = Error;

    /// `x86-64`, `amd64`, `arm64`, `aarch64`, …
    ///
    /// # Errors
    /// [`Kind::Manifest`] for a processor that is not in the Discoverable Partitions Specification.
    fn from_str(text: &str) -> Result<Self> {
        let known =
            || PROCESSORS.iter().flat_map(|it| std::iter::once(it.name).chain(it.aliases.iter().copied()));
        Self::find(text).ok_or_else(|| {
            let error =
                Error::new(Kind::Manifest, format!("unknown architecture `{}`", printable(text.as_bytes())))
                    .expected(PROCESSORS.map(|it| it.name).join(", "));
            suggest(error, text, known())
        })
    }
}

impl Type {
    /// Parses a name, a GUID, or the byte of an MBR as `0x83`. `root`, `usr`, `root-verity`, … are those of
    /// `architecture`; `root-secondary`, `usr-secondary-verity`, … are those of its 32-bit partner.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for an unknown name, with the nearest known one, and for a name that depends on the
    /// processor if none is given.
    pub fn parse(text: &str, architecture: Option<Architecture>) -> Result<Self> {
        if let Some(known) = NAMED.iter().find(|known| known.name == text || known.aliases.contains(&text)) {
            return Ok(Self::Guid(known.guid));
        }
        if let Some(guid) = by_processor(text, architecture)? {
            return Ok(Self::Guid(guid));
        }
        if let Some(byte) = text.strip_prefix("0x").and_then(parse_byte) {
            return Ok(Self::Mbr(byte));
        }
        if let Ok(guid) = Uuid::try_parse(text) {
            return Ok(Self::Guid(guid));
        }
        let names = all_names();
        let error = Error::new(
            Kind::Manifest,
            format!("unknown partition type `{}`", printable(text.as_bytes())),
        )
        .expected(
            "a name such as esp, linux, swap or root-x86-64, a GUID, or the byte of an MBR such as 0x83",
        );
        Err(match elsewhere(text) {
            Some(hint) => error.hint(hint),
            None => suggest(error, text, names.iter().map(String::as_str)),
        })
    }

    /// The type GUID; `None` for the byte of an MBR.
    #[must_use]
    pub const fn guid(self) -> Option<Uuid> {
        match self {
            Self::Guid(guid) => Some(guid),
            Self::Mbr(_) => None,
        }
    }

    /// The byte in an MBR; `None` for a GUID without a name here, and for a type that an MBR does not have.
    #[must_use]
    pub fn mbr(self) -> Option<u8> {
        match self {
            Self::Mbr(byte) => Some(byte),
            Self::Guid(guid) => match named_guid(guid) {
                Some(known) => known.mbr,
                None => processor_name(guid).map(|_| LINUX),
            },
        }
    }

    /// The byte in a hybrid MBR, as with `sgdisk --hybrid`; `None` if sgdisk has no code for it. sgdisk 1.0.9
    /// knows root and usr of only five processors and writes 0xff for the others; here they are 0x83.
    #[must_use]
    pub fn hybrid(self) -> Option<u8> {
        match self {
            Self::Mbr(_) => None,
            Self::Guid(guid) => match named_guid(guid) {
                Some(known) => Some(known.hybrid),
                None => processor_name(guid).map(|_| LINUX),
            },
        }
    }
}

impl fmt::Display for Type {
    /// The name; the GUID if there is none; or `0x83`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mbr(byte) => write!(f, "{byte:#04x}"),
            Self::Guid(guid) => match (named_guid(*guid), processor_name(*guid)) {
                (Some(known), _) => f.write_str(known.name),
                (None, Some(name)) => f.write_str(&name),
                (None, None) => write!(f, "{guid}"),
            },
        }
    }
}

fn named_guid(guid: Uuid) -> Option<&'static Named> {
    NAMED.iter().find(|known| known.guid == guid)
}

/// One or two hexadecimal digits.
fn parse_byte(digits: &str) -> Option<u8> {
    let digits = Some(digits).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

/// The types of one processor with their names.
fn of_processor(it: &'static Processor) -> impl Iterator<Item = (Uuid, &'static str, &'static str)> {
    let both = [("root", &it.root), ("usr", &it.usr)];
    both.into_iter()
        .flat_map(|(stem, guids)| guids.iter().zip(ENDINGS).map(move |(guid, ending)| (*guid, stem, ending)))
}

/// The name of a type that depends on the processor.
fn processor_name(guid: Uuid) -> Option<String> {
    PROCESSORS.iter().find_map(|it| {
        of_processor(it)
            .find(|(known, ..)| *known == guid)
            .map(|(_, stem, ending)| format!("{stem}-{}{ending}", it.name))
    })
}

/// Parses `root-x86-64-verity`, `usr-amd64`, `root-secondary`, `usr-verity-sig`.
fn by_processor(text: &str, architecture: Option<Architecture>) -> Result<Option<Uuid>> {
    let (stem, rest) = match (text.strip_prefix("root"), text.strip_prefix("usr")) {
        (Some(rest), _) => ("root", rest),
        (None, Some(rest)) => ("usr", rest),
        (None, None) => return Ok(None),
    };
    // The longest ending first, because each one begins with a shorter one or is empty.
    let ending = ENDINGS.into_iter().rev().find(|ending| rest.ends_with(ending)).unwrap_or_default();
    let machine = rest.strip_suffix(ending).unwrap_or(rest);
    let native = || {
        architecture.ok_or_else(|| {
            Error::new(Kind::Manifest, format!("partition type `{text}` depends on the processor"))
                .expected("an architecture, such as architecture = \"x86-64\" under [disk]")
                .hint(format!("or name it in the type: {stem}-x86-64{ending}, {stem}-arm64{ending}, …"))
        })
    };
    let found = match machine {
        "" => Some(native()?),
        "-secondary" => {
            let native = native()?;
            let partner = native.0.secondary.and_then(Architecture::find).ok_or_else(|| {
                Error::new(Kind::Manifest, format!("partition type `{text}`: {native} has no 32-bit partner"))
                    .expected("x86-64 (partner x86), arm64 (arm), ppc64 (ppc) or s390x (s390)")
            })?;
            Some(partner)
        }
        _ => machine.strip_prefix('-').and_then(Architecture::find),
    };
    Ok(found.and_then(|found| {
        of_processor(found.0).find(|(_, its, end)| *its == stem && *end == ending).map(|(guid, ..)| guid)
    }))
}

/// Every name that [`Type::parse`] accepts, except aliases of processors.
fn all_names() -> Vec<String> {
    let mut names: Vec<String> = NAMED
        .iter()
        .flat_map(|known| std::iter::once(known.name).chain(known.aliases.iter().copied()))
        .map(str::to_owned)
        .collect();
    for stem in ["root", "usr"] {
        for machine in ["", "-secondary"] {
            names.extend(ENDINGS.iter().map(|ending| format!("{stem}{machine}{ending}")));
        }
    }
    for it in &PROCESSORS {
        names.extend(of_processor(it).map(|(_, stem, ending)| format!("{stem}-{}{ending}", it.name)));
    }
    names
}

/// What to write for a type that other programs call `text`: by the codes of sgdisk(8), the bytes of sfdisk(8), the flags of
/// parted(8).
fn elsewhere(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let own = match text.as_str() {
        "efi" | "uefi" | "efi-system" | "boot" | "ef00" => "esp",
        "bios" | "bios_grub" | "bios-grub" | "biosboot" | "ef02" => "bios-boot",
        "linux-swap" | "8200" => "swap",
        "linux-filesystem" | "8300" => "linux",
        digits => {
            let byte = parse_byte(digits).filter(|_| digits.len() <= 2)?;
            return Some(format!("the byte of an MBR is written 0x{byte:02x}"));
        }
    };
    Some(format!("write `{own}`"))
}

/// Adds the known word that was probably meant.
pub(super) fn suggest<'a>(error: Error, word: &str, known: impl IntoIterator<Item = &'a str>) -> Error {
    error.or_hint(nearest(word, known).map(|near| format!("did you mean `{near}`?")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn parse(text: &str) -> Type {
        Type::parse(text, Some("x86-64".parse().unwrap())).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_name_reads_and_prints_back() {
        let names = all_names();
        // 13 types with one alias, 21 x 6 for processors, 12 that depend on the architecture.
        assert_eq!(names.len(), 14 + 21 * 6 + 12);
        let mut guids = BTreeSet::new();
        for name in &names {
            let printed = parse(name).to_string();
            assert_eq!(parse(&printed), parse(name), "{name}");
            if printed == *name {
                assert!(guids.insert(parse(name).guid().unwrap()), "two names for one type: {name}");
                assert!(parse(name).guid().unwrap().to_string().parse::<Uuid>().is_ok());
            }
        }
        assert_eq!(
            guids.len(),
            13 + 21 * 6,
            "all but the alias and those without processor print as themselves"
        );
    }

    #[test]
    fn guids_bytes_and_aliases_read() {
        assert_eq!(parse("0x83"), Type::Mbr(0x83));
        assert_eq!(parse("0xC"), Type::Mbr(0x0c));
        assert_eq!(parse("0x0c").to_string(), "0x0c");
        let esp = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        for text in ["esp", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"] {
            assert_eq!(parse(text), Type::Guid(esp));
        }
        let other = "01234567-89ab-cdef-0123-456789abcdef";
        assert_eq!(parse(other).to_string(), other);
        assert_eq!(parse("linux"), parse("linux-generic"));
        for (alias, name) in [
            ("root-amd64", "root-x86-64"),
            ("usr-x86_64-verity", "usr-x86-64-verity"),
            ("root-aarch64-verity-sig", "root-arm64-verity-sig"),
            ("usr-ppc64el", "usr-ppc64-le"),
            ("root", "root-x86-64"),
            ("usr-verity-sig", "usr-x86-64-verity-sig"),
            ("root-secondary", "root-x86"),
            ("usr-secondary-verity", "usr-x86-verity"),
        ] {
            assert_eq!(parse(alias).to_string(), name);
        }
        let arm: Architecture = "aarch64".parse().unwrap();
        assert_eq!(Type::parse("root-secondary", Some(arm)).unwrap().to_string(), "root-arm");
    }

    #[test]
    fn types_have_the_bytes_of_fdisk_and_sgdisk() {
        for (name, mbr, hybrid) in [
            ("esp", Some(0xef), Some(0xef)),
            ("xbootldr", Some(0xea), Some(0xea)),
            ("swap", Some(0x82), Some(0x82)),
            ("linux", Some(0x83), Some(0x83)),
            ("root", Some(0x83), Some(0x83)),
            ("usr-riscv64-verity-sig", Some(0x83), Some(0x83)),
            ("bios-boot", None, Some(0xef)),
            ("microsoft-basic-data", Some(0x07), Some(0x07)),
            ("zfs", Some(0xbf), Some(0xbf)),
            ("solaris-reserved", Some(0xbf), Some(0xbf)),
            ("0x0c", Some(0x0c), None),
            ("01234567-89ab-cdef-0123-456789abcdef", None, None),
        ] {
            assert_eq!((parse(name).mbr(), parse(name).hybrid()), (mbr, hybrid), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_nearest_name() {
        for (text, hint) in [
            ("esb", "`esp`"),
            ("root-x86-46", "`root-x86-64`"),
            ("xboot-ldr", "`xbootldr`"),
            ("Linux", "`linux`"),
            ("usr-x86-64-verify", "`usr-x86-64-verity`"),
            ("efi", "write `esp`"),
            ("EF00", "write `esp`"),
            ("bios_grub", "write `bios-boot`"),
            ("83", "0x83"),
            ("c", "0x0c"),
        ] {
            let error = Type::parse(text, None).unwrap_err();
            assert_eq!(error.kind(), Kind::Manifest);
            assert!(error.to_string().contains(hint) && error.what().contains(text), "{error}");
        }
        for text in ["", "0x", "0x100", "0x+8", "rootx86-64", "root-", "c12a7328", "root-verity-verity"] {
            let error = Type::parse(text, Some("arm".parse().unwrap())).unwrap_err();
            assert!(error.what().contains("unknown partition type"), "{text}: {error}");
        }
    }

    #[test]
    fn a_type_of_the_processor_needs_one() {
        for text in ["root", "usr", "root-verity", "usr-verity-sig", "root-secondary", "usr-secondary-verity"]
        {
            let error = Type::parse(text, None).unwrap_err().to_string();
            assert!(error.contains("depends on the processor") && error.contains("x86-64"), "{error}");
        }
        let error = Type::parse("root-secondary", Some("riscv64".parse().unwrap())).unwrap_err();
        assert!(error.what().contains("riscv64 has no 32-bit partner"), "{error}");
        let error = "x86-65".parse::<Architecture>().unwrap_err().to_string();
        assert!(error.contains("unknown architecture") && error.contains("`x86-64`"), "{error}");
    }
}
