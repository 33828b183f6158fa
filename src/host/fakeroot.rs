//! fakeroot is a library that shows a program other owners, modes and devices than the kernel has, by
//! replacing functions of the C library. This program makes its system calls itself, so it sees what the
//! kernel has.

use std::ffi::{OsStr, OsString};

use crate::error::{Error, Kind, Result, Warning};

/// Beginnings of the names of such libraries: those of fakeroot and of Yocto's pseudo.
const LIBRARIES: [&str; 2] = ["libfakeroot", "libpseudo"];

/// Refuses to read owners if a library makes them up. `variable` looks up a variable of the environment.
///
/// # Errors
/// [`Kind::Source`] naming the library, with the way out.
pub fn refuse(variable: impl Fn(&str) -> Option<OsString>) -> Result<()> {
    match found(variable) {
        None => Ok(()),
        Some(found) => Err(Error::new(
            Kind::Source,
            "owners and devices that fakeroot shows cannot be read",
        )
        .found(format!("the variable {found}"))
        .why("fakeroot takes the place of the C library's functions, and this program asks the kernel itself")
        .hint("make the tree and the image in `unshare --map-auto --map-root-user`; with an owner for all files no owner is read, and devices of fakeroot are empty files")),
    }
}

/// What shows that such a library is there.
fn found(variable: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    let key = variable("FAKEROOTKEY").filter(|key| !key.is_empty()).map(|_| "FAKEROOTKEY".to_owned());
    let preload = variable("LD_PRELOAD").unwrap_or_default();
    key.or_else(|| {
        // Separated by colons or blanks (ld.so(8)).
        let text = preload.to_string_lossy();
        let mut names = text.split([':', ' ']).filter_map(|path| path.rsplit('/').next());
        let name = names.find(|name| LIBRARIES.iter().any(|library| name.starts_with(library)))?;
        Some(format!("LD_PRELOAD with {name}"))
    })
}

/// What is said of files that are read in spite of fakeroot, whose owners are given: a device that it shows is an empty file.
#[must_use]
pub fn warning_here() -> Option<Warning> {
    found(|name| std::env::var_os(OsStr::new(name))).map(|found| {
        Warning(format!(
            "devices and modes that fakeroot shows are not seen ({found}); such a device is an empty file here"
        ))
    })
}

/// As [`refuse`], in the environment of this process.
///
/// # Errors
/// As [`refuse`].
pub fn refuse_here() -> Result<()> {
    refuse(|name| std::env::var_os(OsStr::new(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fakeroot_is_known_by_its_key_and_by_its_library() {
        let with = |set: &'static [(&str, &str)]| {
            let found =
                refuse(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()));
            found.err().map(|error| error.to_string())
        };
        for (set, found) in [
            ([].as_slice(), None),
            (&[("FAKEROOTKEY", "")], None),
            (&[("LD_PRELOAD", "/usr/lib/libeatmydata.so")], None),
            (&[("FAKEROOTKEY", "17")], Some("found: the variable FAKEROOTKEY\n")),
            (
                &[("LD_PRELOAD", "libx.so:/usr/lib/libfakeroot-sysv.so")],
                Some("LD_PRELOAD with libfakeroot-sysv.so\n"),
            ),
            (&[("LD_PRELOAD", "/opt/lib64/libpseudo.so")], Some("LD_PRELOAD with libpseudo.so\n")),
        ] {
            match (with(set), found) {
                (None, None) => {}
                (Some(error), Some(found)) => {
                    assert!(
                        error.contains(found) && error.contains("unshare --map-auto --map-root-user"),
                        "{error}"
                    );
                }
                other => panic!("{set:?}: {other:?}"),
            }
        }
    }
}
