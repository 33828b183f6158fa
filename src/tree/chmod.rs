//! Changes of permissions in the syntax of chmod(1) and of rsync's `--chmod`: `0644`, `u+rwX,go=rX`,
//! `D0755,F0644`.
//!
//! Source: POSIX.1-2017, chmod, "Extended description"; rsync(1), `--chmod`, for `D` (directories only) and
//! `F` (files only). If a clause names nobody (`+x`), POSIX applies the umask. Here the umask is always 022,
//! as in builds of Nix, so that the umask of the process does not affect an image.

use std::fmt;
use std::str::FromStr;

/// The bits that a clause without a class leaves alone: the write bits of group and others.
const UMASK: u16 = 0o022;

/// A change of permissions. Symbolic links have none and are never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chmod {
    text: String,
    clauses: Vec<Clause>,
}

/// One clause, between commas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clause {
    /// `Some(true)` for directories only, `Some(false)` for files only.
    directories: Option<bool>,
    change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// All twelve bits.
    Absolute(u16),
    /// Some bits of some classes.
    Symbolic {
        /// The read, write and execute bits that may change, for the classes that are named.
        who: u16,
        operator: Operator,
        /// Bits to set, remove or leave alone in `who`: r, w, x of every class, and setuid, setgid, sticky.
        bits: u16,
        /// `X`: execute bits if the node is a directory or has an execute bit already.
        executable: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

/// The text is not a change of permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChmodError;

impl fmt::Display for ChmodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("permissions are octal digits such as 0644, or as chmod and rsync write them: u=rwX,go=rX or D0755,F0644")
    }
}

impl std::error::Error for ChmodError {}

impl FromStr for Chmod {
    type Err = ChmodError;

    fn from_str(text: &str) -> Result<Self, ChmodError> {
        let clauses = text.split(',').map(clause).collect::<Option<Vec<_>>>().ok_or(ChmodError)?;
        Ok(Self { text: text.to_owned(), clauses })
    }
}

impl fmt::Display for Chmod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn clause(text: &str) -> Option<Clause> {
    let (directories, rest) = match text.as_bytes().first()? {
        b'D' => (Some(true), &text[1..]),
        b'F' => (Some(false), &text[1..]),
        _ => (None, text),
    };
    if rest.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) {
        let mode = u16::from_str_radix(rest, 8).ok().filter(|mode| *mode <= 0o7777)?;
        return Some(Clause { directories, change: Change::Absolute(mode) });
    }
    let at = rest.find(['+', '-', '='])?;
    let (who, rest) = rest.split_at(at);
    let (operator, permissions) = rest.split_at(1);
    let operator = match operator {
        "+" => Operator::Add,
        "-" => Operator::Remove,
        _ => Operator::Set,
    };
    let mut classes = 0_u16;
    for class in who.chars() {
        classes |= match class {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    // Without a class: everybody, except the bits that the umask removes.
    let who = if who.is_empty() { 0o7777 & !UMASK } else { classes };
    let (mut bits, mut executable) = (0_u16, false);
    for permission in permissions.chars() {
        match permission {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'x' => bits |= 0o111,
            'X' => executable = true,
            's' => bits |= 0o6000,
            't' => bits |= 0o1000,
            _ => return None,
        }
    }
    // The sticky bit belongs to no class: `+t`, `u+t` and `o+t` all set it.
    let who = who | bits & 0o1000;
    Some(Clause { directories, change: Change::Symbolic { who, operator, bits, executable } })
}

impl Chmod {
    /// The permissions `mode` of a directory or of another node after all clauses, applied in order.
    #[must_use]
    pub fn apply(&self, mode: u16, directory: bool) -> u16 {
        let clauses =
            self.clauses.iter().filter(|clause| clause.directories.is_none_or(|only| only == directory));
        clauses.fold(mode & 0o7777, |mode, clause| clause.change.apply(mode, directory))
    }
}

impl Change {
    fn apply(self, mode: u16, directory: bool) -> u16 {
        match self {
            Self::Absolute(mode) => mode,
            Self::Symbolic { who, operator, mut bits, executable } => {
                if executable && (directory || mode & 0o111 != 0) {
                    bits |= 0o111;
                }
                match operator {
                    Operator::Add => mode | bits & who,
                    Operator::Remove => mode & !(bits & who),
                    // `=` keeps setuid, setgid and sticky of directories, as GNU chmod does; of a file it clears them.
                    Operator::Set => {
                        let kept = if directory { 0o7000 } else { 0 };
                        mode & (!who | kept) | bits & who
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_changes_them() {
        // Text, mode before, whether it is a directory, mode after.
        for (text, before, directory, after) in [
            ("0644", 0o755, false, 0o644),
            ("644", 0o4755, false, 0o644),
            ("D0755,F0644", 0o700, true, 0o755),
            ("D0755,F0644", 0o700, false, 0o644),
            ("u+w", 0o444, false, 0o644),
            ("+w", 0o444, false, 0o644),
            ("a+w", 0o444, false, 0o666),
            ("go-rwx", 0o777, true, 0o700),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+X", 0o644, false, 0o644),
            ("+X", 0o744, false, 0o755),
            ("u+s", 0o755, false, 0o4755),
            ("g+s", 0o755, true, 0o2755),
            ("ug+s", 0o755, false, 0o6755),
            ("+t", 0o777, true, 0o1777),
            ("o+t", 0o777, true, 0o1777),
            ("u=rwx", 0o4755, false, 0o755),
            ("o=", 0o777, false, 0o770),
            ("Dg+s,ug+w,Fo-w,+X", 0o646, false, 0o664),
        ] {
            let chmod: Chmod = text.parse().unwrap();
            assert_eq!(chmod.apply(before, directory), after, "{text} of {before:o}");
            assert_eq!(chmod.to_string(), text);
        }
        for bad in ["", "u", "8", "0800", "17777", "u+q", "u+w,", "z=r", "Dx", "rw-r--r--"] {
            assert_eq!(bad.parse::<Chmod>(), Err(ChmodError), "{bad}");
        }
    }
}
