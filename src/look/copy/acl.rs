//! POSIX access control lists as text, the only form in which `tar --acls` takes them (`SCHILY.acl.access`, star).

/// The version of the kernel's exchange form (linux/posix_acl_xattr.h).
const VERSION: [u8; 4] = 2_u32.to_le_bytes();
/// Tags of entries (linux/posix_acl.h), and what an entry of each begins with. The others have no id.
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;
const KINDS: [(u16, &str); 6] =
    [(0x01, "user"), (USER, "user"), (0x04, "group"), (GROUP, "group"), (0x10, "mask"), (0x20, "other")];

/// The keyword of an attribute that is a list; `None` for any other attribute.
pub(super) fn keyword(attribute: &[u8]) -> Option<&'static [u8]> {
    match attribute {
        b"system.posix_acl_access" => Some(b"SCHILY.acl.access"),
        b"system.posix_acl_default" => Some(b"SCHILY.acl.default"),
        _ => None,
    }
}

/// The text of a list as the kernel has it: `user::rwx,user:1000:rw-,group::r-x,mask::rwx,other::r--`. Ids are numbers, since
/// an image knows no names. `None` for what is no such list.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let (entries, rest) = value.strip_prefix(&VERSION)?.as_chunks::<8>();
    if !rest.is_empty() {
        return None;
    }
    let texts = entries.iter().map(entry).collect::<Option<Vec<_>>>()?;
    Some(texts.join(","))
}

/// The text of an entry: its tag, permissions and id.
fn entry(&[t0, t1, p0, p1, i0, i1, i2, i3]: &[u8; 8]) -> Option<String> {
    let (tag, permissions) = (u16::from_le_bytes([t0, t1]), u16::from_le_bytes([p0, p1]));
    let (_, kind) = KINDS.iter().find(|(own, _)| *own == tag)?;
    let who = match tag {
        USER | GROUP => u32::from_le_bytes([i0, i1, i2, i3]).to_string(),
        _ => String::new(),
    };
    let letter = |bit: u16, letter| if permissions & bit != 0 { letter } else { '-' };
    Some(format!("{kind}:{who}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x')))
}

#[cfg(test)]
mod tests {
    use super::text;
    use crate::encoding::from_hex;

    #[test]
    fn a_list_is_told_as_tar_reads_it() {
        // As getfattr shows what `setfacl -m u:1000:rw-` makes of mode 0754.
        let value =
            "0200000001000700ffffffff02000600e803000004000500ffffffff10000700ffffffff20000400ffffffff";
        let value = from_hex(value.as_bytes()).unwrap();
        assert_eq!(text(&value).unwrap(), "user::rwx,user:1000:rw-,group::r-x,mask::rwx,other::r--");
        for length in [0, 3, 11, value.len() - 1] {
            assert_eq!(text(&value[..length]), None, "{length}");
        }
        assert_eq!(text(&[2, 0, 0, 0, 3, 0, 7, 0, 0, 0, 0, 0]), None);
    }
}
