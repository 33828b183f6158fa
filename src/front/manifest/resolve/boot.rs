//! The meaning of the section `boot`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::schema;
use super::Reading;
use super::entry::{check_command_line, host_path};
use super::verity::named;
use crate::boot::Timeout;
use crate::disk::verity::ROOT_HASH;
use crate::disk::{Disk, Piece};
use crate::error::Result;
use crate::front::boot::{Loader, Plan, Wish};
use crate::key::KeyPath;
use crate::table::{Attribute, Scheme};

/// The root, where the section names none.
const ROOT: &str = "root";

impl Reading<'_> {
    /// Lets `disk` boot what the section says, if there is one.
    pub(super) fn boot(&self, disk: &mut Disk) -> Result<()> {
        let Some(written) = &self.manifest.written.boot else { return Ok(()) };
        let key = KeyPath::top("boot");
        let from = written.from.as_deref().unwrap_or(ROOT);
        let place = if written.from.is_some() { key.key("from") } else { key.clone() };
        let root = named(self.manifest, from, &place);
        let root = root.or_else(|error| match (&written.from, self.only_root()) {
            (None, Some(only)) => Ok(only),
            (None, None) => Err(error.hint("say by `from` which partition has the root")),
            (Some(_), _) => Err(error),
        })?;
        let wish = self.wish(written, &key)?;
        let (grow, extlinux) = (wish.grow, wish.loader == Loader::Extlinux);
        let plan = Plan::new(wish, disk, root, (self.architecture, &key))
            .map_err(|error| if error.is_blamed() { error } else { self.manifest.place(error, &key) })?;
        let seat = plan.boots_from();
        for (number, partition) in disk.partitions.iter_mut().enumerate() {
            if self.scheme != Scheme::Gpt {
                break;
            }
            if grow && number == root {
                add(&mut partition.attributes, GROW);
            }
            // U-Boot looks at the first partition alone, unless others are marked.
            if extlinux && Some(number) == seat {
                add(&mut partition.attributes, LEGACY_BOOT);
            }
        }
        disk.loader = Some(Arc::new(plan));
        Ok(())
    }

    /// The one partition whose type is that of a root, for any processor.
    fn only_root(&self) -> Option<usize> {
        let is_root = |kind: &String| kind.starts_with("root-") && !kind.contains("-verity");
        let partitions = self.manifest.written.partition.iter().enumerate();
        let is_named = |it: &schema::Partition| {
            [&it.label, &it.kind].into_iter().any(|name| name.as_deref() == Some(ROOT))
        };
        if self.manifest.written.partition.iter().any(is_named) {
            return None;
        }
        let mut found = partitions.filter(|(_, partition)| partition.kind.as_ref().is_some_and(is_root));
        found.next().map(|(number, _)| number).filter(|_| found.next().is_none())
    }

    fn wish(&self, written: &schema::Boot, key: &KeyPath) -> Result<Wish> {
        let path = |name: &'static str, written: &Option<String>| -> Result<Option<PathBuf>> {
            let written = written.as_ref();
            written.map(|written| host_path(self.manifest, name, &key.key(name), written)).transpose()
        };
        let initrds = written.initrd.iter().flatten();
        let initrds = initrds.map(|text| host_path(self.manifest, "initrd", &key.key("initrd"), text));
        let cmdline = written.cmdline.clone().unwrap_or_default();
        let place = key.key("cmdline");
        check_command_line(self.manifest, &cmdline, &place)?;
        let values = RefCell::new(BTreeMap::new());
        Piece::split(&cmdline, |name| {
            let of = self.verified.hashes_of(self.manifest, name, &place)?;
            let piece = Piece::Value { of, value: ROOT_HASH };
            values.borrow_mut().insert(name.to_owned(), piece.clone());
            Ok(piece)
        })?;
        Ok(Wish {
            loader: written.loader,
            bios: written.bios,
            kernel: path("kernel", &written.kernel)?,
            initrds: initrds.collect::<Result<_>>()?,
            devicetree: path("devicetree", &written.devicetree)?,
            cmdline,
            values: values.into_inner(),
            root: written.root.unwrap_or_default(),
            title: written.title.clone(),
            timeout: written.timeout.unwrap_or(Timeout::Seconds(5)),
            fstab: written.fstab == Some(true),
            grow: written.grow == Some(true),
            keep_machine_id: written.keep_machine_id == Some(true),
            grub: path("grub", &written.grub)?,
            grub_mkimage: path("grub_mkimage", &written.grub_mkimage)?,
            systemd_boot: path("systemd_boot", &written.systemd_boot)?,
            stub: path("stub", &written.stub)?,
            limine: path("limine", &written.limine)?,
        })
    }
}

/// The filesystem grows with its partition (Discoverable Partitions Specification).
const GROW: u8 = 59;
/// The partition to boot from (UEFI specification, table 5.8).
const LEGACY_BOOT: u8 = 2;

fn add(attributes: &mut Vec<Attribute>, bit: u8) {
    let bit = Attribute::Bit(bit);
    if !attributes.contains(&bit) {
        attributes.push(bit);
    }
}
