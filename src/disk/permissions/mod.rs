//! Tables of permissions and devices, as other image builders take them: what a row says is done when all other entries are in
//! place.

mod device;
mod pseudo;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::text::printable;
use crate::tree::build::Origin;
use crate::tree::{self, Account, Accounts, Change, Content, Meta, Time, Xattr};
use crate::units::u64_of;

/// The formats of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A device table: genext2fs(8), `-D`; mkfs.ubifs and mkfs.jffs2; makedevs of Buildroot.
    Devices,
    /// Definitions of pseudo files: mksquashfs(1), `-pf`.
    Pseudo,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    path: PathBuf,
    rows: Arc<[Row]>,
}

/// What a row makes of its target.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// A directory, unless there is one.
    Directory,
    /// A device, named pipe or socket.
    Node(Content),
    /// A symbolic link.
    Symlink(String),
    /// Nothing: it is there, or may be missing.
    There { below: bool, optional: bool },
}

/// A row of a table.
#[derive(Clone, Debug)]
struct Row {
    /// Its line, from 1, and the text.
    line: u64,
    text: String,
    target: String,
    action: Action,
    mode: Option<u16>,
    owner: Option<Accounts>,
    mtime: Option<i64>,
    xattrs: Vec<Xattr>,
}

/// What is wrong with a row: what was expected.
type Wrong = String;

impl Table {
    /// Reads the table in the file `path`.
    ///
    /// # Errors
    /// [`Kind::Source`] where it cannot be read, [`Kind::Manifest`] with its line for a row that is wrong.
    pub fn load(path: &Path, format: Format) -> Result<Self> {
        let bytes = std::fs::read(path)
            .map_err(|error| Error::io(Kind::Source, "cannot read the table", path, error))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = crate::text::line_of_bytes(error.as_bytes(), error.utf8_error().valid_up_to());
            Error::new(Kind::Manifest, "the table is not UTF-8 text").at_line(path, line.number, line.text)
        })?;
        let mut rows: Vec<Row> = Vec::new();
        for (number, text) in text.lines().enumerate() {
            let line = u64_of(number) + 1;
            let plain = text.trim();
            if plain.is_empty() || plain.starts_with('#') {
                continue;
            }
            let made = match format {
                Format::Devices => device::rows(plain, rows.last_mut()),
                Format::Pseudo => pseudo::row(plain).map(|row| vec![row]),
            };
            let made = made.map_err(|expected| {
                Error::new(Kind::Manifest, "a row of the table is wrong")
                    .at_line(path, line, text)
                    .expected(expected)
            })?;
            let own = |row: Row| Row { line, text: text.to_owned(), ..row };
            rows.extend(made.into_iter().map(own));
        }
        Ok(Self { path: path.to_owned(), rows: rows.into() })
    }

    /// Does what the rows say, below `top`. What the table makes has the time `time`.
    pub(super) fn apply(
        &self,
        builder: &mut tree::Builder,
        (top, time): (&str, Time),
        origin: Origin,
    ) -> Result<()> {
        let mut known: HashMap<Accounts, (u32, u32)> = HashMap::new();
        for row in self.rows.iter() {
            let mut put = || -> Result<()> {
                let owner = match &row.owner {
                    None => None,
                    Some(owner) => match known.get(owner) {
                        Some(ids) => Some(*ids),
                        None => {
                            let found = builder.ids(owner)?;
                            known.insert(owner.clone(), found);
                            Some(found)
                        }
                    },
                };
                row.put(builder, (top, time), owner, origin)
            };
            put().map_err(|error| error.at_line(&self.path, row.line, row.text.clone()))?;
        }
        Ok(())
    }
}

impl Row {
    fn new(target: &str, action: Action) -> Self {
        let (line, text) = (0, String::new());
        let (mode, owner, mtime, xattrs) = (None, None, None, Vec::new());
        Self { line, text, target: target.to_owned(), action, mode, owner, mtime, xattrs }
    }

    fn put(
        &self,
        builder: &mut tree::Builder,
        (top, time): (&str, Time),
        owner: Option<(u32, u32)>,
        origin: Origin,
    ) -> Result<()> {
        let target = format!("{}/{}", top.trim_end_matches('/'), self.target.trim_start_matches('/'));
        if target.contains('*') {
            return Err(Error::new(Kind::Manifest, "a name in a table holds no pattern")
                .found(printable(target.as_bytes())));
        }
        let mtime = self.mtime.map(Time::seconds);
        let mut meta = Meta::root(self.mode.unwrap_or(0o755), mtime.unwrap_or(time));
        (meta.uid, meta.gid) = owner.unwrap_or_default();
        let change = Change { mode: self.mode, owner, mtime, xattrs: self.xattrs.clone() };
        match &self.action {
            Action::Directory if builder.view().is_directory(&target) => {
                builder.change(target.as_bytes(), false, &change)
            }
            Action::Directory => builder.put(target.as_bytes(), meta, Content::Directory, origin),
            Action::Node(content) => {
                let _ = builder.replace(true);
                let put = builder.put(target.as_bytes(), meta, *content, origin);
                let _ = builder.replace(false);
                put
            }
            Action::Symlink(to) => {
                let _ = builder.replace(true);
                let put =
                    builder.symlink(target.as_bytes(), to.as_bytes(), Meta { mode: 0o777, ..meta }, origin);
                let _ = builder.replace(false);
                put
            }
            Action::There { optional: true, .. } if !builder.view().has(&target) => Ok(()),
            Action::There { below, .. } => builder.change(target.as_bytes(), *below, &change),
        }
    }
}

/// Permissions in octal digits.
fn mode(text: &str) -> Result<u16, Wrong> {
    u16::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("a mode in octal digits in place of `{text}`"))
}

/// A user and a group, by number or name.
fn owner(user: &str, group: &str) -> Result<Accounts, Wrong> {
    let account = |text: &str, what: &str| match text.parse::<u32>() {
        Ok(id) if id != u32::MAX => Ok(Account::Id(id)),
        Err(_) if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {
            Ok(Account::Name(text.to_owned()))
        }
        _ => Err(format!("a {what} in place of `{text}`")),
    };
    Ok(Accounts { user: account(user, "user")?, group: account(group, "group")? })
}

fn number(text: &str, what: &str) -> Result<u32, Wrong> {
    text.parse().map_err(|_| format!("{what} in place of `{text}`"))
}

/// A device by the letter of its type.
const fn node(letter: u8, device: (u32, u32)) -> Option<Content> {
    match letter {
        b'c' => Some(Content::CharacterDevice { device }),
        b'b' => Some(Content::BlockDevice { device }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, format: Format) -> Result<Table> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("table"), text).unwrap();
        Table::load(&folder.path().join("table"), format)
    }

    #[test]
    fn rows_of_a_device_table_are_what_makedevs_makes() {
        let text = "# comment\n\n/dev d 755 0 0 - - - - -\n/dev/tty c 666 0 tty 4 64 1 2 3\n/bin/su f 4755 root 0 - - - - -\n\
                    |xattr cap_net_raw+ep\n/var r -1 7 8 - - - - -\n/opt F 600 1 1 0 0 0 0 0\n/run/p p 644 0 0 - - - - -\n";
        let table = load(text, Format::Devices).unwrap();
        let rows: Vec<_> = table.rows.iter().map(|row| (row.line, row.target.as_str(), row.mode)).collect();
        let expected = [
            (3, "/dev", Some(0o755)),
            (4, "/dev/tty1", Some(0o666)),
            (4, "/dev/tty2", Some(0o666)),
            (4, "/dev/tty3", Some(0o666)),
            (5, "/bin/su", Some(0o4755)),
            (7, "/var", None),
            (8, "/opt", Some(0o600)),
            (9, "/run/p", Some(0o644)),
        ];
        assert_eq!(rows, expected);
        let minors = table.rows.iter().filter_map(|row| match row.action {
            Action::Node(Content::CharacterDevice { device }) => Some(device),
            _ => None,
        });
        assert_eq!(minors.collect::<Vec<_>>(), [(4, 64), (4, 66), (4, 68)]);
        assert_eq!(table.rows[4].xattrs[0].name, b"security.capability");
        assert_eq!(table.rows[6].action, Action::There { below: false, optional: true });
        for (text, part) in [
            ("/a d 9 0 0 - - - - -", "mode in octal"),
            ("/a z 644 0 0 - - - - -", "type"),
            ("/a d 644 0", "columns"),
            ("/a c 644 0 0 - - - - -", "major"),
            ("/a d 644 -5 0 - - - - -", "user"),
            ("a b", "columns"),
            ("|xattr cap_x+p", "row of a file before"),
            ("/a c 644 0 0 1 1 0 1 99999999", "at most"),
        ] {
            let error = load(text, Format::Devices).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("table:1"), "{text}: {error}");
        }
    }

    #[test]
    fn rows_of_pseudo_files_are_what_mksquashfs_makes() {
        let text = "dev d 755 root 0\n\"a b\" m 600 1 2\na\\ c m 600 1 2\ndev/null c 666 0 0 1 3\nlink s 777 0 0 to there\n\
                    pipe i 600 0 0 f\nsock i 600 0 0 s\nlate D 77 700 0 0\nbin x user.k=0tv\nbin x user.k=0x6162\n\
                    bin x user.k=0Tq\\141\\012z\nbin x user.k=a\\141\nbin x user.k=0X6162\nbin x user.k=0SYWI=\n";
        let table = load(text, Format::Pseudo).unwrap();
        let names: Vec<_> = table.rows.iter().map(|row| row.target.as_str()).collect();
        assert_eq!(
            names,
            [
                "dev", "a b", "a c", "dev/null", "link", "pipe", "sock", "late", "bin", "bin", "bin", "bin",
                "bin", "bin"
            ]
        );
        let values: Vec<&[u8]> = table.rows[10..].iter().map(|row| row.xattrs[0].value.as_slice()).collect();
        assert_eq!(values, [&b"qa\nz"[..], b"a\\141", b"ab", b"ab"]);
        assert_eq!(table.rows[4].action, Action::Symlink("to there".to_owned()));
        assert_eq!(table.rows[7].mtime, Some(77));
        assert_eq!(
            (&table.rows[8].xattrs[0].value, &table.rows[9].xattrs[0].value),
            (&b"v".to_vec(), &b"ab".to_vec())
        );
        for (text, part) in [
            ("a f 644 0 0 cat /etc/shadow", "no program is run"),
            ("a F 7 644 0 0 cat", "no program is run"),
            ("a R 644 0 0 1 2 3", "an entry"),
            ("a l b", "an entry"),
            ("a d 644", "mode, user and group"),
            ("a q 644 0 0", "type"),
            ("a d 644 0 0 0", "nothing behind"),
            ("a x user.k", "name=value"),
            ("a x user.k=0t\\8", "three octal digits"),
            ("a x user.k=0t\\777", "three octal digits"),
            ("\"a d 644 0 0", "closing quote"),
        ] {
            let error = load(text, Format::Pseudo).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
