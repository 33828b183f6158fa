//! Store paths, and the place of the store on this host.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::host::links::{Followed, Root};
use crate::text::{printable, printable_path, shortened};

/// The directory of every store path: in the image, and below the root of a [`Store`] on this host. Nix can
/// be built for another directory, but its store paths then differ from those of nixpkgs.
pub const STORE: &str = "/nix/store";

/// Characters of the hash before the name: 160 bits in base 32.
const HASH_LENGTH: usize = 32;

/// The longest name. With the hash and its dash that is 244 bytes, so `.lock` and `.drv.chroot` still fit in
/// the 255 bytes of a file name (Nix, `StorePath::MaxPathLen`).
const LONGEST_NAME: usize = 211;

/// The digits of Nix's base 32, without e, o, t and u.
pub(super) const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// A store path: `/nix/store/`, 32 characters of a hash, a dash, a name.
///
/// Store paths are ordered by the text after `/nix/store/`, as in Nix.
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
    /// [`Kind::Manifest`] with the rule of Nix that it breaks: 32 characters of its base 32, a dash, and a
    /// name of 1 to 211 characters that are letters, digits or `+-._?=`. The name is neither `.` nor `..`,
    /// and does not begin with one of them and a dash.
    pub fn from_base_name(base_name: &str) -> Result<Self> {
        match refusal(base_name) {
            None => Ok(Self(Arc::from(base_name))),
            Some(expected) => Err(Error::new(Kind::Manifest, "this is no store path")
                .expected(expected)
                .found(shown(base_name.as_bytes()))),
        }
    }

    /// The store path that `path` is or lies in, and the rest of the path, which is empty if `path` is the
    /// store path.
    ///
    /// # Errors
    /// [`Kind::Manifest`] where it is not absolute, not in the store, or contains `..`; otherwise as
    /// [`StorePath::from_base_name`].
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

    /// The text after `/nix/store/`.
    #[must_use]
    pub fn base_name(&self) -> &str {
        &self.0
    }

    /// The 32 characters of the hash.
    #[must_use]
    pub fn hash_part(&self) -> &str {
        &self.0[..HASH_LENGTH]
    }

    /// The text after the hash and its dash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0[HASH_LENGTH + 1..]
    }

    /// Whether it is a derivation: the description of a build, not its result.
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
    // Nix since 2.19 forbids these, so that a name is never a relative path, nor another file beside a name.
    let before = name.split(|byte| *byte == b'-').next();
    matches!(before, Some(b"." | b".."))
        .then(|| "a name that does not begin with `.` or `..` alone".to_owned())
}

/// Text for an error: short and printable.
pub(super) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 120;
    let text = shortened(bytes, MOST);
    if bytes.len() > MOST { format!("{text} ({} bytes)", bytes.len()) } else { text }
}

impl FromStr for StorePath {
    type Err = Error;

    /// Parses an absolute path that is a store path and not a path inside one.
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

/// The place of the store on this host, and the store paths of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    root: Root,
    /// The store paths of the system; `None` for all of the host.
    members: Option<Arc<BTreeSet<StorePath>>>,
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

impl Store {
    /// The store whose `/nix/store` lies below `root`: `/`, or the folder of a chroot store.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: Root::new(root), members: None }
    }

    /// The same store for a system that has only these store paths.
    #[must_use]
    pub fn having(self, members: impl IntoIterator<Item = StorePath>) -> Self {
        Self { members: Some(Arc::new(members.into_iter().collect())), ..self }
    }

    /// The folder that holds `nix/store`.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.folder()
    }

    /// The place of a store path on this host.
    #[must_use]
    pub fn host(&self, path: &StorePath) -> PathBuf {
        self.host_of(&path.to_path())
    }

    /// The place on this host of an absolute path in the image.
    #[must_use]
    pub fn host_of(&self, path: &Path) -> PathBuf {
        self.root.host_of(path)
    }

    /// Follows the symbolic links of a path in the store, also the last one, as a system with this root
    /// would.
    ///
    /// # Errors
    /// [`Kind::Source`] naming the path where it does not exist, a link leads to nothing or out of the store,
    /// there are more than 40 links, or it ends in a store path that the system does not have;
    /// [`Kind::Manifest`] where `path` is not in the store.
    pub fn resolve(&self, path: &Path) -> Result<Resolved> {
        StorePath::split(path)?;
        self.resolved(path, self.root.follow(path, Path::new(STORE))?)
    }

    /// As [`Store::resolve`]; `None` if nothing exists at `path`.
    ///
    /// # Errors
    /// As [`Store::resolve`]; a link that leads to nothing is still an error.
    pub fn find(&self, path: &Path) -> Result<Option<Resolved>> {
        StorePath::split(path)?;
        let found = self.root.find(path, Path::new(STORE))?;
        found.map(|found| self.resolved(path, found)).transpose()
    }

    /// The file found at `path`; it must lie in a store path of the system.
    fn resolved(&self, path: &Path, found: Followed) -> Result<Resolved> {
        let wrong = |what: &str| Error::new(Kind::Source, what).at(self.host_of(path));
        let (store_path, _) = StorePath::split(&found.path).map_err(|_| {
            wrong("the path leads to no path in the store").found(printable_path(&found.path))
        })?;
        if self.members.as_ref().is_some_and(|members| !members.contains(&store_path)) {
            return Err(wrong("the path leads to a store path that is not in the closure")
                .expected(format!("{store_path} among the store paths of the closure"))
                .hint("make the closure of this system (closureInfo's rootPaths)"));
        }
        Ok(Resolved { store_path, path: found.path, host: found.host })
    }
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
            ("out", "/etc/passwd", "the path leads out of /nix/store"),
            ("up", "../../../secret", "the path leads out of /nix/store"),
            ("store", "/nix/store", "the path leads to no path in the store"),
            ("root", "/", "the path leads out of /nix/store"),
            ("nothing", "bin/nothing", "a symbolic link leads to nothing"),
            ("itself", "itself", "too many symbolic links on the way"),
            ("file", "/nix/store/some-file", "a symbolic link leads to nothing"),
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
    fn only_what_the_system_has_is_found() {
        let (_root, store, [a, b]) = store();
        let path = |path: &str| path.parse::<StorePath>().unwrap();
        symlink(format!("{b}/bin"), store.host(&path(&a)).join("b")).unwrap();
        let link = PathBuf::from(format!("{a}/b"));
        assert!(store.clone().having([path(&a), path(&b)]).find(&link).unwrap().is_some());
        let alone = store.having([path(&a)]);
        assert!(alone.resolve(Path::new(&a)).is_ok());
        assert_eq!(alone.find(Path::new(&format!("{a}/none"))).unwrap(), None);
        let error = alone.find(&link).unwrap_err().to_string();
        let words =
            format!("not in the closure\n  at {}\n  expected: {b} among", alone.host_of(&link).display());
        assert!(error.contains(&words), "{error}");
    }
}
