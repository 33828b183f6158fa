//! Store paths, and where the store lies on this host.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::text::{printable, printable_path};

/// Where every store path lies, on the image and, below the root of a [`Store`], on this host. Nix can be built for
/// another directory, but then no store path of it is one of nixpkgs.
pub const STORE: &str = "/nix/store";

/// Characters of the hash in front of the name: 160 bits in base 32.
const HASH_LENGTH: usize = 32;

/// The longest name. With the hash and its dash that is 244 bytes, so that `.lock` and `.drv.chroot` still fit the 255
/// of a file name (Nix, `StorePath::MaxPathLen`).
const LONGEST_NAME: usize = 211;

/// The digits of Nix's base 32: no e, o, t and u.
pub(super) const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// A store path: `/nix/store/`, 32 characters of a hash, a dash, a name.
///
/// Store paths are ordered by what follows `/nix/store/`, which is the order Nix has them in.
///
/// ```
/// use diskwright::nix::StorePath;
///
/// let path: StorePath = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello-2.12".parse()?;
/// assert_eq!(path.name(), "hello-2.12");
/// assert_eq!(path.base_name(), "00bgd045z0d4icpbc2yyz4gx48ak44la-hello-2.12");
/// # Ok::<(), diskwright::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(Arc<str>);

impl StorePath {
    /// The store path with this name in the store: `HASH-NAME`.
    ///
    /// # Errors
    /// [`Kind::Manifest`] with the rule of Nix that it breaks: 32 characters of its base 32, a dash, a name of 1 to 211
    /// characters that are letters, digits or `+-._?=`, and neither `.` nor `..`, not even before a dash.
    pub fn from_base_name(base_name: &str) -> Result<Self> {
        match refusal(base_name) {
            None => Ok(Self(Arc::from(base_name))),
            Some(expected) => Err(Error::new(Kind::Manifest, "this is no store path")
                .expected(expected)
                .found(shown(base_name.as_bytes()))),
        }
    }

    /// The store path that `path` is, or lies in, and the rest of the path, which is empty where it is the store path
    /// itself.
    ///
    /// # Errors
    /// [`Kind::Manifest`] where it is not absolute, not in the store, holds `..`, or as [`StorePath::from_base_name`].
    pub fn split(path: &Path) -> Result<(Self, PathBuf)> {
        let refused = |expected: &str| {
            Error::new(Kind::Manifest, "this is no path in the store")
                .expected(expected)
                .found(printable_path(path))
        };
        let inside = path.strip_prefix(STORE).map_err(|_| refused("a path below /nix/store"))?;
        let mut parts = inside.components();
        let Some(Component::Normal(first)) = parts.next() else {
            return Err(refused("a path below /nix/store"));
        };
        let rest = parts.as_path();
        if rest.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(refused("a path without `..`"));
        }
        let base_name = first.to_str().ok_or_else(|| refused("a name in ASCII"))?;
        Ok((Self::from_base_name(base_name)?, rest.to_owned()))
    }

    /// What follows `/nix/store/`.
    #[must_use]
    pub fn base_name(&self) -> &str {
        &self.0
    }

    /// The 32 characters of the hash.
    #[must_use]
    pub fn hash_part(&self) -> &str {
        &self.0[..HASH_LENGTH]
    }

    /// What follows the hash and its dash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0[HASH_LENGTH + 1..]
    }

    /// Whether it is a derivation: a build that Nix knows of, not what came of it.
    #[must_use]
    pub fn is_derivation(&self) -> bool {
        self.0.ends_with(".drv")
    }

    /// The path in the image.
    #[must_use]
    pub fn to_path(&self) -> PathBuf {
        PathBuf::from(self.to_string())
    }
}

/// The rule that a base name breaks, if it breaks one.
fn refusal(base_name: &str) -> Option<String> {
    let bytes = base_name.as_bytes();
    let Some((hash, rest)) = bytes.split_at_checked(HASH_LENGTH) else {
        return Some("32 characters of a hash, a dash and a name".to_owned());
    };
    if let Some(wrong) = hash.iter().find(|byte| !DIGITS.contains(byte)) {
        let wrong = printable(&[*wrong]);
        return Some(format!("a hash of 32 characters out of 0-9 and a-z without e, o, t, u; not `{wrong}`"));
    }
    let Some((b'-', name)) = rest.split_first() else {
        return Some("a dash after the 32 characters of the hash".to_owned());
    };
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Some(format!("a name of 1 to {LONGEST_NAME} characters, not {}", name.len()));
    }
    if let Some(wrong) = name.iter().find(|byte| !byte.is_ascii_alphanumeric() && !b"+-._?=".contains(byte)) {
        let wrong = printable(&[*wrong]);
        return Some(format!("a name of letters, digits and `+-._?=`; not `{wrong}`"));
    }
    // Nix since 2.19 forbids these, so that a name is never a relative path, nor a file of its own beside one.
    let before = name.split(|byte| *byte == b'-').next();
    matches!(before, Some(b"." | b".."))
        .then(|| "a name that does not begin with `.` or `..` alone".to_owned())
}

/// Text for an error: short and printable.
pub(super) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 120;
    match bytes.get(..MOST) {
        Some(head) if bytes.len() > MOST => format!("{}… ({} bytes)", printable(head), bytes.len()),
        _ => printable(bytes),
    }
}

impl FromStr for StorePath {
    type Err = Error;

    /// Reads an absolute path that is a store path and nothing below one.
    fn from_str(path: &str) -> Result<Self> {
        match path.strip_prefix(STORE).and_then(|rest| rest.strip_prefix('/')) {
            Some(base_name) => {
                Self::from_base_name(base_name).map_err(|error| error.found(shown(path.as_bytes())))
            }
            None => Err(Error::new(Kind::Manifest, "this is no store path")
                .expected("/nix/store/, 32 characters of a hash, a dash and a name")
                .found(shown(path.as_bytes()))),
        }
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}/{}", self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the store lies on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    root: PathBuf,
}

impl Default for Store {
    /// The store of this host itself.
    fn default() -> Self {
        Self::new("/")
    }
}

/// A path in the store with all links followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The store path that it lies in.
    pub store_path: StorePath,
    /// The whole path, as the image has it.
    pub path: PathBuf,
    /// The file on this host.
    pub host: PathBuf,
}

/// As many links as the kernel follows for one path (MAXSYMLINKS, linux/namei.h).
const MOST_LINKS: usize = 40;

impl Store {
    /// The store whose `/nix/store` lies below `root`: `/`, or the folder of a chroot store.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder that holds `nix/store`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a store path lies on this host.
    #[must_use]
    pub fn host(&self, path: &StorePath) -> PathBuf {
        self.host_of(&path.to_path())
    }

    /// Where an absolute path of the image's lies on this host.
    #[must_use]
    pub fn host_of(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Follows the symbolic links of a path in the store, the last one too, as a system with this root would.
    ///
    /// # Errors
    /// [`Kind::Source`] naming the path where it does not exist, a link leads to nothing or out of the store, or there
    /// are more than 40 links; [`Kind::Manifest`] where `path` is none of the store.
    pub fn resolve(&self, path: &Path) -> Result<Resolved> {
        StorePath::split(path)?;
        let mut at = PathBuf::from("/");
        let mut rest: VecDeque<OsString> = parts(path);
        // The link that was followed last: where to look when something is wrong.
        let mut link: Option<(PathBuf, PathBuf)> = None;
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            at.push(&part);
            if Path::new(STORE).starts_with(&at) {
                continue;
            }
            let wrong = |what: &str| self.wrong(what, path, link.as_ref());
            if !at.starts_with(STORE) {
                return Err(wrong("a link leads out of the store").found(printable_path(&at)));
            }
            let host = self.host_of(&at);
            let meta = std::fs::symlink_metadata(&host).map_err(|error| {
                let what = match error.kind() {
                    std::io::ErrorKind::NotFound if link.is_some() => "a link of the store leads to nothing",
                    std::io::ErrorKind::NotFound => "the path does not exist",
                    _ => "cannot read the path",
                };
                wrong(what).because(error)
            })?;
            if meta.is_symlink() {
                links += 1;
                if links > MOST_LINKS {
                    return Err(wrong("too many links on the way").expected(format!("at most {MOST_LINKS}")));
                }
                let target = std::fs::read_link(&host).map_err(|error| {
                    Error::io(Kind::Source, "cannot read the symbolic link", &host, error)
                })?;
                for part in parts(&target).into_iter().rev() {
                    rest.push_front(part);
                }
                link = Some((host, target.clone()));
                if target.is_absolute() {
                    at = PathBuf::from("/");
                } else {
                    at.pop();
                }
            }
        }
        match StorePath::split(&at) {
            Ok((store_path, _)) => Ok(Resolved { store_path, host: self.host_of(&at), path: at }),
            Err(_) => Err(self
                .wrong("a link leads out of the store", path, link.as_ref())
                .found(printable_path(&at))),
        }
    }

    /// An error on the way along `path`, at the last link that was followed.
    fn wrong(&self, what: &str, path: &Path, link: Option<&(PathBuf, PathBuf)>) -> Error {
        let error = Error::new(Kind::Source, what).at(self.host_of(path));
        match link {
            Some((link, target)) => {
                error.at(link).why(format!("the link leads to {}", printable(target.as_os_str().as_bytes())))
            }
            None => error,
        }
    }
}

/// The names that a path goes through, `..` among them.
fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const HASH: &str = "00bgd045z0d4icpbc2yyz4gx48ak44la";

    #[test]
    fn names_follow_the_rules_of_nix() {
        for name in ["a", "hello-2.12", "x+y_z?=.", ".hidden", "...", "..a-b", "-", "A-", &"n".repeat(211)] {
            let path = format!("/nix/store/{HASH}-{name}");
            let parsed: StorePath = path.parse().unwrap();
            assert_eq!((parsed.name(), parsed.hash_part(), parsed.to_string()), (name, HASH, path));
        }
        for (base_name, rule) in [
            (format!("{HASH}-"), "a name of 1 to 211 characters, not 0"),
            (format!("{HASH}-{}", "n".repeat(212)), "a name of 1 to 211 characters, not 212"),
            (HASH.to_owned(), "a dash after the 32 characters of the hash"),
            (format!("{HASH}x-a"), "a dash after the 32 characters of the hash"),
            (
                format!("e{}-a", &HASH[1..]),
                "a hash of 32 characters out of 0-9 and a-z without e, o, t, u; not `e`",
            ),
            (
                format!("A{}-a", &HASH[1..]),
                "a hash of 32 characters out of 0-9 and a-z without e, o, t, u; not `A`",
            ),
            (format!("{HASH}-a b"), "a name of letters, digits and `+-._?=`; not ` `"),
            (format!("{HASH}-a/b"), "a name of letters, digits and `+-._?=`; not `/`"),
            (format!("{HASH}-a\n"), "a name of letters, digits and `+-._?=`; not `\\x0a`"),
            (format!("{HASH}-ü"), "a name of letters, digits and `+-._?=`; not `\\xc3`"),
            (format!("{HASH}-."), "a name that does not begin with `.` or `..` alone"),
            (format!("{HASH}-..-x"), "a name that does not begin with `.` or `..` alone"),
            ("ü".repeat(16), "a hash of 32 characters out of 0-9 and a-z without e, o, t, u; not `\\xc3`"),
            (String::new(), "32 characters of a hash, a dash and a name"),
        ] {
            let error = StorePath::from_base_name(&base_name).unwrap_err();
            assert!(error.to_string().contains(&format!("expected: {rule}\n")), "{error}");
        }
    }

    #[test]
    fn an_absolute_path_is_split_where_the_store_path_ends() {
        let base = format!("{HASH}-a");
        for (path, rest) in [("", ""), ("/", ""), ("/bin/x", "bin/x"), ("//bin/./x", "bin/x")] {
            let (found, below) = StorePath::split(Path::new(&format!("/nix/store/{base}{path}"))).unwrap();
            assert_eq!((found.base_name(), below), (base.as_str(), PathBuf::from(rest)));
        }
        for path in ["/nix/store", "/nix/store/", "/etc", "nix/store/x", &format!("/nix/store/{base}/../b")] {
            assert!(StorePath::split(Path::new(path)).is_err(), "{path}");
        }
        for path in [format!("/nix/store/{base}/bin"), format!("/nix/store//{base}"), base, String::new()] {
            assert!(path.parse::<StorePath>().is_err(), "{path}");
        }
    }

    #[test]
    fn the_order_is_that_of_base_names() {
        let path = |name: &str| StorePath::from_base_name(&format!("{HASH}-{name}")).unwrap();
        let mut paths = [path("b"), path("a-1"), path("a"), path("B"), path("a.1")];
        paths.sort();
        assert_eq!(paths.each_ref().map(StorePath::name), ["B", "a", "a-1", "a.1", "b"]);
    }

    /// A store below a folder, with one store path `a` and one `b`.
    fn store() -> (tempfile::TempDir, Store, [String; 2]) {
        let root = tempfile::tempdir().unwrap();
        let names = ["a", "b"].map(|name| format!("/nix/store/{HASH}-{name}"));
        for name in &names {
            std::fs::create_dir_all(root.path().join(&name[1..]).join("bin")).unwrap();
        }
        let store = Store::new(root.path());
        (root, store, names)
    }

    #[test]
    fn links_are_followed_within_the_store() {
        let (root, store, [a, b]) = store();
        let at = |path: String| root.path().join(&path[1..]);
        std::fs::write(at(format!("{b}/bin/tool")), "").unwrap();
        symlink(format!("{b}/bin"), at(format!("{a}/absolute"))).unwrap();
        symlink(format!("../{HASH}-b/bin/./tool"), at(format!("{a}/relative"))).unwrap();
        symlink("../../../nix/store/../store/".to_owned() + &b[11..], at(format!("{a}/up"))).unwrap();
        for path in ["absolute/tool", "relative", "up/bin/tool", "bin"] {
            let found = store.resolve(Path::new(&format!("{a}/{path}"))).unwrap();
            let expected = if path == "bin" { format!("{a}/bin") } else { format!("{b}/bin/tool") };
            assert_eq!(found.path, PathBuf::from(&expected), "{path}");
            assert_eq!(found.host, at(expected.clone()));
            assert!(expected.starts_with(&found.store_path.to_string()));
        }
    }

    #[test]
    fn what_leaves_the_store_or_leads_nowhere_is_refused() {
        let (root, store, [a, _]) = store();
        let folder = root.path().join(&a[1..]);
        std::fs::write(root.path().join("secret"), "").unwrap();
        for (name, target, what) in [
            ("out", "/etc/passwd", "a link leads out of the store"),
            ("up", "../../../secret", "a link leads out of the store"),
            ("store", "/nix/store", "a link leads out of the store"),
            ("root", "/", "a link leads out of the store"),
            ("nothing", "bin/nothing", "a link of the store leads to nothing"),
            ("itself", "itself", "too many links on the way"),
            ("file", "/nix/store/some-file", "a link of the store leads to nothing"),
        ] {
            symlink(target, folder.join(name)).unwrap();
            let error = store.resolve(Path::new(&format!("{a}/{name}"))).unwrap_err();
            assert_eq!((error.kind(), error.what()), (Kind::Source, what), "{name}");
            let place = folder.join(name);
            assert!(error.to_string().contains(&format!("at {}", place.display())), "{error}");
        }
        let error = store.resolve(Path::new(&format!("{a}/absent"))).unwrap_err();
        assert_eq!(error.what(), "the path does not exist");
        assert_eq!(store.resolve(Path::new("/etc")).unwrap_err().kind(), Kind::Manifest);
    }

    #[test]
    fn forty_links_are_followed_and_not_one_more() {
        let (root, store, [a, _]) = store();
        let folder = root.path().join(&a[1..]);
        symlink("bin", folder.join("l1")).unwrap();
        for number in 2..=41 {
            symlink(format!("l{}", number - 1), folder.join(format!("l{number}"))).unwrap();
        }
        assert!(store.resolve(Path::new(&format!("{a}/l40"))).is_ok());
        assert!(store.resolve(Path::new(&format!("{a}/l41"))).is_err());
    }
}
