//! Short ways to write requests, and to make disks of them.

use std::path::PathBuf;

use diskwright::image::{Builder, Image};
use diskwright::pour::{PourOptions, pour};
use diskwright::progress::Progress;
use diskwright::table::{Plan, Request, Scheme, Size, Type, Wish, place};
use diskwright::units::{Bytes, MIB};
use tempfile::TempDir;
use uuid::Uuid;

/// A GPT without partitions on a disk of size auto.
pub(crate) fn gpt() -> Request {
    Request {
        scheme: Scheme::Gpt,
        sector_size: 512,
        disk_size: None,
        guid: Uuid::from_u128(0x1111_2222_3333_4444_5555_6666_7777_8888),
        signature: 0,
        first_lba: None,
        align: Bytes::new(diskwright::table::GRAIN),
        array: diskwright::table::Array::default(),
        hybrid: diskwright::table::Hybrid::default(),
        extended: None,
        same_guids: false,
        partitions: Vec::new(),
    }
}

/// An MBR without partitions on a disk of size auto.
pub(crate) fn mbr() -> Request {
    Request { scheme: Scheme::Mbr, signature: 0x1234_5678, ..gpt() }
}

/// Whole MiB.
pub(crate) const fn mib(count: u64) -> Bytes {
    Bytes::new(count * MIB)
}

/// Linux data of `size`, with a GUID made of `number`, with this number in its GUID.
pub(crate) fn wish(number: usize, size: Size) -> Wish {
    Wish {
        number: None,
        start: None,
        size,
        kind: kind("linux"),
        guid: Uuid::from_u128(0xabcd << 112 | u128::try_from(number).unwrap()),
        label: String::new(),
        attributes: 0,
        active: false,
        logical: false,
    }
}

/// Linux data of some MiB.
pub(crate) fn data(number: usize, count: u64) -> Wish {
    wish(number, Size::Exactly(mib(count)))
}

pub(crate) fn kind(name: &str) -> Type {
    Type::parse(name, Some("x86-64".parse().unwrap())).unwrap()
}

pub(crate) fn placed(request: &Request) -> Plan {
    place(request).unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// The table alone as an image.
pub(crate) fn image(plan: &Plan) -> Image {
    let mut builder = Builder::new(plan.length);
    plan.write(&mut builder).unwrap();
    builder.finish().unwrap()
}

/// A sparse file with the table, gone when dropped.
pub(crate) struct Disk {
    folder: TempDir,
}

impl Disk {
    pub(crate) fn new(plan: &Plan) -> Self {
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        pour(&image(plan), &disk.path(), &PourOptions::new(1, &Progress::default())).unwrap();
        disk
    }

    /// A disk of `length` bytes without a table, for a foreign tool to write one.
    pub(crate) fn empty(length: Bytes) -> Self {
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::File::create(disk.path()).unwrap().set_len(length.get()).unwrap();
        disk
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    /// The path for the command line of a tool.
    pub(crate) fn text(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    /// `length` bytes from `offset`.
    pub(crate) fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0xd1; length];
        std::fs::File::open(self.path()).unwrap().read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    /// Turns over the bits of one byte.
    pub(crate) fn damage(&self, offset: u64) {
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().read(true).write(true).open(self.path()).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[!byte[0]], offset).unwrap();
    }
}
