//! A definition of a pseudo file (mksquashfs(1), "PSEUDO FILE DEFINITION FORMAT"): name, type, mode, user, group, and what the type
//! has. A capital letter is the same type with a time behind it.

use super::{Action, Row, Wrong, mode, node, number, owner};
use crate::tree::{Content, Xattr};

pub(super) fn row(line: &str) -> Result<Row, Wrong> {
    let (name, rest) = name(line)?;
    let (kind, rest) = word(rest);
    let Some(letter) = kind.bytes().next().filter(|_| kind.len() == 1) else {
        return Err(format!("a type d, m, b, c, s, i or x in place of `{kind}`"));
    };
    match letter {
        b'x' => return attribute(&name, rest),
        b'f' | b'F' => return Err("a source or a text among the contents: no program is run".to_owned()),
        b'l' | b'L' | b'R' | b'r' => {
            return Err(
                "an entry of the contents, since not every filesystem has files of this type".to_owned()
            );
        }
        _ => {}
    }
    let (mtime, rest) = match letter.is_ascii_uppercase() {
        false => (None, rest),
        true => {
            let (text, rest) = word(rest);
            let time = text.parse().map_err(|_| format!("seconds since 1970 in place of `{text}`"))?;
            (Some(time), rest)
        }
    };
    let (permissions, rest) = word(rest);
    let (user, rest) = word(rest);
    let (group, rest) = word(rest);
    if group.is_empty() {
        return Err("mode, user and group behind the type".to_owned());
    }
    let (action, rest) = action(letter.to_ascii_lowercase(), rest)?;
    if !rest.is_empty() {
        return Err(format!("nothing behind the definition in place of `{rest}`"));
    }
    let (mode, owner) = (Some(mode(permissions)?), Some(owner(user, group)?));
    Ok(Row { mode, owner, mtime, ..Row::new(&name, action) })
}

/// What a type makes, and the rest of its line.
fn action(letter: u8, rest: &str) -> Result<(Action, &str), Wrong> {
    Ok(match letter {
        b'd' => (Action::Directory, rest),
        b'm' => (Action::There { below: false, optional: false }, rest),
        b's' if rest.is_empty() => return Err("where the link leads".to_owned()),
        b's' => (Action::Symlink(rest.to_owned()), ""),
        b'i' => match word(rest) {
            ("f", rest) => (Action::Node(Content::Fifo), rest),
            ("s", rest) => (Action::Node(Content::Socket), rest),
            (other, _) => return Err(format!("f or s in place of `{other}`")),
        },
        b'b' | b'c' => {
            let (major, rest) = word(rest);
            let (minor, rest) = word(rest);
            let device = (number(major, "a major number")?, number(minor, "a minor number")?);
            (Action::Node(node(letter, device).ok_or("a device")?), rest)
        }
        _ => return Err("a type d, m, b, c, s, i or x".to_owned()),
    })
}

/// `x name=value`: text with octal numbers behind `0t`, base 64 behind `0s`, hexadecimal digits behind `0x`, or else text as it is.
fn attribute(name: &str, rest: &str) -> Result<Row, Wrong> {
    let (key, value) = rest.split_once('=').ok_or("an attribute as name=value")?;
    let text = value.strip_prefix("0t").or_else(|| value.strip_prefix("0T"));
    let xattrs = vec![match text {
        None => Xattr::from_text(key, value)?,
        Some(text) => {
            let digits: String = octal(text)?.iter().map(|byte| format!("{byte:02x}")).collect();
            Xattr::from_text(key, &format!("0x{digits}"))?
        }
    }];
    Ok(Row { xattrs, ..Row::new(name, Action::There { below: false, optional: false }) })
}

/// A text in which `\ooo`, three octal digits, stands for a byte, as mksquashfs 4.7.5 reads it.
fn octal(text: &str) -> Result<Vec<u8>, Wrong> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        let (byte, next) = match (first, behind) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', next @ ..]) => {
                (((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'), next)
            }
            (b'\\', _) => return Err("three octal digits behind a backslash, up to \\377".to_owned()),
            _ => (*first, behind),
        };
        bytes.push(byte);
        rest = next;
    }
    Ok(bytes)
}

/// The first word, and what follows.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim()))
}

/// A name, in quotes or with `\` before what would end it, and what follows.
fn name(line: &str) -> Result<(String, &str), Wrong> {
    let quoted = line.starts_with('"');
    let mut name = String::new();
    let mut letters = line.char_indices().skip(usize::from(quoted));
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => name.extend(letters.next().map(|(_, letter)| letter)),
            '"' if quoted => return Ok((name, &line[at + 1..])),
            letter if !quoted && letter.is_whitespace() => return Ok((name, &line[at..])),
            letter => name.push(letter),
        }
    }
    match quoted {
        true => Err("a closing quote behind the name".to_owned()),
        false => Ok((name, "")),
    }
}
