//! Fits the disk to its container: both have one length and one sector size.

use super::Composer;
use crate::container::SectorSize;
use crate::error::Result;
use crate::front::manifest::locate::KeyPath;
use crate::front::manifest::values::DiskSize;
use crate::table::{self, Plan, Refusal, Request, Scheme};

impl Composer<'_> {
    /// The plan for the length that a guest sees. A container may round the length up, and the backup of a
    /// GPT belongs at the end.
    pub(super) fn plan(&self, request: &Request) -> Result<Plan, Refusal> {
        let plan = table::place(request)?;
        let length = self.options.container.disk_length(plan.length, self.sector_size());
        match request.scheme {
            _ if length == plan.length => Ok(plan),
            // The partition keeps its size; there is nothing to move.
            Scheme::None => Ok(Plan { length, ..plan }),
            Scheme::Gpt | Scheme::Mbr => {
                table::place(&Request { disk_size: Some(length), ..request.clone() })
            }
        }
    }

    /// Refuses, before any work, a disk that the container cannot hold.
    pub(super) fn check_container(&self) -> Result<()> {
        let (container, sector_size) = (&self.options.container, self.sector_size());
        let key = KeyPath::top("disk").key("sector_size");
        container.check_sector_size(sector_size).map_err(|error| self.manifest.place(error, &key))?;
        let DiskSize::Fixed(size) = self.disk.size else { return Ok(()) };
        let key = match self.manifest.written.nixos {
            Some(_) => KeyPath::top("nixos").key("disk_size"),
            None => KeyPath::top("disk").key("size"),
        };
        container.check_length(size, sector_size).map_err(|error| self.manifest.place(error, &key))
    }

    /// Bytes in a logical sector. The table refuses any size other than 512 and 4096.
    fn sector_size(&self) -> SectorSize {
        SectorSize::of(u64::from(self.disk.sector_size)).unwrap_or_default()
    }
}
