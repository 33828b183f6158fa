//! A tree of a volume as a tar archive: ustar with the extended headers of pax (POSIX.1-2017, pax, "pax Interchange
//! Format"), attributes and ACLs as star has them (`SCHILY.xattr.`, `SCHILY.acl.`), holes as GNU tar has them (sparse format 1.0).

use std::collections::HashMap;
use std::io::Write;

use super::bytes::{Reader, zeros};
use crate::error::{Error, Kind, Result, Warning};
use crate::filesystem::{Content, Inode, Node, Volume};
use crate::look::find::Item;
use crate::look::walk::{Step, walk_item};
use crate::pour::write_error;
use crate::progress::Progress;
use crate::text::printable;
use crate::tree::Time;
use crate::tree::acl;
use crate::units::{Bytes, KIB, u64_of};

/// Bytes of a record. An archive consists of records.
const RECORD: usize = 512;
/// Holes of a file take space in the archive if there are fewer bytes of them: a map takes a kilobyte or two.
const HOLES: u64 = 64 * KIB;
/// The largest numbers of the fields of 8 and of 12 bytes, in octal.
const MOST_SHORT: u64 = 0o777_7777;
const MOST_LONG: u64 = 0o777_7777_7777;

/// The place of a field of the header: its offset and length (POSIX.1-2017, pax, "ustar Interchange Format").
type Field = (usize, usize);
const NAME: Field = (0, 100);
const MODE: Field = (100, 8);
const UID: Field = (108, 8);
const GID: Field = (116, 8);
const SIZE: Field = (124, 12);
const MTIME: Field = (136, 12);
const CHECKSUM: Field = (148, 8);
const TYPE: usize = 156;
const LINK: Field = (157, 100);
const MAGIC: Field = (257, 8);
const MAJOR: Field = (329, 8);
const MINOR: Field = (337, 8);

/// Writes archives.
struct Archive<'a> {
    out: &'a mut dyn Write,
    reader: Reader,
    progress: &'a Progress,
    /// The first name of an inode with several names.
    links: HashMap<Inode, Vec<u8>>,
    /// How many sockets were left out, and the first one.
    sockets: Option<(u64, Vec<u8>)>,
}

/// Writes `items` of a volume as one archive. Each has its own name at the beginning of its path; what is in the root of a
/// volume has its own names. Sockets are left out with a warning, as no archive has them.
///
/// # Errors
/// [`Kind::Output`] where `out` takes no more, [`Kind::Format`] where the volume is damaged, or two items have one name.
pub fn write(
    volume: &dyn Volume,
    items: &[Item],
    out: &mut dyn Write,
    progress: &Progress,
) -> Result<Vec<Warning>> {
    let mut archive =
        Archive { out, reader: Reader::default(), progress, links: HashMap::new(), sockets: None };
    for item in items {
        walk_item(volume, item, &mut |step| {
            progress.check()?;
            let path = match (item.name(), step.path) {
                (b"", b"") => b".".to_vec(),
                (b"", below) => below.to_vec(),
                (name, b"") => name.to_vec(),
                (name, below) => [name, b"/", below].concat(),
            };
            archive.entry(volume, step, path)
        })?;
    }
    // Two records of zeros are the end.
    archive.put(&[0; 2 * RECORD])?;
    archive.out.flush().map_err(write_error)?;
    let warning = |(count, path): (u64, Vec<u8>)| {
        Warning(format!("no archive has sockets: {count} of them are left out, {} first", printable(&path)))
    };
    Ok(archive.sockets.map(warning).into_iter().collect())
}

/// The values of a header, and the extended records before it.
#[derive(Debug, Default)]
struct Header {
    path: Vec<u8>,
    kind: u8,
    mode: u16,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: Time,
    link: Vec<u8>,
    device: (u32, u32),
    records: Vec<u8>,
}

impl Header {
    /// Adds an extended record: its length in decimal, which counts itself, a blank, the keyword, `=`, the value, and a
    /// newline.
    fn record(&mut self, keyword: &[u8], value: &[u8]) {
        let rest = keyword.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        self.records.extend_from_slice(format!("{length} ").as_bytes());
        self.records.extend_from_slice(&[keyword, b"=", value, b"\n"].concat());
    }

    /// Adds records for what the fields of the header cannot hold.
    fn extend(&mut self) {
        let plain = |bytes: &[u8], longest: usize| bytes.len() <= longest && bytes.is_ascii();
        let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        if !is_text(&self.path) || !is_text(&self.link) {
            self.record(b"hdrcharset", b"BINARY");
        }
        if !plain(&self.path, NAME.1) {
            self.record(b"path", &self.path.clone());
        }
        if !plain(&self.link, LINK.1) {
            self.record(b"linkpath", &self.link.clone());
        }
        for (keyword, number, most) in [
            (&b"uid"[..], u64::from(self.uid), MOST_SHORT),
            (b"gid", u64::from(self.gid), MOST_SHORT),
            (b"size", self.size, MOST_LONG),
        ] {
            if number > most {
                self.record(keyword, number.to_string().as_bytes());
            }
        }
        let Time { seconds, nanoseconds } = self.mtime;
        let whole = u64::try_from(seconds).is_ok_and(|seconds| seconds <= MOST_LONG) && nanoseconds == 0;
        if !whole {
            self.record(b"mtime", decimal(self.mtime).as_bytes());
        }
    }

    /// The header itself. What does not fit is in the extended records.
    fn bytes(&self) -> [u8; RECORD] {
        let mut header = [0; RECORD];
        let mut text = |(offset, length): Field, bytes: &[u8]| {
            let length = length.min(bytes.len());
            header[offset..offset + length].copy_from_slice(&bytes[..length]);
        };
        let octal = |(_, length): Field, number: u64| {
            let most = if length == MODE.1 { MOST_SHORT } else { MOST_LONG };
            format!("{:0>1$o}", if number > most { 0 } else { number }, length - 1).into_bytes()
        };
        text(NAME, &self.path);
        text(LINK, &self.link);
        for (field, number) in [
            (MODE, u64::from(self.mode)),
            (UID, self.uid.into()),
            (GID, self.gid.into()),
            (SIZE, self.size),
            (MTIME, u64::try_from(self.mtime.seconds).unwrap_or(0)),
            (MAJOR, self.device.0.into()),
            (MINOR, self.device.1.into()),
        ] {
            text(field, &octal(field, number));
        }
        text(MAGIC, b"ustar\x0000");
        text(CHECKSUM, &[b' '; 8]);
        header[TYPE] = self.kind;
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        header[CHECKSUM.0..CHECKSUM.0 + 7].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header
    }
}

/// Seconds as a decimal number, which may be negative: `-1.5` is one and a half seconds before 1970.
fn decimal(time: Time) -> String {
    let total = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let (sign, total) = if total < 0 { ("-", -total) } else { ("", total) };
    let (whole, part) = (total / 1_000_000_000, total % 1_000_000_000);
    match part {
        0 => format!("{sign}{whole}"),
        part => format!("{sign}{whole}.{}", format!("{part:09}").trim_end_matches('0')),
    }
}

/// The keyword of an attribute that is an access control list; `None` for any other one.
fn acl_keyword(attribute: &[u8]) -> Option<&'static [u8]> {
    match attribute {
        acl::ACCESS => Some(b"SCHILY.acl.access"),
        acl::DEFAULT => Some(b"SCHILY.acl.default"),
        _ => None,
    }
}

impl Archive<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(write_error)
    }

    /// Fills the last record of so many bytes with zeros.
    fn pad(&mut self, length: u64) -> Result<()> {
        zeros(length.next_multiple_of(u64_of(RECORD)) - length, self.out)
    }

    /// Writes a header, after the extended one that it needs.
    fn header(&mut self, mut header: Header) -> Result<()> {
        header.extend();
        if !header.records.is_empty() {
            let length = u64_of(header.records.len());
            let name =
                header.path.rsplit(|byte| *byte == b'/').find(|name| !name.is_empty()).unwrap_or_default();
            let name: Vec<u8> = name.iter().copied().filter(u8::is_ascii).take(80).collect();
            let path = [b"PaxHeaders/", name.as_slice()].concat();
            let extended = Header { path, kind: b'x', mode: 0o644, size: length, ..Header::default() };
            self.put(&extended.bytes())?;
            self.put(&header.records)?;
            self.pad(length)?;
        }
        self.put(&header.bytes())
    }

    /// Writes one name.
    fn entry(&mut self, volume: &dyn Volume, step: Step<'_>, path: Vec<u8>) -> Result<()> {
        let Node { meta, content } = step.node;
        let mut header = Header {
            path,
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            mtime: meta.mtime,
            ..Header::default()
        };
        if meta.links > 1 && !matches!(content, Content::Directory { .. } | Content::Socket) {
            if let Some(first) = self.links.get(&step.inode) {
                (header.kind, header.link) = (b'1', first.clone());
                return self.header(header);
            }
            self.links.insert(step.inode, header.path.clone());
        }
        for xattr in &meta.xattrs {
            if xattr.name.contains(&b'=') {
                return Err(Error::new(Kind::Format, "no archive can have an attribute of this name")
                    .found(printable(&xattr.name)));
            }
            header.record(&[b"SCHILY.xattr.", xattr.name.as_slice()].concat(), &xattr.value);
            // `tar --acls` does not look at the attribute.
            if let (Some(keyword), Some(text)) = (acl_keyword(&xattr.name), acl::text(&xattr.value)) {
                header.record(keyword, text.as_bytes());
            }
        }
        header.kind = match content {
            Content::Directory { .. } => {
                header.path.push(b'/');
                b'5'
            }
            Content::File { size } => return self.file(volume, step.inode, *size, header),
            Content::Symlink { target } => {
                header.link.clone_from(target);
                b'2'
            }
            Content::CharacterDevice(device) => {
                header.device = *device;
                b'3'
            }
            Content::BlockDevice(device) => {
                header.device = *device;
                b'4'
            }
            Content::Fifo => b'6',
            Content::Socket => {
                self.sockets.get_or_insert((0, header.path)).0 += 1;
                return Ok(());
            }
        };
        self.header(header)
    }

    /// Writes a regular file with zeros for its holes.
    fn plain(&mut self, volume: &dyn Volume, inode: Inode, size: Bytes, mut header: Header) -> Result<()> {
        header.size = size.get();
        self.header(header)?;
        self.reader.stream(volume, inode, size, self.out, self.progress)?;
        self.pad(size.get())
    }

    /// Writes a regular file; without its holes if they are large.
    fn file(&mut self, volume: &dyn Volume, inode: Inode, size: Bytes, mut header: Header) -> Result<()> {
        header.kind = b'0';
        // A small file has no large holes, so nothing has to ask where its data is.
        if size.get() < HOLES {
            return self.plain(volume, inode, size, header);
        }
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        volume.data(inode, &mut |at, piece| {
            for segment in piece.segments() {
                let (start, end) = ((at + segment.offset).get(), (at + segment.end()).get());
                match ranges.last_mut() {
                    Some(last) if last.1 == start => last.1 = end,
                    _ => ranges.push((start, end)),
                }
            }
            Ok(())
        })?;
        let stored: u64 = ranges.iter().map(|(start, end)| end - start).sum();
        if size.get() - stored.min(size.get()) < HOLES {
            return self.plain(volume, inode, size, header);
        }
        // The end of the file is a range of its own, if the last one ends before.
        if ranges.last().is_none_or(|(_, end)| *end < size.get()) {
            ranges.push((size.get(), size.get()));
        }
        let mut map = format!("{}\n", ranges.len());
        for (start, end) in &ranges {
            map.push_str(&format!("{start}\n{}\n", end - start));
        }
        let length = u64_of(map.len()).next_multiple_of(u64_of(RECORD));
        header.record(b"GNU.sparse.major", b"1");
        header.record(b"GNU.sparse.minor", b"0");
        header.record(b"GNU.sparse.name", &header.path.clone());
        header.record(b"GNU.sparse.realsize", size.get().to_string().as_bytes());
        header.path = b"GNUSparseFile.0/data".to_vec();
        header.size = length + stored;
        self.header(header)?;
        self.put(map.as_bytes())?;
        self.pad(u64_of(map.len()))?;
        let (out, reader, progress) = (&mut *self.out, &mut self.reader, self.progress);
        volume.data(inode, &mut |_, piece| {
            reader.pieces(&piece, &mut |_, bytes| {
                progress.check()?;
                out.write_all(bytes).map_err(write_error)
            })
        })?;
        self.pad(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_itself() {
        for (keyword, value, expected) in
            [("path", "x", "9 path=x\n"), ("path", "xy", "11 path=xy\n"), ("a", "b", "6 a=b\n")]
        {
            let mut header = Header::default();
            header.record(keyword.as_bytes(), value.as_bytes());
            assert_eq!(std::str::from_utf8(&header.records).unwrap(), expected);
        }
        for length in 80..130 {
            let mut header = Header::default();
            header.record(b"path", &vec![b'x'; length]);
            let text = std::str::from_utf8(&header.records).unwrap();
            assert_eq!(text.split(' ').next().unwrap().parse(), Ok(text.len()), "{length}");
        }
    }

    #[test]
    fn times_are_decimal_numbers() {
        let at = |seconds, nanoseconds| decimal(Time { seconds, nanoseconds });
        assert_eq!(at(7, 0), "7");
        assert_eq!(at(7, 50), "7.00000005");
        assert_eq!(at(-2, 500_000_000), "-1.5");
        assert_eq!(at(-1, 1), "-0.999999999");
    }
}
