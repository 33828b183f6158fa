//! What a SquashFS cannot keep of a tree, as warnings.

use std::collections::BTreeSet;

use super::xattr::can_be_kept;
use crate::error::{Error, Result, Warning};
use crate::text::printable;
use crate::tree::{Names, Time, Tree};
use crate::units::index;

/// Names that a warning shows.
const EXAMPLES: usize = 3;

/// The seconds of a time as the format has them: those before 1970 and after 2106 become the nearest.
pub(super) fn seconds(time: Time) -> u32 {
    u32::try_from(time.seconds.max(0)).unwrap_or(u32::MAX)
}

/// Whether the format has no such second.
fn is_outside(time: Time) -> bool {
    u32::try_from(time.seconds).is_err()
}

/// What becomes of `tree`, and of `time`, when the image was made.
///
/// # Errors
/// [`Kind::Bug`](crate::error::Kind::Bug) for a file whose attributes are not in the tree.
pub(super) fn warnings(tree: &Tree, time: Time) -> Result<Vec<Warning>> {
    let (mut outside, mut fractions, mut attributes) = (Names::default(), Names::default(), Names::default());
    let mut kinds = BTreeSet::new();
    let lost: Vec<bool> = tree
        .xattr_sets()
        .iter()
        .map(|set| {
            let lost: Vec<_> = set.iter().filter(|xattr| !can_be_kept(xattr)).collect();
            kinds.extend(lost.iter().map(|xattr| printable(&xattr.name)));
            !lost.is_empty()
        })
        .collect();
    for node in tree.ids().filter(|node| tree.source(*node) == *node) {
        let meta = tree.node(node).meta;
        let path = || tree.path(node);
        if is_outside(meta.mtime) {
            outside.add(EXAMPLES, path);
        }
        if meta.mtime.nanoseconds != 0 {
            fractions.add(EXAMPLES, path);
        }
        if is_lost(&lost, meta.xattrs)? {
            attributes.add(EXAMPLES, path);
        }
    }
    let made = is_outside(time).then(|| {
        "SquashFS holds times from 1970-01-01 to 2106-02-07: that of the disk became the nearest".to_owned()
    });
    let outside = outside.list().map(|list| {
        format!("SquashFS holds times from 1970-01-01 to 2106-02-07: others became the nearest, of {list}")
    });
    let fractions = fractions
        .list()
        .map(|list| format!("SquashFS keeps no fractions of seconds: they are cut off the times of {list}"));
    let attributes = attributes.list().map(|list| {
        let kinds: Vec<String> = kinds.into_iter().collect();
        format!("SquashFS holds no {}: lost of {list}", kinds.join(", "))
    });
    Ok([made, outside, fractions, attributes].into_iter().flatten().map(Warning).collect())
}

/// Whether part of a set of attributes is lost.
fn is_lost(lost: &[bool], set: u32) -> Result<bool> {
    let found = lost.get(index(set)).copied();
    found.ok_or_else(|| Error::bug(format!("there is no set {set} of attributes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::tree::{Builder, Content, Meta, Xattr};

    #[test]
    fn losses_are_counted_with_examples_and_nothing_is_said_of_none() {
        let mut builder = Builder::new(Time::default());
        let origin = builder.origin("the test");
        let acl = Xattr { name: b"system.posix_acl_default".to_vec(), value: vec![1] };
        let set = builder.xattr_set(&[acl]);
        for (name, seconds, nanoseconds, xattrs) in [
            ("a", 0, 0, 0),
            ("b", u32::MAX.into(), 0, 0),
            ("c", i64::from(u32::MAX) + 1, 0, 0),
            ("d", -1, 1, 0),
            ("e", 5, 1, set),
            ("f", 5, 2, 0),
            ("g", 5, 2, 0),
        ] {
            let meta = Meta { xattrs, ..Meta::root(0o644, Time { seconds, nanoseconds }) };
            builder.put(name.as_bytes(), meta, Content::Fifo, origin).unwrap();
        }
        let tree = builder.finish(1).unwrap();
        let said: Vec<String> =
            warnings(&tree, Time::seconds(-5)).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 4, "{said:?}");
        assert!(said[0].ends_with("that of the disk became the nearest"), "{said:?}");
        assert!(said[1].ends_with("others became the nearest, of 2 names: /c, /d"), "{said:?}");
        assert!(said[2].ends_with("the times of 4 names: /d, /e, /f and 1 more"), "{said:?}");
        assert_eq!(said[3], "SquashFS holds no system.posix_acl_default: lost of 1 name: /e");
        let plain = Builder::new(Time::default()).finish(1).unwrap();
        assert!(warnings(&plain, Time::default()).unwrap().is_empty());
        assert_eq!((seconds(Time::seconds(-1)), seconds(Time::seconds(1 << 40))), (0, u32::MAX));
    }

    #[test]
    fn a_set_that_is_not_there_is_a_bug_and_not_kept() {
        assert!(is_lost(&[false, true], 1).unwrap());
        let error = is_lost(&[false, true], 2).unwrap_err();
        assert_eq!((error.kind(), error.what()), (Kind::Bug, "there is no set 2 of attributes"));
    }
}
