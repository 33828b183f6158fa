//! Patterns of names, as shells have them (glob(7)): `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before any of these.

/// Whether `name`, without slashes, matches `pattern`.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> bool {
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
