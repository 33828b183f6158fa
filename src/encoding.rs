//! Bytes as digits: base 16 and base 64.

/// Lower-case hexadecimal digits, two a byte.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hexadecimal digits of either case, two a byte.
pub(crate) fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    text.chunks(2).map(byte).collect()
}

/// The digits of base 64, by their values (RFC 4648, table 1).
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base 64 as in RFC 4648, section 4, without line breaks.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    let group = |group: &[u8]| {
        let at = |number| u32::from(group.get(number).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        let digit = move |number: usize| match number <= group.len() {
            true => char::from(DIGITS[crate::units::index(bits >> (18 - 6 * number) & 63)]),
            false => '=',
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

/// Base 64 as in RFC 4648, section 4: groups of four digits, the last filled up with `=`, and no bits left over that are
/// not zero.
pub(crate) fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut pending, mut bits) = (0_u32, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        pending = pending << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            // Fewer than six bits were left over, so these are eight.
            bytes.push(u8::try_from(pending >> bits).ok()?);
            pending &= (1 << bits) - 1;
        }
    }
    (text.len().is_multiple_of(4) && pending == 0 && bits < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 4648, section 10.
        for (text, digits) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(to_base64(text.as_bytes()), digits);
            assert_eq!(from_base64(digits.as_bytes()).unwrap(), text.as_bytes());
        }
        assert_eq!(to_hex(b"\x00\xaf"), "00af");
        assert_eq!(from_hex(b"00aF").unwrap(), b"\x00\xaf");
        for bad in ["0", "0g", "+1", "000"] {
            assert_eq!(from_hex(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(from_base64(to_base64(&bytes).as_bytes()), Some(bytes.clone()));
            prop_assert_eq!(from_hex(to_hex(&bytes).as_bytes()), Some(bytes));
        }
    }
}
