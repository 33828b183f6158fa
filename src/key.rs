//! The path to a value in what a user wrote: `partition[2].contents[1].target`.

use std::borrow::Cow;
use std::fmt;

/// A step from a value into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into a table.
    Key(Cow<'static, str>),
    /// Into an array.
    Index(usize),
}

/// The way from the top of a description to a value: `partition[2].contents[1].target`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath(Vec<Step>);

impl KeyPath {
    /// A key at the top.
    #[must_use]
    pub fn top(key: impl Into<Cow<'static, str>>) -> Self {
        Self::default().key(key)
    }

    /// The path to `key` of the table that this path leads to.
    #[must_use]
    pub fn key(&self, key: impl Into<Cow<'static, str>>) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.into()));
        Self(steps)
    }

    /// The path to an element, counted from 0, of the array that this path leads to.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// The steps from the top.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The flag that stands for the key in a section: `--boot-size` for `nixos.boot_size`. If the flag may be
    /// repeated, the text also says which one: `--contents (2)` for `nixos.contents[1].user`.
    #[must_use]
    pub fn flag(&self) -> Option<String> {
        let [Step::Key(_), Step::Key(key), below @ ..] = self.0.as_slice() else { return None };
        let flag = format!("--{}", key.replace('_', "-"));
        Some(match below {
            [Step::Index(index), ..] => format!("{flag} ({})", index + 1),
            _ => flag,
        })
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if number == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_printed_as_it_is_walked() {
        let path = KeyPath::top("nixos").key("contents").index(1).key("user");
        assert_eq!(path.to_string(), "nixos.contents[1].user");
        assert_eq!(path.flag().as_deref(), Some("--contents (2)"));
        assert_eq!(KeyPath::top("nixos").key("boot_size").flag().as_deref(), Some("--boot-size"));
        assert_eq!(KeyPath::top("version").flag(), None);
    }
}
