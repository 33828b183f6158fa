//! Capabilities of a file as text (cap_from_text(3)), and as the kernel keeps them in `security.capability`.

/// The names without their prefix `cap_`, by their numbers (linux/capability.h).
pub(crate) const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Revision 2 of the attribute (linux/capability.h, VFS_CAP_REVISION_2).
const REVISION: u32 = 0x0200_0000;
/// The bit of its first word that makes the permitted ones effective (linux/capability.h, VFS_CAP_FLAGS_EFFECTIVE).
pub(crate) const EFFECTIVE: u32 = 1;

/// The three sets of capabilities, as bits.
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

/// The value of `security.capability` for a text such as `cap_net_raw+ep`.
///
/// # Errors
/// What is wrong with the text.
pub(crate) fn binary(text: &str) -> Result<Vec<u8>, String> {
    let mut sets = Sets::default();
    let clauses: Vec<&str> = text.split_whitespace().collect();
    if clauses.is_empty() {
        return Err("a capability and what is done with it, such as cap_net_raw+ep".to_owned());
    }
    for clause in clauses {
        apply(clause, &mut sets)?;
    }
    // A file has one bit for all of them: all that is permitted or inheritable is effective, or nothing is (libcap 2.66,
    // cap_file.c, _fcaps_save).
    let kept = sets.permitted | sets.inheritable;
    let flag = match sets.effective {
        0 => 0,
        all if all & kept == kept => EFFECTIVE,
        _ => return Err("either all capabilities of a file to be effective, or none".to_owned()),
    };
    let mut bytes = (REVISION | flag).to_le_bytes().to_vec();
    let (low, high) = (crate::units::half_lo, crate::units::half_hi);
    for word in [low(sets.permitted), low(sets.inheritable), high(sets.permitted), high(sets.inheritable)] {
        bytes.extend(word.to_le_bytes());
    }
    Ok(bytes)
}

/// One clause: names, and then signs with letters: `cap_chown,cap_kill=p+e`.
fn apply(clause: &str, sets: &mut Sets) -> Result<(), String> {
    let first = clause.find(['=', '+', '-']).ok_or_else(|| format!("`=`, `+` or `-` in `{clause}`"))?;
    let (names, mut rest) = clause.split_at(first);
    let all = (1_u64 << NAMES.len()) - 1;
    let named = match names {
        "" if rest.starts_with('=') => all,
        "" => return Err(format!("the name of a capability before `{rest}`")),
        names => names.split(',').try_fold(0, |bits, name| {
            let lower = name.to_ascii_lowercase();
            let number = match lower.strip_prefix("cap_") {
                _ if lower == "all" => return Ok(all),
                Some(known) => NAMES.iter().position(|other| *other == known),
                // A number stands for itself, up to the last that the attribute has a bit for.
                None => lower.parse().ok().filter(|number| *number < 64),
            };
            let number = number.ok_or_else(|| format!("the name of a capability in place of `{name}`"))?;
            Ok::<_, String>(bits | 1 << number)
        })?,
    };
    let mut is_first = true;
    while let Some(sign) = rest.chars().next() {
        if sign == '=' && !is_first {
            return Err("`=` before all other signs".to_owned());
        }
        is_first = false;
        let behind = &rest[sign.len_utf8()..];
        let end = behind.find(['=', '+', '-']).unwrap_or(behind.len());
        let (letters, next) = behind.split_at(end);
        if sign == '=' {
            for set in [&mut sets.effective, &mut sets.permitted, &mut sets.inheritable] {
                *set &= !named;
            }
        } else if letters.is_empty() {
            return Err(format!("one of e, i and p behind `{sign}`"));
        }
        for letter in letters.chars() {
            let set = match letter {
                'e' => &mut sets.effective,
                'i' => &mut sets.inheritable,
                'p' => &mut sets.permitted,
                other => return Err(format!("one of e, i and p in place of `{other}`")),
            };
            if sign == '-' { *set &= !named } else { *set |= named }
        }
        rest = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::binary;
    use crate::encoding::to_hex;

    /// The values are what setcap(8) of libcap 2.66 sets.
    #[test]
    fn a_text_becomes_what_setcap_sets() {
        for (text, value) in [
            ("cap_net_raw+ep", "0100000200200000000000000000000000000000"),
            ("cap_net_raw=ep", "0100000200200000000000000000000000000000"),
            ("CAP_NET_RAW=pe", "0100000200200000000000000000000000000000"),
            ("cap_chown,cap_kill=p", "0000000221000000000000000000000000000000"),
            ("cap_chown=p cap_kill+i", "0000000201000000200000000000000000000000"),
            ("cap_chown=eip-e", "0000000201000000010000000000000000000000"),
            ("=", "0000000200000000000000000000000000000000"),
            ("cap_checkpoint_restore=ep", "0100000200000000000000000001000000000000"),
            ("all=p", "00000002ffffffff00000000ff01000000000000"),
            ("13=ep", "0100000200200000000000000000000000000000"),
            ("40=ep", "0100000200000000000000000001000000000000"),
            ("63=p", "0000000200000000000000000000008000000000"),
            ("cap_net_raw+e", "0100000200000000000000000000000000000000"),
        ] {
            assert_eq!(to_hex(&binary(text).unwrap()), value, "{text}");
        }
        for bad in ["", "cap_net_raw", "net_raw+ep", "cap_no+ep", "cap_chown+x", "cap_chown+", "+ep"] {
            binary(bad).unwrap_err();
        }
        for bad in [
            "cap_chown=p cap_kill=ep",
            "cap_chown=p cap_kill+e",
            "64=p",
            "cap_41=p",
            "-1=p",
            "cap_kill==p",
            "cap_kill+p=",
        ] {
            binary(bad).unwrap_err();
        }
    }
}
