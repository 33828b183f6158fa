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

    /// The folders with programs.
    pub(super) fn folders(&self) -> Option<&std::ffi::OsStr> {
        self.get("PATH").map(OsString::as_os_str)
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

    /// The folder for work that the caller gives: TMPDIR, where USE_TMPDIR is set too.
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

    /// Where TPMs keep what they know, in place of a folder of the state.
    pub(super) fn tpm_state(&self) -> Option<PathBuf> {
        self.get("NIX_SWTPM_DIR").map(PathBuf::from)
    }

    /// `text` with the values of its variables: `$NAME`, `${NAME}`, `${NAME:-TEXT}`, `${NAME:+TEXT}`. `work` is TMPDIR, and the
    /// folder xchg in it is SHARED_DIR where that is not set.
    pub(super) fn expand(&self, text: &str, work: &Path) -> Result<PathBuf> {
        let mut found = OsString::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            found.push(&rest[..at]);
            let (reference, after) = Reference::read(&rest[at + 1..]);
            rest = after;
            match (self.value(&reference, work)?, reference.name) {
                (Some(value), _) => found.push(value),
                (None, "SHARED_DIR") => found.push(work.join("xchg")),
                (None, name) => {
                    let what = format!("the variable `{name}` of a shared folder is not set");
                    return Err(Error::new(Kind::Usage, what).about("shares").found(text));
                }
            }
        }
        found.push(rest);
        Ok(PathBuf::from(found))
    }

    /// What stands for a variable in a text; `None` where it is not set and nothing is said for that.
    fn value(&self, reference: &Reference<'_>, work: &Path) -> Result<Option<OsString>> {
        let own = match reference.name {
            "TMPDIR" => Some(work.as_os_str()),
            name => self.get(name).map(OsString::as_os_str),
        };
        let instead = |text: &str| self.expand(text, work).map(PathBuf::into_os_string);
        match (own, reference.instead) {
            (Some(_), Instead::WhereSet(text)) => instead(text).map(Some),
            (None, Instead::WhereSet(_)) => Ok(Some(OsString::new())),
            (None, Instead::WhereUnset(text)) => instead(text).map(Some),
            (own, _) => Ok(own.map(std::ffi::OsStr::to_owned)),
        }
    }
}

/// A variable in a text, behind its `$`.
#[derive(Clone, Copy, Debug)]
struct Reference<'a> {
    name: &'a str,
    instead: Instead<'a>,
}

/// What a text says beside the name of a variable (POSIX, 2.6.2).
#[derive(Clone, Copy, Debug)]
enum Instead<'a> {
    Nothing,
    /// `:-TEXT`
    WhereUnset(&'a str),
    /// `:+TEXT`
    WhereSet(&'a str),
}

impl<'a> Reference<'a> {
    /// The variable that `rest` begins with, and what follows it.
    fn read(rest: &'a str) -> (Self, &'a str) {
        if let Some((inner, after)) = rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            let (name, instead) = match (inner.split_once(":-"), inner.split_once(":+")) {
                (Some((name, text)), _) => (name, Instead::WhereUnset(text)),
                (None, Some((name, text))) => (name, Instead::WhereSet(text)),
                (None, None) => (inner, Instead::Nothing),
            };
            return (Self { name, instead }, after);
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        (Self { name, instead: Instead::Nothing }, after)
    }
}

/// The words of the arguments that a description gives for QEMU.
#[derive(Debug, Default)]
struct Words {
    done: Vec<String>,
    word: Option<String>,
}

impl Words {
    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn end(&mut self) {
        self.done.extend(self.word.take());
    }

    /// Adds the value of a variable, which is split at blanks unless it is in quotes (POSIX, 2.6.5).
    fn add(&mut self, value: &str, quoted: bool) {
        if quoted {
            self.word.get_or_insert_default().push_str(value);
            return;
        }
        for c in value.chars() {
            if c.is_ascii_whitespace() { self.end() } else { self.push(c) }
        }
    }
}

/// Splits the arguments that a description gives for QEMU as a shell would: at blanks, with quotes, backslashes and
/// variables. `work` is TMPDIR. A variable that is not set is empty.
///
/// # Errors
/// [`Kind::Usage`] for a quote without its end, and for a command in place of a variable.
pub(super) fn split(text: &str, environment: &Environment, work: &Path) -> Result<Vec<String>> {
    let mut words = Words::default();
    let mut quote: Option<char> = None;
    let mut rest = text;
    let refused = |what: &str| Err(Error::new(Kind::Usage, what).about("qemu_options").found(text));
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                words.word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                // In double quotes a backslash stays before anything that it does not quote (POSIX, 2.2.3).
                let next = rest.chars().next();
                rest = &rest[next.map_or(0, char::len_utf8)..];
                if !next.is_some_and(|next| quote.is_none() || "\"\\$`".contains(next)) {
                    words.push('\\');
                }
                next.into_iter().for_each(|next| words.push(next));
            }
            (None | Some('"'), '`') => return refused("QEMU's options run no commands"),
            (None | Some('"'), '$') if rest.starts_with('(') => {
                return refused("QEMU's options run no commands");
            }
            (None | Some('"'), '$')
                if rest.starts_with(|next: char| next.is_ascii_alphabetic() || "_{".contains(next)) =>
            {
                let (reference, after) = Reference::read(rest);
                rest = after;
                let value = environment.value(&reference, work)?.unwrap_or_default();
                let Some(value) = value.to_str() else { return refused("a variable is not UTF-8") };
                words.add(value, quote.is_some());
            }
            (None, c) if c.is_ascii_whitespace() => words.end(),
            (_, c) => words.push(c),
        }
    }
    if quote.is_some() {
        return refused("a quote in QEMU's options has no end");
    }
    words.end();
    Ok(words.done)
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
            |text: &str| own.expand(text, Path::new("/vm")).map(|path| path.to_str().unwrap().to_owned());
        for (text, expected) in [
            ("/a", "/a"),
            ("$HOME/b", "/home/a/b"),
            ("${HOME}b$TMPDIR", "/home/ab/vm"),
            ("$SHARED_DIR", "/vm/xchg"),
            ("${SHARED_DIR:-$TMPDIR/a}/b", "/vm/a/b"),
            ("${HOME:-/x}", "/home/a"),
        ] {
            assert_eq!(expand(text).unwrap(), expected, "{text}");
        }
        assert!(expand("$NOTHING/b").unwrap_err().to_string().contains("`NOTHING`"));
        let shared = environment(&[("SHARED_DIR", "/s")]).expand("$SHARED_DIR/x", Path::new("/vm")).unwrap();
        assert_eq!(shared, Path::new("/s/x"));
    }

    #[test]
    fn options_are_split_as_a_shell_splits_them() {
        let own = environment(&[("QEMU_VDE_SOCKET_1", "/tmp/v 1"), ("NET", "a=1"), ("TMPDIR", "/not this")]);
        let split = |text: &str| split(text, &own, Path::new("/vm"));
        for (text, words) in [
            ("", &[][..]),
            ("  -vga std\t-smp 2 ", &["-vga", "std", "-smp", "2"]),
            ("-append 'a b' \"c \\\" \\d\" e\\ f ''", &["-append", "a b", "c \" \\d", "e f", ""]),
            // As the test driver of NixOS has them.
            ("-netdev vde,id=vlan1,sock=\"$QEMU_VDE_SOCKET_1\"", &["-netdev", "vde,id=vlan1,sock=/tmp/v 1"]),
            ("user,id=u${NET:+,$NET}\"$NOTHING\" x", &["user,id=u,a=1", "x"]),
            ("$NOTHING ${NOTHING:+x} \"$NOTHING\" ${NOTHING:-y}", &["", "y"]),
            ("$QEMU_VDE_SOCKET_1 '$NET' \\$NET \"\\$NET\"", &["/tmp/v", "1", "$NET", "$NET", "$NET"]),
            ("\"$TMPDIR\"/eth1.pcap 5$ $", &["/vm/eth1.pcap", "5$", "$"]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        assert!(split("'a").is_err());
        for command in ["$(id)", "\"$(id)\"", "`id`"] {
            assert!(split(command).unwrap_err().to_string().contains("run no commands"));
        }
        assert_eq!(split("'$(id)' '`'").unwrap(), ["$(id)", "`"]);
    }
}
