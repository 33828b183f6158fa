//! What systemd knows of a partition type: its name, where it is mounted, which attributes it may carry. Source:
//! systemd `src/shared/gpt.c`; seen with 262.1 for every type (fixtures/repart/flags).

use uuid::Uuid;

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::table::{Architecture, Type};

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Designator {
    Root,
    Usr,
    Home,
    Srv,
    Esp,
    Xbootldr,
    Swap,
    Tmp,
    Var,
    /// Hashes of a root or usr partition.
    Verity,
    /// The signature of such hashes.
    Signature,
    /// Everything else, which systemd mounts nowhere.
    Other,
}

/// A partition type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) guid: Uuid,
    /// Its name, where systemd has one.
    pub(super) name: Option<String>,
    pub(super) designator: Designator,
}

/// Names of types that systemd does not have.
const NAMELESS: [&str; 5] = ["bios-boot", "microsoft-basic-data", "zfs", "solaris-reserved", "linux"];

impl Kind {
    /// Reads a name or a GUID. `native` is the processor of names without one.
    ///
    /// # Errors
    /// [`ErrorKind::Manifest`] for what is neither.
    pub(super) fn parse(text: &str, native: Option<Architecture>) -> Result<Self> {
        let kind = Type::parse(text, native)?;
        // A GUID has no braces here.
        let known = !NAMELESS.contains(&text) && !text.contains(['{', ':']);
        match kind.guid().filter(|guid| known && !guid.is_nil()) {
            Some(guid) => Ok(Self::new(guid)),
            None => Err(Error::new(ErrorKind::Manifest, "this is no type of a partition in a GPT")
                .expected(
                    "a name such as esp, linux-generic, swap or root-x86-64, or a GUID that is not zero",
                )
                .found(text)),
        }
    }

    pub(super) fn new(guid: Uuid) -> Self {
        let text = Type::Guid(guid).to_string();
        let named = Uuid::try_parse(&text).is_err() && !NAMELESS.contains(&text.as_str());
        let designator = if named { designator(&text) } else { Designator::Other };
        Self { guid, name: named.then_some(text), designator }
    }

    /// The same type of another processor, where it depends on one (`gpt_partition_type_override_architecture`).
    pub(super) fn of(self, architecture: Architecture) -> Self {
        let depends = matches!(
            self.designator,
            Designator::Root | Designator::Usr | Designator::Verity | Designator::Signature
        );
        let Some(name) = self.name.as_deref().filter(|_| depends) else { return self };
        let stem = if name.starts_with("root-") { "root" } else { "usr" };
        let ending = match self.designator {
            Designator::Verity => "-verity",
            Designator::Signature => "-verity-sig",
            _ => "",
        };
        let other = Type::parse(&format!("{stem}{ending}"), Some(architecture)).ok();
        other.and_then(Type::guid).map_or(self, Self::new)
    }

    /// As it is shown: the name, or the GUID.
    pub(super) fn shown(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.guid.to_string())
    }

    /// What the label of a partition without one begins with.
    pub(super) fn prefix(&self) -> &str {
        self.name.as_deref().unwrap_or("linux")
    }

    /// Where it is mounted, the first being the usual place.
    pub(super) const fn mount_points(&self) -> &'static [&'static str] {
        match self.designator {
            Designator::Root => &["/"],
            Designator::Usr => &["/usr"],
            Designator::Home => &["/home"],
            Designator::Srv => &["/srv"],
            Designator::Esp => &["/efi", "/boot"],
            Designator::Xbootldr => &["/boot"],
            Designator::Tmp => &["/var/tmp"],
            Designator::Var => &["/var"],
            Designator::Verity | Designator::Signature | Designator::Swap | Designator::Other => &[],
        }
    }

    /// Whether its filesystem may be grown when it is mounted.
    pub(super) const fn may_grow(&self) -> bool {
        matches!(
            self.designator,
            Designator::Root
                | Designator::Usr
                | Designator::Home
                | Designator::Srv
                | Designator::Tmp
                | Designator::Var
                | Designator::Xbootldr
        )
    }

    /// Whether it may be read-only.
    pub(super) const fn may_be_read_only(&self) -> bool {
        self.may_grow() || matches!(self.designator, Designator::Verity | Designator::Signature)
    }

    /// Whether it may be left out of automatic mounts.
    pub(super) const fn may_be_no_auto(&self) -> bool {
        self.may_grow() || matches!(self.designator, Designator::Verity | Designator::Swap)
    }

    /// Whether firmware or a boot loader reads it.
    pub(super) const fn is_system(&self) -> bool {
        matches!(self.designator, Designator::Esp | Designator::Xbootldr)
    }
}

fn designator(name: &str) -> Designator {
    match name {
        "home" => Designator::Home,
        "srv" => Designator::Srv,
        "esp" => Designator::Esp,
        "xbootldr" => Designator::Xbootldr,
        "swap" => Designator::Swap,
        "tmp" => Designator::Tmp,
        "var" => Designator::Var,
        _ if name.ends_with("-verity-sig") => Designator::Signature,
        _ if name.ends_with("-verity") => Designator::Verity,
        _ if name.starts_with("root-") => Designator::Root,
        _ if name.starts_with("usr-") => Designator::Usr,
        _ => Designator::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_systemds_names_and_change_their_processor() {
        let native = "x86-64".parse().ok();
        let arm: Architecture = "arm64".parse().unwrap();
        for (text, name, on_arm) in [
            ("root", "root-x86-64", "root-arm64"),
            ("root-secondary", "root-x86", "root-arm64"),
            ("usr-x86-64-verity-sig", "usr-x86-64-verity-sig", "usr-arm64-verity-sig"),
            ("usr-verity", "usr-x86-64-verity", "usr-arm64-verity"),
            ("linux-generic", "linux-generic", "linux-generic"),
            ("esp", "esp", "esp"),
        ] {
            let kind = Kind::parse(text, native).unwrap();
            assert_eq!(kind.shown(), name);
            assert_eq!(kind.of(arm).shown(), on_arm);
        }
        let grub = Kind::parse("21686148-6449-6e6f-744e-656564454649", native).unwrap();
        assert_eq!((grub.shown().as_str(), grub.prefix()), ("21686148-6449-6e6f-744e-656564454649", "linux"));
    }

    /// fixtures/repart/types.txt: what systemd-repart 262.1 on x86-64 makes of names, and which it refuses.
    #[test]
    fn every_name_is_that_of_systemd() {
        let native = "x86-64".parse().ok();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/repart/types.txt");
        let text = std::fs::read_to_string(path).unwrap();
        let mut seen = 0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            seen += 1;
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                [name, "refused"] => {
                    let error = Kind::parse(name, native).expect_err(name);
                    assert_eq!(error.kind(), ErrorKind::Manifest, "{name}");
                }
                [name, shown, guid] => {
                    let kind = Kind::parse(name, native).unwrap();
                    assert_eq!(
                        (kind.shown().as_str(), kind.guid.to_string().as_str()),
                        (*shown, *guid),
                        "{name}"
                    );
                }
                ["architecture", name, shown, guid] => {
                    let kind = Kind::parse("usr-x86-verity", native).unwrap().of(name.parse().unwrap());
                    assert_eq!(
                        (kind.shown().as_str(), kind.guid.to_string().as_str()),
                        (*shown, *guid),
                        "{name}"
                    );
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(seen > 250, "{seen}");
    }

    /// A type that only has a name here is shown as a GUID where it is on a disk.
    #[test]
    fn types_without_a_name_are_shown_by_their_guid() {
        for guid in ["6a898cc3-1dd2-11b2-99a6-080020736631", "21686148-6449-6e6f-744e-656564454649"] {
            assert_eq!(Kind::new(guid.parse().unwrap()).shown(), guid);
        }
    }
}
