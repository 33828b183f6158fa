//! The namespaces of extended attributes, for which ext4 and EROFS have the same numbers (linux/fs/ext4/xattr.h,
//! linux/fs/erofs/erofs_fs.h).

/// The numbers, and the prefix that is left out of the name.
const NAMESPACES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (ACL_ACCESS, b"system.posix_acl_access"),
    (ACL_DEFAULT, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];
const ACL_ACCESS: u8 = 2;
const ACL_DEFAULT: u8 = 3;

/// Whether a number is that of a POSIX ACL, whose prefix is the whole name.
pub(super) const fn is_acl(number: u8) -> bool {
    matches!(number, ACL_ACCESS | ACL_DEFAULT)
}

/// The number of a name's namespace and the rest of the name; `None` if there is no such namespace.
pub(super) fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    NAMESPACES.iter().find_map(|(number, prefix)| {
        let rest = name.strip_prefix(*prefix)?;
        (is_acl(*number) == rest.is_empty()).then_some((*number, rest))
    })
}

/// The prefix of names in a namespace.
pub(super) fn prefix(number: u8) -> Option<&'static [u8]> {
    NAMESPACES.iter().find(|(own, _)| *own == number).map(|(_, prefix)| *prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_at_their_namespace() {
        assert_eq!(split(b"user.a.b"), Some((1, b"a.b".as_slice())));
        assert_eq!(split(b"security.capability"), Some((6, b"capability".as_slice())));
        assert_eq!(split(b"system.posix_acl_default"), Some((3, b"".as_slice())));
        // An ACL has no further name, everything else has one, and other namespaces have no number.
        for name in [&b"system.posix_acl_accessx"[..], b"user.", b"system.nfs4_acl", b"user"] {
            assert_eq!(split(name), None);
        }
        for name in [&b"user.a"[..], b"trusted.overlay", b"system.posix_acl_access"] {
            let (number, rest) = split(name).unwrap();
            assert_eq!([prefix(number).unwrap(), rest].concat(), name);
        }
        assert_eq!(prefix(5), None);
    }
}
