//! Variables in the texts of a description, as a shell has them (POSIX, 2.6.2), in paths and in arguments of QEMU. A form that is
//! not known is refused, since nothing in its place would be a wrong text.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::environment::Environment;
use crate::error::{Error, Kind, Result};

/// How deep the texts of variables may lie in each other. Each takes room on the stack.
const DEEPEST: u32 = 32;

/// `text` with the values of its variables: `$NAME`, `${NAME}`, `${NAME:-TEXT}` and `${NAME:+TEXT}`, without the colon too. `work`
/// is TMPDIR, and the folder xchg in it is SHARED_DIR where that is not set. Errors are about `key`.
///
/// # Errors
/// [`Kind::Usage`] for a variable that is not set, and for a form that is not known.
pub(super) fn path(text: &str, key: &'static str, environment: &Environment, work: &Path) -> Result<PathBuf> {
    let mut words = Words::default();
    let mut reader = Reader { environment, work, key, whole: text, rest: text, skips: false, depth: 0 };
    reader.read(&mut words, Quoting::Path, false)?;
    Ok(PathBuf::from(OsString::from_vec(words.word.unwrap_or_default())))
}

/// Splits the arguments that a description gives for QEMU as a shell would: at blanks, with quotes, backslashes and
/// variables. `work` is TMPDIR. A variable that is not set is empty.
///
/// # Errors
/// [`Kind::Usage`] for a quote without its end, for a command in place of a variable, and for a form that is not known.
pub(super) fn split(text: &str, environment: &Environment, work: &Path) -> Result<Vec<OsString>> {
    let key = "qemu_options";
    let mut words = Words::default();
    let mut reader = Reader { environment, work, key, whole: text, rest: text, skips: false, depth: 0 };
    reader.read(&mut words, Quoting::Bare, false)?;
    words.end();
    Ok(words.done.into_iter().map(OsString::from_vec).collect())
}

/// The words that were read.
#[derive(Debug, Default)]
struct Words {
    done: Vec<Vec<u8>>,
    word: Option<Vec<u8>>,
}

impl Words {
    fn begin(&mut self) -> &mut Vec<u8> {
        self.word.get_or_insert_default()
    }

    fn push(&mut self, c: char) {
        let mut buffer = [0; 4];
        self.begin().extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
    }

    fn end(&mut self) {
        self.done.extend(self.word.take());
    }

    /// Adds the value of a variable, which is split at blanks unless it is in quotes (POSIX, 2.6.5).
    fn add(&mut self, value: &OsStr, quoting: Quoting) {
        if quoting != Quoting::Bare {
            self.begin().extend_from_slice(value.as_bytes());
            return;
        }
        for byte in value.as_bytes() {
            if byte.is_ascii_whitespace() { self.end() } else { self.begin().push(*byte) }
        }
    }
}

/// What a character means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quoting {
    /// All but `$` is itself: a path.
    Path,
    /// Outside of quotes.
    Bare,
    Single,
    Double,
    /// Double quotes in the text of a variable that is in double quotes itself.
    Nested,
}

impl Quoting {
    /// What holds at the beginning of a text beside a variable.
    fn inner(self) -> Self {
        if self == Self::Nested { Self::Double } else { self }
    }
}

#[derive(Debug)]
struct Reader<'a> {
    environment: &'a Environment,
    work: &'a Path,
    key: &'static str,
    whole: &'a str,
    rest: &'a str,
    /// Whether the text is one that the shell would not evaluate.
    skips: bool,
    depth: u32,
}

impl<'a> Reader<'a> {
    fn refused<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(Error::new(Kind::Usage, what)
            .about(self.key)
            .found(crate::text::printable(self.whole.as_bytes())))
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// Whether `prefix` is next; then it is read.
    fn takes(&mut self, prefix: &str) -> bool {
        let after = self.rest.strip_prefix(prefix);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    /// The name of a variable; nothing where there is none.
    fn name(&mut self) -> &'a str {
        let rest = self.rest;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = if rest.starts_with(|c: char| c.is_ascii_digit()) {
            0
        } else {
            rest.find(|c: char| !is_name(c)).unwrap_or(rest.len())
        };
        let (name, after) = rest.split_at(end);
        self.rest = after;
        name
    }

    /// Reads to the end, or `within` a variable to its brace.
    fn read(&mut self, words: &mut Words, base: Quoting, within: bool) -> Result<()> {
        use Quoting::{Bare, Double, Nested, Path, Single};
        let mut quoting = base;
        while let Some(c) = self.next() {
            match (quoting, c) {
                (_, '}') if within && quoting == base => return Ok(()),
                (Single, '\'') => quoting = Bare,
                (Single, c) => words.push(c),
                (_, '$') => self.dollar(words, quoting)?,
                (Path, c) => words.push(c),
                (Bare, '\'' | '"') => {
                    quoting = if c == '"' { Double } else { Single };
                    words.begin();
                }
                (Double, '"') if base == Double => quoting = Nested,
                (Double, '"') => quoting = Bare,
                (Nested, '"') => quoting = Double,
                (_, '\\') => self.backslash(words, quoting, within),
                (_, '`') => return self.refused("QEMU's options run no commands"),
                (Bare, c) if c.is_ascii_whitespace() => words.end(),
                (_, c) => words.push(c),
            }
        }
        if quoting != base {
            return self.refused("a quote in QEMU's options has no end");
        }
        if within {
            return self.refused("the brace of a variable has no end");
        }
        Ok(())
    }

    fn backslash(&mut self, words: &mut Words, quoting: Quoting, within: bool) {
        match self.next() {
            // A line goes on (POSIX, 2.2.1).
            Some('\n') => {}
            Some(c) if quoting == Quoting::Bare || "\"\\$`".contains(c) || within && c == '}' => {
                words.push(c);
            }
            // In double quotes a backslash stays before anything that it does not quote (POSIX, 2.2.3).
            next => std::iter::once('\\').chain(next).for_each(|c| words.push(c)),
        }
    }

    /// Reads what is behind a `$`.
    fn dollar(&mut self, words: &mut Words, quoting: Quoting) -> Result<()> {
        if self.rest.starts_with('(') {
            let what = if quoting == Quoting::Path { "a path runs" } else { "QEMU's options run" };
            return self.refused(format!("{what} no commands"));
        }
        if self.takes("{") {
            return self.braced(words, quoting);
        }
        let name = self.name();
        if !name.is_empty() {
            return self.put(name, words, quoting);
        }
        // Parameters that have no name (POSIX, 2.5), and quotes of other shells.
        let known = match (self.rest.chars().next(), quoting) {
            (_, Quoting::Path) => false,
            (Some('\'' | '"'), Quoting::Bare) => false,
            (Some(next), _) => !next.is_ascii_digit() && !"@*#?-$!".contains(next),
            (None, _) => true,
        };
        if !known {
            let next = self.rest.chars().next().map(String::from).unwrap_or_default();
            return self.refused(format!("`${}` is no variable", crate::values::shown(&next)));
        }
        words.push('$');
        Ok(())
    }

    /// Reads what is behind a `${`, to its end.
    fn braced(&mut self, words: &mut Words, quoting: Quoting) -> Result<()> {
        let from = self.rest;
        let name = self.name();
        if !name.is_empty() && self.takes("}") {
            return self.put(name, words, quoting);
        }
        let colon = self.takes(":");
        let where_set = self.rest.starts_with('+');
        if name.is_empty() || !(self.takes("-") || self.takes("+")) {
            let form = from.find('}').map_or(from, |end| &from[..=end]);
            let form = crate::values::shown(form);
            return self.refused(format!("`${{{form}` is a form of a variable that is not known"));
        }
        if self.depth == DEEPEST {
            return self.refused(format!("variables lie more than {DEEPEST} deep in each other"));
        }
        let value = self.value(name).filter(|value| !colon || !value.is_empty());
        let is_read = value.is_some() == where_set;
        if let (Some(value), false) = (value, where_set) {
            words.add(&value, quoting);
        }
        self.depth += 1;
        if is_read {
            self.read(words, quoting.inner(), true)?;
        } else {
            let before = std::mem::replace(&mut self.skips, true);
            self.read(&mut Words::default(), quoting.inner(), true)?;
            self.skips = before;
        }
        self.depth -= 1;
        Ok(())
    }

    /// The value of a variable that is set.
    fn value(&self, name: &str) -> Option<OsString> {
        match name {
            "TMPDIR" => Some(self.work.as_os_str().to_owned()),
            name => self.environment.set(name).map(OsStr::to_owned),
        }
    }

    /// Adds the value of a variable. A path with a hole in it would be another path.
    fn put(&self, name: &str, words: &mut Words, quoting: Quoting) -> Result<()> {
        let value = self.value(name).filter(|value| !value.is_empty());
        match (value, quoting) {
            (Some(value), _) => words.add(&value, quoting),
            (None, Quoting::Path) if name == "SHARED_DIR" => {
                words.add(self.work.join("xchg").as_os_str(), quoting);
            }
            (None, Quoting::Path) if !self.skips => {
                return self.refused(format!("the variable `{name}` is not set"));
            }
            (None, _) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn a_path_may_name_variables() {
        let own = environment(&[("HOME", "/home/a"), ("EMPTY", "")]);
        let expand = |text: &str| {
            path(text, "shares", &own, Path::new("/vm")).map(|path| path.to_str().unwrap().to_owned())
        };
        for (text, expected) in [
            ("/a", "/a"),
            ("/it's \"x\\y\" `z`}", "/it's \"x\\y\" `z`}"),
            ("$HOME/b", "/home/a/b"),
            ("${HOME}b$TMPDIR", "/home/ab/vm"),
            ("$SHARED_DIR", "/vm/xchg"),
            ("${SHARED_DIR:-$TMPDIR/a}/b", "/vm/a/b"),
            ("${SHARED_DIR:-${NOTHING:-${HOME}/x}}/b", "/home/a/x/b"),
            ("${HOME:-$NOTHING}", "/home/a"),
            ("/x${HOME:+${HOME}/y}", "/x/home/a/y"),
            ("/x${EMPTY-/y}${EMPTY:-/z}${NOTHING+/n}", "/x/z"),
        ] {
            assert_eq!(expand(text).unwrap(), expected, "{text}");
        }
        for (text, words) in [
            ("$NOTHING/b", "the variable `NOTHING` is not set"),
            ("$EMPTY/b", "the variable `EMPTY` is not set"),
            ("${HOME%x}", "`${HOME%x}` is a form of a variable that is not known"),
            ("${HOME", "`${HOME` is a form"),
            ("${HOME:-x", "brace of a variable has no end"),
            ("$(id)", "a path runs no commands"),
            ("/a$", "is no variable"),
            ("/$1", "`$1` is no variable"),
        ] {
            let error = expand(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let shared = environment(&[("SHARED_DIR", "/s")]);
        let shared = path("$SHARED_DIR/x", "shares", &shared, Path::new("/vm")).unwrap();
        assert_eq!(shared, Path::new("/s/x"));
        let deep = format!("{}x{}", "${NOTHING:-".repeat(100_000), "}".repeat(100_000));
        assert!(expand(&deep).unwrap_err().to_string().contains("more than 32 deep"));
    }

    #[test]
    fn options_are_split_as_a_shell_splits_them() {
        let own = environment(&[
            ("QEMU_VDE_SOCKET_1", "/tmp/v 1"),
            ("NET", "a=1"),
            ("TMPDIR", "/not this"),
            ("X", "abcy"),
            ("EMPTY", ""),
        ]);
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
            ("${X-d} ${NOTHING-d} <${EMPTY-d}> <${EMPTY:-d}>", &["abcy", "d", "<>", "<d>"]),
            ("${X+s} ${NOTHING+s} ${EMPTY+s}", &["s", "s"]),
            ("${X:-${Y:-z w}} ${Y:-${Z:-z w}}", &["abcy", "z", "w"]),
            ("${X:+\"$X z\"} ${Y:-'a }b'}\\}", &["abcy z", "a }b}"]),
            ("\"${Y:-a  b}${X:+ \"c }d\" 'e'}\" \"${Y:-a\\}b}\"", &["a  b c }d 'e'", "a}b"]),
            ("\"${Y:-${Z:-\"a b\"}}\" \"${Y:-}\" a\\\nb", &["a b", "", "ab"]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        for (text, words) in [
            ("'a", "a quote in QEMU's options has no end"),
            ("\"${X:+a\"}", "has no end"),
            ("$(id)", "run no commands"),
            ("\"$(id)\"", "run no commands"),
            ("${Y:-$(id)}", "run no commands"),
            ("${X:-`id`}", "run no commands"),
            ("${X%y}", "`${X%y}` is a form of a variable that is not known"),
            ("${#X}", "`${#X}` is a form"),
            ("a ${X:=d} b", "`${X:=d}` is a form"),
            ("${X:?d}", "`${X:?d}` is a form"),
            ("${X", "`${X` is a form"),
            ("${}", "`${}` is a form"),
            ("${X:-a", "the brace of a variable has no end"),
            ("$1", "`$1` is no variable"),
            ("\"$@\"", "`$@` is no variable"),
            ("$'a'", "`$'` is no variable"),
        ] {
            let error = split(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert_eq!(split("'$(id)' '`'").unwrap(), ["$(id)", "`"]);
    }
}
