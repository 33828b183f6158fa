//! `%` and a letter in values: what systemd puts there, as far as that does not depend on the running machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::inside;
use crate::error::{Error, Kind, Result};
use crate::table::Architecture;

/// What specifiers stand for.
#[derive(Debug)]
pub(super) struct Specifiers {
    architecture: Option<Architecture>,
    root: Option<PathBuf>,
}

/// What `%t`, `%T`, `%U` and `%n` stand for in `SplitName=`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own<'a> {
    pub(super) kind: &'a str,
    pub(super) kind_guid: uuid::Uuid,
    pub(super) guid: uuid::Uuid,
    /// From 0, as systemd counts here.
    pub(super) number: u32,
}

impl Specifiers {
    pub(super) fn new(architecture: Option<Architecture>, root: Option<&Path>) -> Self {
        Self { architecture, root: root.map(Path::to_owned) }
    }

    /// A value with its specifiers put in.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for one that does not exist, and for one that reads the running machine, which would make another
    /// image of the same definitions elsewhere.
    pub(super) fn expand(&self, text: &str) -> Result<String> {
        self.replace(text, None)
    }

    /// As [`Specifiers::expand`], with those of one partition.
    ///
    /// # Errors
    /// As [`Specifiers::expand`].
    pub(super) fn expand_for(&self, text: &str, own: Own<'_>) -> Result<String> {
        self.replace(text, Some(own))
    }

    fn replace(&self, text: &str, own: Option<Own<'_>>) -> Result<String> {
        let mut out = String::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            match (chars.next(), own) {
                (Some('%'), _) => out.push('%'),
                (Some('t'), Some(own)) => out.push_str(own.kind),
                (Some('T'), Some(own)) => out.push_str(&own.kind_guid.simple().to_string()),
                (Some('U'), Some(own)) => out.push_str(&own.guid.simple().to_string()),
                (Some('n'), Some(own)) => out.push_str(&own.number.to_string()),
                (Some(letter), _) => out.push_str(&self.value(letter)?),
                (None, _) => return Err(unknown("%")),
            }
        }
        Ok(out)
    }

    fn value(&self, letter: char) -> Result<String> {
        let field = match letter {
            'a' => {
                let architecture = self.architecture.map(|it| it.to_string());
                return architecture.ok_or_else(|| unknown("%a").hint("name the architecture"));
            }
            'T' => return Ok("/tmp".to_owned()),
            'V' => return Ok("/var/tmp".to_owned()),
            'm' => return self.file(letter, "etc/machine-id"),
            'H' => return self.file(letter, "etc/hostname"),
            'l' => {
                let name = self.file(letter, "etc/hostname")?;
                return Ok(name.split('.').next().unwrap_or_default().to_owned());
            }
            'b' | 'v' => {
                let what = format!("`%{letter}` stands for something of the running kernel");
                return Err(Error::new(Kind::Manifest, what)
                    .why("the same definitions would make another image after the next boot"));
            }
            'A' => "IMAGE_VERSION",
            'B' => "BUILD_ID",
            'M' => "IMAGE_ID",
            'o' => "ID",
            'w' => "VERSION_ID",
            'W' => "VARIANT_ID",
            other => return Err(unknown(&format!("%{other}"))),
        };
        let release = self.os_release(letter)?;
        Ok(release.get(field).cloned().unwrap_or_default())
    }

    /// The first line of a file below the root.
    fn file(&self, letter: char, name: &str) -> Result<String> {
        let text = self.read(letter, &[name])?;
        Ok(text.lines().next().unwrap_or_default().trim().to_owned())
    }

    fn read(&self, letter: char, names: &[&str]) -> Result<String> {
        let Some(root) = &self.root else {
            let what = format!("`%{letter}` stands for something of the system that the image is made of");
            return Err(Error::new(Kind::Manifest, what)
                .why("without a root that would be the machine that builds it, and another image on each")
                .hint("name a root, or write what is meant"));
        };
        let mut found = None;
        for name in names {
            found = inside::find(Some(root), Path::new(name))?;
            if found.is_some() {
                break;
            }
        }
        let Some(path) = found else {
            return Err(Error::new(Kind::Source, format!("`%{letter}` needs a file that is not there"))
                .at(root.join(names.first().copied().unwrap_or_default())));
        };
        std::fs::read_to_string(&path).map_err(|error| {
            Error::io(Kind::Source, format!("cannot read what `%{letter}` stands for"), path, error)
        })
    }

    /// The fields of os-release(5).
    fn os_release(&self, letter: char) -> Result<BTreeMap<String, String>> {
        let text = self.read(letter, &["etc/os-release", "usr/lib/os-release"])?;
        let field = |line: &str| {
            let (name, value) = line.trim().split_once('=').filter(|(name, _)| !name.starts_with('#'))?;
            let value = super::value::words(value);
            value.whole.then(|| (name.to_owned(), value.parts.into_iter().next().unwrap_or_default()))
        };
        Ok(text.lines().filter_map(field).collect())
    }
}

fn unknown(text: &str) -> Error {
    Error::new(Kind::Manifest, format!("there is no specifier `{text}`"))
        .expected("%a, %A, %B, %H, %l, %m, %M, %o, %w, %W, %T, %V, in SplitName= also %t, %T, %U, %n; or %% for a percent sign")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifiers_are_what_the_root_says() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let release = "# comment\nID=debian\nVERSION_ID=\"13 x\"\nIMAGE_ID='a'\n";
        std::fs::write(root.path().join("etc/os-release"), release).unwrap();
        std::fs::write(root.path().join("etc/hostname"), "host.example.org\n").unwrap();
        let with = Specifiers::new("arm64".parse().ok(), Some(root.path()));
        assert_eq!(
            with.expand("%a-%o-%w-%M-%A-%l-%H%%%T%V").unwrap(),
            "arm64-debian-13 x-a--host-host.example.org%/tmp/var/tmp"
        );
        for (text, what) in [
            ("%q", "no specifier `%q`"),
            ("100%", "no specifier `%`"),
            ("%b", "running kernel"),
            ("%m", "a file that is not there"),
            ("%U", "no specifier `%U`"),
        ] {
            let error = with.expand(text).unwrap_err().to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
        let without = Specifiers::new("arm64".parse().ok(), None);
        assert!(without.expand("%o").unwrap_err().to_string().contains("without a root"));
        let own = Own {
            kind: "usr",
            kind_guid: uuid::Uuid::from_u128(1),
            guid: uuid::Uuid::from_u128(2),
            number: 3,
        };
        let expected = "usr_00000000000000000000000000000001_00000000000000000000000000000002_3%";
        assert_eq!(without.expand_for("%t_%T_%U_%n%%", own).unwrap(), expected);
    }
}
