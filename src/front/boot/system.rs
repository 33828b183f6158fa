//! What the system on the root needs beside a loader: its fstab, growth at its first start, and no identity of its own yet.
//!
//! Sources: fstab(5), systemd.mount(5), repart.d(5), machine-id(5), the Discoverable Partitions Specification.

use std::collections::BTreeSet;

use super::{Making, RootBy, Volume};
use crate::disk::{Entry, Payload};
use crate::error::{Result, Warning};
use crate::filesystem::Spec;
use crate::table::Type;
use crate::tree::Meta;

/// Partitions that have a place in the tree by their type.
const MOUNTED: [(&str, &str); 4] = [("home", "/home"), ("srv", "/srv"), ("var", "/var"), ("tmp", "/var/tmp")];

/// The identity of the machine. With this text its first start gives it one.
const MACHINE_ID: &str = "/etc/machine-id";
const UNINITIALIZED: &str = "uninitialized\n";
/// The identity that D-Bus had before systemd; the one of the machine that made the tree may be there, too.
const DBUS_ID: &str = "/var/lib/dbus/machine-id";

impl Making<'_> {
    /// Everything beside the loader.
    pub(super) fn system(&mut self) -> Result<()> {
        if self.plan.wish.fstab {
            self.fstab()?;
        }
        self.growth()?;
        let systemd = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
        let is_systemd = systemd.into_iter().any(|path| self.view.is_file(path));
        if !self.plan.wish.keep_machine_id && (is_systemd || self.view.is_file(MACHINE_ID)) {
            let root = self.plan.root()?.clone();
            self.put(&root, MACHINE_ID, UNINITIALIZED)?;
            // The first start would take this one over.
            if self.view.is_file(DBUS_ID) {
                let meta = Meta::root(0o777, self.plan.time);
                self.add(&root, DBUS_ID, Payload::Symlink { to: MACHINE_ID.to_owned(), meta });
            }
        }
        Ok(())
    }

    /// A definition by which systemd-repart, which knows no other table than a GPT, grows the partition of the root.
    fn growth(&mut self) -> Result<()> {
        let root = self.plan.root()?.clone();
        match root.kind.guid() {
            Some(kind) if self.plan.wish.grow && self.view.is_file("/usr/bin/systemd-repart") => {
                self.put(&root, "/etc/repart.d/50-root.conf", &format!("[Partition]\nType={kind}\n"))
            }
            _ => Ok(()),
        }
    }

    fn put(&mut self, volume: &Volume, target: &str, text: &str) -> Result<()> {
        let payload = self.plan.text(text, volume, 0o644)?;
        self.add(volume, target, payload);
        Ok(())
    }

    /// The table of filesystems, and the directories that they are mounted on.
    fn fstab(&mut self) -> Result<()> {
        let plan = self.plan;
        let root = plan.root()?;
        let mut lines = vec![self.root_line(root)?];
        self.warn_of_old_fstab();
        let mut places = BTreeSet::new();
        let esp = plan.esp().map(|volume| volume.number);
        let boot = plan.xbootldr().map(|volume| volume.number);
        for volume in &plan.volumes {
            let place = match volume.number {
                number if number == root.number => continue,
                number if Some(number) == esp => self.esp_place(boot.is_some()),
                number if Some(number) == boot => "/boot",
                _ => match volume.spec {
                    Spec::Swap(_) => "none",
                    _ => match place_of(volume.kind) {
                        Some(place) => place,
                        None => continue,
                    },
                },
            };
            // Swap has no place, and there may be several.
            if place != "none" && !places.insert(place) {
                let number = volume.number + 1;
                self.booted.warnings.push(Warning(format!(
                    "fstab mounts another partition at {place}, so that partition {number} is mounted nowhere"
                )));
                continue;
            }
            let (options, pass) = match &volume.spec {
                Spec::Swap(_) => ("sw", 0),
                Spec::Vfat(_) => ("umask=0077", 2),
                _ if !volume.spec.is_writable() => ("ro", 0),
                _ => ("defaults", 2),
            };
            lines.push(format!("{} {place} {} {options} 0 {pass}", plan.named(volume)?, volume.spec.name()));
            if place != "none" && !self.view.is_directory(place) {
                let payload = Payload::Fallback { meta: Meta::root(0o755, plan.time) };
                let entries = self.booted.entries.entry(root.number).or_default();
                entries.push(Entry::new(place, payload));
            }
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let root = root.clone();
        self.put(&root, "/etc/fstab", &text)
    }

    /// Tells that lines of the contents' own fstab do not stay.
    fn warn_of_old_fstab(&mut self) {
        // One that is no text is not one that a system reads.
        let old = self.view.text("/etc/fstab").ok().flatten().unwrap_or_default();
        let line = old.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        if let Some(line) = line {
            self.booted.warnings.push(Warning(format!(
                "/etc/fstab of the contents is replaced, with `{}`; `fstab = false` keeps it",
                crate::text::shortened(line.as_bytes(), 100)
            )));
        }
    }

    fn root_line(&self, root: &Volume) -> Result<String> {
        let name = match (self.plan.wish.root, root.spec.label()) {
            (RootBy::Label, label) if !label.is_empty() => format!("LABEL={}", escaped(label)),
            _ => self.plan.named(root)?,
        };
        let grows = self.plan.wish.grow && root.spec.is_writable();
        let (options, pass) = match (root.spec.is_writable(), grows) {
            (false, _) => ("ro", 0),
            (true, true) => ("defaults,x-systemd.growfs", 1),
            (true, false) => ("defaults", 1),
        };
        Ok(format!("{name} / {} {options} 0 {pass}", root.spec.name()))
    }

    /// Where the EFI system partition is mounted: where the tree has a directory for it.
    fn esp_place(&self, has_boot: bool) -> &'static str {
        match self.view.is_directory("/boot/efi") && !has_boot {
            true => "/boot/efi",
            false => "/efi",
        }
    }
}

/// A field of fstab(5): blanks and backslashes as octal numbers.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        ' ' | '\t' | '\n' | '\r' | '\\' => format!("\\{:03o}", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Where a partition of this type is mounted.
fn place_of(kind: Type) -> Option<&'static str> {
    let is = |name: &str| Type::parse(name, None).is_ok_and(|known| known == kind);
    MOUNTED.into_iter().find(|(name, _)| is(name)).map(|(_, place)| place)
}
