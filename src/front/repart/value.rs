//! The forms that values have in definition files and on the command line of systemd-repart.

use uuid::Uuid;

use super::ini::WHITESPACE;
use crate::units::Bytes;

/// Suffixes of sizes, which all count in 1024.
const SUFFIXES: [(&str, u32); 8] =
    [("E", 60), ("P", 50), ("T", 40), ("G", 30), ("M", 20), ("K", 10), ("B", 0), ("", 0)];

/// A size as systemd reads it (`parse_size`): `64M`, `1.5G`, `1G512M`; each part has a smaller unit than the one before it. A
/// plus sign, a point without digits and blanks before a unit mean nothing.
pub(super) fn size(text: &str) -> Option<Bytes> {
    let mut rest = text;
    let mut left = SUFFIXES.as_slice();
    let mut sum: u64 = 0;
    loop {
        let part = rest.trim_start_matches(WHITESPACE);
        let (whole, behind) = digits(part.strip_prefix('+').unwrap_or(part));
        let (fraction, behind) = behind.strip_prefix('.').map_or(("", behind), digits);
        let behind = behind.trim_start_matches(WHITESPACE);
        let at = left.iter().position(|(suffix, _)| behind.starts_with(suffix))?;
        let (suffix, bits) = left.get(at)?;
        let unit = 1_u64 << bits;
        let whole: u64 = whole.parse().ok()?;
        sum = whole.checked_mul(unit)?.checked_add(fraction_of(fraction, unit)?)?.checked_add(sum)?;
        rest = behind.strip_prefix(suffix)?;
        if rest.is_empty() {
            return Some(Bytes::new(sum));
        }
        left = left.get(at + 1..)?;
    }
}

/// The digits that a text begins with, and what is behind them.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The digits behind a point, of a unit, rounded down; `None` for more than systemd reads (`strtoull`).
fn fraction_of(digits: &str, unit: u64) -> Option<u64> {
    let _: u64 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
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

/// A whole number as systemd reads it (`safe_atou`, `safe_atoi`): decimal, behind `0x` hexadecimal, behind `0o` or a further 0
/// octal, behind `0b` binary. The sign stands behind `0o` and `0b`, as there, and before `0x`.
pub(super) fn number(text: &str) -> Option<i128> {
    let text = text.trim_start_matches(WHITESPACE);
    let marked = |radix, mark| Some((strip_prefix(text, mark)?, radix));
    let (text, radix) = match marked(2, "0b").or_else(|| marked(8, "0o")) {
        Some((behind, radix)) => (behind.trim_start_matches(WHITESPACE), Some(radix)),
        None => (text, None),
    };
    let negative = text.starts_with('-');
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (digits, radix) = match (radix, strip_prefix(digits, "0x")) {
        (Some(radix), _) => (digits, radix),
        (None, Some(behind)) => (behind, 16),
        (None, None) if digits.starts_with('0') => (digits, 8),
        (None, None) => (digits, 10),
    };
    // The parser of the standard library takes a second sign.
    let plain = digits.chars().all(|digit| digit.is_digit(radix));
    let number = i128::from_str_radix(digits, radix).ok().filter(|_| plain)?;
    Some(if negative { -number } else { number })
}

/// What is behind a mark of ASCII, in capitals or not.
fn strip_prefix<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let (head, behind) = text.split_at_checked(mark.len())?;
    head.eq_ignore_ascii_case(mark).then_some(behind)
}

/// A UUID, with or without dashes; `null` is that of zeros.
pub(super) fn uuid(text: &str) -> Option<Uuid> {
    match text {
        "null" => Some(Uuid::nil()),
        _ if matches!(text.len(), 32 | 36) => Uuid::try_parse(text).ok(),
        _ => None,
    }
}

/// What a value was cut into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) parts: Vec<String>,
    /// Whether that is all of it: where a quote is not closed or an escape means nothing, the parts are those before.
    pub(super) whole: bool,
}

/// What a backslash means.
#[derive(Clone, Copy)]
enum Escapes {
    /// As in C.
    C,
    /// What is behind it stands for itself (`extract_first_word` without `EXTRACT_CUNESCAPE`).
    Plain,
}

/// Words between white space: quotes keep some together, and a backslash takes the meaning of what is behind it.
pub(super) fn words(text: &str) -> Cut {
    cut(text, |c| WHITESPACE.contains(&c), true, Escapes::Plain)
}

/// Fields between colons in a word, with quotes and backslashes of their own.
pub(super) fn plain_fields(word: &str) -> Cut {
    cut(word, |c| c == ':', true, Escapes::Plain)
}

/// Fields between colons with the escapes of C; `quoted` where quotes keep some together.
pub(super) fn fields(text: &str, quoted: bool) -> Option<Vec<String>> {
    let Cut { parts, whole } = cut(text, |c| c == ':', quoted, Escapes::C);
    whole.then(|| if parts.is_empty() { vec![String::new()] } else { parts })
}

/// Cuts a text at separators. Those that are white space count once however many there are.
fn cut(text: &str, separates: impl Fn(char) -> bool, quoted: bool, escapes: Escapes) -> Cut {
    let blank = separates(' ');
    let mut parts = Vec::new();
    let mut part: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let escaped = match escapes {
                    Escapes::C => unescaped(&mut chars),
                    Escapes::Plain => chars.next(),
                };
                let Some(escaped) = escaped else { return Cut { parts, whole: false } };
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
        return Cut { parts, whole: false };
    }
    match part {
        Some(part) => parts.push(part),
        // What ends with a colon has an empty last field.
        None if !blank && text.ends_with(':') => parts.push(String::new()),
        None => {}
    }
    Cut { parts, whole: true }
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

    /// Each as systemd-repart 262.1 takes or refuses it for `--size=` or `SizeMinBytes=`.
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
            (" 2 K", 2048),
            ("5 ", 5),
            ("+9K", 9 << 10),
            ("5.M", 5 << 20),
            ("1. M", 1 << 20),
            ("1M+5K", (1 << 20) + (5 << 10)),
            ("64M 0", 64 << 20),
            ("0.0009765625K", 1),
        ] {
            assert_eq!(size(text), Some(Bytes::new(bytes)), "{text}");
        }
        for text in [
            "",
            " ",
            "M",
            "1MiB",
            "5MB",
            "1K1M",
            "1K1K",
            "1 1",
            "-1",
            "1M-5K",
            "+ 9K",
            "++9K",
            ".5M",
            "1..5M",
            "1.5.5M",
            "1.+5M",
            "1,5M",
            "16E",
            "1X",
            "64m",
            "64M ",
            "0x1000",
            "1e3",
            "1_000",
            "auto",
            "1.18446744073709551616G",
            "99999999999999999999",
        ] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn truth_and_uuids() {
        assert_eq!(["yes", "On", "1", "t"].map(boolean), [Some(true); 4]);
        assert_eq!(["no", "OFF", "0", "f"].map(boolean), [Some(false); 4]);
        assert_eq!((boolean(""), boolean("maybe")), (None, None));
        let text = "0867da16-f251-457d-a9e8-c31f9a3c220b";
        assert_eq!(uuid(text), uuid(&text.replace('-', "")));
        assert_eq!(
            (uuid("null"), uuid("x"), uuid("{0867da16-f251-457d-a9e8-c31f9a3c220b}")),
            (Some(Uuid::nil()), None, None)
        );
    }

    /// Each as systemd-repart 262.1 takes it for `Weight=`, `Priority=` or `Flags=`.
    #[test]
    fn numbers_have_the_bases_of_systemd() {
        for (text, value) in [
            ("12", 12),
            ("0", 0),
            ("0x8000000000000005", (1 << 63) | 5),
            ("0X1f", 31),
            ("010", 8),
            ("0o17", 15),
            ("0O17", 15),
            ("0b101", 5),
            ("0B11000", 24),
            ("+5", 5),
            (" +06", 6),
            ("-010", -8),
            ("-0x5", -5),
            ("0b-1", -1),
            ("01000000000000000000000", 1 << 63),
        ] {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for text in ["", "x", "08", "0x", "0o", "0b", "0b2", "-0b1", "0o0b1", "1 ", "1_0", "+-1", "\u{e9}"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    /// Each as systemd-repart 262.1 cuts `MakeDirectories=`, `MakeSymlinks=` and `CopyFiles=`.
    #[test]
    fn words_and_fields_are_cut_where_systemd_cuts() {
        let cut =
            |parts: &[&str], whole| Cut { parts: parts.iter().map(|it| (*it).to_owned()).collect(), whole };
        assert_eq!(
            words(r#" /a  "/b c" /d\x20e /f\qg /h\\i '' "#),
            cut(&["/a", "/b c", "/dx20e", "/fqg", r"/h\i", ""], true)
        );
        assert_eq!(words("/a \"/b /c"), cut(&["/a"], false));
        assert_eq!(words(r"/a /b\"), cut(&["/a"], false));
        assert_eq!(words(r"/x\\:y:z").parts, [r"/x\:y:z"]);
        assert_eq!(plain_fields(r"/x\:y:z"), cut(&["/x:y", "z"], true));
        assert_eq!(plain_fields("/p:"), cut(&["/p", ""], true));
        assert_eq!(fields(r"/a:/b\x20c:", false).unwrap(), ["/a", "/b c", ""]);
        assert_eq!(fields(r"/a:/b\:c:", false).unwrap(), ["/a", "/b:c", ""]);
        assert_eq!(fields(r"/a\q", false), None);
        assert_eq!(fields(r#""/a:b":c"#, true).unwrap(), ["/a:b", "c"]);
        assert_eq!(fields("", false).unwrap(), [""]);
    }
}
