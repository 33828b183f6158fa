//! Names: which ones FAT forbids, which ones it takes for equal, and the short name beside a long one.
//!
//! A name that is already a short one (eight upper-case letters, a dot, three more) gets one entry. Every
//! other name gets a short one and, before it, entries with its long form in UTF-16. Windows NT has flags for
//! short names in lower case. They are not used, because not every reader knows them, while every reader of
//! long names keeps the case.

use std::collections::{BTreeMap, BTreeSet};

use crate::units::u64_of;

/// UTF-16 units in one entry of a long name.
pub(super) const UNITS: usize = 13;
/// The largest number of UTF-16 units of a long name (fatgen103, "Long File Names": 255 characters without
/// the final NUL).
pub(super) const LONGEST: usize = 255;
/// Length of the parts of a short name.
const BASE: usize = 8;
const EXTENSION: usize = 3;

/// A short name: eight bytes and three, padded with spaces, without the dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShortName(pub(super) [u8; BASE + EXTENSION]);

impl ShortName {
    fn new(base: &[u8], extension: &[u8]) -> Self {
        let mut bytes = [b' '; BASE + EXTENSION];
        for (to, from) in bytes.iter_mut().zip(base.iter().take(BASE)) {
            *to = *from;
        }
        for (to, from) in bytes[BASE..].iter_mut().zip(extension) {
            *to = *from;
        }
        Self(bytes)
    }

    /// The checksum that ties a long name to its short one: rotate right by one bit, add the next byte
    /// (fatgen103, `ChkSum`).
    pub(super) fn checksum(self) -> u8 {
        self.0.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
    }
}

/// The name as text, or the rule that it breaks (fatgen103, "Long File Names"). Windows strips dots and
/// spaces from the end of a name, and Linux strips dots, so such a name on the disk could not be opened.
pub(super) fn check(name: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(name).map_err(|_| "a name must be UTF-8".to_owned())?;
    for c in text.chars() {
        match c {
            '"' | '*' | '/' | ':' | '<' | '>' | '?' | '\\' | '|' => {
                return Err(format!("a name must not hold `{c}`, nor any of \" * / : < > ? \\ |"));
            }
            '\0'..='\x1f' => return Err("a name must not hold control characters".to_owned()),
            // This character fills the unused space after a long name.
            '\u{ffff}' => return Err("a name must not hold U+FFFF".to_owned()),
            _ => {}
        }
    }
    match text.chars().last() {
        None => Err("a name must not be empty".to_owned()),
        Some('.') => Err("a name must not end in a dot".to_owned()),
        Some(' ') => Err("a name must not end in a space".to_owned()),
        Some(_) if text.encode_utf16().count() > LONGEST => {
            Err(format!("a name must not be longer than {LONGEST} UTF-16 units"))
        }
        Some(_) => Ok(text),
    }
}

/// A form that is equal for names that FAT takes for equal. It maps every character to upper case if that is
/// a single character, as the tables of Windows do. A letter outside ASCII never becomes an ASCII letter
/// (`ı`, `ſ`), because those tables do not map it.
pub(super) fn fold(name: &str) -> String {
    name.chars()
        .map(|c| {
            let mut upper = c.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(upper), None) if c.is_ascii() || !upper.is_ascii() => upper,
                _ => c,
            }
        })
        .collect()
}

/// The number of directory entries of a name.
pub(super) fn slots(name: &str) -> u64 {
    match fitting(name) {
        Some((_, true)) => 1,
        _ => 1 + u64_of(name.encode_utf16().count().div_ceil(UNITS)),
    }
}

/// A name with its short name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    /// The name, if it needs entries of its own.
    pub(super) long: Option<&'a str>,
    pub(super) short: ShortName,
}

/// Distinct short names for the names of one directory; `None` only for more names than a directory can hold.
///
/// Names that are valid short names keep their letters. The others get numbers, in the order of the names,
/// from 1 for each beginning: `LONGNA~1`, … `LONGN~10`, … `LONG~100`. Numbers of one length share a counter
/// for each beginning, so no number is tried twice, and ten thousand names with one beginning take as many
/// steps.
pub(super) fn short_names<'a>(names: &[&'a str]) -> Option<Vec<Named<'a>>> {
    let fits: Vec<_> = names.iter().map(|name| fitting(name)).collect();
    let mut taken: BTreeSet<ShortName> = fits.iter().flatten().map(|(short, _)| *short).collect();
    let mut counters = BTreeMap::new();
    names
        .iter()
        .zip(fits)
        .map(|(name, fits)| match fits {
            Some((short, exact)) => Some(Named { long: (!exact).then_some(*name), short }),
            None => {
                let short = numbered(&Basis::new(name), &mut counters, &mut taken)?;
                Some(Named { long: Some(name), short })
            }
        })
        .collect()
}

/// The short name with the letters of `name`, if it fits, and whether the case is equal too.
fn fitting(name: &str) -> Option<(ShortName, bool)> {
    let (base, extension) = match name.rsplit_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (name, ""),
    };
    let fits = (1..=BASE).contains(&base.len())
        && extension.len() <= EXTENSION
        && base.bytes().chain(extension.bytes()).all(allowed);
    let short =
        ShortName::new(base.to_ascii_uppercase().as_bytes(), extension.to_ascii_uppercase().as_bytes());
    fits.then_some((short, !name.bytes().any(|byte| byte.is_ascii_lowercase())))
}

/// Whether a short name may contain a byte, once it is in upper case (fatgen103, "FAT Directory Structure").
/// Bytes outside ASCII depend on the code page, so we write none.
const fn allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'$' | b'%'
                | b'\''
                | b'-'
                | b'_'
                | b'@'
                | b'~'
                | b'`'
                | b'!'
                | b'('
                | b')'
                | b'{'
                | b'}'
                | b'^'
                | b'#'
                | b'&'
        )
}

/// The part of a long name that remains for a short one, before its number.
#[derive(Debug)]
struct Basis {
    base: Vec<u8>,
    extension: Vec<u8>,
}

impl Basis {
    /// As in Windows and Linux (`vfat_create_shortname`): leading dots and all spaces are removed, the last
    /// dot begins the extension, the other dots are removed, and forbidden characters become `_`.
    fn new(name: &str) -> Self {
        let name = name.trim_start_matches(['.', ' ']);
        let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let letters = |part: &str, length| {
            part.chars()
                .filter(|c| !matches!(c, '.' | ' '))
                .map(|c| u8::try_from(c).ok().filter(|byte| allowed(*byte)).unwrap_or(b'_'))
                .map(|byte| byte.to_ascii_uppercase())
                .take(length)
                .collect()
        };
        Self { base: letters(base, BASE), extension: letters(extension, EXTENSION) }
    }
}

/// The key of a counter: letters before the number, extension, digits of the number.
type Counters = BTreeMap<(Vec<u8>, Vec<u8>, u32), u32>;

/// The next free short name of a basis.
fn numbered(basis: &Basis, counters: &mut Counters, taken: &mut BTreeSet<ShortName>) -> Option<ShortName> {
    // The numbers of fatgen103 end at `~999999`; a directory has fewer than 65,536 names.
    for digits in 1..=6_u32 {
        let first = 10_u32.pow(digits - 1);
        let letters = crate::units::index(7 - digits).min(basis.base.len());
        let prefix = &basis.base[..letters];
        let counter = counters.entry((prefix.to_vec(), basis.extension.clone(), digits)).or_insert(first);
        while *counter < first * 10 {
            let base = [prefix, format!("~{counter}").as_bytes()].concat();
            *counter += 1;
            let short = ShortName::new(&base, &basis.extension);
            if taken.insert(short) {
                return Some(short);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shorts(names: &[&str]) -> Vec<String> {
        let text = |named: &Named<'_>| {
            let name = String::from_utf8(named.short.0.to_vec()).unwrap();
            format!("{}{}", name, if named.long.is_some() { "+" } else { "" })
        };
        short_names(names).unwrap().iter().map(text).collect()
    }

    #[test]
    fn names_become_short_ones() {
        for (name, short) in [
            ("README.TXT", "README  TXT"),
            ("readme.txt", "README  TXT+"),
            ("KERNEL", "KERNEL     "),
            ("BOOTX64.EFI", "BOOTX64 EFI"),
            ("loader.conf", "LOADER~1CON+"),
            ("a.b.c", "AB~1    C  +"),
            (".config", "CONFIG~1   +"),
            ("..x", "X~1        +"),
            ("a b", "AB~1       +"),
            ("a+b", "A_B~1      +"),
            ("käse", "K_SE~1     +"),
            ("日本語.テキスト", "___~1   ___+"),
            ("TOOLONGNAME", "TOOLON~1   +"),
            ("NAME.LONG", "NAME~1  LON+"),
            ("x.y z", "X~1     YZ +"),
            ("A\u{7f}", "A_~1       +"),
            ("$%'-_@~`.!(){", "$%'-_@~1!()+"),
            ("{}^#&.$", "{}^#&   $  "),
        ] {
            assert_eq!(shorts(&[name]), [short], "{name}");
        }
    }

    #[test]
    fn a_number_steps_over_a_name_that_is_there() {
        assert_eq!(
            shorts(&["LONGNA~1", "Longname A", "Longname B", "longna~2"]),
            ["LONGNA~1   ", "LONGNA~3   +", "LONGNA~4   +", "LONGNA~2   +"]
        );
    }

    #[test]
    fn no_short_name_comes_twice_however_many_share_a_beginning() {
        let mut names: Vec<String> =
            (0..30_000).map(|number| format!("same beginning {number}.text")).collect();
        // Names with other beginnings whose numbered forms may be the same: SAMEB~10 may come from both.
        names.extend((0..500).map(|number| format!("sameb{number:04} other.text")));
        names.extend((10..90).map(|number| format!("SAMEB~{number}.TEX")));
        let texts: Vec<&str> = names.iter().map(String::as_str).collect();
        let named = short_names(&texts).unwrap();
        let distinct: BTreeSet<ShortName> = named.iter().map(|named| named.short).collect();
        assert_eq!(distinct.len(), names.len());
        assert_eq!(shorts(&texts[..11])[8..], ["SAMEBE~9TEX+", "SAMEB~10TEX+", "SAMEB~11TEX+"]);
        assert_eq!(&named[29_999].short.0, b"SA~30080TEX", "80 numbers were taken by name");
    }

    #[test]
    fn rules_are_named() {
        for (name, rule) in [
            (b"a:b".as_slice(), "hold `:`"),
            (b"a\\b", "hold `\\`"),
            (b"what?", "hold `?`"),
            (b"a\"", "hold `\"`"),
            (b"*", "hold `*`"),
            (b"<", "hold `<`"),
            (b">", "hold `>`"),
            (b"|", "hold `|`"),
            (b"a/b", "hold `/`"),
            (b"a\x1fb", "control"),
            (b"a\0", "control"),
            (b"dot.", "end in a dot"),
            (b"space ", "end in a space"),
            (b"", "empty"),
            (b"\xff", "UTF-8"),
            ("\u{ffff}".as_bytes(), "U+FFFF"),
            ("x".repeat(256).as_bytes(), "255 UTF-16"),
            ("\u{1f600}".repeat(128).as_bytes(), "255 UTF-16"),
        ] {
            let error = check(name).unwrap_err();
            assert!(error.contains(rule), "{name:?}: {error}");
        }
        for name in
            ["x".repeat(255), "\u{1f600}".repeat(127), " a".into(), ".a".into(), "a\u{7f}+,;=[]".into()]
        {
            assert_eq!(check(name.as_bytes()), Ok(name.as_str()));
        }
    }

    #[test]
    fn case_is_folded_as_windows_does() {
        for (a, b) in [("ReadMe", "readme"), ("GRÜN", "grün"), ("Ж", "ж"), ("ÿ", "Ÿ")] {
            assert_eq!(fold(a), fold(b));
        }
        for (a, b) in [("ß", "SS"), ("ı", "I"), ("ſ", "s"), ("a", "b"), ("ŉ", "ʼN")] {
            assert_ne!(fold(a), fold(b));
        }
    }

    #[test]
    fn entries_are_counted() {
        for (name, count) in
            [("README", 1), ("readme", 2), ("x".repeat(13).as_str(), 2), ("x".repeat(14).as_str(), 3)]
        {
            assert_eq!(slots(name), count, "{name}");
        }
        assert_eq!(slots(&"x".repeat(255)), 21);
        assert_eq!(slots(&"\u{1f600}".repeat(7)), 3, "14 units, for a surrogate pair is two");
    }

    #[test]
    fn the_checksum_is_that_of_fatgen103() {
        // From the specification: for each byte, Sum = ((Sum & 1) ? 0x80 : 0) + (Sum >> 1) + byte.
        let short = ShortName(*b"FILENA~1TXT");
        let mut sum = 0_u32;
        for byte in short.0 {
            sum = ((if sum & 1 == 1 { 0x80 } else { 0 }) + (sum >> 1) + u32::from(byte)) & 0xff;
        }
        assert_eq!(u32::from(short.checksum()), sum);
    }
}
