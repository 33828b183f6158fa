//! Extended attributes for people: text as getfattr(1) shows it, file capabilities as getcap(8) does.

use crate::encoding::to_hex;
use crate::text::printable;
use crate::tree::capability::{EFFECTIVE, NAMES};
use crate::units::{index, joined};

/// The attribute that has the capabilities of a program.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// The capabilities in a value of `security.capability`, as getcap(8) prints them; `None` for bytes that are none
/// (linux/include/uapi/linux/capability.h, vfs_cap_data and vfs_ns_cap_data).
pub(super) fn capabilities(value: &[u8]) -> Option<String> {
    let words: Vec<u32> = value.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let (magic, rest) = words.split_first()?;
    let (permitted, inheritable, root) = match (magic >> 24, rest) {
        (1, [permitted, inheritable]) => (u64::from(*permitted), u64::from(*inheritable), None),
        (2, [p, i, p_high, i_high]) => (joined(*p, *p_high), joined(*i, *i_high), None),
        (3, [p, i, p_high, i_high, root]) => (joined(*p, *p_high), joined(*i, *i_high), Some(*root)),
        _ => return None,
    };
    let effective = magic & EFFECTIVE != 0;
    let mut clauses = Vec::new();
    for (of_inheritable, of_permitted) in [(false, true), (true, false), (true, true)] {
        let has = |set: u64, bit: u32| set >> bit & 1 == 1;
        let fits =
            |bit: &u32| has(inheritable, *bit) == of_inheritable && has(permitted, *bit) == of_permitted;
        let names: Vec<String> = (0..64).filter(fits).map(name).collect();
        if names.is_empty() {
            continue;
        }
        let flag = |on: bool, letter: &'static str| if on { letter } else { "" };
        clauses.push(format!(
            "{}={}{}{}",
            names.join(","),
            flag(effective, "e"),
            flag(of_inheritable, "i"),
            flag(of_permitted, "p")
        ));
    }
    let mut text = clauses.join(" ");
    if let Some(root) = root {
        text.push_str(&format!(" [rootid={root}]"));
    }
    Some(text)
}

fn name(bit: u32) -> String {
    NAMES.get(index(bit)).map_or_else(|| bit.to_string(), |name| format!("cap_{name}"))
}

/// The value of an attribute: in quotation marks where all of it is text, else in hexadecimal.
pub(super) fn value(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) && printable(bytes) == text => {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        }
        _ => hex(bytes),
    }
}

/// Bytes in hexadecimal after `0x`, as getfattr(1) has them.
pub(super) fn hex(bytes: &[u8]) -> String {
    format!("0x{}", to_hex(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn capabilities_are_what_getcap_prints() {
        for (words, text) in [
            (&[0x0200_0001, 1 << 13, 0, 0, 0][..], "cap_net_raw=ep"),
            (&[0x0200_0000, 1 << 10 | 1 << 13, 0, 0, 0], "cap_net_bind_service,cap_net_raw=p"),
            (&[0x0200_0001, 1, 1, 1 << 8, 0], "cap_checkpoint_restore=ep cap_chown=eip"),
            (&[0x0300_0001, 1, 0, 0, 0, 1000], "cap_chown=ep [rootid=1000]"),
            (&[0x0100_0000, 1, 2], "cap_chown=p cap_dac_override=i"),
        ] {
            assert_eq!(capabilities(&data(words)).as_deref(), Some(text));
        }
        for words in [&[][..], &[0x0200_0001], &[0x0400_0000, 1, 1, 1, 1]] {
            assert_eq!(capabilities(&data(words)), None);
        }
    }

    #[test]
    fn values_are_text_or_hexadecimal() {
        assert_eq!(value(b"a \"b\""), "\"a \\\"b\\\"\"");
        assert_eq!(value(b"a\0"), "0x6100");
        assert_eq!(value(b"\x1b[2J"), "0x1b5b324a");
        assert_eq!(value(b""), "\"\"");
    }
}
