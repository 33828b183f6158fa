//! Patterns of paths, as shells have them: `*`, `?`, `[a-z]`, `[!a-z]`, `\` before any of these, and `**` for any number of
//! directories.

use std::collections::BTreeMap;

use super::find::{Item, Last, find};
use super::walk::walk;
use crate::error::{Kind, Result};
use crate::filesystem::{Content, Volume};
use crate::pattern;

/// Whether a path has anything that is not only itself.
#[must_use]
pub fn is_pattern(path: &[u8]) -> bool {
    path.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// Whether `name`, without slashes, matches `pattern`. A dot at the beginning of a name is matched by a dot only.
#[must_use]
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.starts_with(b".") && !pattern.starts_with(b".") && !pattern.starts_with(b"\\.") {
        return false;
    }
    pattern::matches(pattern, name)
}

/// Everything in a volume that `pattern` matches, sorted by path. If something has the pattern itself as its path, it is
/// that alone. Links inside a pattern are followed; `**` does not follow them.
///
/// # Errors
/// As [`find()`] and [`Volume::list`].
pub fn expand(volume: &dyn Volume, pattern: &[u8], last: Last) -> Result<Vec<Item>> {
    if let Ok(Some(item)) = find(volume, pattern, last) {
        return Ok(vec![item]);
    }
    if !is_pattern(pattern) {
        // Once more, for its error.
        return Ok(find(volume, pattern, last)?.into_iter().collect());
    }
    let parts: Vec<&[u8]> = pattern.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    let mut found: BTreeMap<Vec<u8>, Item> = BTreeMap::new();
    let Some(root) = find(volume, b"/", Last::Followed)? else { return Ok(Vec::new()) };
    found.insert(root.path.clone(), root);
    for (number, part) in parts.iter().enumerate() {
        let is_last = number + 1 == parts.len();
        let mut next = BTreeMap::new();
        for item in found.into_values().filter(Item::is_directory) {
            let links = if is_last && !pattern.ends_with(b"/") { last } else { Last::Followed };
            below(volume, &item, part, links, is_last, &mut next)?;
        }
        found = next;
    }
    Ok(found.into_values().collect())
}

/// What `part` of a pattern matches in a directory.
fn below(
    volume: &dyn Volume,
    directory: &Item,
    part: &[u8],
    links: Last,
    is_last: bool,
    found: &mut BTreeMap<Vec<u8>, Item>,
) -> Result<()> {
    let path = |name: &[u8]| {
        [if directory.path == b"/" { b"" } else { directory.path.as_slice() }, b"/", name].concat()
    };
    if part == b"**" {
        return walk(volume, directory.inode, &mut |step| {
            let is_directory = step.node.is_directory();
            let hidden = step.path.split(|byte| *byte == b'/').any(|name| name.starts_with(b"."));
            if !hidden && (is_directory || is_last) && !(is_last && step.path.is_empty()) {
                let path = if step.path.is_empty() { directory.path.clone() } else { path(step.path) };
                found.insert(path.clone(), Item { path, inode: step.inode, node: step.node.clone() });
            }
            Ok(())
        });
    }
    let mut names = Vec::new();
    if is_pattern(part) {
        volume.list(directory.inode, &mut |name, inode| {
            if matches(part, name) {
                names.push((name.to_vec(), inode));
            }
            Ok(())
        })?;
    } else if let Some(inode) = volume.lookup(directory.inode, part)? {
        names.push((part.to_vec(), inode));
    }
    for (name, inode) in names {
        let (path, node) = (path(&name), volume.node(inode)?);
        let link = matches!(node.content, Content::Symlink { .. });
        let item = if link && links == Last::Followed {
            // A link that leads nowhere, or in a circle, matches nothing.
            match find(volume, &path, links) {
                Ok(Some(item)) => Item { path: path.clone(), ..item },
                Ok(None) => continue,
                Err(error) if error.kind() == Kind::Source => continue,
                Err(error) => return Err(error),
            }
        } else {
            Item { path: path.clone(), inode, node }
        };
        found.insert(path, item);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("*", "", true),
            ("*", ".a", false),
            (".*", ".a", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("?", "\u{fc}", true),
            ("?", "ab", false),
            ("??", "ab", true),
            ("[a-c]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[!a-c]x", "dx", true),
            ("[]x]", "]", true),
            ("[a-]", "-", true),
            ("[", "[", true),
            ("[a", "[a", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("*.conf", "a.conf", true),
            ("*.conf", "a.confx", false),
            ("", "", true),
            ("a", "", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
        assert!(matches(b"*", b"\xff\xfe") && matches(b"??", b"\xff\xfe"));
        // Many stars take no more than quadratic time.
        let name = vec![b'a'; 4000];
        assert!(!matches(&b"*a".repeat(200).into_iter().chain(*b"b").collect::<Vec<u8>>(), &name));
    }
}
