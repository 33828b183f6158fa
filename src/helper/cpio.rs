//! An archive that the kernel unpacks as its first root: the "newc" form of cpio
//! (linux/Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;

use crate::error::{Error, Kind, Result};
use crate::units::u64_of;

/// Types of files (linux/uapi/linux/stat.h).
const FILE: u64 = 0o100_000;
const DIRECTORY: u64 = 0o040_000;
const LINK: u64 = 0o120_000;
const CHARACTER_DEVICE: u64 = 0o020_000;

/// Writes an archive entry by entry. Names have no slash at their start.
#[derive(Debug, Default)]
pub(super) struct Cpio {
    bytes: Vec<u8>,
    count: u64,
    names: BTreeSet<String>,
}

impl Cpio {
    /// A regular file, with the directories above it. One that is there already stays.
    pub(super) fn file(&mut self, name: &str, mode: u16, bytes: &[u8]) -> Result<()> {
        self.parents(name)?;
        self.entry(name, FILE | u64::from(mode), (0, 0), bytes)
    }

    /// A symbolic link, with the directories above it.
    pub(super) fn link(&mut self, name: &str, target: &str) -> Result<()> {
        self.parents(name)?;
        self.entry(name, LINK | 0o777, (0, 0), target.as_bytes())
    }

    /// A character device, with the directories above it.
    pub(super) fn device(&mut self, name: &str, device: (u64, u64)) -> Result<()> {
        self.parents(name)?;
        self.entry(name, CHARACTER_DEVICE | 0o600, device, b"")
    }

    /// A directory, with those above it.
    pub(super) fn directory(&mut self, name: &str) -> Result<()> {
        self.parents(name)?;
        self.entry(name, DIRECTORY | 0o755, (0, 0), b"")
    }

    fn parents(&mut self, name: &str) -> Result<()> {
        let cuts = name.match_indices('/').filter_map(|(cut, _)| name.get(..cut));
        cuts.filter(|parent| !parent.is_empty())
            .try_for_each(|parent| self.entry(parent, DIRECTORY | 0o755, (0, 0), b""))
    }

    /// The archive, with its end marked.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, (0, 0), b"")?;
        Ok(self.bytes)
    }

    fn entry(&mut self, name: &str, mode: u64, device: (u64, u64), bytes: &[u8]) -> Result<()> {
        if !self.names.insert(name.to_owned()) {
            return Ok(());
        }
        // Each number has eight digits.
        if u64_of(bytes.len()) > u64::from(u32::MAX) {
            return Err(Error::new(Kind::Source, "a file is too large for a helper VM").at(name));
        }
        self.count += 1;
        // Inode, mode, user, group, links, time, bytes, device of the archive, device, bytes of the name, checksum.
        let fields = [
            self.count,
            mode,
            0,
            0,
            1,
            0,
            u64_of(bytes.len()),
            0,
            0,
            device.0,
            device.1,
            u64_of(name.len()) + 1,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(bytes);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_each_directory_once_and_is_aligned() {
        let mut cpio = Cpio::default();
        cpio.file("a/b/c", 0o755, b"hello").unwrap();
        cpio.file("a/b/d", 0o644, b"").unwrap();
        cpio.link("a/e", "b/c").unwrap();
        cpio.device("dev/console", (5, 1)).unwrap();
        cpio.directory("a/b").unwrap();
        let bytes = cpio.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 8, "{text}");
        // linux/Documentation/driver-api/early-userspace/buffer-format.rst: the mode is the second field.
        assert!(text.starts_with("07070100000001000041ed0000"), "{text}");
        assert!(
            text.contains("000081ed") && text.contains("0000a1ff") && text.contains("TRAILER!!!"),
            "{text}"
        );
    }
}
