//! The forms that values have in definition files and on the command line of systemd-repart.

use uuid::Uuid;

use super::ini::WHITESPACE;
use crate::units::Bytes;

/// Suffixes of sizes, which all count in 1024.
const SUFFIXES: [(&str, u32); 8] =
    [("E", 60), ("P", 50), ("T", 40), ("G", 30), ("M", 20), ("K", 10), ("B", 0), ("", 0)];

/// A size as systemd reads it (`parse_size`): `64M`, `1.5G`, `1G512M`; each part has a smaller unit than the one before it.
pub(super) fn size(text: &str) -> Option<Bytes> {
    let mut rest = text.trim_matches(WHITESPACE);
    let mut left = SUFFIXES.as_slice();
    let mut sum: u64 = 0;
    loop {
        let (whole, behind) = digits(rest)?;
        let (fraction, behind) = match behind.strip_prefix('.') {
            Some(behind) => digits(behind)?,
            None => ("", behind),
        };
        let behind = behind.trim_start_matches(WHITESPACE);
        let at = left.iter().position(|(suffix, _)| behind.starts_with(suffix))?;
        let (suffix, bits) = left.get(at)?;
        let unit = 1_u64 << bits;
        let whole: u64 = whole.parse().ok()?;
        sum = whole.checked_mul(unit)?.checked_add(fraction_of(fraction, unit)?)?.checked_add(sum)?;
        rest = behind.strip_prefix(suffix)?.trim_start_matches(WHITESPACE);
        if rest.is_empty() {
            return Some(Bytes::new(sum));
        }
        left = left.get(at + 1..)?;
    }
}

/// The digits that a text begins with, at least one, and what is behind them.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// The digits behind a point, of a unit, rounded down.
fn fraction_of(digits: &str, unit: u64) -> Option<u64> {
    let (mut part, mut scale) = (0_u128, 1_u128);
    // More than 18 digits are below a byte of any unit.
    for digit in digits.bytes().take(18) {
        part = part * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    u64::try_from(part * u128::from(unit) / scale).ok()
}

/// A truth value: `yes`, `no`, `true`, `1`, …
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// A number of 64 bits: decimal, or behind `0x`, `0b` or `0o`.
pub(super) fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (&text[2..], 16),
        Some("0b") => (&text[2..], 2),
        Some("0o") => (&text[2..], 8),
        _ => (text, 10),
    };
    let plain = digits.chars().all(|digit| digit.is_digit(radix));
    u64::from_str_radix(digits, radix).ok().filter(|_| plain)
}

/// A UUID, with or without dashes; `null` is that of zeros.
pub(super) fn uuid(text: &str) -> Option<Uuid> {
    match text {
        "null" => Some(Uuid::nil()),
        _ if matches!(text.len(), 32 | 36) => Uuid::try_parse(text).ok(),
        _ => None,
    }
}

/// Words between white space: quotes keep some together, and escapes are those of C.
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    split(text, |c| WHITESPACE.contains(&c), true)
}

/// Fields between colons; `quoted` where quotes keep some together.
pub(super) fn fields(text: &str, quoted: bool) -> Option<Vec<String>> {
    split(text, |c| c == ':', quoted)
        .map(|fields| if fields.is_empty() { vec![String::new()] } else { fields })
}

/// Cuts a text at separators. Those that are white space count once however many there are.
fn split(text: &str, separates: impl Fn(char) -> bool, quoted: bool) -> Option<Vec<String>> {
    let blank = separates(' ');
    let mut parts = Vec::new();
    let mut part: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let escaped = unescaped(&mut chars)?;
                part.get_or_insert_default().push(escaped);
            }
            _ if quote == Some(c) => quote = None,
            _ if quote.is_some() => part.get_or_insert_default().push(c),
            '"' | '\'' if quoted => {
                quote = Some(c);
                part.get_or_insert_default();
            }
            _ if separates(c) && blank => parts.extend(part.take()),
            _ if separates(c) => parts.push(part.take().unwrap_or_default()),
            _ => part.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return None;
    }
    match part {
        Some(part) => parts.push(part),
        // What ends with a colon has an empty last field.
        None if !blank && text.ends_with(':') => parts.push(String::new()),
        None => {}
    }
    Some(parts)
}

/// The character that an escape stands for (systemd `cunescape_one`, without bytes that are no text).
fn unescaped(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let coded = |digits: String, radix: u32| {
        u32::from_str_radix(&digits, radix).ok().filter(|code| *code != 0).and_then(char::from_u32)
    };
    match chars.next()? {
        'a' => Some('\u{7}'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\u{b}'),
        's' => Some(' '),
        c @ ('\\' | '"' | '\'' | ':') => Some(c),
        'x' => coded(chars.by_ref().take(2).collect(), 16),
        'u' => coded(chars.by_ref().take(4).collect(), 16),
        'U' => coded(chars.by_ref().take(8).collect(), 16),
        first @ '0'..='3' => coded(std::iter::once(first).chain(chars.by_ref().take(2)).collect(), 8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_systemd_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64M", 64 << 20),
            ("1.5G", 3 << 29),
            ("1M512K", 3 << 19),
            ("1G 1", (1 << 30) + 1),
            ("7B", 7),
            (" 2 K ", 2048),
            ("0.0009765625K", 1),
        ] {
            assert_eq!(size(text), Some(Bytes::new(bytes)), "{text}");
        }
        for text in ["", "M", "1MiB", "1K1M", "1 1", "-1", "1.", ".5M", "16E", "1X", "64m"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn truth_numbers_and_uuids() {
        assert_eq!(["yes", "On", "1", "t"].map(boolean), [Some(true); 4]);
        assert_eq!(["no", "OFF", "0", "f"].map(boolean), [Some(false); 4]);
        assert_eq!((boolean(""), boolean("maybe")), (None, None));
        assert_eq!(
            (number("0x8000000000000005"), number("0b101"), number("12")),
            (Some((1 << 63) | 5), Some(5), Some(12))
        );
        assert_eq!((number("0x"), number("+1"), number("18446744073709551616")), (None, None, None));
        let text = "0867da16-f251-457d-a9e8-c31f9a3c220b";
        assert_eq!(uuid(text), uuid(&text.replace('-', "")));
        assert_eq!(
            (uuid("null"), uuid("x"), uuid("{0867da16-f251-457d-a9e8-c31f9a3c220b}")),
            (Some(Uuid::nil()), None, None)
        );
    }

    #[test]
    fn words_and_fields_are_cut_where_systemd_cuts() {
        assert_eq!(words(r#" /a  "/b c" /d\x20e '' "#).unwrap(), ["/a", "/b c", "/d e", ""]);
        assert_eq!(words("\"/a"), None);
        assert_eq!(words("/a\\q"), None);
        assert_eq!(fields("/a:/b\\:c:", false).unwrap(), ["/a", "/b:c", ""]);
        assert_eq!(fields(r#""/a:b":c"#, true).unwrap(), ["/a:b", "c"]);
        assert_eq!(fields("", false).unwrap(), [""]);
    }
}
