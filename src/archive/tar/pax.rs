//! The records of pax headers (POSIX.1-2017, pax, "pax Extended Header"): a length, a key and a value each.

use std::collections::{BTreeMap, HashSet};

use super::super::{Remarks, damaged};
use super::header::bad_number;
use crate::encoding::from_base64;
use crate::error::Result;
use crate::text::shortened;
use crate::tree::acl::{self, Worth};
use crate::tree::layers::What;
use crate::tree::xattr::LONGEST_NAME;
use crate::tree::{Time, Xattr};

/// Keys that change nothing of what is kept: they say again what is known, or what no filesystem keeps.
const WITHOUT_EFFECT: [&[u8]; 10] = [
    b"atime",
    b"ctime",
    b"charset",
    b"hdrcharset",
    b"comment",
    // Names of users and groups; the numbers are what counts, as in `tar --numeric-owner`.
    b"uname",
    b"gname",
    b"LIBARCHIVE.creationtime",
    b"LIBARCHIVE.symlinktype",
    b"SCHILY.realsize",
];

/// Prefixes of such keys: what star writes of the inode on its host, and the checksums of Alpine's packages.
const WITHOUT_EFFECT_BELOW: [&[u8]; 6] =
    [b"SCHILY.dev", b"SCHILY.ino", b"SCHILY.nlink", b"SCHILY.offs", b"SCHILY.filetype", b"APK-TOOLS."];

/// Keys that are read elsewhere.
const READ: [&[u8]; 7] = [b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"RHT.security.selinux"];

const XATTR: &[u8] = b"SCHILY.xattr.";
const BSD_XATTR: &[u8] = b"LIBARCHIVE.xattr.";
const ACL: &[u8] = b"SCHILY.acl.";
const SPARSE: &[u8] = b"GNU.sparse.";

/// The records for one member: its own, and those that hold for all that follow.
#[derive(Debug, Default)]
pub(super) struct Records {
    global: BTreeMap<Vec<u8>, Vec<u8>>,
    own: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Records {
    /// Adds the records of the next member.
    pub(super) fn add_own(&mut self, bytes: &[u8]) -> Result<()> {
        self.own.extend(parse(bytes)?);
        Ok(())
    }

    /// Adds records for all members that follow. An empty value takes one away.
    pub(super) fn add_global(&mut self, bytes: &[u8]) -> Result<()> {
        for (key, value) in parse(bytes)? {
            if value.is_empty() {
                self.global.remove(&key)
            } else {
                self.global.insert(key, value)
            };
        }
        Ok(())
    }

    /// Whether a member has no values of its own.
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// Forgets those of one member.
    pub(super) fn next_member(&mut self) {
        self.own.clear();
    }

    /// The value of a key: the last of the member's own, or else the one that holds for all. An empty one means that there
    /// is none.
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let own = self.own.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value);
        own.or_else(|| self.global.get(key)).map(Vec::as_slice).filter(|value| !value.is_empty())
    }

    /// A whole number.
    pub(super) fn number(&self, key: &[u8], what: &str, member: &[u8]) -> Result<Option<i64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let parsed = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        parsed.map(Some).ok_or_else(|| bad_number(what, value, member))
    }

    /// The time of modification: seconds with a fraction.
    pub(super) fn mtime(&self, member: &[u8]) -> Result<Option<Time>> {
        let Some(value) = self.get(b"mtime") else { return Ok(None) };
        let parsed = std::str::from_utf8(value).ok().and_then(time);
        parsed.map(Some).ok_or_else(|| bad_number("time", value, member))
    }

    /// The values of the member's own records of a key, one after the other.
    pub(super) fn all<'a>(&'a self, keys: &'a [&[u8]]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let own = self.own.iter().filter(|(key, _)| keys.contains(&key.as_slice()));
        own.map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// The extended attributes that Linux would store. What is unknown, and what cannot be kept, is remarked.
    pub(super) fn xattrs(&self, member: &[u8], what: &What, remarks: &mut Remarks) -> Vec<Xattr> {
        // Only files and directories have attributes of users (xattr(7)).
        let has_users = matches!(what, What::File(_) | What::Directory | What::Link(_));
        let mut found = self.recorded(member, remarks);
        found.retain(|name, value| {
            let why = if [&b"user."[..], b"trusted.", b"security."].contains(&name.as_slice()) {
                "an extended attribute without a name is left out"
            } else if name.len() > LONGEST_NAME {
                "an extended attribute with a name of over 255 bytes is left out"
            } else if !has_users && name.starts_with(b"user.") {
                "an attribute of users is left out where only files and directories have some"
            } else {
                match acl::worth(name, value) {
                    Worth::Kept => return true,
                    Worth::Nothing => return false,
                    Worth::Wrong => "an access control list that Linux does not take is left out",
                }
            };
            remarks.add(why, member);
            false
        });
        found.into_iter().map(|(name, value)| Xattr { name, value }).collect()
    }

    /// The extended attributes that are recorded, of several forms of one the most exact.
    fn recorded(&self, member: &[u8], remarks: &mut Remarks) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut found: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let keys = self.own.iter().map(|(key, _)| key).chain(self.global.keys());
        let coded: HashSet<&[u8]> = keys.filter_map(|key| key.strip_prefix(BSD_XATTR)).collect();
        let own = self.own.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        let global = self.global.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        for (key, value) in global.chain(own) {
            if let Some(name) = key.strip_prefix(XATTR) {
                // libarchive writes both records, with the same coded name; of its two values this one is not coded.
                let name = if coded.contains(name) { percent_decoded(name) } else { keyword_decoded(name) };
                found.insert(name, value.to_vec());
            } else if let Some(name) = key.strip_prefix(BSD_XATTR) {
                match from_base64(&padded(value)) {
                    Some(value) => _ = found.entry(percent_decoded(name)).or_insert(value),
                    None => remarks.add("an extended attribute that is not base 64 is left out", member),
                }
            } else if let Some(which) = key.strip_prefix(ACL) {
                let name: &[u8] = match which {
                    b"access" => acl::ACCESS,
                    b"default" => acl::DEFAULT,
                    other => {
                        let what = format!("an access control list {} is left out", shortened(other, 20));
                        remarks.add(&format!("{what}, which Linux does not have"), member);
                        continue;
                    }
                };
                // GNU tar can record a list as an attribute too, with numbers.
                let as_attribute = self.get(&[XATTR, name].concat());
                match acl::binary(value) {
                    _ if as_attribute.is_some() => {}
                    Some(value) => _ = found.insert(name.to_vec(), value),
                    None => remarks
                        .add("an access control list that names users without a number is left out", member),
                }
            } else if key == b"RHT.security.selinux" {
                found.insert(b"security.selinux".to_vec(), value.to_vec());
            } else if !is_known(key) {
                remarks.add(&format!("the unknown pax key {} is left out", shortened(key, 60)), member);
            }
        }
        found
    }
}

fn is_known(key: &[u8]) -> bool {
    READ.contains(&key)
        || WITHOUT_EFFECT.contains(&key)
        || WITHOUT_EFFECT_BELOW.iter().any(|prefix| key.starts_with(prefix))
        || key.starts_with(SPARSE)
}

/// Records: their length in decimal, with that of the length itself, a space, key, `=`, value and a newline. A value may
/// hold any byte, so only the length tells where it ends.
fn parse(mut bytes: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    // Some programs fill the last block up with zeros and count those.
    while bytes.first().is_some_and(|first| *first != 0) {
        let record = record(bytes)
            .ok_or_else(|| damaged("a pax header of the archive is damaged").found(shortened(bytes, 60)))?;
        let (length, key, value) = record;
        records.push((key.to_vec(), value.to_vec()));
        bytes = &bytes[length..];
    }
    Ok(records)
}

/// The first record: its length, key and value.
fn record(bytes: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    let digits = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
    let record = bytes.get(digits + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((length, &record[..equals], &record[equals + 1..]))
}

/// Seconds since 1970 with up to nine digits behind the point; more are cut off, towards the past.
fn time(text: &str) -> Option<Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    let lost = fraction.bytes().skip(9).any(|digit| digit != b'0');
    if !whole.starts_with('-') || nanoseconds == 0 && !lost {
        return Some(Time { seconds, nanoseconds });
    }
    // -1.25 is 0.75 behind -2.
    let nanoseconds = nanoseconds + u32::from(lost);
    match 1_000_000_000 - nanoseconds {
        1_000_000_000 => Some(Time { seconds, nanoseconds: 0 }),
        nanoseconds => Some(Time { seconds: seconds.checked_sub(1)?, nanoseconds }),
    }
}

/// Base 64 with the `=` that bsdtar leaves out.
fn padded(value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    while !value.len().is_multiple_of(4) {
        value.push(b'=');
    }
    value
}

/// A name as GNU tar writes it: `%3D` stands for `=`, and `%25` for `%` (xattr_decode_keyword of its xheader.c).
fn keyword_decoded(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, behind)) = rest.split_first() {
        let (byte, next) = match rest {
            [b'%', b'3', b'D', next @ ..] => (b'=', next),
            [b'%', b'2', b'5', next @ ..] => (b'%', next),
            _ => (*first, behind),
        };
        decoded.push(byte);
        rest = next;
    }
    decoded
}

/// A name in which `%` and two hexadecimal digits stand for a byte.
fn percent_decoded(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = name;
    while let Some((first, behind)) = rest.split_first() {
        let byte = behind.get(..2).filter(|_| *first == b'%').and_then(crate::encoding::from_hex);
        match byte.as_deref() {
            Some([byte]) => {
                decoded.push(*byte);
                rest = &behind[2..];
            }
            _ => {
                decoded.push(*first);
                rest = behind;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_and_may_be_before_1970() {
        for (text, found) in [
            ("0", Some((0, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("1.0000000019", Some((1, 1))),
            ("-1", Some((-1, 0))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.5", Some((-1, 500_000_000))),
            ("-0.0000000001", Some((-1, 999_999_999))),
            ("1.", Some((1, 0))),
            ("1.5e3", None),
            ("x", None),
            ("", None),
            ("9223372036854775808", None),
        ] {
            let time = time(text).map(|time| (time.seconds, time.nanoseconds));
            assert_eq!(time, found, "{text}");
        }
    }

    #[test]
    fn a_value_may_hold_newlines() {
        let bytes = b"14 a=1\n2\n=\n =\n5 b=\n\0\0";
        let records = parse(bytes).unwrap();
        assert_eq!(records, [(b"a".to_vec(), b"1\n2\n=\n =".to_vec()), (b"b".to_vec(), Vec::new())]);
        for bad in
            [&b"5 a=1\n"[..], b"7 a=1\n", b"x a=1\n", b"6 a=1", b"5 ab\n", b"99999999999999999999 a=\n"]
        {
            parse(bad).unwrap_err();
        }
    }

    #[test]
    fn names_of_bsdtar_are_decoded() {
        assert_eq!(percent_decoded(b"user.%41b%zz%4"), b"user.Ab%zz%4");
        assert_eq!(from_base64(&padded(b"AQI")), Some(vec![1, 2]));
    }
}
