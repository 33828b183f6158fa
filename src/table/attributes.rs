//! The attributes of a partition: bits of a GPT entry, and the active flag of an MBR entry.

use std::str::FromStr;

use super::types::suggest;
use crate::error::{Error, Kind, Result};
use crate::text::printable;

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// A bit of a GPT entry, 0 to 63.
    Bit(u8),
    /// The partition that a BIOS boots, in an MBR.
    Active,
}

/// The bits with a name. Source: UEFI specification, table 5.8, for 0 to 2; the others belong to the type:
/// Discoverable Partitions Specification (59, 60, 63) and Microsoft's PARTITION_INFORMATION_GPT for basic data (62).
const NAMES: [(&str, u8); 7] = [
    ("required-partition", 0),
    ("no-block-io-protocol", 1),
    ("legacy-bios-bootable", 2),
    ("grow-file-system", 59),
    ("read-only", 60),
    ("hidden", 62),
    ("no-auto", 63),
];

impl Attribute {
    /// A bit by its number.
    ///
    /// # Errors
    /// [`Kind::Manifest`] above 63, and for 3 to 47, which must be zero (UEFI specification, table 5.8).
    pub fn bit(number: u64) -> Result<Self> {
        match u8::try_from(number) {
            Ok(bit @ (0..=2 | 48..=63)) => Ok(Self::Bit(bit)),
            _ => Err(Error::new(Kind::Manifest, format!("attribute {number} cannot be set"))
                .expected("a bit number 0 to 2 or 48 to 63")
                .why(
                    "a GPT entry has 64 attribute bits, of which 3 to 47 have to be zero (UEFI, table 5.8)",
                )),
        }
    }

    /// The bit in a GPT entry; 0 for an attribute without such a bit.
    #[must_use]
    pub const fn mask(self) -> u64 {
        match self {
            Self::Bit(bit) if bit < 64 => 1 << bit,
            Self::Bit(_) | Self::Active => 0,
        }
    }
}

impl FromStr for Attribute {
    type Err = Error;

    /// `legacy-bios-bootable`, `active`, or a bit number in decimal.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for another name, with the nearest one, and for a bit that cannot be set.
    fn from_str(text: &str) -> Result<Self> {
        if text == "active" {
            return Ok(Self::Active);
        }
        if let Some((_, bit)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(Self::Bit(*bit));
        }
        if text.bytes().all(|digit| digit.is_ascii_digit())
            && let Ok(number) = text.parse()
        {
            return Self::bit(number);
        }
        let names = NAMES.map(|(name, _)| name);
        let error = Error::new(Kind::Manifest, format!("unknown attribute `{}`", printable(text.as_bytes())))
            .expected(format!("{}, active, or a bit number", names.join(", ")));
        Err(suggest(error, text, names.into_iter().chain(["active"])))
    }
}

/// The attributes of a GPT entry for reports: names; bit numbers if there is no name.
#[must_use]
pub fn names(attributes: u64) -> Vec<String> {
    (0..64_u8)
        .filter(|bit| attributes & (1 << bit) != 0)
        .map(|bit| {
            NAMES
                .iter()
                .find(|(_, known)| *known == bit)
                .map_or(bit.to_string(), |(name, _)| (*name).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_the_same_bits() {
        for (name, bit) in NAMES {
            let attribute: Attribute = name.parse().unwrap();
            assert_eq!(attribute, Attribute::bit(u64::from(bit)).unwrap());
            assert_eq!(bit.to_string().parse::<Attribute>().unwrap(), attribute);
            assert_eq!(attribute.mask(), 1 << bit);
            assert_eq!(names(attribute.mask()), [name]);
        }
        assert_eq!(names(1 << 63 | 1 << 48 | 1), ["required-partition", "48", "no-auto"]);
        assert_eq!("active".parse::<Attribute>().unwrap().mask(), 0);
    }

    #[test]
    fn other_names_and_reserved_bits_are_refused() {
        let error = "legacy-bios-boot".parse::<Attribute>().unwrap_err().to_string();
        assert!(error.contains("unknown attribute") && error.contains("`legacy-bios-bootable`"), "{error}");
        for bad in ["3", "47", "64", "99999999999999999999", "-1", "", "+1"] {
            let error = bad.parse::<Attribute>().unwrap_err();
            assert_eq!(error.kind(), Kind::Manifest, "{bad}");
        }
        assert!("47".parse::<Attribute>().unwrap_err().what().contains("47"));
    }
}
