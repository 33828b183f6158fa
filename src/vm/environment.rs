//! The variables of a run script (nixpkgs, `qemu-vm.nix`), and what they mean.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// The variables of the environment, as far as a machine asks for them.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<T: IntoIterator<Item = (OsString, OsString)>>(variables: T) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn own() -> Self {
        std::env::vars_os().collect()
    }

    /// A variable; an empty one counts as one that is not set, as in the script.
    pub(super) fn get(&self, name: &str) -> Option<&OsString> {
        self.0.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty())
    }

    /// A variable as text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.to_str().map(Some).ok_or_else(|| {
            Error::new(Kind::Usage, format!("the variable {name} is not UTF-8"))
                .found(crate::text::printable_path(value))
        })
    }

    /// The words of a variable, as a shell splits what is not in quotes.
    pub(super) fn words(&self, name: &str) -> Result<Vec<String>> {
        Ok(self.text(name)?.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect())
    }

    /// The folder for work that the caller gives: TMPDIR, where USE_TMPDIR says so too.
    pub(super) fn work(&self) -> Option<PathBuf> {
        self.get("USE_TMPDIR").and(self.get("TMPDIR")).map(PathBuf::from)
    }

    /// The file in place of a state's disk.
    pub(super) fn disk_image(&self) -> Option<PathBuf> {
        self.get("NIX_DISK_IMAGE").map(PathBuf::from)
    }

    /// The variables of the EFI firmware.
    pub(super) fn efi_variables(&self) -> Option<PathBuf> {
        self.get("NIX_EFI_VARS").map(PathBuf::from)
    }

    /// Another kernel for the machine `name`: NIXPKGS_QEMU_KERNEL_NAME, where other characters than letters and digits are `_`.
    pub(super) fn kernel(&self, name: &str) -> Option<PathBuf> {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = name.chars().map(plain).collect();
        self.get(&format!("NIXPKGS_QEMU_KERNEL_{name}")).map(PathBuf::from)
    }

    /// `text` with the values of its variables: `$NAME`, `${NAME}`, `${NAME:-TEXT}`. `work` is TMPDIR, and the folder xchg in it
    /// is SHARED_DIR where that is not set.
    pub(super) fn expand(&self, text: &str, work: &Path) -> Result<PathBuf> {
        let mut found = OsString::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            found.push(&rest[..at]);
            rest = &rest[at + 1..];
            let (name, instead, after) = match rest.strip_prefix('{').and_then(|inner| inner.split_once('}'))
            {
                Some((inner, after)) => match inner.split_once(":-") {
                    Some((name, instead)) => (name, Some(instead), after),
                    None => (inner, None, after),
                },
                None => {
                    let end =
                        rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                    let (name, after) = rest.split_at(end);
                    (name, None, after)
                }
            };
            rest = after;
            let value = match (name, self.get(name), instead) {
                ("TMPDIR", _, _) => work.as_os_str().to_owned(),
                (_, Some(value), _) => value.clone(),
                (_, None, Some(instead)) => self.expand(instead, work)?.into_os_string(),
                ("SHARED_DIR", None, None) => work.join("xchg").into_os_string(),
                (_, None, None) => {
                    let what = format!("the variable `{name}` of a shared folder is not set");
                    return Err(Error::new(Kind::Usage, what).about("shares").found(text));
                }
            };
            found.push(value);
        }
        found.push(rest);
        Ok(PathBuf::from(found))
    }
}

/// Splits the arguments that a description gives for QEMU as a shell would: at blanks, with quotes and backslashes.
///
/// # Errors
/// [`Kind::Usage`] for a quote without its end.
pub(super) fn split(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                // In double quotes a backslash stays before anything that it does not quote (POSIX, 2.2.3).
                let word = word.get_or_insert_default();
                match characters.next() {
                    Some(next) if quote.is_none() || "\"\\$`".contains(next) => word.push(next),
                    next => word.extend(std::iter::once('\\').chain(next)),
                }
            }
            (None, c) if c.is_ascii_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(Error::new(Kind::Usage, "a quote in QEMU's options has no end")
            .about("qemu_options")
            .found(text));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn variables_mean_what_they_mean_in_the_script() {
        let own = environment(&[
            ("TMPDIR", "/t"),
            ("QEMU_OPTS", " -m  4G\n-snapshot "),
            ("NIXPKGS_QEMU_KERNEL_a_b_1", "/k"),
        ]);
        assert_eq!(own.work(), None);
        assert_eq!(own.words("QEMU_OPTS").unwrap(), ["-m", "4G", "-snapshot"]);
        assert_eq!((own.kernel("a-b.1"), own.kernel("a")), (Some("/k".into()), None));
        assert_eq!(environment(&[("TMPDIR", "/t"), ("USE_TMPDIR", "1")]).work(), Some("/t".into()));
        assert_eq!(environment(&[("TMPDIR", "/t"), ("USE_TMPDIR", "")]).work(), None);
        assert_eq!(environment(&[("NIX_DISK_IMAGE", "")]).disk_image(), None);
    }

    #[test]
    fn a_shared_folder_may_name_variables() {
        let own = environment(&[("HOME", "/home/a")]);
        let expand =
            |text: &str| own.expand(text, Path::new("/work")).map(|path| path.to_str().unwrap().to_owned());
        for (text, expected) in [
            ("/a", "/a"),
            ("$HOME/b", "/home/a/b"),
            ("${HOME}b$TMPDIR", "/home/ab/work"),
            ("$SHARED_DIR", "/work/xchg"),
            ("${SHARED_DIR:-$TMPDIR/a}/b", "/work/a/b"),
            ("${HOME:-/x}", "/home/a"),
        ] {
            assert_eq!(expand(text).unwrap(), expected, "{text}");
        }
        assert!(expand("$NOTHING/b").unwrap_err().to_string().contains("`NOTHING`"));
        let shared =
            environment(&[("SHARED_DIR", "/s")]).expand("$SHARED_DIR/x", Path::new("/work")).unwrap();
        assert_eq!(shared, Path::new("/s/x"));
    }

    #[test]
    fn options_are_split_as_a_shell_splits_them() {
        for (text, words) in [
            ("", &[][..]),
            ("  -vga std\t-smp 2 ", &["-vga", "std", "-smp", "2"]),
            ("-append 'a b' \"c \\\" \\d\" e\\ f ''", &["-append", "a b", "c \" \\d", "e f", ""]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        assert!(split("'a").is_err());
    }
}
