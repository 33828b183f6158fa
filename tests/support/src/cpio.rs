//! An initrd: the "newc" form of cpio that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;

use crate::numbers::u64_of;

/// Writes an archive entry by entry.
#[derive(Debug, Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    count: u32,
    directories: BTreeSet<String>,
}

impl Cpio {
    /// A regular file, with the directories above it.
    pub fn file(&mut self, name: &str, mode: u32, bytes: &[u8]) {
        self.parents(name);
        self.entry(name, 0o100_000 | mode, (0, 0), bytes);
    }

    /// A symbolic link, with the directories above it.
    pub fn symlink(&mut self, name: &str, target: &str) {
        self.parents(name);
        self.entry(name, 0o120_777, (0, 0), target.as_bytes());
    }

    /// A character device, with the directories above it.
    pub fn device(&mut self, name: &str, device: (u32, u32)) {
        self.parents(name);
        self.entry(name, 0o020_600, device, b"");
    }

    /// A directory, with those above it.
    pub fn directory(&mut self, name: &str) {
        self.parents(name);
        if self.directories.insert(name.to_owned()) {
            self.entry(name, 0o040_755, (0, 0), b"");
        }
    }

    fn parents(&mut self, name: &str) {
        for (cut, _) in name.match_indices('/') {
            if self.directories.insert(name[..cut].to_owned()) {
                self.entry(&name[..cut], 0o040_755, (0, 0), b"");
            }
        }
    }

    /// The archive, with its end marked.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), b"");
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), bytes: &[u8]) {
        self.count += 1;
        let fields: [u64; 13] = [
            u64::from(self.count), // inode
            u64::from(mode),
            0, // user
            0, // group
            1, // links
            0, // time
            u64_of(bytes.len()),
            0, // device of the archive
            0,
            u64::from(device.0),
            u64::from(device.1),
            u64_of(name.len()) + 1,
            0, // checksum, of the "crc" form only
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
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
