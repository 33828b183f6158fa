//! The outputs of a derivation (`.drv`), which are all that matters here.
//!
//! A derivation is one line, `Derive([("out","/nix/store/…","",""),…],…)`. It begins with a list of outputs,
//! each with its name, its store path, and how its hash is fixed. A derivation with a version begins
//! `DrvWithVersion("…",[…`.

use std::collections::BTreeMap;
use std::path::Path;

use super::store::StorePath;
use crate::error::{Error, Kind, Result};
use crate::units::u64_of;

/// The outputs of the derivation in `bytes`, by name. Outputs whose path is known only after the build are
/// left out, as in Nix's database. Errors call it `file`.
///
/// # Errors
/// [`Kind::Manifest`] with the offset, where it is not a derivation.
pub(super) fn outputs(bytes: &[u8], file: &Path) -> Result<BTreeMap<String, StorePath>> {
    let mut text = Text { all: bytes, at: 0 };
    text.outputs().map_err(|expected| {
        let rest = text.all.get(text.at..).unwrap_or_default();
        Error::new(Kind::Manifest, "the derivation does not parse")
            .at_offset(file, u64_of(text.at))
            .expected(expected)
            .found(crate::text::shortened(rest, 40))
    })
}

/// A text that is parsed from left to right. An error is what was expected at `at`.
struct Text<'a> {
    all: &'a [u8],
    at: usize,
}

impl Text<'_> {
    fn outputs(&mut self) -> Result<BTreeMap<String, StorePath>, String> {
        if self.take(b"DrvWithVersion(") {
            self.string()?;
            self.expect(b",")?;
        } else {
            self.expect(b"Derive(")?;
        }
        self.expect(b"[")?;
        let mut outputs = BTreeMap::new();
        let mut first = true;
        while !self.take(b"]") {
            if !first {
                self.expect(b",")?;
            }
            first = false;
            self.expect(b"(")?;
            let name = self.string()?;
            self.expect(b",")?;
            let start = self.at;
            let path = self.string()?;
            if !path.is_empty() {
                let path = path.parse().map_err(|_| {
                    self.at = start;
                    "a store path".to_owned()
                })?;
                outputs.insert(name, path);
            }
            for _ in 0..2 {
                self.expect(b",")?;
                self.string()?;
            }
            self.expect(b")")?;
        }
        Ok(outputs)
    }

    fn take(&mut self, wanted: &[u8]) -> bool {
        let there = self.all.get(self.at..).is_some_and(|rest| rest.starts_with(wanted));
        if there {
            self.at += wanted.len();
        }
        there
    }

    fn expect(&mut self, wanted: &[u8]) -> Result<(), String> {
        match self.take(wanted) {
            true => Ok(()),
            false => Err(format!("`{}`", String::from_utf8_lossy(wanted))),
        }
    }

    /// A string in quotes. `\n`, `\r` and `\t` have their meaning; any other character after a backslash
    /// stands for itself.
    fn string(&mut self) -> Result<String, String> {
        self.expect(b"\"")?;
        let start = self.at;
        let mut bytes = Vec::new();
        loop {
            let byte = *self.all.get(self.at).ok_or("`\"`")?;
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => {
                    let escaped = *self.all.get(self.at).ok_or("a character after `\\`")?;
                    self.at += 1;
                    bytes.push(match escaped {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        other => other,
                    });
                }
                byte => bytes.push(byte),
            }
        }
        String::from_utf8(bytes).map_err(|_| {
            self.at = start;
            "a name in UTF-8".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello";

    #[test]
    fn outputs_are_read_and_the_rest_is_not() {
        for (text, expected) in [
            (format!(r#"Derive([("dev","{PATH}-dev","",""),("out","{PATH}","","")],[],what follows"#), 2),
            (format!(r#"Derive([("o\"u\\t","{PATH}","r:sha256","ab")],"#), 1),
            (format!(r#"DrvWithVersion("xp-dyn-drv",[("out","","r:sha256",""),("b","{PATH}","","")],"#), 1),
            ("Derive([],[".to_owned(), 0),
        ] {
            let outputs = outputs(text.as_bytes(), Path::new("x.drv")).unwrap();
            assert_eq!(outputs.len(), expected, "{text}");
        }
        let one = outputs(format!(r#"Derive([("o\"u\\t","{PATH}","","")]"#).as_bytes(), Path::new("x.drv"));
        assert_eq!(one.unwrap().into_keys().collect::<Vec<_>>(), ["o\"u\\t"]);
    }

    #[test]
    fn what_is_no_derivation_is_refused_where_it_ends_to_be_one() {
        for (text, offset, expected) in [
            ("", 0, "`Derive(`"),
            ("Derive(", 7, "`[`"),
            ("Derive([(\"out", 13, "`\"`"),
            ("Derive([(\"out\\", 14, "a character after `\\`"),
            ("Derive([(\"out\",\"/etc\",\"\",\"\")]", 15, "a store path"),
            ("Derive([(\"out\",\"\",\"\")]", 20, "`,`"),
        ] {
            let error = outputs(text.as_bytes(), Path::new("x.drv")).unwrap_err().to_string();
            assert!(
                error.contains(&format!("x.drv, byte {offset}\n  expected: {expected}\n")),
                "{text}: {error}"
            );
        }
    }
}
