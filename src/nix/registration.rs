//! The text that `nix-store --load-db` reads: closureInfo's `registration` and the output of `nix-store
//! --dump-db`. Each store path has these lines: path, hash, size, deriver (may be empty), number of
//! references, and the references.

use std::path::Path;
use std::str::FromStr;

use super::closure::Facts;
use super::store::{StorePath, shown};
use crate::error::{Error, Kind, Result};
use crate::units::u64_of;

/// The lines of a text, numbered from 1; each ends with a newline.
struct Lines<'a> {
    file: &'a Path,
    rest: &'a [u8],
    /// The line that was read last.
    number: u64,
    text: &'a [u8],
}

impl<'a> Lines<'a> {
    /// The next line, or `None` at the end.
    ///
    /// # Errors
    /// Where the last line has no newline: the file was cut off, and the last name may be incomplete.
    fn next(&mut self) -> Result<Option<&'a [u8]>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        match self.rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                (self.text, self.rest) = (&self.rest[..end], &self.rest[end + 1..]);
                Ok(Some(self.text))
            }
            None => {
                self.text = self.rest;
                Err(self
                    .wrong("the registration is cut off")
                    .expected("a newline at the end of its last line"))
            }
        }
    }

    /// The next line of the entry of `path`; `what` names it.
    fn of(&mut self, path: &StorePath, what: &str) -> Result<&'a [u8]> {
        self.next()?.ok_or_else(|| {
            Error::new(Kind::Manifest, "the registration is cut off")
                .at(self.file)
                .expected(format!("{what} of {path} in line {}", self.number + 1))
                .found("the end of the file")
        })
    }

    /// An error about the last line that was read.
    fn wrong(&self, what: &str) -> Error {
        Error::new(Kind::Manifest, what).at_line(self.file, self.number, shown(self.text))
    }

    /// Parses the last line that was read; `what` names it.
    ///
    /// # Errors
    /// The errors of the type, at this line.
    fn parse<T: FromStr<Err = Error>>(&self, what: &str) -> Result<T> {
        // Only ASCII is valid in any line, so replacement characters for invalid UTF-8 are refused as well.
        let text = String::from_utf8_lossy(self.text);
        text.parse().map_err(|error: Error| {
            error.at_line(self.file, self.number, shown(self.text)).why(format!("this line is {what}"))
        })
    }

    /// The decimal number in the last line that was read.
    fn number(&self, what: &str) -> Result<u64> {
        let text = str::from_utf8(self.text).unwrap_or("");
        // parse() would also accept a sign.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits).ok_or_else(|| {
            self.wrong("this is no number")
                .expected("decimal digits, below 2^64")
                .found(shown(self.text))
                .why(format!("this line is {what}"))
        })
    }
}

/// The entries of a registration, in their order, each with its line.
///
/// # Errors
/// [`Kind::Manifest`] with the file, the line and what was expected.
pub(super) fn parse(bytes: &[u8], file: &Path) -> Result<Vec<(u64, StorePath, Facts)>> {
    let mut lines = Lines { file, rest: bytes, number: 0, text: &[] };
    let mut entries = Vec::new();
    while lines.next()?.is_some() {
        let line = lines.number;
        let path: StorePath = lines.parse("a store path")?;
        lines.of(&path, "the hash")?;
        let nar_hash = lines.parse(&format!("the hash of {path}"))?;
        lines.of(&path, "the size")?;
        let nar_size = lines.number(&format!("the size of {path} in bytes"))?;
        let mut facts = Facts::new(nar_hash, nar_size);
        if !lines.of(&path, "the deriver")?.is_empty() {
            facts.deriver = Some(lines.parse(&format!("the deriver of {path}, or empty"))?);
        }
        lines.of(&path, "the number of references")?;
        let count = lines.number(&format!("the number of references of {path}"))?;
        // The count may be wrong, so only existing lines take memory.
        for number in 1..=count {
            let what = format!("reference {number} of {count}");
            lines.of(&path, &what)?;
            facts.references.insert(lines.parse(&format!("{what} of {path}"))?);
        }
        entries.push((line, path, facts));
    }
    Ok(entries)
}

/// The text that [`parse`] reads, with the hash as `--dump-db` prints it: base 16 without a prefix.
pub(super) fn print<'a>(entries: impl Iterator<Item = (&'a StorePath, &'a Facts)>) -> String {
    let mut text = String::new();
    for (path, facts) in entries {
        let hash = facts.nar_hash.to_string();
        let deriver = facts.deriver.as_ref().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("{path}\n{}\n{}\n{deriver}\n", &hash["sha256:".len()..], facts.nar_size));
        text.push_str(&format!("{}\n", u64_of(facts.references.len())));
        for reference in &facts.references {
            text.push_str(&format!("{reference}\n"));
        }
    }
    text
}
