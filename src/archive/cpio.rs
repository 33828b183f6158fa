//! cpio of the formats newc and crc (linux/Documentation/driver-api/early-userspace/buffer-format.rst): headers of 110 bytes,
//! all numbers as eight hexadecimal digits.

use std::collections::HashMap;

use super::compression::Compression;
use super::input::Input;
use super::tar::empty;
use super::{Data, Members, Pending, damaged};
use crate::error::Result;
use crate::text::printable;
use crate::tree::Time;
use crate::tree::layers::{Member, Stat, What};
use crate::units::{narrow, u64_of};

const NEWC: &[u8] = b"070701";
const CRC: &[u8] = b"070702";
/// What other formats begin with: the old one in ASCII, and the binary one in both orders of bytes.
const OLD: [(&[u8], &str); 3] =
    [(b"070707", "odc"), (&[0xc7, 0x71], "binary"), (&[0x71, 0xc7], "binary, of the other byte order")];

const HEADER: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";
/// What is said of anything behind it that is no archive.
pub(super) const NOT_READ: &str = "what follows the end of the archive is not read";
/// The longest name and target of a link (PATH_MAX), with its NUL.
const LONGEST_NAME: u64 = 4096;

/// Whether bytes begin a cpio of any format.
pub(super) fn is_cpio(head: &[u8]) -> bool {
    head.starts_with(NEWC) || head.starts_with(CRC) || OLD.iter().any(|(magic, _)| head.starts_with(magic))
}

/// The numbers of a header, in their order.
struct Header {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    mtime: u32,
    size: u64,
    device: (u32, u32),
    special: (u32, u32),
    name: u64,
    sum: u32,
    checked: bool,
}

/// Reads the members of a cpio, and of those that follow it: an initrd is often several, with zeros between them. What is
/// compressed behind them is kept, as the kernel reads it too: microcode lies uncompressed before the initrd itself.
pub(super) fn read(input: &mut Input<'_>) -> Result<Members> {
    let mut found = Members::default();
    // The names of inodes that have several, by device and inode.
    let mut names: HashMap<(u32, u32, u32), Vec<Vec<u8>>> = HashMap::new();
    loop {
        let mut bytes = [0; HEADER];
        input.exactly(&mut bytes, b"a header")?;
        let header = header(&bytes)?;
        let mut name = input.bytes(header.name, LONGEST_NAME, b"a name")?;
        if name.pop() != Some(0) || name.contains(&0) {
            return Err(damaged("the archive is damaged")
                .expected("a name that ends with NUL")
                .found(printable(&name)));
        }
        pad(u64_of(HEADER) + header.name, input, &name)?;
        if name == TRAILER {
            if !input.more_follows()? {
                return Ok(found);
            }
            let mut head = [0; 6];
            let length = input.peek(&mut head)?;
            if !is_cpio(&head[..length]) {
                let compression = Compression::of(&head[..length]).map_err(|_| {
                    damaged(
                        "what follows the end of the archive is compressed in a way that is not read here",
                    )
                    .expected("gzip, xz, zstd, or none")
                })?;
                if compression.is_some() {
                    found.behind = Some(input.keep_rest()?);
                    return Ok(found);
                }
                found.remarks.add(NOT_READ, b"the archive");
                return Ok(found);
            }
            // An inode is one of its own archive (buffer-format.rst, "TRAILER!!!").
            names.clear();
            continue;
        }
        member(&header, name, input, &mut names, &mut found)?;
    }
}

fn header(bytes: &[u8; HEADER]) -> Result<Header> {
    let checked = bytes.starts_with(CRC);
    if !checked && !bytes.starts_with(NEWC) {
        let old = OLD.iter().find(|(magic, _)| bytes.starts_with(magic));
        return Err(match old {
            Some((_, format)) => damaged("the archive is a cpio of a format that is not read here")
                .expected("newc or crc")
                .found(*format)
                .hint("make it with: cpio -o -H newc"),
            None => damaged("the archive is not a cpio").found(printable(&bytes[..6])),
        });
    }
    let mut numbers = [0_u32; 13];
    for (number, digits) in numbers.iter_mut().zip(bytes[6..].chunks_exact(8)) {
        let plain = digits.iter().all(u8::is_ascii_hexdigit);
        let digits = std::str::from_utf8(digits).ok().filter(|_| plain);
        let value = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        *number = value
            .ok_or_else(|| damaged("the archive is damaged").expected("hexadecimal digits in a header"))?;
    }
    let [inode, mode, uid, gid, links, mtime, size, major, minor, special_major, special_minor, name, sum] =
        numbers;
    Ok(Header {
        inode,
        mode,
        uid,
        gid,
        links,
        mtime,
        size: size.into(),
        device: (major, minor),
        special: (special_major, special_minor),
        name: name.into(),
        sum,
        checked,
    })
}

/// Headers with names, and contents, are filled up to four bytes.
fn pad(length: u64, input: &mut Input<'_>, name: &[u8]) -> Result<()> {
    input.skip(length.next_multiple_of(4) - length, name)
}

fn member(
    header: &Header,
    name: Vec<u8>,
    input: &mut Input<'_>,
    names: &mut HashMap<(u32, u32, u32), Vec<Vec<u8>>>,
    found: &mut Members,
) -> Result<()> {
    // No user has the number 2^32 - 1 (chown(2)).
    if header.uid == u32::MAX || header.gid == u32::MAX {
        return Err(damaged("a member of the archive has no owner that can be kept").found(printable(&name)));
    }
    let mut data = None;
    // The types of inode(7).
    let what = match header.mode & 0o170_000 {
        0o040_000 => What::Directory,
        0o100_000 => {
            let start = contents(header, &name, input)?;
            data = Some(Data::whole(start, header.size));
            What::File(empty())
        }
        0o120_000 => What::Symlink(input.bytes(header.size, LONGEST_NAME, &name)?),
        0o020_000 => What::CharacterDevice(header.special),
        0o060_000 => What::BlockDevice(header.special),
        0o010_000 => What::Fifo,
        0o140_000 => What::Socket,
        kind => {
            return Err(damaged("a member of the archive is of an unknown type")
                .found(format!("{kind:o}, of {}", printable(&name))));
        }
    };
    if !matches!(what, What::File(_) | What::Symlink(_)) {
        input.skip(header.size, &name)?;
    }
    pad(header.size, input, &name)?;
    let meta = Stat {
        mode: if matches!(what, What::Symlink(_)) { 0o777 } else { narrow(header.mode & 0o7777, "a mode")? },
        uid: header.uid,
        gid: header.gid,
        mtime: Time::seconds(header.mtime.into()),
        xattrs: Vec::new(),
    };
    let mut push = |path: Vec<u8>, what, meta, data| {
        found.members.push(Pending { member: Member { path, meta, what }, data });
    };
    if header.links < 2 || matches!(what, What::Directory) {
        push(name, what, meta, data);
        return Ok(());
    }
    // Only one name of an inode has its contents, and that may be the last.
    let known = names.entry((header.device.0, header.device.1, header.inode)).or_default();
    match known.first() {
        Some(first) if header.size == 0 || !matches!(what, What::File(_)) => {
            push(name.clone(), What::Link(first.clone()), meta, None);
        }
        _ => {
            push(name.clone(), what, meta, data);
            for other in known.iter() {
                push(other.clone(), What::Link(name.clone()), Stat::default(), None);
            }
        }
    }
    known.push(name);
    Ok(())
}

/// Keeps the contents, and compares their sum where the format has one: that of all bytes, modulo 2^32.
fn contents(header: &Header, name: &[u8], input: &mut Input<'_>) -> Result<u64> {
    if !header.checked {
        return input.keep(header.size, name, None);
    }
    let mut sum = 0_u32;
    let mut add = |bytes: &[u8]| {
        sum = bytes.iter().fold(sum, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    };
    let start = input.keep(header.size, name, Some(&mut add))?;
    if sum != header.sum {
        return Err(damaged("a member of the archive has another checksum than its header")
            .expected(format!("{:#010x}", header.sum))
            .found(format!("{sum:#010x}, of {}", printable(name))));
    }
    Ok(start)
}
