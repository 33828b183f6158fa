//! Names of users and groups, as the contents themselves have them in `/etc/passwd` and `/etc/group`. The accounts of the
//! machine that makes the image mean nothing.

use std::fmt;

use super::build::{Builder, Origin};
use crate::error::{Error, Kind, Result};
use crate::text::{nearest, printable};
use crate::units::usize_of;

/// The largest file of accounts that is read.
const LARGEST: u64 = 16 << 20;

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// Its number.
    Id(u32),
    /// Its name, which `/etc/passwd` or `/etc/group` of the contents has.
    Name(String),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A user and a group. At least one of them has a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Accounts {
    /// The user.
    pub user: Account,
    /// The group.
    pub group: Account,
}

impl fmt::Display for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user, self.group)
    }
}

impl Builder {
    /// The numbers of a user and a group, by the files of what was put so far.
    ///
    /// # Errors
    /// [`Kind::Manifest`] where the files do not have a name; [`Kind::Source`] where they cannot be read.
    pub fn ids(&self, accounts: &Accounts) -> Result<(u32, u32)> {
        Ok((self.id(&accounts.user, "user", b"passwd")?, self.id(&accounts.group, "group", b"group")?))
    }

    /// Both files have the number in their third field (passwd(5), group(5)).
    fn id(&self, account: &Account, what: &str, file: &[u8]) -> Result<u32> {
        let name = match account {
            Account::Id(id) => return Ok(*id),
            Account::Name(name) => name,
        };
        let path = printable(&[b"/etc/", file].concat());
        let missing = || {
            Error::new(
                Kind::Manifest,
                format!("there is no {what} `{}` in the image", crate::values::shown(name)),
            )
            .expected(format!("a line for it in {path} of the image"))
        };
        let Some(bytes) = self.account_file(file)? else {
            return Err(missing().found("no such file").hint("give the number"));
        };
        let lines = bytes.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b':'));
        let known: Vec<(&[u8], Option<&[u8]>)> =
            lines.filter_map(|mut fields| Some((fields.next()?, fields.nth(1)))).collect();
        let Some((_, number)) = known.iter().find(|(known, _)| *known == name.as_bytes()) else {
            let names = known.iter().filter_map(|(name, _)| std::str::from_utf8(name).ok());
            let near = nearest(name, names).map(|near| format!("did you mean `{near}`?"));
            return Err(missing().or_hint(near));
        };
        let number = number.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        number.filter(|number| *number != u32::MAX).ok_or_else(|| missing().found("a line without a number"))
    }

    /// The bytes of a file in `/etc`, if it is there as a regular file.
    fn account_file(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(id) = self.child(0, b"etc").and_then(|etc| self.child(etc, name)) else { return Ok(None) };
        let Some(slice) = self.bytes_of(id)? else { return Ok(None) };
        let size = slice.length().get();
        if size > LARGEST {
            return Err(Error::new(Kind::Manifest, "a file of accounts is too large")
                .at(printable(&[b"/etc/", name].concat()))
                .found(format!("{size} bytes")));
        }
        slice.bytes(0, usize_of(size)).map(Some)
    }

    /// Gives everything that was put with this origin an owner.
    pub fn own(&mut self, origin: Origin, (uid, gid): (u32, u32)) {
        // Directories that were only needed on the way have the rank 0, and stay root's.
        let own = self.drafts.iter_mut().filter(|draft| draft.origin == origin.number() && draft.rank > 0);
        for draft in own {
            (draft.node.meta.uid, draft.node.meta.gid) = (uid, gid);
        }
    }
}
