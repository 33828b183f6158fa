//! Extended attributes: those in the system attributes of a file, and those that are files in a directory of their own because
//! they are too long (module/os/linux/zfs/zpl_xattr.c, zpl_xattr_set_sa, zpl_xattr_set_dir).

use super::nvlist;
use crate::error::{Error, Kind, Result};
use crate::tree::Xattr;

/// The most bytes of one in the system attributes, and of all there as a list (zfs_sa.h, DXATTR_MAX_ENTRY_SIZE,
/// DXATTR_MAX_SA_SIZE; their length has 16 bits).
const MOST_INSIDE: usize = 32 << 10;
const MOST_PACKED: usize = (64 << 10) - 1;
/// The most bytes of any, and of the names of all (linux/limits.h, XATTR_SIZE_MAX, XATTR_LIST_MAX).
const MOST: usize = 64 << 10;

/// The extended attributes of a file.
#[derive(Debug, Default)]
pub(super) struct Split<'a> {
    /// The list of those in the system attributes, if there are any.
    pub(super) packed: Option<Vec<u8>>,
    /// Those that are files.
    pub(super) apart: Vec<&'a Xattr>,
}

/// Says where each attribute goes. A list that is full has no more.
///
/// # Errors
/// [`Kind::Capacity`] for one that is longer than Linux has them, and for more than it lists.
pub(super) fn split(xattrs: &[Xattr]) -> Result<Split<'_>> {
    let names: usize = xattrs.iter().map(|xattr| xattr.name.len() + 1).sum();
    if names > MOST {
        return Err(Error::new(Kind::Capacity, "a file has more extended attributes than Linux lists")
            .expected(format!("names of at most {MOST} bytes, each with a NUL"))
            .found(format!("{names} bytes")));
    }
    let mut split = Split::default();
    let (mut list, empty) = (nvlist::List::default(), nvlist::List::default().packed()?.len());
    let mut length = empty;
    for xattr in xattrs {
        if xattr.value.len() > MOST {
            return Err(Error::new(Kind::Capacity, "ZFS cannot hold so long an extended attribute")
                .expected(format!("at most {MOST} bytes"))
                .found(format!("{} bytes", xattr.value.len())));
        }
        if xattr.value.len() <= MOST_INSIDE {
            let value = || nvlist::Value::Bytes(xattr.value.clone());
            // Pairs stand one behind the other, each as long as it is alone.
            let own = nvlist::List::default().with(&xattr.name, value()).packed()?.len() - empty;
            if length + own <= MOST_PACKED {
                length += own;
                list = list.with(&xattr.name, value());
                continue;
            }
        }
        split.apart.push(xattr);
    }
    split.packed = (length > empty).then(|| list.packed()).transpose()?;
    Ok(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(lengths: &[usize]) -> (bool, Vec<usize>) {
        let xattrs: Vec<Xattr> = (0..)
            .zip(lengths)
            .map(|(number, length): (u64, _)| Xattr {
                name: format!("user.{number}").into_bytes(),
                value: vec![7; *length],
            })
            .collect();
        let split = split(&xattrs).unwrap();
        (split.packed.is_some(), split.apart.iter().map(|xattr| xattr.value.len()).collect())
    }

    #[test]
    fn what_is_too_long_is_apart() {
        assert_eq!(names(&[]), (false, vec![]));
        assert_eq!(names(&[10, 32 << 10]), (true, vec![]));
        assert_eq!(names(&[(32 << 10) + 1]), (false, vec![(32 << 10) + 1]));
        // What comes after it may fit the list all the same.
        assert_eq!(names(&[30_000, 30_000, 20_000, 100]), (true, vec![20_000]));
        let long = [Xattr { name: b"user.x".to_vec(), value: vec![0; MOST + 1] }];
        assert_eq!(split(&long).unwrap_err().kind(), Kind::Capacity);
        let many: Vec<Xattr> = (0..10_000)
            .map(|number| Xattr { name: format!("user.{number}").into_bytes(), value: vec![0] })
            .collect();
        let packed = split(&many[..1000]).unwrap().packed.unwrap();
        assert!(packed.len() <= MOST_PACKED && packed.len() > 30_000, "{}", packed.len());
        assert_eq!(split(&many).unwrap_err().what(), "a file has more extended attributes than Linux lists");
    }
}
