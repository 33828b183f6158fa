//! A row of a device table: name, type, mode, user, group, major, minor, first number, increment, count (genext2fs(8); Buildroot
//! manual, "Makedev syntax documentation"). `-` stands for what a type does not have.

use super::{Action, Row, Wrong, mode, node, number, owner};
use crate::tree::{Content, Xattr};

/// The most devices of one row: all that a minor number can count.
const MOST: u32 = 1 << 20;

/// The rows that a line stands for: one, or one for each device. `last` is the row before, which `|xattr` is about.
pub(super) fn rows(line: &str, last: Option<&mut Row>) -> Result<Vec<Row>, Wrong> {
    if let Some(rest) = line.strip_prefix("|xattr") {
        let row = last.ok_or("the row of a file before `|xattr`")?;
        row.xattrs.push(Xattr::from_text("security.capability", rest.trim())?);
        return Ok(Vec::new());
    }
    let columns: Vec<&str> = line.split_whitespace().collect();
    let [name, kind, permissions, user, group, rest @ ..] = columns.as_slice() else {
        return Err(
            "ten columns: name, type, mode, user, group, major, minor, start, increment, count".to_owned()
        );
    };
    if rest.len() > 5 {
        return Err("no more than ten columns".to_owned());
    }
    let there = |below, optional| Action::There { below, optional };
    let single = |action| {
        let mut row = Row::new(name, action);
        // Makedevs leaves a mode of -1.
        row.mode = if *permissions == "-1" { None } else { Some(mode(permissions)?) };
        row.owner = Some(owner(user, group)?);
        Ok::<_, Wrong>(row)
    };
    match *kind {
        "d" => Ok(vec![single(Action::Directory)?]),
        "f" => Ok(vec![single(there(false, false))?]),
        "F" => Ok(vec![single(there(false, true))?]),
        "r" => Ok(vec![single(there(true, false))?]),
        "p" => Ok(vec![single(Action::Node(Content::Fifo))?]),
        "c" | "b" => {
            let column = |at: usize, what: &str| match rest.get(at) {
                None | Some(&"-") => Err(format!("{what} of the device")),
                Some(text) => number(text, what),
            };
            let optional = |at: usize, usual: u32| match rest.get(at) {
                None | Some(&"-") => Ok(usual),
                Some(text) => number(text, "a number"),
            };
            let (major, minor) = (column(0, "major number")?, column(1, "minor number")?);
            let (start, step, count) = (optional(2, 0)?, optional(3, 1)?, optional(4, 0)?);
            if count > MOST {
                return Err(format!("at most {MOST} devices"));
            }
            let letter = kind.as_bytes()[0];
            let device = |place: u32, name: &str| {
                let minor = place.checked_mul(step).and_then(|more| minor.checked_add(more));
                let minor = minor.ok_or("minor numbers below 4294967296")?;
                let content = node(letter, (major, minor)).ok_or("a device")?;
                Ok::<_, Wrong>(Row { target: name.to_owned(), ..single(Action::Node(content))? })
            };
            if count == 0 {
                return Ok(vec![device(0, name)?]);
            }
            (0..count)
                .map(|place| device(place, &format!("{name}{}", u64::from(start) + u64::from(place))))
                .collect()
        }
        other => Err(format!("a type d, f, F, r, c, b or p in place of `{other}`")),
    }
}
