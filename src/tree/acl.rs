//! POSIX access control lists as text, as archives have them, and as the kernel takes and gives them.

/// The version of the kernel's exchange form (linux/posix_acl_xattr.h).
const VERSION: u32 = 2;
/// Tags of entries (linux/posix_acl.h).
pub(crate) const USER_OBJ: u16 = 0x01;
pub(crate) const USER: u16 = 0x02;
pub(crate) const GROUP_OBJ: u16 = 0x04;
pub(crate) const GROUP: u16 = 0x08;
pub(crate) const MASK: u16 = 0x10;
pub(crate) const OTHER: u16 = 0x20;
/// What the text of an entry of each tag begins with.
const KINDS: [(u16, &str); 6] = [
    (USER_OBJ, "user"),
    (USER, "user"),
    (GROUP_OBJ, "group"),
    (GROUP, "group"),
    (MASK, "mask"),
    (OTHER, "other"),
];
/// The attribute that decides about access.
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute that what is made in a directory inherits.
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";
/// The id of an entry that has none.
const NO_ID: u32 = u32::MAX;

/// The list that a text describes: `user::rwx,group::r-x,other::r-x,user:1000:rw-`, with commas or newlines between the
/// entries, comments behind `#`, and, from bsdtar, the number of the user as a fourth part. `None` where it is no such
/// list, or names a user without its number.
pub(crate) fn binary(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let lines = text.split(['\n', ',']).map(|line| line.split('#').next().unwrap_or_default().trim());
    let mut entries = lines.filter(|line| !line.is_empty()).map(entry).collect::<Option<Vec<_>>>()?;
    // The kernel wants them by tag and id (posix_acl_valid, linux/posix_acl.c).
    entries.sort_unstable();
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    Some(bytes)
}

/// The text of a list as the kernel has it: `user::rwx,user:1000:rw-,group::r-x,mask::rwx,other::r--`. Ids are numbers, since
/// an image knows no names. `None` for what is no such list.
pub(crate) fn text(value: &[u8]) -> Option<String> {
    let (entries, rest) = value.strip_prefix(&VERSION.to_le_bytes())?.as_chunks::<8>();
    if !rest.is_empty() {
        return None;
    }
    let texts = entries.iter().map(entry_text).collect::<Option<Vec<_>>>()?;
    Some(texts.join(","))
}

/// The text of an entry: its tag, permissions and id.
fn entry_text(&[t0, t1, p0, p1, i0, i1, i2, i3]: &[u8; 8]) -> Option<String> {
    let (tag, permissions) = (u16::from_le_bytes([t0, t1]), u16::from_le_bytes([p0, p1]));
    let (_, kind) = KINDS.iter().find(|(own, _)| *own == tag)?;
    let who = match tag {
        USER | GROUP => u32::from_le_bytes([i0, i1, i2, i3]).to_string(),
        _ => String::new(),
    };
    let letter = |bit: u16, letter| if permissions & bit != 0 { letter } else { '-' };
    Some(format!("{kind}:{who}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x')))
}

/// What an attribute is worth, judged as an access control list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// It is none, or a list that says something.
    Kept,
    /// A list that says no more than the mode, or nothing: setxattr(2) stores none of these.
    Nothing,
    /// The kernel takes no such list (posix_acl_valid, linux/fs/posix_acl.c).
    Wrong,
}

/// Judges the attribute `name` with `value`, in the kernel's exchange form.
pub(crate) fn worth(name: &[u8], value: &[u8]) -> Worth {
    let is_access = name == ACCESS;
    if !is_access && name != DEFAULT {
        return Worth::Kept;
    }
    let Some(entries) = value.strip_prefix(&VERSION.to_le_bytes()) else { return Worth::Wrong };
    if entries.is_empty() {
        return Worth::Nothing;
    }
    if !entries.len().is_multiple_of(8) {
        return Worth::Wrong;
    }
    // What may stand behind each tag: tags rise, and only those of users and groups occur more than once.
    let mut before = 0;
    let mut seen = 0;
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let permissions = u16::from_le_bytes([entry[2], entry[3]]);
        let is_named = matches!(tag, USER | GROUP);
        let known = is_named || matches!(tag, USER_OBJ | GROUP_OBJ | MASK | OTHER);
        if !known || permissions > 7 || tag < before || (tag == before && !is_named) {
            return Worth::Wrong;
        }
        if is_named && entry[4..] == NO_ID.to_le_bytes() {
            return Worth::Wrong;
        }
        before = tag;
        seen |= tag;
    }
    let least = USER_OBJ | GROUP_OBJ | OTHER;
    if seen & least != least || (seen & (USER | GROUP) != 0 && seen & MASK == 0) {
        return Worth::Wrong;
    }
    if is_access && seen == least { Worth::Nothing } else { Worth::Kept }
}

/// The tag, id and permissions of an entry.
fn entry(text: &str) -> Option<(u16, u32, u16)> {
    let mut parts = text.split(':').map(str::trim);
    let (kind, who, permissions) = (parts.next()?, parts.next()?, parts.next()?);
    let number = parts.next();
    let id = || number.unwrap_or(who).parse().ok().filter(|id| *id != NO_ID);
    let (tag, id) = match (kind, who) {
        ("user" | "u", "") => (USER_OBJ, NO_ID),
        ("user" | "u", _) => (USER, id()?),
        ("group" | "g", "") => (GROUP_OBJ, NO_ID),
        ("group" | "g", _) => (GROUP, id()?),
        ("mask" | "m", "") => (MASK, NO_ID),
        ("other" | "o", "") => (OTHER, NO_ID),
        _ => return None,
    };
    let bit = |bits: u16, letter: char| match letter {
        'r' => Some(bits | 4),
        'w' => Some(bits | 2),
        'x' => Some(bits | 1),
        '-' => Some(bits),
        _ => None,
    };
    Some((tag, id, permissions.chars().try_fold(0, bit)?))
}

#[cfg(test)]
mod tests {
    use super::{ACCESS, DEFAULT, Worth, binary, text, worth};
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

    #[test]
    fn lists_are_judged_as_the_kernel_does() {
        let list = |text: &str| binary(text.as_bytes()).unwrap();
        for (name, value, expected) in [
            (ACCESS, list("u::rwx,u:1000:rw,g::rx,m::rwx,o::r"), Worth::Kept),
            (ACCESS, list("u::rwx,g::rx,m::rwx,o::r"), Worth::Kept),
            (ACCESS, list("u::rwx,g::rx,o::r"), Worth::Nothing),
            (DEFAULT, list("u::rwx,g::rx,o::r"), Worth::Kept),
            (DEFAULT, list(""), Worth::Nothing),
            // Without a mask, without one of the three, with one twice.
            (ACCESS, list("u::rwx,u:1000:rw,g::rx,o::r"), Worth::Wrong),
            (ACCESS, list("u::rwx,o::r"), Worth::Wrong),
            (ACCESS, list("u::rwx,g::rx,o::r,o::r"), Worth::Wrong),
            (DEFAULT, vec![2, 0, 0, 0, 1], Worth::Wrong),
            (DEFAULT, vec![1, 0, 0, 0], Worth::Wrong),
            (b"user.a", vec![1], Worth::Kept),
        ] {
            assert_eq!(worth(name, &value), expected, "{value:?}");
        }
        let mut out_of_order = list("u::rwx,g::rx,m::rwx,o::r");
        out_of_order[4..20].rotate_left(8);
        assert_eq!(worth(ACCESS, &out_of_order), Worth::Wrong);
    }

    #[test]
    fn a_list_is_read_in_any_order_and_spelling() {
        // As getfattr shows what `setfacl -m u:1000:rw-` makes of mode 0754.
        let expected = crate::encoding::from_hex(
            b"020000000100070\
              0ffffffff02000600e803000004000500ffffffff10000700ffffffff20000400ffffffff"
                .as_slice(),
        )
        .unwrap();
        for text in [
            "user::rwx,user:1000:rw-,group::r-x,mask::rwx,other::r--",
            "other::r--\nuser:joe:rw-:1000\nuser::rwx # the owner\n\ngroup::r-x\nmask::rwx\n",
            "u::rwx,u:1000:rw,g::rx,m::rwx,o::r",
        ] {
            assert_eq!(binary(text.as_bytes()).unwrap(), expected, "{text}");
        }
        for bad in ["user:joe:rw-", "user::q", "x::r--", "user:1", "other:1:r--"] {
            assert_eq!(binary(bad.as_bytes()), None, "{bad}");
        }
    }
}
