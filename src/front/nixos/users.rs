//! The numbers of users and groups, as the image knows them.
//!
//! A NixOS image that was never activated has no /etc/passwd of its own. So names are looked up where they
//! will come from: in an /etc/passwd or /etc/group that the contents bring, in those of the system, and in
//! the declarations from which accounts are made at the start (`users-groups.json`, `userborn.json`). Root is
//! 0 everywhere.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::{Error, Kind, Result};
use crate::text::printable;
use crate::values::IdName;

/// Names with their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    users: BTreeMap<String, Number>,
    groups: BTreeMap<String, Number>,
    /// The places where names were looked up, for errors.
    places: Vec<String>,
}

/// The number of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Known(u32),
    /// It is declared, and gets its number when the system is first activated.
    Later,
    /// It is declared with several numbers, and nothing says which one is right.
    Disputed,
}

/// The input of the activation script: `users-groups.json` of nixpkgs' `config/users-groups.nix`.
#[derive(Deserialize)]
struct Declarations {
    #[serde(default)]
    users: Vec<User>,
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct User {
    name: String,
    uid: Option<u32>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    gid: Option<u32>,
}

/// The largest file of accounts that is read: a million users of 64 bytes.
const LARGEST: u64 = 64 << 20;

impl Accounts {
    /// Root alone.
    pub(super) fn new() -> Self {
        let root = BTreeMap::from([("root".to_owned(), Number::Known(0))]);
        Self { users: root.clone(), groups: root, places: Vec::new() }
    }

    /// Takes over the accounts in the host file `path`, which becomes `name` (`/etc/passwd`, `/etc/group`) in
    /// the image. Earlier accounts take precedence.
    ///
    /// # Errors
    /// [`Kind::Source`] where it cannot be read, or is not a file of that kind (with its line).
    pub(super) fn read(&mut self, name: &str, path: &PathBuf) -> Result<()> {
        let bytes = self.bytes(path)?;
        self.places.push(format!("{name} ({})", crate::text::printable_path(path)));
        let known = if name == "/etc/passwd" { &mut self.users } else { &mut self.groups };
        lines(&bytes, path, known)
    }

    /// Takes over the declarations in the host files `paths`, which are all equally near to the system.
    /// Earlier accounts take precedence.
    ///
    /// # Errors
    /// As [`Accounts::read`].
    pub(super) fn declared(&mut self, paths: &[PathBuf]) -> Result<()> {
        let mut declared = Self::default();
        for path in paths {
            let bytes = self.bytes(path)?;
            declared.declarations(&bytes, path)?;
            self.places.push(crate::text::printable_path(path));
        }
        for (known, found) in [(&mut self.users, declared.users), (&mut self.groups, declared.groups)] {
            for (name, number) in found {
                known.entry(name).or_insert(number);
            }
        }
        Ok(())
    }

    /// The bytes of a file of accounts.
    fn bytes(&self, path: &PathBuf) -> Result<Vec<u8>> {
        let failed = |error: std::io::Error| {
            Error::io(Kind::Source, "cannot read the accounts of the image", path, error)
        };
        let size = std::fs::metadata(path).map_err(failed)?.len();
        if size > LARGEST {
            return Err(Error::new(Kind::Source, "the accounts of the image are too many")
                .at(path)
                .expected("at most 64 MiB")
                .found(format!("{size} bytes")));
        }
        std::fs::read(path).map_err(failed)
    }

    fn declarations(&mut self, bytes: &[u8], path: &PathBuf) -> Result<()> {
        let declared: Declarations = serde_json::from_slice(bytes).map_err(|error| {
            Error::new(Kind::Source, "the declared users are not what NixOS writes").at(path).because(error)
        })?;
        let add = |known: &mut BTreeMap<String, Number>, name: String, id: Option<u32>| {
            let number = id.map_or(Number::Later, Number::Known);
            let known = known.entry(name).or_insert(number);
            if *known != number {
                *known = Number::Disputed;
            }
        };
        declared.users.into_iter().for_each(|user| add(&mut self.users, user.name, user.uid));
        declared.groups.into_iter().for_each(|group| add(&mut self.groups, group.name, group.gid));
        Ok(())
    }

    /// The number of a user.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for a name that the image does not know, or that has no number yet.
    pub(super) fn user(&self, user: &IdName) -> Result<u32> {
        self.number("user", user, &self.users)
    }

    /// The number of a group.
    ///
    /// # Errors
    /// As [`Accounts::user`].
    pub(super) fn group(&self, group: &IdName) -> Result<u32> {
        self.number("group", group, &self.groups)
    }

    fn number(&self, what: &str, wanted: &IdName, known: &BTreeMap<String, Number>) -> Result<u32> {
        let name = match wanted {
            IdName::Id(id) => return Ok(*id),
            IdName::Name(name) => name,
        };
        let shown = printable(name.as_bytes());
        match known.get(name) {
            Some(Number::Known(id)) => Ok(*id),
            Some(Number::Later) => {
                Err(Error::new(Kind::Manifest, format!("the {what} `{shown}` has no number yet"))
                    .why("NixOS gives it one when the system is first activated")
                    .hint(format!(
                        "set its {} in the configuration, or write a number",
                        if what == "user" { "uid" } else { "gid" }
                    )))
            }
            Some(Number::Disputed) => {
                Err(Error::new(Kind::Manifest, format!("the {what} `{shown}` has several numbers"))
                    .why(format!("the system declares accounts in {}", self.places.join(", ")))
                    .hint("write a number"))
            }
            None => {
                let places = if self.places.is_empty() {
                    "nowhere; the image brings no accounts".to_owned()
                } else {
                    self.places.join(", ")
                };
                let error = Error::new(Kind::Manifest, format!("the image knows no {what} `{shown}`"))
                    .why(format!("names are looked up in {places}"));
                Err(match crate::text::nearest(name, known.keys().map(String::as_str)) {
                    Some(near) if near != "root" => error.hint(format!("did you mean `{near}`?")),
                    _ => error.hint("write a number, or bring an /etc/passwd and /etc/group that have it"),
                })
            }
        }
    }
}

/// The names and numbers of passwd(5) and group(5): the first and the third field.
fn lines(bytes: &[u8], path: &PathBuf, known: &mut BTreeMap<String, Number>) -> Result<()> {
    for (number, line) in (1_u64..).zip(bytes.split(|byte| *byte == b'\n')) {
        let text = String::from_utf8_lossy(line);
        // A line that begins with + or - asks a name service (nss_compat); it names nobody here.
        if text.trim().is_empty() || text.starts_with(['#', '+', '-']) {
            continue;
        }
        let mut fields = text.split(':');
        let (name, id) = (fields.next().unwrap_or(""), fields.nth(1).and_then(|id| id.parse().ok()));
        match (name, id) {
            ("", _) | (_, None) => {
                return Err(Error::new(Kind::Source, "a line of the image's accounts is not one")
                    .at_line(path, number, printable(line))
                    .expected("name:password:number:…"));
            }
            (name, Some(id)) => {
                known.entry(name.to_owned()).or_insert(Number::Known(id));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> IdName {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_found_where_the_image_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut accounts = Accounts::new();
        let passwd =
            file("passwd", "root:x:0:0::/root:/bin/sh\n# nobody\nalice:x:1000:100:A:/home/alice:\n+::::::\n");
        accounts.read("/etc/passwd", &passwd).unwrap();
        accounts.read("/etc/group", &file("group", "users:x:100:\nwheel:x:1:alice\n")).unwrap();
        let declared = r#"{"users":[{"name":"alice","uid":7},{"name":"bob","uid":null},{"name":"carol","uid":1002,"group":"users"}],
            "groups":[{"name":"docker","gid":131,"members":[]}],"mutableUsers":true}"#;
        accounts.declared(&[file("users-groups.json", declared)]).unwrap();
        assert_eq!(accounts.user(&name("alice")).unwrap(), 1000);
        assert_eq!(accounts.user(&name("carol")).unwrap(), 1002);
        assert_eq!(accounts.user(&name("4711")).unwrap(), 4711);
        assert_eq!(accounts.group(&name("wheel")).unwrap(), 1);
        assert_eq!(accounts.group(&name("docker")).unwrap(), 131);
        let later = accounts.user(&name("bob")).unwrap_err().to_string();
        assert!(later.contains("`bob` has no number yet") && later.contains("uid"), "{later}");
        let one = file(
            "one",
            r#"{"users":[{"name":"eve","uid":7},{"name":"dan","uid":8},{"name":"alice","uid":1}]}"#,
        );
        let other = file("other", r#"{"users":[{"name":"eve","uid":9},{"name":"dan","uid":8}]}"#);
        accounts.declared(&[one, other]).unwrap();
        assert_eq!((accounts.user(&name("dan")).unwrap(), accounts.user(&name("alice")).unwrap()), (8, 1000));
        let disputed = accounts.user(&name("eve")).unwrap_err().to_string();
        assert!(disputed.contains("`eve` has several numbers") && disputed.contains("other"), "{disputed}");
        let unknown = accounts.user(&name("alise")).unwrap_err().to_string();
        assert!(
            unknown.contains("knows no user `alise`") && unknown.contains("did you mean `alice`?"),
            "{unknown}"
        );
        assert!(unknown.contains("/etc/passwd") && unknown.contains("users-groups.json"), "{unknown}");
        let error = Accounts::new().group(&name("x")).unwrap_err().to_string();
        assert!(error.contains("brings no accounts"), "{error}");
    }

    #[test]
    fn a_line_that_is_no_account_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwd");
        std::fs::write(&path, "root:x:0:0:::\nalice:x:many:1:::\n").unwrap();
        let error = Accounts::new().read("/etc/passwd", &path).unwrap_err().to_string();
        assert!(error.contains("passwd:2: alice:x:many:1:::"), "{error}");
    }
}
