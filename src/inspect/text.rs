//! An inspection for people.

use std::fmt;

use super::{Entry, Found, Inspection};
use crate::units::Bytes;

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let human = |bytes| Bytes::new(bytes).human();
        writeln!(f, "{:<14} {}", "format", self.format)?;
        writeln!(f, "{:<14} {} ({} bytes)", "virtual size", human(self.virtual_size), self.virtual_size)?;
        writeln!(f, "{:<14} {}", "file size", human(self.file_size))?;
        writeln!(f, "{:<14} {}", "on the host", human(self.actual_size))?;
        writeln!(f, "{:<14} {}", "stored", human(self.allocated))?;
        for (name, value) in &self.details {
            writeln!(f, "{name:<14} {value}")?;
        }
        if let Some(backing) = &self.backing {
            writeln!(f, "{:<14} {backing}", "backing file")?;
        }
        if let Some(found) = &self.filesystem {
            writeln!(f, "{:<14} {found}", "filesystem")?;
        }
        if let Some(table) = &self.table {
            writeln!(
                f,
                "{:<14} {} {}, sectors of {} bytes",
                "table", table.kind, table.id, table.sector_size
            )?;
            for partition in &table.partitions {
                write!(f, "{partition}")?;
            }
        }
        for remark in &self.remarks {
            writeln!(f, "{:<14} {remark}", "remark")?;
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = Bytes::new(self.offset);
        write!(f, "{:>3}  at {start}, {}, {}", self.number, Bytes::new(self.size).human(), self.kind)?;
        if !self.label.is_empty() {
            write!(f, ", \"{}\"", self.label)?;
        }
        for attribute in &self.attributes {
            write!(f, ", {attribute}")?;
        }
        writeln!(f)?;
        if let Some(guid) = &self.guid {
            writeln!(f, "     guid {guid}")?;
        }
        match &self.filesystem {
            Some(found) => writeln!(f, "     {found}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if !self.label.is_empty() {
            write!(f, " \"{}\"", self.label)?;
        }
        if !self.uuid.is_empty() {
            write!(f, " {}", self.uuid)?;
        }
        if let (Some(size), Some(blocks), Some(free)) = (self.block_size, self.blocks, self.free_blocks) {
            let bytes = |blocks: u64| Bytes::new(blocks.saturating_mul(size)).human();
            write!(f, ", {} used, {} free", bytes(blocks.saturating_sub(free)), bytes(free))?;
        }
        if let (Some(inodes), Some(free)) = (self.inodes, self.free_inodes) {
            write!(f, ", {} of {inodes} inodes used", inodes.saturating_sub(free))?;
        }
        if !self.features.is_empty() {
            write!(f, "\n     features {}", self.features.join(" "))?;
        }
        Ok(())
    }
}
