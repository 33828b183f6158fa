//! Lists of names and values, packed in XDR (module/nvpair/nvpair.c; RFC 4506).

use crate::error::Result;
use crate::units::{narrow, u64_of};

/// A value of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// The name alone.
    Present,
    Number(u64),
    Text(String),
    Bytes(Vec<u8>),
    List(List),
    Lists(Vec<List>),
}

impl Value {
    /// Its type (nvpair.h, data_type_t).
    const fn code(&self) -> u32 {
        match self {
            Self::Present => 1,
            Self::Number(_) => 8,
            Self::Text(_) => 9,
            Self::Bytes(_) => 10,
            Self::List(_) => 19,
            Self::Lists(_) => 20,
        }
    }

    /// The number of its elements.
    fn count(&self) -> u64 {
        match self {
            Self::Present => 0,
            Self::Number(_) | Self::Text(_) | Self::List(_) => 1,
            Self::Bytes(bytes) => u64_of(bytes.len()),
            Self::Lists(lists) => u64_of(lists.len()),
        }
    }

    /// Bytes that it takes in the memory of the reader, who allocates what this says (nvpair.c, i_get_value_size): a text
    /// with its NUL, a list of 24 bytes (nvlist_t), and a pointer to each of several.
    fn memory(&self) -> u64 {
        match self {
            Self::Present => 0,
            Self::Number(_) => 8,
            Self::Text(text) => u64_of(text.len()) + 1,
            Self::Bytes(bytes) => u64_of(bytes.len()),
            Self::List(_) => 24,
            Self::Lists(lists) => u64_of(lists.len()) * (8 + 24),
        }
    }

    fn pack(&self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Present => Ok(()),
            Self::Number(number) => {
                out.extend(number.to_be_bytes());
                Ok(())
            }
            Self::Text(text) => string(text.as_bytes(), out),
            Self::Bytes(bytes) => {
                out.extend_from_slice(bytes);
                pad(out, bytes.len());
                Ok(())
            }
            Self::List(list) => list.pack(out),
            Self::Lists(lists) => lists.iter().try_for_each(|list| list.pack(out)),
        }
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Names with their values, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct List(Vec<(Vec<u8>, Value)>);

/// The method and byte order of a packed list (nvpair.c, nvs_header_t): XDR, by a little-endian machine.
const HEAD: [u8; 4] = [1, 1, 0, 0];
/// Names are unique (nvpair.h, NV_UNIQUE_NAME).
const UNIQUE: u32 = 1;

impl List {
    /// With one more value.
    pub(super) fn with(mut self, name: impl AsRef<[u8]>, value: impl Into<Value>) -> Self {
        self.0.push((name.as_ref().to_vec(), value.into()));
        self
    }

    /// Names and values.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&[u8], &Value)> {
        self.0.iter().map(|(name, value)| (name.as_slice(), value))
    }

    /// Its bytes.
    ///
    /// # Errors
    /// [`Kind::Bug`](crate::error::Kind::Bug) for a value of 4 GiB and more.
    pub(super) fn packed(&self) -> Result<Vec<u8>> {
        let mut out = HEAD.to_vec();
        self.pack(&mut out)?;
        Ok(out)
    }

    fn pack(&self, out: &mut Vec<u8>) -> Result<()> {
        out.extend(0_i32.to_be_bytes());
        out.extend(UNIQUE.to_be_bytes());
        for (name, value) in &self.0 {
            let start = out.len();
            // The pair's length comes first, and is known last.
            out.extend([0; 4]);
            // nvpair_t has 16 bytes; the name with its NUL and the value follow it, each at a multiple of 8.
            let decoded =
                (16 + u64_of(name.len()) + 1).next_multiple_of(8) + value.memory().next_multiple_of(8);
            out.extend(narrow::<u32>(decoded, "the decoded size of a pair")?.to_be_bytes());
            string(name, out)?;
            out.extend(value.code().to_be_bytes());
            out.extend(narrow::<u32>(value.count(), "the number of values of a pair")?.to_be_bytes());
            value.pack(out)?;
            let length: u32 = narrow(u64_of(out.len() - start), "the size of a pair")?;
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
        out.extend([0; 8]);
        Ok(())
    }
}

/// The length of a text and its bytes, up to a multiple of four.
fn string(bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.extend(narrow::<u32>(u64_of(bytes.len()), "the length of a text")?.to_be_bytes());
    out.extend_from_slice(bytes);
    pad(out, bytes.len());
    Ok(())
}

/// Fills up to a multiple of four what took `length` bytes.
fn pad(out: &mut Vec<u8>, length: usize) {
    out.resize(out.len() + length.next_multiple_of(4) - length, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// By RFC 4506 and nvs_xdr_nvpair, by hand.
    #[test]
    fn a_list_is_packed_pair_by_pair() {
        let list = List::default()
            .with("n", 258)
            .with("text", "abcde")
            .with("b", Value::Bytes(vec![1, 2, 3]))
            .with("p", Value::Present)
            .with("l", Value::Lists(vec![List::default()]));
        let expected = [
            "01010000",
            "00000000",
            "00000001",
            // 4 + 4, name 4 + 4, type, count, 8; decoded 24 + 8.
            "00000020",
            "00000020",
            "00000001",
            "6e000000",
            "00000008",
            "00000001",
            "0000000000000102",
            "00000024",
            "00000020",
            "00000004",
            "74657874",
            "00000009",
            "00000001",
            "00000005",
            "6162636465000000",
            "0000001c",
            "00000020",
            "00000001",
            "62000000",
            "0000000a",
            "00000003",
            "01020300",
            "00000018",
            "00000018",
            "00000001",
            "70000000",
            "00000001",
            "00000000",
            "00000028",
            "00000038",
            "00000001",
            "6c000000",
            "00000014",
            "00000001",
            "0000000000000001",
            "0000000000000000",
            "0000000000000000",
        ];
        assert_eq!(hex(&list.packed().unwrap()), expected.concat());
    }
}
