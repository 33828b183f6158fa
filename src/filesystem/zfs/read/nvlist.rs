//! Unpacking lists of names and values (module/nvpair/nvpair.c, nvs_xdr; RFC 4506). Whatever the bytes say, what comes out is
//! no longer than they are.

use super::super::nvlist::{List, Value};
use crate::error::{Error, Result};
use crate::filesystem::device::damaged;
use crate::text::shortened;
use crate::units::index;

/// How deep lists may lie in each other: those of a pool have three levels.
const DEEPEST: u32 = 16;

/// Packed bytes, from the front.
struct Bytes<'a>(&'a [u8]);

fn wrong(what: &str) -> Error {
    damaged(format!("a list of names and values is wrong: {what}"))
}

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (own, rest) = self.0.split_at_checked(length).ok_or_else(|| wrong("it is cut off"))?;
        self.0 = rest;
        Ok(own)
    }

    fn word(&mut self) -> Result<u32> {
        Ok(self.take(4)?.try_into().map_or(0, u32::from_be_bytes))
    }

    fn number(&mut self) -> Result<u64> {
        Ok(self.take(8)?.try_into().map_or(0, u64::from_be_bytes))
    }

    /// Bytes of a length, padded to a multiple of four.
    fn padded(&mut self, length: usize) -> Result<&'a [u8]> {
        let own = self.take(length)?;
        self.take(length.next_multiple_of(4) - length)?;
        Ok(own)
    }

    fn string(&mut self) -> Result<&'a [u8]> {
        let length = index(self.word()?);
        self.padded(length)
    }
}

/// The list in packed bytes; others may follow it.
///
/// # Errors
/// [`Kind::Format`](crate::error::Kind::Format) for bytes that are none, and for the form that no disk has.
pub(super) fn unpack(bytes: &[u8]) -> Result<List> {
    let mut bytes = Bytes(bytes);
    if bytes.take(4)?.first() != Some(&1) {
        return Err(wrong("it is not packed in XDR"));
    }
    list(&mut bytes, DEEPEST)
}

fn list(bytes: &mut Bytes<'_>, depth: u32) -> Result<List> {
    let depth = depth.checked_sub(1).ok_or_else(|| wrong("lists lie too deep in each other"))?;
    // Version and flags.
    bytes.take(8)?;
    let mut list = List::default();
    loop {
        let start = bytes.0;
        let length = index(bytes.word()?);
        let decoded = bytes.word()?;
        if length == 0 && decoded == 0 {
            return Ok(list);
        }
        let name = bytes.string()?;
        let kind = bytes.word()?;
        let count = index(bytes.word()?);
        let value = value(bytes, kind, count, depth)?;
        // What is not understood is left out, by the length that the pair has.
        let after = start.get(length..).ok_or_else(|| wrong("a pair is cut off"))?;
        if value.is_some() && after.len() != bytes.0.len() || length < 8 {
            return Err(wrong("a pair has another length than it says").found(shortened(name, 40)));
        }
        bytes.0 = after;
        if let Some(value) = value {
            list = list.with(name, value);
        }
    }
}

/// A value; `None` for a type that nothing here asks for.
fn value(bytes: &mut Bytes<'_>, kind: u32, count: usize, depth: u32) -> Result<Option<Value>> {
    Ok(Some(match kind {
        1 => Value::Present,
        8 => Value::Number(bytes.number()?),
        9 => Value::Text(String::from_utf8_lossy(bytes.string()?).into_owned()),
        10 => Value::Bytes(bytes.padded(count)?.to_vec()),
        19 => Value::List(list(bytes, depth)?),
        20 => {
            let mut lists = Vec::new();
            for _ in 0..count {
                lists.push(list(bytes, depth)?);
            }
            Value::Lists(lists)
        }
        _ => return Ok(None),
    }))
}

impl List {
    /// The value of a name.
    pub(in super::super) fn get(&self, name: &str) -> Option<&Value> {
        self.entries().find(|(own, _)| *own == name.as_bytes()).map(|(_, value)| value)
    }

    /// The number of a name.
    ///
    /// # Errors
    /// [`Kind::Format`](crate::error::Kind::Format) where it has none.
    pub(in super::super) fn number(&self, name: &str) -> Result<u64> {
        match self.get(name) {
            Some(Value::Number(number)) => Ok(*number),
            _ => Err(wrong("a number is not there").expected(name.to_owned())),
        }
    }

    /// The text of a name; empty where it has none.
    pub(in super::super) fn text(&self, name: &str) -> &str {
        match self.get(name) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// The list of a name.
    pub(in super::super) fn list(&self, name: &str) -> Option<&Self> {
        match self.get(name) {
            Some(Value::List(list)) => Some(list),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::u64_of;

    fn sample() -> List {
        List::default()
            .with("version", 5000)
            .with("name", "a pool")
            .with("bytes", Value::Bytes(vec![1, 2, 3, 4, 5]))
            .with("there", Value::Present)
            .with("tree", Value::List(List::default().with("type", "disk")))
            .with("children", Value::Lists(vec![List::default(), List::default().with("id", 0)]))
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let list = sample();
        let mut packed = list.packed().unwrap();
        packed.extend([0; 100]);
        assert_eq!(unpack(&packed).unwrap(), list);
        assert_eq!((list.number("version").unwrap(), list.text("name")), (5000, "a pool"));
        assert!(list.number("name").is_err() && list.list("tree").is_some());
    }

    #[test]
    fn no_bytes_are_a_danger() {
        let packed = sample().packed().unwrap();
        for length in 0..packed.len() {
            assert!(unpack(&packed[..length]).is_err(), "{length}");
        }
        for at in 0..packed.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut bytes = packed.clone();
                bytes[at] = byte;
                if let Ok(list) = unpack(&bytes) {
                    assert!(u64_of(list.packed().unwrap().len()) <= u64_of(packed.len()) + 100);
                }
            }
        }
        let deep = (0..40).fold(List::default(), |list, _| List::default().with("l", Value::List(list)));
        assert!(unpack(&deep.packed().unwrap()).unwrap_err().what().contains("too deep"));
    }
}
