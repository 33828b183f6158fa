//! Options in the texts of messages. Code that knows a disk and no front end cannot say how a user writes an option: a
//! manifest has keys, and the command line has flags. Such code marks the option in its text, and the front end spells it.

/// Stands before and behind an option in a text. A text that came from outside keeps it where no option is between two.
const MARK: char = '\u{1}';

/// How a front end writes an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// As the key of a manifest: `` `owner` ``, and with a value `` `owner = "root"` ``.
    Key,
    /// As a flag: `--owner`, and with a value `--owner root`.
    Flag(String),
}

impl Spelling {
    /// The option `key` in this spelling.
    #[must_use]
    pub fn written(self, key: &str) -> String {
        written(self, key, None)
    }
}

/// The option `key`, as a manifest spells it, in a text.
pub(crate) fn option(key: &str) -> String {
    format!("{MARK}{key}{MARK}")
}

/// The option `key` with a value in a text. A text value has no quotation marks.
pub(crate) fn setting(key: &str, value: impl std::fmt::Display) -> String {
    format!("{MARK}{key}={value}{MARK}")
}

/// A text whose options are written as `spell` says. An option that it does not know stays marked, for another front end to
/// spell.
pub(crate) fn spelled(text: &str, spell: impl Fn(&str) -> Option<Spelling>) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(MARK) {
        out.push_str(before);
        match after.split_once(MARK).map(|(option, rest)| (split(option), option, rest)) {
            Some((Some((key, value)), option, behind)) => {
                match spell(key) {
                    Some(spelling) => out.push_str(&written(spelling, key, value)),
                    None => {
                        out.push(MARK);
                        out.push_str(option);
                        out.push(MARK);
                    }
                }
                rest = behind;
            }
            _ => {
                out.push(MARK);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// A text whose options that nobody has spelled are written as keys.
pub(crate) fn in_keys(text: &str) -> String {
    spelled(text, |_| Some(Spelling::Key))
}

/// The key and the value of what stands between two marks, if that is an option.
fn split(option: &str) -> Option<(&str, Option<&str>)> {
    let (key, value) = option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
    let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_key.then_some((key, value))
}

/// An option as it is spelled.
fn written(spelling: Spelling, key: &str, value: Option<&str>) -> String {
    match (spelling, value) {
        (Spelling::Key, None) => format!("`{key}`"),
        (Spelling::Key, Some(value @ ("true" | "false"))) => format!("`{key} = {value}`"),
        (Spelling::Key, Some(value)) => format!("`{key} = \"{value}\"`"),
        (Spelling::Flag(flag), None) => flag,
        (Spelling::Flag(flag), Some(value)) => format!("{flag} {value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_spelled_as_a_key_or_as_a_flag() {
        let text = format!(
            "give {}, or set {} or {}",
            option("grub"),
            setting("compat", false),
            setting("owner", "root")
        );
        let flag = |key: &str| (key != "owner").then(|| Spelling::Flag(format!("--{key}")));
        assert_eq!(in_keys(&text), "give `grub`, or set `compat = false` or `owner = \"root\"`");
        assert_eq!(
            in_keys(&spelled(&text, flag)),
            "give --grub, or set --compat false or `owner = \"root\"`"
        );
        assert_eq!(spelled(&option("grub"), flag), "--grub");
        // What one front end does not know, another one spells.
        let first = spelled(&text, |key| (key == "grub").then_some(Spelling::Key));
        assert_eq!(
            spelled(&first, |key| Some(Spelling::Flag(format!("--{key}")))),
            "give `grub`, or set --compat false or --owner root"
        );
    }

    #[test]
    fn a_text_from_outside_is_kept() {
        assert_eq!(in_keys(&format!("a\u{1}B {}", option("key"))), "a\u{1}B `key`");
        for text in ["", "a", "a\u{1}b", "\u{1}A b\u{1}", "\u{1}\u{1}", "\u{1}\u{1}\u{1}a"] {
            assert_eq!(in_keys(text), text, "{text:?}");
        }
    }
}
