//! Partitions of a system that no layout of nixpkgs has: swap, /home, a store of its own.

use super::layout::{Geometry, Role, Slot};
use super::schema::More;
use crate::disk::{Entry, Payload, Size};
use crate::error::{Error, Kind, Result};
use crate::filesystem::Spec;
use crate::key::KeyPath;
use crate::table::{Scheme, Type};
use crate::units::narrow;
use crate::values::Guid;

/// The most partitions of an MBR without logical ones.
const PRIMARIES: usize = 4;

/// The mount point without `/` at its end.
pub(super) fn mount(more: &More) -> Option<&str> {
    more.mount.as_deref().map(|mount| mount.trim_end_matches('/'))
}

/// Puts the partitions in front of the root, which stays the last on the disk so that it can grow. Their numbers follow that of
/// the root, so boot loaders find what they know.
///
/// # Errors
/// [`Kind::Manifest`] for a type that does not exist, for a bad mount point, and past what the table holds.
pub(super) fn insert(geometry: &mut Geometry, more: &[More], path: &KeyPath) -> Result<()> {
    let root = geometry.slots.iter().position(|slot| slot.role == Role::Root);
    let Some(at) = root.filter(|_| !more.is_empty()) else { return Ok(()) };
    if geometry.table == Scheme::Mbr && geometry.slots.len() + more.len() > PRIMARIES {
        return Err(Error::new(Kind::Manifest, "an MBR has no space for so many partitions")
            .at_key(path)
            .expected(format!("at most {}", PRIMARIES - geometry.slots.len()))
            .found(more.len())
            .hint("take a layout with a GPT"));
    }
    let mut slots = Vec::with_capacity(more.len());
    for (number, own) in more.iter().enumerate() {
        check(own, more, &path.index(number))?;
        let id = own.guid.map(Guid::id).transpose();
        slots.push(Slot {
            role: Role::More(number),
            kind: kind(own).map_err(|error| error.at_key(&path.index(number).key("type")))?,
            label: "",
            guid: id.map_err(|error| error.at_key(&path.index(number).key("guid")))?,
            start: None,
            size: Size::Fixed(own.size),
            active: false,
            number: Some(narrow(at + 2 + number, "the number of a partition")?),
        });
    }
    if let Some(root) = geometry.slots.get_mut(at) {
        root.number = Some(narrow(at + 1, "the number of a partition")?);
        let start = root.start.take();
        if let Some(first) = slots.first_mut() {
            first.start = start;
        }
    }
    geometry.slots.splice(at..at, slots);
    Ok(())
}

/// Refuses mount points that mean nothing, or two times the same.
fn check(own: &More, all: &[More], path: &KeyPath) -> Result<()> {
    let place = path.key("mount");
    let swap = matches!(own.filesystem, Spec::Swap(_));
    match mount(own) {
        None if swap => Ok(()),
        None => Err(Error::new(Kind::Manifest, "a filesystem of the system is mounted nowhere")
            .at_key(&place)
            .expected("where it is mounted, such as \"/home\"")),
        Some(_) if swap => {
            Err(Error::new(Kind::Manifest, "swap is not mounted").at_key(&place).hint("leave `mount` out"))
        }
        Some(mount) => {
            let parts = mount.strip_prefix('/').unwrap_or_default().split('/');
            let plain = parts.clone().all(|part| !matches!(part, "" | "." | ".."));
            let taken = ["/boot", "/efi", "/dev", "/proc", "/sys", "/run"];
            let known = taken.iter().any(|own| mount == *own || mount.starts_with(&format!("{own}/")));
            if !plain || known {
                return Err(Error::new(Kind::Manifest, "nothing of a system is mounted there")
                    .at_key(&place)
                    .expected("a directory such as /home, /nix or /var")
                    .found(crate::text::printable(mount.as_bytes())));
            }
            let meets = |other: &str| other == mount || other.starts_with(&format!("{mount}/"));
            if all.iter().filter_map(self::mount).filter(|other| meets(other)).count() > 1 {
                return Err(Error::new(
                    Kind::Manifest,
                    "two partitions are mounted at one place, or one below the other",
                )
                .at_key(&place)
                .found(mount));
            }
            Ok(())
        }
    }
}

/// Its type in the table.
fn kind(own: &More) -> Result<Type> {
    let usual = match (&own.filesystem, mount(own)) {
        (Spec::Swap(_), _) => "swap",
        (_, Some("/home")) => "home",
        (_, Some("/srv")) => "srv",
        _ => "linux",
    };
    Type::parse(own.kind.as_deref().unwrap_or(usual), None)
}

/// Takes what lies below `mount` out of the entries of the root, with targets from there on.
pub(super) fn take(
    mount: &str,
    entries: &mut Vec<Entry>,
    keys: &mut Vec<KeyPath>,
) -> (Vec<Entry>, Vec<KeyPath>) {
    let (mut taken, mut taken_keys) = (Vec::new(), Vec::new());
    let all = std::mem::take(entries).into_iter().zip(std::mem::take(keys));
    for (mut entry, key) in all {
        let own = match &mut entry.payload {
            Payload::Store { paths, .. } => {
                let inside = paths.iter().all(|(_, target)| target.strip_prefix(mount.as_bytes()).is_some());
                if inside {
                    let short = |(host, target): &(_, Vec<u8>)| {
                        let rest = target.strip_prefix(mount.as_bytes()).unwrap_or(target);
                        (std::path::PathBuf::clone(host), rest.to_vec())
                    };
                    *paths = paths.iter().map(short).collect();
                }
                inside.then(|| "/".to_owned())
            }
            _ => entry
                .target
                .strip_prefix(mount)
                .filter(|rest| rest.starts_with('/') && rest.len() > 1)
                .map(str::to_owned),
        };
        match own {
            Some(target) => {
                entry.target = target;
                taken.push(entry);
                taken_keys.push(key);
            }
            None => {
                entries.push(entry);
                keys.push(key);
            }
        }
    }
    (taken, taken_keys)
}
