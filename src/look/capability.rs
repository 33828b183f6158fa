//! Extended attributes for people: text as getfattr(1) shows it, file capabilities as getcap(8) does.

use crate::text::printable;

/// The attribute that has the capabilities of a program.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// Names of capabilities by number (linux/include/uapi/linux/capability.h).
const NAMES: [&str; 41] = [
    "cap_chown",
    "cap_dac_override",
    "cap_dac_read_search",
    "cap_fowner",
    "cap_fsetid",
    "cap_kill",
    "cap_setgid",
    "cap_setuid",
    "cap_setpcap",
    "cap_linux_immutable",
    "cap_net_bind_service",
    "cap_net_broadcast",
    "cap_net_admin",
    "cap_net_raw",
    "cap_ipc_lock",
    "cap_ipc_owner",
    "cap_sys_module",
    "cap_sys_rawio",
    "cap_sys_chroot",
    "cap_sys_ptrace",
    "cap_sys_pacct",
    "cap_sys_admin",
    "cap_sys_boot",
    "cap_sys_nice",
    "cap_sys_resource",
    "cap_sys_time",
    "cap_sys_tty_config",
    "cap_mknod",
    "cap_lease",
    "cap_audit_write",
    "cap_audit_control",
    "cap_setfcap",
    "cap_mac_override",
    "cap_mac_admin",
    "cap_syslog",
    "cap_wake_alarm",
    "cap_block_suspend",
    "cap_audit_read",
    "cap_perfmon",
    "cap_bpf",
    "cap_checkpoint_restore",
];

/// The flag of the first word that makes permitted capabilities effective (VFS_CAP_FLAGS_EFFECTIVE).
const EFFECTIVE: u32 = 1;

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
    NAMES.get(crate::units::index(bit)).map_or_else(|| bit.to_string(), |name| (*name).to_owned())
}

fn joined(low: u32, high: u32) -> u64 {
    crate::units::joined(low, high)
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
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
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
