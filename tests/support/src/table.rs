//! Judges of partition tables: sgdisk and sfdisk.

use std::path::Path;

use super::tools::{command, must, run};

/// A partition: first sector and number of sectors, of 512 bytes.
pub type Extent = (u64, u64);

/// The faults that sgdisk and sfdisk find in a disk.
pub fn remarks(disk: &Path) -> Vec<String> {
    let said = run(command("sgdisk").arg("-v").arg(disk));
    let mut remarks = Vec::new();
    // sgdisk judges only whether it could convert an MBR to GPT, which is impossible if the last partition
    // ends with the disk.
    let is_mbr = said.text().contains("valid MBR; converting MBR to GPT");
    let full = is_mbr && said.text().contains("Secondary partition table overlaps the last partition");
    // "No problems found. 2014 free sectors (1007.0 KiB) available in 1 segments, ..."
    if full {
        // sfdisk judges it.
    } else if said.code != 0 || !said.text().contains("No problems found") || said.text().contains("Warning")
    {
        remarks.push(format!("sgdisk -v: {}{}", said.text(), said.error()));
    }
    let said = run(command("sfdisk").arg("--verify").arg(disk));
    // "No errors detected. Header version: 1.0 Using 2 out of 128 partitions. ..."
    if said.code != 0 || !said.text().contains("No errors detected") || !said.error().is_empty() {
        remarks.push(format!("sfdisk --verify: {}{}", said.text(), said.error()));
    }
    remarks
}

/// sgdisk and sfdisk find no fault.
pub fn assert_clean(disk: &Path) {
    let remarks = remarks(disk);
    assert!(remarks.is_empty(), "{}:\n{}", disk.display(), remarks.join("\n"));
}

/// The partitions as sfdisk sees them, in the order of their slots.
pub fn partitions(disk: &Path) -> Vec<Extent> {
    let said = must(command("sfdisk").arg("--dump").arg(disk));
    let number = |line: &str, key: &str| {
        let (_, rest) = line.split_once(key).unwrap_or_else(|| panic!("no {key} in `{line}`"));
        let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().unwrap()
    };
    said.text()
        .lines()
        .filter(|line| line.contains("start="))
        .map(|line| (number(line, "start="), number(line, "size=")))
        .collect()
}

/// Copies a partition out of a disk into a file of its own.
pub fn extract(disk: &Path, (start, length): Extent, file: &Path) {
    must(
        command("dd")
            .args(["bs=1M", "iflag=skip_bytes,count_bytes", "conv=sparse", "status=none"])
            .args([format!("skip={}", start * 512), format!("count={}", length * 512)])
            .args([format!("if={}", disk.display()), format!("of={}", file.display())]),
    );
}
