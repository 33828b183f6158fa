//! What boots a disk, decided once the files of its root are known: which kernels there are, and what the system calls itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::contents::Entry;
use super::spec::{BootArea, Disk};
use crate::boot::grub::bios::Made;
use crate::boot::limine::bios::Image;
use crate::boot::{Area, Embedding};
use crate::error::{Error, Result, Warning};
use crate::image::Builder;
use crate::progress::Progress;
use crate::table::{self, Plan};
use crate::tree::View;
use crate::units::{Bytes, Sectors};

/// What boots a disk.
pub trait Boot: Send + Sync + fmt::Debug {
    /// The partition with the files of the system, by its position in the disk. Its contents are entries.
    fn root(&self) -> usize;

    /// The derived partitions whose values occur in what is brought.
    fn needs(&self) -> BTreeSet<usize>;

    /// What boots the system with these files. It is asked once.
    ///
    /// # Errors
    /// Where there is nothing to boot, and for everything that its files lack.
    fn plan(&self, root: View<'_>, progress: &Progress) -> Result<Booted>;
}

/// What boots a system.
#[derive(Debug, Default)]
pub struct Booted {
    /// What it brings to each partition, by its position in the disk. It takes the place of what the contents have there.
    pub entries: BTreeMap<usize, Vec<Entry>>,
    /// What a BIOS starts.
    pub program: Option<Program>,
    /// What was asked for and cannot be kept.
    pub warnings: Vec<Warning>,
}

/// What a BIOS starts.
#[derive(Debug)]
pub struct Program {
    /// Its boot code, and what that loads.
    pub code: Code,
    /// The BIOS boot partition that gets what is loaded, by its position; `None` puts it before the first partition of an MBR.
    pub partition: Option<usize>,
}

/// Boot code and a program, before it is known where the program goes.
#[derive(Debug)]
pub enum Code {
    /// GRUB with its core image.
    Grub(Made),
    /// Limine with its second stage.
    Limine(Image),
}

impl Code {
    fn embed(&self, area: Area) -> Result<Embedding> {
        match self {
            Self::Grub(made) => made.embed(area),
            Self::Limine(image) => image.embed(area),
        }
    }
}

impl Booted {
    /// The boot code of the disk, which has that of its description where nothing starts from a BIOS. A program that goes into
    /// a partition is put there.
    pub(super) fn area(&self, disk: &Disk, plan: &Plan, image: &mut Builder) -> Result<BootArea> {
        let Some(Program { code, partition }) = &self.program else { return Ok(disk.boot.clone()) };
        let sectors = |bytes: Bytes| Sectors::new(bytes.get() / plan.sector_size);
        let Some(number) = partition else {
            let first = Sectors::new(1);
            let end = plan.partitions.iter().map(|placed| placed.offset).min().unwrap_or_default();
            let area = Area { first, length: sectors(end).saturating_sub(first) };
            let Embedding { boot_code, core, .. } = code.embed(area)?;
            return Ok(BootArea { code: boot_code.into(), gap: core.into() });
        };
        let placed = plan.partitions.get(*number);
        let placed = placed.ok_or_else(|| Error::bug("no such partition for a core image"))?;
        let area = Area { first: sectors(placed.offset), length: sectors(placed.length) };
        let Embedding { boot_code, core, .. } = code.embed(area)?;
        image.bytes(placed.offset, format!("boot program of partition {}", placed.number), core);
        Ok(BootArea { code: boot_code.into(), ..BootArea::default() })
    }
}

impl Disk {
    /// The numbers that the partitions get in the table, whatever their sizes.
    ///
    /// # Errors
    /// As [`table::place()`], for more partitions than the table holds and numbers that it does not have.
    pub fn numbers(&self) -> Result<Vec<u32>> {
        table::numbers(&self.request(|_| Ok(table::Size::Exactly(Bytes::new(table::GRAIN))))?)
    }

    /// What is asked of the table for partitions of these sizes.
    pub(super) fn request(
        &self,
        mut size: impl FnMut(usize) -> Result<table::Size>,
    ) -> Result<table::Request> {
        let count = self.partitions.len();
        let partitions = (0..count).map(|number| self.wish(number, size(number)?)).collect::<Result<_>>()?;
        let (guid, signature) = self.ids();
        Ok(table::Request {
            scheme: self.scheme,
            sector_size: u64::from(self.sector_size),
            disk_size: self.size,
            guid,
            signature,
            first_lba: self.first_lba,
            align: self.align.unwrap_or(Bytes::new(table::GRAIN)),
            array: self.array,
            hybrid: self.hybrid.clone(),
            extended: self.extended,
            same_guids: self.same_guids,
            partitions,
        })
    }

    fn wish(&self, number: usize, size: table::Size) -> Result<table::Wish> {
        use crate::table::Attribute;
        let partition =
            self.partitions.get(number).ok_or_else(|| Error::bug("no such partition to place"))?;
        Ok(table::Wish {
            number: partition.number,
            start: partition.start,
            size,
            kind: partition.kind,
            guid: self.partition_key(number),
            label: partition.label.clone(),
            attributes: partition.attributes.iter().fold(0, |all, attribute| all | attribute.mask()),
            active: partition.attributes.contains(&Attribute::Active),
            logical: partition.logical,
        })
    }
}
