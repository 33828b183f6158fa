//! The hash of a store path in Nix: SHA-256 of its archive, in every spelling that Nix accepts.

use std::fmt;
use std::str::FromStr;

use super::store::{DIGITS, shown};
use crate::encoding::{from_base64, from_hex};
use crate::error::{Error, Kind, Result};
use crate::units::index;

/// Bytes of a SHA-256.
const LENGTH: usize = 32;
/// The lengths of its text forms: base 16, Nix's base 32, base 64 with its `=`.
const BASE16: usize = 64;
const NIX32: usize = 52;
const BASE64: usize = 44;

/// The SHA-256 of a store path's archive ([`nar`](super::nar)).
///
/// `Display` prints the form of Nix's database: `sha256:` and 64 digits of base 16. `FromStr` accepts what
/// `nix-store --load-db` accepts: base 16, Nix's base 32 or base 64, with or without `sha256:` before it, or
/// the form of Subresource Integrity, `sha256-` and base 64.
///
/// ```
/// use diskwright::nix::NarHash;
///
/// let hash: NarHash = "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73".parse()?;
/// assert_eq!(hash.to_string(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
/// # Ok::<(), diskwright::error::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NarHash([u8; LENGTH]);

impl NarHash {
    /// The hash with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    /// `sha256:` and 52 digits of Nix's base 32, as closureInfo writes it.
    #[must_use]
    pub fn nix32(&self) -> String {
        format!("sha256:{}", nix32(&self.0))
    }
}

/// Bytes in Nix's base 32.
pub(super) fn nix32(bytes: &[u8]) -> String {
    let digits = (0..(bytes.len() * 8).div_ceil(5)).rev();
    let digits = digits.map(|number| {
        let (byte, bit) = (number * 5 / 8, number * 5 % 8);
        let at = |byte| u32::from(bytes.get(byte).copied().unwrap_or(0));
        char::from(DIGITS[index((at(byte) | at(byte + 1) << 8) >> bit & 31)])
    });
    digits.collect()
}

/// Nix's base 32: the last character has the lowest bits of the first byte.
fn from_nix32(text: &[u8]) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    for (number, digit) in text.iter().rev().enumerate() {
        let (value, _) = (0_u16..).zip(DIGITS).find(|(_, known)| *known == digit)?;
        let (byte, bit) = (number * 5 / 8, number * 5 % 8);
        // Five bits shifted by at most seven reach only into the next byte.
        let [low, high] = (value << bit).to_le_bytes();
        bytes[byte] |= low;
        match bytes.get_mut(byte + 1) {
            Some(next) => *next |= high,
            // 52 digits have four bits more than the hash.
            None if high != 0 => return None,
            None => {}
        }
    }
    Some(bytes)
}

impl FromStr for NarHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            Error::new(Kind::Manifest, "this is no hash of a store path")
                .expected("a SHA-256: `sha256:` and 64 digits of base 16, 52 of Nix's base 32 or 44 of base 64, or `sha256-` and base 64")
                .found(shown(text.as_bytes()))
        };
        let (digits, sri) = match (text.strip_prefix("sha256:"), text.strip_prefix("sha256-")) {
            (Some(digits), _) => (digits, false),
            (None, Some(digits)) => (digits, true),
            (None, None) => (text, false),
        };
        let digits = digits.as_bytes();
        let bytes = match digits.len() {
            BASE64 => from_base64(digits).and_then(|bytes| bytes.try_into().ok()),
            BASE16 if !sri => from_hex(digits).and_then(|bytes| bytes.try_into().ok()),
            NIX32 if !sri => from_nix32(digits),
            _ => None,
        };
        bytes.map(Self).ok_or_else(refused)
    }
}

impl fmt::Display for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    /// SHA-256 of nothing, as `nix-hash --type sha256 --to-base16|--to-base32|--to-sri` print it.
    const EMPTY: [&str; 4] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
    ];

    #[test]
    fn every_spelling_is_read() {
        let hash = NarHash(Sha256::digest(b"").into());
        for text in EMPTY {
            assert_eq!(text.parse::<NarHash>().unwrap(), hash, "{text}");
            assert_eq!(format!("sha256:{text}").parse::<NarHash>().unwrap(), hash, "{text}");
        }
        assert_eq!(format!("sha256-{}", EMPTY[2]).parse::<NarHash>().unwrap(), hash);
        assert_eq!(hash.to_string(), format!("sha256:{}", EMPTY[0]));
        assert_eq!(hash.nix32(), format!("sha256:{}", EMPTY[1]));
    }

    #[test]
    fn everything_else_is_refused() {
        let [base16, nix32, base64, _] = EMPTY;
        for text in [
            String::new(),
            "sha256:".to_owned(),
            format!("sha1:{base16}"),
            format!("sha512-{base64}"),
            format!("sha256-{base16}"),
            format!("sha256-{nix32}"),
            format!("sha256: {base16}"),
            format!("{base16}0"),
            format!("{}g", &base16[1..]),
            format!("{}e", &nix32[1..]),
            // Four bits past the end.
            format!("2{}", &nix32[1..]),
            format!("{}V=", &base64[..42]),
            format!("{}==", &base64[..42]),
            format!("-{}", &base64[1..]),
            "ü".repeat(26),
        ] {
            let error = text.parse::<NarHash>().unwrap_err();
            assert_eq!(error.kind(), Kind::Manifest, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(bytes: [u8; 32]) {
            let hash = NarHash::new(bytes);
            prop_assert_eq!(hash.to_string().parse::<NarHash>().unwrap(), hash);
            prop_assert_eq!(hash.nix32().parse::<NarHash>().unwrap(), hash);
        }

        #[test]
        fn no_text_is_a_trap(text in "(sha256[:-])?[0-9a-z=+/ü]{40,70}") {
            let _ = text.parse::<NarHash>();
        }
    }
}
