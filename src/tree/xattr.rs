//! Extended attributes: reads those of a host file that are kept.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::acl;
use super::look::Name;
use crate::encoding::{from_base64, from_hex};
use crate::error::{Error, Kind, Result};
use crate::host::{LONGEST_PATH, open_any_length};

/// An extended attribute as the kernel names it: `user.comment`, `system.posix_acl_access`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xattr {
    /// Full name with its namespace.
    pub name: Vec<u8>,
    /// Value as getxattr(2) gives it; a POSIX ACL is in the kernel's exchange form (linux/posix_acl_xattr.h).
    pub value: Vec<u8>,
}

/// Bytes in the longest name, with its namespace (XATTR_NAME_MAX, linux/limits.h).
pub(crate) const LONGEST_NAME: usize = 255;

impl Xattr {
    /// An attribute from text: `0x` and hexadecimal digits, `0s` and base 64, or the value itself, as setfattr(1) has them;
    /// for `security.capability` a text as setcap(8) takes it.
    ///
    /// # Errors
    /// What would have been right.
    pub fn from_text(name: &str, text: &str) -> Result<Self, String> {
        let namespaces = ["user.", "trusted.", "security.", "system."];
        if !namespaces
            .iter()
            .any(|namespace| name.strip_prefix(namespace).is_some_and(|rest| !rest.is_empty()))
        {
            return Err("a name that begins with user., trusted., security. or system.".to_owned());
        }
        let behind = |prefixes: [&str; 2]| prefixes.into_iter().find_map(|prefix| text.strip_prefix(prefix));
        let value = if let Some(digits) = behind(["0x", "0X"]) {
            from_hex(digits.as_bytes()).ok_or("hexadecimal digits behind 0x, two a byte")?
        } else if let Some(digits) = behind(["0s", "0S"]) {
            from_base64(digits.as_bytes()).ok_or("base 64 behind 0s")?
        } else if name == "security.capability" {
            super::capability::binary(text)?
        } else {
            text.as_bytes().to_vec()
        };
        if name.len() > LONGEST_NAME {
            return Err(format!("a name of at most {LONGEST_NAME} bytes"));
        }
        if acl::worth(name.as_bytes(), &value) == acl::Worth::Wrong {
            return Err("an access control list as getfattr(1) shows it".to_owned());
        }
        Ok(Self { name: name.as_bytes().to_vec(), value })
    }
}

/// The names of attributes that are kept: patterns in which `*` stands for any run of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

/// Attributes that belong to the files: those that users set, file capabilities, POSIX ACLs. Labels of the
/// host (security.selinux, trusted.*) are not kept, so that an image does not depend on the host that made
/// it.
const DEFAULT: [&str; 4] =
    ["user.*", "security.capability", "system.posix_acl_access", "system.posix_acl_default"];

impl Default for Patterns {
    fn default() -> Self {
        Self(DEFAULT.map(str::to_owned).to_vec())
    }
}

impl Patterns {
    /// Keeps names that match one of `patterns`; an empty list keeps nothing.
    #[must_use]
    pub const fn new(patterns: Vec<String>) -> Self {
        Self(patterns)
    }

    /// Whether an attribute of this name is kept.
    #[must_use]
    pub fn keep(&self, name: &[u8]) -> bool {
        self.0.iter().any(|pattern| matches(pattern.as_bytes(), name))
    }

    /// Whether nothing is kept, so that no file has to be asked.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a symbolic link can have an attribute that is kept. The kernel refuses user.* and ACLs on
    /// links, and only regular files have capabilities. So with the default patterns links need not be asked.
    #[must_use]
    pub fn may_be_on_links(&self) -> bool {
        self.0.iter().any(|pattern| !DEFAULT.contains(&pattern.as_str()) && !pattern.starts_with("user."))
    }
}

/// Whether `name` matches `pattern`, in which `*` stands for any run of bytes.
#[must_use]
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // After the last star that matched, try again one byte later: usually linear, quadratic at worst.
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(byte) if *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                Some((after, from)) => {
                    p = after;
                    n = from + 1;
                    retry = Some((after, n));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Reads the attributes of names of the host. It asks a filesystem without attributes only once.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    patterns: &'a Patterns,
    /// One attribute of each namespace that can contain kept names; `None` if the patterns do not tell the
    /// namespaces.
    probes: Option<Vec<&'static str>>,
    /// Whether filesystems support any of them, by the number of the filesystem: for the first one that was
    /// asked, which is mostly the only one, and for the others.
    first: OnceLock<(u64, bool)>,
    others: Mutex<Vec<(u64, bool)>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(patterns: &'a Patterns) -> Self {
        // No file has an attribute of this name; only the namespace matters.
        let probe = |pattern: &String| match pattern.as_str() {
            user if user.starts_with("user.") => Some("user.diskwright.probe"),
            other => DEFAULT[1..].iter().copied().find(|known| *known == other),
        };
        let probes = patterns.0.iter().map(probe).collect();
        Self { patterns, probes, first: OnceLock::new(), others: Mutex::default() }
    }

    pub(super) const fn patterns(&self) -> &Patterns {
        self.patterns
    }

    /// The attributes of a name itself (links are not followed) that the patterns keep, sorted by name.
    /// `open` is the file, if it is open. `filesystem` is the number of its filesystem.
    ///
    /// # Errors
    /// [`Kind::Source`] where the host refuses to list or read them.
    pub(super) fn read(&self, at: Name<'_>, open: Option<&OwnedFd>, filesystem: u64) -> Result<Vec<Xattr>> {
        if self.patterns.is_empty() {
            return Ok(Vec::new());
        }
        let failed =
            |error: Errno| Error::io(Kind::Source, "cannot read the extended attributes", at.path, error);
        // No system call takes a name in an open directory for attributes, so a path that is too long goes
        // through /proc.
        let directory;
        let subject = match (open, at.path.parent(), at.path.file_name()) {
            (Some(file), ..) => Subject::Open(file),
            (None, Some(folder), Some(name)) if at.path.as_os_str().len() > LONGEST_PATH => {
                directory = open_any_length(folder, OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
                let near = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
                Subject::Path(Cow::Owned(near))
            }
            _ => Subject::Path(Cow::Borrowed(at.path)),
        };
        if !self.has_any(&subject, filesystem) {
            return Ok(Vec::new());
        }
        // Most files have none. A buffer on the stack saves the call for the length.
        let mut short = [0_u8; 1024];
        let names = match subject.list(&mut short[..]) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Ok(length) => short[..length].to_vec(),
            Err(Errno::RANGE) => grown(64 * 1024, |buffer| subject.list(buffer)).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        let kept = |name: &&[u8]| !name.is_empty() && self.patterns.keep(name);
        for name in names.split(|byte| *byte == 0).filter(kept) {
            match grown(4096, |buffer| subject.get(OsStr::from_bytes(name), buffer)) {
                Ok(value) => found.push(Xattr { name: name.to_vec(), value }),
                // It was removed after it was listed.
                Err(Errno::NODATA) => {}
                Err(error) => {
                    return Err(failed(error).found(format!("attribute {}", crate::text::printable(name))));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Whether files of a filesystem may have attributes that are kept. If a filesystem does not support a
    /// namespace, it answers EOPNOTSUPP and not ENODATA even for an attribute that does not exist
    /// (getxattr(2)). FAT and ISO 9660 support none; in the sandbox of Nix no filesystem does.
    fn has_any(&self, subject: &Subject<'_>, filesystem: u64) -> bool {
        let Some(probes) = &self.probes else { return true };
        let ask =
            || probes.iter().any(|name| subject.get(OsStr::new(name), &mut [0; 1]) != Err(Errno::NOTSUP));
        let (first, any) = *self.first.get_or_init(|| (filesystem, ask()));
        if first == filesystem {
            return any;
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, any)) = others.iter().find(|(number, _)| *number == filesystem) {
            return *any;
        }
        let any = ask();
        others.push((filesystem, any));
        any
    }
}

/// The file or name whose attributes are read.
enum Subject<'a> {
    Open(&'a OwnedFd),
    Path(Cow<'a, Path>),
}

impl Subject<'_> {
    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(file) => rustix::fs::flistxattr(file, buffer),
            Self::Path(path) => rustix::fs::llistxattr(path.as_ref(), buffer),
        }
    }

    fn get(&self, name: &OsStr, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(file) => rustix::fs::fgetxattr(file, name, buffer),
            Self::Path(path) => rustix::fs::lgetxattr(path.as_ref(), name, buffer),
        }
    }
}

/// Calls `read` with a buffer of `length` bytes; if that is too short, with larger ones.
fn grown(length: usize, mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; length];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // XATTR_SIZE_MAX and XATTR_LIST_MAX are 64 KiB (linux/limits.h); the next step ends the loop.
            Err(Errno::RANGE) if buffer.len() <= 64 * 1024 => buffer.resize(buffer.len() * 4, 0),
            Err(error) => return Err(error),
        }
    }
}

/// The attributes after chmod(2): the entries of an access ACL for the owner, the mask (without a mask, the
/// group) and others get the permissions of the mode (posix_acl_chmod, linux/posix_acl.c).
pub(super) fn after_chmod(xattrs: &[Xattr], mode: u16) -> Vec<Xattr> {
    let mut xattrs = xattrs.to_vec();
    for xattr in xattrs.iter_mut().filter(|xattr| xattr.name == acl::ACCESS) {
        // A version of 4 bytes, then entries of tag, permissions and id: 2, 2 and 4 bytes
        // (linux/posix_acl_xattr.h).
        let (entries, _) = xattr.value.get_mut(4..).unwrap_or_default().as_chunks_mut::<8>();
        let tag = |entry: &[u8; 8]| u16::from_le_bytes([entry[0], entry[1]]);
        let has_mask = entries.iter().any(|entry| tag(entry) == acl::MASK);
        for entry in entries {
            let bits = match tag(entry) {
                acl::USER_OBJ => mode >> 6,
                acl::MASK => mode >> 3,
                acl::GROUP_OBJ if !has_mask => mode >> 3,
                acl::OTHER => mode,
                _ => continue,
            };
            entry[2..4].copy_from_slice(&(bits & 7).to_le_bytes());
        }
    }
    xattrs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match() {
        for (pattern, name, expected) in [
            ("user.*", "user.comment", true),
            ("user.*", "user.", true),
            ("user.*", "trusted.user.x", false),
            ("*", "", true),
            ("*.acl*", "system.posix_acl_access", false),
            ("*acl*", "system.posix_acl_access", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXbcd", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
        let default = Patterns::default();
        assert!(default.keep(b"user.a") && default.keep(b"security.capability"));
        assert!(!default.keep(b"security.selinux") && !default.keep(b"trusted.overlay.opaque"));
        assert!(!default.may_be_on_links());
        assert!(Patterns::new(vec!["security.*".into()]).may_be_on_links());
    }
}
