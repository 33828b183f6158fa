//! Patterns of paths, as shells have them: `*`, `?`, `[a-z]`, `[!a-z]`, `\` before any of these, and `**` for any number of
//! directories.

use std::collections::BTreeMap;

use super::find::{Item, Last, find};
use super::walk::walk;
use crate::error::{Kind, Result};
use crate::filesystem::{Content, Volume};

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
    // After the last star that matched, it tries again one byte later: usually linear, quadratic at worst.
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            None if n == name.len() => return true,
            Some(b'*') => {
                retry = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(_) if n < name.len() => one(&pattern[p..], &name[n..]),
            _ => None,
        };
        match (step, retry) {
            (Some((of_pattern, of_name)), _) => {
                p += of_pattern;
                n += of_name;
            }
            (None, Some((after, from))) if from < name.len() => {
                (p, n) = (after, from + 1);
                retry = Some((after, n));
            }
            (None, _) => return false,
        }
    }
}

/// Matches one character of `name` with the beginning of `pattern`: how many bytes of each.
fn one(pattern: &[u8], name: &[u8]) -> Option<(usize, usize)> {
    let character = character(name);
    match pattern {
        [b'?', ..] => Some((1, character)),
        [b'[', ..] => match class(pattern, *name.first()?) {
            Some((length, true)) => Some((length, 1)),
            Some((_, false)) => None,
            // Without its end, it is a bracket.
            None => (name.first() == Some(&b'[')).then_some((1, 1)),
        },
        [b'\\', byte, ..] => (name.first() == Some(byte)).then_some((2, 1)),
        [byte, ..] => (name.first() == Some(byte)).then_some((1, 1)),
        [] => None,
    }
}

/// Bytes of the first character of `name`; 1 if it is not UTF-8.
fn character(name: &[u8]) -> usize {
    let longest = &name[..name.len().min(4)];
    let valid = longest.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    valid.chars().next().map_or(1, char::len_utf8)
}

/// The length of the class that `pattern` begins with, and whether `byte` is in it; `None` if it has no end.
fn class(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = if negated { 2 } else { 1 };
    let (mut at, mut found) = (first, false);
    loop {
        let mut low = *pattern.get(at)?;
        if low == b']' && at > first {
            return Some((at + 1, found != negated));
        }
        if low == b'\\' {
            at += 1;
            low = *pattern.get(at)?;
        }
        let high = match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(high)) if *high != b']' => {
                at += 2;
                *high
            }
            _ => low,
        };
        found |= (low..=high).contains(&byte);
        at += 1;
    }
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
