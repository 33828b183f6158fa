//! tar: of POSIX (ustar and pax), GNU, star, and older ones.
//!
//! The reader is our own, since the crates lose what a filesystem keeps: `tar` 0.4.46 ends the value of a pax record at the
//! first newline in it, and so reads no binary attribute, and knows no file with holes of POSIX; `tar-core` 0.1.0 refuses
//! times before 1970.

mod header;
mod pax;
mod sparse;

use super::input::Input;
use super::{Data, Members, Pending, damaged};
use crate::error::Result;
use crate::image::Slice;
use crate::text::printable;
use crate::tree::Time;
use crate::tree::layers::{Member, Stat, What};
use crate::units::{u64_of, usize_of};
use header::{BLOCK, Header, bad_number};
use pax::Records;
use sparse::Map;

/// The longest header of records, and the longest name. An attribute has at most 64 KiB (XATTR_SIZE_MAX).
const LONGEST_RECORDS: u64 = 16 << 20;
const LONGEST_NAME: u64 = 1 << 16;

/// What was said in front of a member.
#[derive(Default)]
struct Before {
    records: Records,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// Reads the members of a tar.
pub(super) fn read(input: &mut Input<'_>) -> Result<Members> {
    let mut found = Members::default();
    let mut before = Before::default();
    loop {
        let (at, mut block) = (input.at(), [0; BLOCK]);
        let length = input.fill(&mut block)?;
        match length {
            0 if at == 0 => return Err(damaged("the archive is not a tar").found("an empty file")),
            0 => {
                before.ends()?;
                found.remarks.add("its end is not marked, so it may be cut off", b"the last member");
                return Ok(found);
            }
            BLOCK => {}
            _ if at == 0 => return Err(damaged("the archive is not a tar").found("less than a block")),
            _ => {
                return Err(damaged("the archive ends in the middle of a block")
                    .hint("it was cut off: get it once more"));
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            before.ends()?;
            if input.more_follows()? {
                found.remarks.add("what follows the end of the archive is not read", b"the archive");
            }
            return Ok(found);
        }
        let header = Header::new(block, at)?;
        if !before.take(&header, input)? {
            member(&header, &before, input, &mut found)?;
            before.records.next_member();
            (before.name, before.link) = (None, None);
        }
    }
}

impl Before {
    /// Refuses an archive that ends behind what was said of a member, and before that.
    fn ends(&self) -> Result<()> {
        if self.records.is_empty() && self.name.is_none() && self.link.is_none() {
            return Ok(());
        }
        Err(damaged("the archive ends in the middle of a member").hint("it was cut off: get it once more"))
    }

    /// Takes in what the header says of the member behind it. `false` where it is that member.
    fn take(&mut self, header: &Header, input: &mut Input<'_>) -> Result<bool> {
        let name = header.name();
        let mut body = |most: u64| -> Result<Vec<u8>> {
            let size = header.size(&name)?;
            let bytes = input.bytes(size, most, &name)?;
            pad(size, input)?;
            Ok(bytes)
        };
        match header.kind() {
            // Solaris wrote `X` before POSIX had `x`.
            b'x' | b'X' => self.records.add_own(&body(LONGEST_RECORDS)?)?,
            b'g' => self.records.add_global(&body(LONGEST_RECORDS)?)?,
            b'L' => self.name = Some(ended(body(LONGEST_NAME)?)),
            b'K' => self.link = Some(ended(body(LONGEST_NAME)?)),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A text up to its NUL.
fn ended(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    text.truncate(end);
    text
}

/// Goes on to the next block.
fn pad(size: u64, input: &mut Input<'_>) -> Result<()> {
    let block = u64_of(BLOCK);
    match size % block {
        0 => Ok(()),
        // umoci ends a layer without filling its last block up. The reader then finds no end, and tells of that.
        part => {
            let mut filling = [0; BLOCK];
            input.fill(&mut filling[usize_of(part)..]).map(|_| ())
        }
    }
}

/// Reads a member, whose header was read.
fn member(header: &Header, before: &Before, input: &mut Input<'_>, found: &mut Members) -> Result<()> {
    let records = &before.records;
    let named = |key: &[u8]| records.get(key).map(<[u8]>::to_vec);
    let name = named(b"GNU.sparse.name").or_else(|| named(b"path")).or_else(|| before.name.clone());
    let name = name.unwrap_or_else(|| header.name());
    let link = named(b"linkpath").or_else(|| before.link.clone()).unwrap_or_else(|| header.link());
    let stored = match records.number(b"size", "size", &name)? {
        Some(size) => {
            u64::try_from(size).map_err(|_| bad_number("size", size.to_string().as_bytes(), &name))?
        }
        None => header.size(&name)?,
    };
    let old_directory = name.ends_with(b"/");
    let (what, data) = match header.kind() {
        b'1' => (What::Link(link), None),
        b'2' => (What::Symlink(link), None),
        b'3' => (What::CharacterDevice(header.device(&name)?), None),
        b'4' => (What::BlockDevice(header.device(&name)?), None),
        // GNU tar's listing of a directory (`D`) is about what was there, not what is kept.
        b'5' | b'D' => (What::Directory, None),
        b'6' => (What::Fifo, None),
        0 | b'0' | b'7' if old_directory => (What::Directory, None),
        // A name of the volume.
        b'V' => return skip(stored, input, &name),
        kind @ (b'M' | b'N') => {
            return Err(damaged("the archive has a member that is not read here")
                .expected("an archive in one piece")
                .found(format!("type {}, of {}", char::from(kind), printable(&name))));
        }
        b'S' => {
            let map = Map::old(header, input, &name)?;
            (What::File(empty()), Some(kept(map, stored, input, &name)?))
        }
        kind => {
            if !matches!(kind, 0 | b'0' | b'7') {
                let kind = printable(&[kind]);
                found.remarks.add(&format!("the unknown type {kind} is taken as that of a file"), &name);
            }
            let data = match Map::of_records(records, stored, input, &name)? {
                Some((map, taken)) => {
                    let rest = sparse::rest(stored, taken, &name)?;
                    kept(map, rest, input, &name)?
                }
                None => {
                    let start = input.keep(stored, &name, None)?;
                    pad(stored, input)?;
                    Data::whole(start, stored)
                }
            };
            (What::File(empty()), Some(data))
        }
    };
    // Links have no data, whatever their size says, and nor have directories, of which it says how large they may become
    // (POSIX, pax, ustar Interchange Format, typeflag 5). A directory of old programs, without that type, may have some.
    if data.is_none() && !matches!(header.kind(), b'1' | b'2' | b'5') {
        skip(stored, input, &name)?;
    }
    let meta = stat(header, records, &name, found, &what)?;
    found.members.push(Pending { member: Member { path: name, meta, what }, data });
    Ok(())
}

fn skip(stored: u64, input: &mut Input<'_>, name: &[u8]) -> Result<()> {
    input.skip(stored, name)?;
    pad(stored, input)
}

/// The contents of a file with holes.
fn kept(map: Map, stored: u64, input: &mut Input<'_>, name: &[u8]) -> Result<Data> {
    let data = map.keep(stored, input, name)?;
    pad(stored, input)?;
    Ok(data)
}

/// What stands for the contents of a file until all of the archive was read.
pub(super) fn empty() -> Slice {
    Slice::ready("", Vec::new())
}

fn stat(header: &Header, records: &Records, name: &[u8], found: &mut Members, what: &What) -> Result<Stat> {
    let owner = |key: &[u8], what: &str, own: i64| {
        let number = records.number(key, what, name)?.unwrap_or(own);
        // No user has the number 2^32 - 1 (chown(2)).
        let id = u32::try_from(number).ok().filter(|id| *id != u32::MAX);
        id.ok_or_else(|| bad_number(what, number.to_string().as_bytes(), name))
    };
    let mtime = match records.mtime(name)? {
        Some(time) => time,
        None => Time::seconds(header.mtime(name)?),
    };
    Ok(Stat {
        mode: if matches!(what, What::Symlink(_)) { 0o777 } else { header.mode(name)? },
        uid: owner(b"uid", "user", if records.get(b"uid").is_some() { 0 } else { header.uid(name)? })?,
        gid: owner(b"gid", "group", if records.get(b"gid").is_some() { 0 } else { header.gid(name)? })?,
        mtime,
        xattrs: records.xattrs(name, what, &mut found.remarks),
    })
}
