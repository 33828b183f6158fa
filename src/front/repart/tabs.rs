//! fstab(5) for the partitions of a disk, as systemd-repart writes it.

use super::body::{READ_ONLY, WITHOUT_ID};
use super::outcome::{Outcome, Row};
use crate::identity;
use crate::values::VolumeId;

/// What happens with lines that are there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Joining {
    /// There may be none.
    #[default]
    No,
    /// The generated ones take the place of those that were generated before.
    Auto,
    /// They are left out.
    Replace,
}

const START: &str = "# Start section ↓ of automatically generated fstab by systemd-repart";
const END: &str = "# End section ↑ of automatically generated fstab by systemd-repart";

/// The lines for the mount points of `outcome`, with what stays of `old`. They are the same before and after the image is made,
/// which may hold them.
#[must_use]
pub fn fstab(outcome: &Outcome, old: Option<&str>) -> String {
    let lines: Vec<String> = outcome.rows.iter().flat_map(lines).collect();
    let mut text = format!("{START}\n{}{END}\n", lines.concat());
    let mut generated = false;
    for line in old.unwrap_or_default().lines() {
        match line.trim() {
            START => generated = true,
            END => generated = false,
            _ if generated => {}
            _ => text.extend([line, "\n"]),
        }
    }
    text
}

/// A line for each place where a partition is mounted.
fn lines(row: &Row) -> Vec<String> {
    let (Some(device), Some(filesystem)) = (device(row), &row.filesystem) else { return Vec::new() };
    let options = options(&row.kind, filesystem);
    let fields = row.mounts.iter().map(|(place, own)| {
        let options = if own.is_empty() { options.clone() } else { format!("{options},{own}") };
        // The root is checked before all others.
        let pass = if row.kind.starts_with("root-") { 1 } else { 2 };
        format!("{device} {place} {filesystem} {options} 0 {pass}\n")
    });
    fields.collect()
}

/// What a filesystem is found by: its id, or that of its partition. `None` where neither is known yet.
fn device(row: &Row) -> Option<String> {
    let derived = identity::filesystem_uuid(row.own_guid);
    let id = match (&row.filesystem_id, row.filesystem.as_deref()?) {
        // It has no id of its own. systemd-repart writes one all the same, which nothing is found by.
        (_, kind) if WITHOUT_ID.contains(&kind) => None,
        (Some(id), _) => return Some(format!("UUID={id}")),
        // What was made by an earlier run, or will be by a later one, has the id that it has in each.
        (None, "vfat") => Some(VolumeId(identity::fat_volume_id(derived)).to_string()),
        (None, _) => Some(derived.to_string()),
    };
    match id {
        Some(id) => Some(format!("UUID={id}")).filter(|_| row.position.is_some() || !row.guid.is_nil()),
        // The line is written before the image, which may hold it, and so before root hashes are known.
        None => Some(format!("PARTUUID={}", row.guid)).filter(|_| !row.hashed && !row.guid.is_nil()),
    }
}

/// What a partition is mounted with by default (systemd `partition_pick_mount_options`; seen with 262.1 for each type).
fn options(kind: &str, filesystem: &str) -> String {
    let system = matches!(kind, "esp" | "xbootldr");
    let discards = !system && filesystem != "swap" && !READ_ONLY.contains(&filesystem);
    let masks = system && filesystem == "vfat";
    let rest = match kind {
        _ if system => "rw,nodev,nosuid,noexec,nosymfollow",
        "tmp" => "rw,nodev,nosuid,exec",
        _ => "rw,nodev,suid,exec",
    };
    let first = [(masks, "fmask=0177,dmask=0077,"), (discards, "discard,")];
    let first: String = first.iter().filter(|(is, _)| *is).map(|(_, text)| *text).collect();
    first + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_systemd() {
        for (kind, filesystem, expected) in [
            ("root-x86-64", "ext4", "discard,rw,nodev,suid,exec"),
            ("tmp", "ext4", "discard,rw,nodev,nosuid,exec"),
            ("esp", "vfat", "fmask=0177,dmask=0077,rw,nodev,nosuid,noexec,nosymfollow"),
            ("xbootldr", "ext4", "rw,nodev,nosuid,noexec,nosymfollow"),
            ("linux-generic", "vfat", "discard,rw,nodev,suid,exec"),
            ("swap", "swap", "rw,nodev,suid,exec"),
            ("usr-x86-64", "squashfs", "rw,nodev,suid,exec"),
        ] {
            assert_eq!(options(kind, filesystem), expected, "{kind} {filesystem}");
        }
    }

    #[test]
    fn lines_of_others_stay_behind_the_generated_ones() {
        let old = format!("/dev/a /a ext4 ro 0 0\n{START}\nUUID=x /old ext4 rw 0 0\n{END}\n# mine\n");
        let text = fstab(&Outcome::new(Vec::new()), Some(&old));
        assert_eq!(text, format!("{START}\n{END}\n/dev/a /a ext4 ro 0 0\n# mine\n"));
        assert_eq!(fstab(&Outcome::new(Vec::new()), None), format!("{START}\n{END}\n"));
    }
}
